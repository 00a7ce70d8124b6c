"""A finished dataset goes on: nothing of it changes, its cursors are good, and what is new is proved like the rest."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import curriculum
import pipeline.extend
from curriculum.cursor import Cursor
from curriculum.errors import BuildError, ConfigError, CurriculumError, CursorError, PlanError
from new_text import bytes_of, cut_from
from pipeline.build import BuildResult
from pipeline.cli import main
from pipeline.extend import extend
from pipeline.files.disk import DiskFiles
from pipeline.longer_plan import Extent
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.store import claim_store
from pipeline.verify import verify_dataset

Build = Callable[..., BuildResult]
SOURCES = {"corpus": (), "weight": ("a=2", "b=1")}


def grow(dataset: Path, workers: int = 1, store: Path | None = None, **extent: Any) -> BuildResult:
    own = {"out": str(dataset), "workers": workers, **({"store": str(store)} if store else {})}
    return extend(load_options(None, own), Extent(**extent), Silent())


def verify(dataset: Path) -> Any:
    return verify_dataset(dataset, quick=False, workers=1, progress=Silent())


def shards(dataset: Path) -> dict[str, bytes]:
    return {p.relative_to(dataset).as_posix(): p.read_bytes() for p in sorted(dataset.rglob("*.arrow"))}


@pytest.fixture(scope="module")
def cases(build_small: Build, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short dataset of each kind; treat them as read-only."""
    folder = tmp_path_factory.mktemp("extend")
    sources = (f"a={corpus / 'a.jsonl'}", f"b={corpus / 'sub'}")
    options: dict[str, dict[str, Any]] = {
        "segment": {"validation_tokens": 6_000},
        "truncate": {"mode": "truncate"},
        "best-fit": {"mode": "best-fit"},
        "mixture": {**SOURCES, "source": sources, "validation_tokens": 6_000},
        "cyclic": {"phases": "8:20,64:10,16:30", "max_length": None, "start_length": None, "steps": None},
    }
    for name, own in options.items():
        build_small(folder / name, **{"steps": 60, **own})
    return {name: folder / name for name in options}


@pytest.fixture
def copy(cases: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a case, beside a copy of nothing: the log names the store of the original."""
    return lambda name: Path(shutil.copytree(cases[name], tmp_path / name))


@pytest.mark.parametrize("name", ["segment", "truncate", "best-fit", "mixture", "cyclic"])
def test_old_shards_stay_and_new_ones_are_proved(copy: Callable[[str], Path], name: str) -> None:
    """Whoever trained on the dataset must find every row of it where it was."""
    dataset = copy(name)
    before, old = shards(dataset), curriculum.open(dataset)
    grow(dataset, steps=7)
    grow(dataset, steps=3)
    after, new = shards(dataset), curriculum.open(dataset, check=True)
    assert before.items() <= after.items()
    assert len(after) > len(before)
    assert (len(new), new.plan.num_extensions) == (len(old) + 10, 2)
    assert [entry.first_step for entry in new.manifest.build.extensions] == [len(old), len(old) + 7]
    assert new.manifest.build.extensions[0].parent == old.id
    for step in range(len(old)):
        assert np.array_equal(new[step].tokens, old[step].tokens)
    assert all(new[step].seq_len == 64 for step in range(len(old), len(new)))
    report = verify(dataset)
    assert (report.id, report.num_shards) == (new.id, len(after))
    assert not (dataset / ".build").exists()


def test_new_steps_train_what_no_step_has_used(copy: Callable[[str], Path]) -> None:
    """In segment mode every token of the stream is a target at most once, and the rows go on where they stopped."""
    dataset = copy("segment")
    used = curriculum.open(dataset).plan.consumed_tokens
    grow(dataset, steps=5)
    reader = curriculum.open(dataset)
    offsets = np.sort(np.concatenate([reader[step].offset for step in range(60, 65)]))
    assert offsets.tolist() == [used + 64 * row for row in range(5 * 8)]


def test_all_unused_tokens(copy: Callable[[str], Path]) -> None:
    """The largest number of whole steps, and not one more."""
    dataset = copy("segment")
    grow(dataset)
    left = curriculum.open(dataset).manifest.accounting
    assert 1 <= left.unused_tokens <= 8 * 64
    with pytest.raises(
        PlanError, match=r"no step of 512 tokens more: the corpus has \d+ .* takes 512 .*Allow .* --epochs"
    ):
        grow(dataset, steps=1)
    grow(dataset, steps=4, epochs=2)
    assert curriculum.open(dataset).manifest.accounting.repeated_tokens > 0
    verify(dataset)


def test_rows_that_are_packed_take_all_of_them_too(copy: Callable[[str], Path]) -> None:
    """Steps take fewer tokens of the stream than they have slots, so that more of them fit."""
    dataset = copy("best-fit")
    grow(dataset)
    reader = curriculum.open(dataset)
    assert reader.manifest.accounting.unused_tokens < 0.02 * reader.manifest.accounting.corpus_tokens
    with pytest.raises(PlanError, match=r"no step of 512 .* the corpus has \d+ tokens left, a step takes \d+ and"):
        grow(dataset, steps=1)
    verify(dataset)


def test_a_source_that_gives_no_row_stops_nothing(build_small: Build, corpus: Path, tmp_path: Path) -> None:
    sources = (f"a={corpus / 'a.jsonl'}", f"b={corpus / 'sub'}")
    build_small(tmp_path / "d", corpus=(), source=sources, weight=("a=1", "b=0"), steps=60)
    assert grow(tmp_path / "d", steps=5).manifest.plan.total_steps == 65
    verify(tmp_path / "d")


def test_the_card_of_a_mixture_tells_its_sources(cases: dict[str, Path]) -> None:
    """Whoever downloads it sees what it is made of; one source needs no table."""
    assert "| source |" not in (cases["segment"] / "README.md").read_text("utf-8")
    reader = curriculum.open(cases["mixture"])
    lines = (cases["mixture"] / "README.md").read_text("utf-8").split("| source |")[1].split("\n\n")[0].splitlines()[2:]
    border, told = reader.manifest.sources[1].offset, {}
    for name, *numbers in (line.strip("| ").split(" | ") for line in lines):
        told[name.strip("`")] = [int(number.replace(",", "")) for number in numbers[:4]]
    trained = {"a": 0, "b": 0}
    for step in range(len(reader)):
        batch = reader[step]
        for offset in batch.offset:
            trained["a" if offset < border else "b"] += batch.seq_len
    assert told == {
        one.name: [one.documents, one.tokens, one.validation_tokens, trained[one.name]]
        for one in reader.manifest.sources
    }


def test_any_number_of_workers_gives_the_same_bytes(copy: Callable[[str], Path], tmp_path: Path) -> None:
    one = copy("mixture")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    grow(one, steps=40)
    grow(two, workers=2, steps=40)
    assert bytes_of(one) == bytes_of(two)


def test_a_run_resumes_on_the_longer_dataset(copy: Callable[[str], Path]) -> None:
    """The cursor of a finished run points at the step after its end, which is there now."""
    dataset = copy("segment")
    old = curriculum.open(dataset).id
    grow(dataset, steps=5)
    reader = curriculum.open(dataset)
    (first, *rest) = reader.steps(start=Cursor(old, 60))
    assert (first.step, len(rest), first.cursor) == (60, 4, Cursor(reader.id, 61))
    assert next(iter(reader.steps(start=Cursor(old, 31)))).step == 31
    for cursor in (Cursor(old, 61), Cursor("sha256:" + "0" * 64, 5)):
        with pytest.raises(CursorError, match="or an extension of it"):
            next(iter(reader.steps(start=cursor)))


class Stop(Exception):
    """What ends an attempt."""


@pytest.mark.parametrize("name", ["segment", "best-fit"])
def test_interrupted_anywhere_it_continues(
    copy: Callable[[str], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before every file that it publishes the dataset is either the old one or the new one, and the rerun ends it."""
    whole = Path(shutil.copytree(copy(name), tmp_path / "whole"))
    grow(whole, steps=30)
    dataset = tmp_path / name
    old, expected = curriculum.open(dataset).id, bytes_of(whole)
    real = pipeline.publish.os.replace
    for fatal in range(1, 100):
        attempt = Path(shutil.copytree(dataset, tmp_path / "attempt"))
        count = 0

        def replace(source: Any, target: Any, *, fatal: int = fatal) -> None:
            nonlocal count
            count += 1
            if count == fatal:
                raise Stop
            real(source, target)

        monkeypatch.setattr(pipeline.publish.os, "replace", replace)
        try:
            grow(attempt, steps=30)
        except Stop:
            assert curriculum.open(attempt, check=True).id == old
        monkeypatch.setattr(pipeline.publish.os, "replace", real)
        stopped = count >= fatal  # other threads may go on for a moment
        if stopped:
            grow(attempt, steps=30)
        assert bytes_of(attempt) == expected
        shutil.rmtree(attempt)
        if not stopped:
            break
    assert fatal > 8


def published(monkeypatch: pytest.MonkeyPatch, pattern: str, fatal: int = 0) -> list[str]:
    """Names of files as they are published from now on; the process ends before the `fatal`th."""
    real, names = pipeline.publish.os.replace, []

    def replace(source: Any, target: Any) -> None:
        if Path(target).match(pattern):
            names.append(Path(target).name)
            if len(names) == fatal:
                raise Stop
        real(source, target)

    monkeypatch.setattr(pipeline.publish.os, "replace", replace)
    return names


@pytest.mark.parametrize("again", ["build", "extend"])
@pytest.mark.parametrize(("pattern", "fatal", "kept"), [("windows/*.json", 3, 2), ("manifest.json", 1, 3)])
def test_an_extension_that_was_begun_is_kept_where_nothing_is_to_do(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str, pattern: str, fatal: int, kept: int
) -> None:
    """A script that is run again from its first line must not throw away the hours of its last one. Card and log are of
    the dataset that is there; no config of the card names the shards that wait. Given up, it leaves no trace."""
    dataset, said = tmp_path / "d", list[str]()
    build_small(dataset, steps=60, shuffle_window=20_000)
    monkeypatch.setattr(Silent, "say", lambda _, message: said.append(message))
    files = (*bytes_of(dataset), "build-log.json")
    before = {name: (dataset / name).read_bytes() for name in files}

    def nothing_to_do() -> None:
        said.clear()
        result = (
            build_small(dataset, steps=60, shuffle_window=20_000) if again == "build" else grow(dataset, total_steps=60)
        )
        assert result.already_finished
        assert {name: (dataset / name).read_bytes() for name in files} == before

    with monkeypatch.context() as patched:
        published(patched, pattern, fatal)
        with pytest.raises(Stop):
            grow(dataset, steps=100)
    nothing_to_do()
    assert said == [
        f"An unfinished extension is kept; its command continues it. To give it up, remove "
        f"{dataset / '.build' / 'request.json'} and run this command again."
    ]
    waiting = shards(dataset).keys() - before.keys()
    patterns = re.findall(r'path: "(.*)"', (dataset / "README.md").read_text("utf-8"))
    assert waiting
    assert not [name for name in waiting if any(fnmatch(name, one.replace("**/", "")) for one in patterns)]
    assert "belong to an extension that is not finished" in verify(dataset).notes[0]
    whole = Path(shutil.copytree(dataset, tmp_path / "whole"))
    with monkeypatch.context() as patched:
        cut = published(patched, "windows/*.json")
        assert not grow(whole, steps=100).already_finished
        assert len(cut) == 3 - kept
    verify(whole)
    (dataset / ".build" / "request.json").unlink()
    nothing_to_do()
    assert said == []
    assert (*bytes_of(dataset), "build-log.json") == files
    assert not (dataset / ".build").exists()


def test_another_extension_drops_one_that_was_begun(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records name shards that may be overwritten: if the first one is wanted after all, they must not count."""
    dataset, said = tmp_path / "d", list[str]()
    build_small(dataset, steps=60, shuffle_window=20_000)
    whole = Path(shutil.copytree(dataset, tmp_path / "whole"))
    grow(whole, steps=100)
    monkeypatch.setattr(Silent, "say", lambda _, message: said.append(message))
    for steps, pattern in ((100, "manifest.json"), (30, "windows/*.json")):
        with monkeypatch.context() as patched:
            published(patched, pattern, 1)
            with pytest.raises(Stop):
                grow(dataset, steps=steps)
    with monkeypatch.context() as patched:
        cut = published(patched, "windows/*.json")
        grow(dataset, steps=100)
        assert len(cut) == 3
    assert bytes_of(dataset) == bytes_of(whole)
    assert said == ["An unfinished extension is given up for another one: steps was 100, now 30."]


def test_a_build_of_a_dataset_that_was_extended_says_so(build_small: Build, tmp_path: Path) -> None:
    """It is neither finished already, nor something else: the request of the extension is no option of a build."""
    build_small(tmp_path / "d", steps=60)
    grow(tmp_path / "d", steps=2)
    wanted = (
        r"holds what this build makes, 60 steps, and it was extended since, to 62\..*`curriculum extend`.*--overwrite"
    )
    with pytest.raises(BuildError, match=wanted):
        build_small(tmp_path / "d", steps=60)
    with pytest.raises(BuildError, match=r"asked for something else: seed was 0, now 4\. Give"):
        build_small(tmp_path / "d", steps=60, seed=4)


def test_the_same_command_again_does_nothing(copy: Callable[[str], Path]) -> None:
    """A job that is requeued after its end must not train on twice the steps; nor one killed after its manifest."""
    dataset = copy("segment")
    parent = curriculum.open(dataset).id
    assert not grow(dataset, steps=5).already_finished
    finished = bytes_of(dataset)
    for request in (None, {"extends": parent, "steps": 5, "total_steps": None, "tokens": None, "epochs": None}):
        if request is not None:
            (dataset / ".build").mkdir()
            (dataset / ".build" / "request.json").write_text(json.dumps(request))
        assert grow(dataset, steps=5).already_finished
        assert bytes_of(dataset) == finished
    assert grow(dataset, steps=4).manifest.plan.total_steps == 69, "another number is another wish"
    assert grow(dataset, steps=5).manifest.plan.total_steps == 74


def test_a_number_of_steps_in_all_is_there_or_not(copy: Callable[[str], Path]) -> None:
    """So a script of several commands can be run again, and as many steps can be had once more."""
    dataset = copy("segment")
    for total, finished in ((65, False), (70, False), (65, True), (70, True), (60, True), (75, False)):
        result = grow(dataset, total_steps=total)
        assert (result.already_finished, result.manifest.plan.total_steps) == (finished, total if not finished else 70)


def test_all_that_is_left_is_taken_once(copy: Callable[[str], Path]) -> None:
    """Without a number: again there is nothing to do, which is no error."""
    dataset = copy("segment")
    assert not grow(dataset).already_finished
    assert grow(dataset).already_finished


@pytest.mark.parametrize(
    ("extent", "error", "message"),
    [
        ({"steps": 0}, PlanError, r"^steps is 0; an extension has 1 or more\.$"),
        ({"tokens": 511}, PlanError, r"^tokens is 511; a step trains 512: ask for that many or more\.$"),
        ({"steps": 1, "total_steps": 61}, ConfigError, r"^steps and total_steps are given; they contradict"),
        (
            {"steps": 10_000},
            PlanError,
            r"^10,000 more steps of 512 tokens are asked for, and the corpus has (.*) tokens left, which last for (.*)"
            r"\. Ask for up to \2, or allow more passes over it with --epochs\.$",
        ),
    ],
)
def test_a_number_that_cannot_be_says_what_can(
    copy: Callable[[str], Path], extent: dict[str, int], error: type[CurriculumError], message: str
) -> None:
    with pytest.raises(error, match=message):
        grow(copy("segment"), **extent)


def test_of_a_mixture_the_source_that_is_used_up_is_named(build_small: Build, corpus: Path, tmp_path: Path) -> None:
    """However much is left of the others; and with the option that helps, which is not the one of a single corpus."""
    sources = (f"a={corpus / 'a.jsonl'}", f"b={corpus / 'sub'}")
    dataset = tmp_path / "d"
    build_small(dataset, corpus=(), source=sources, weight=("a=1", "b=20"), steps=60)
    helps = "with --source NAME=PATH, or build the dataset anew with more steps and --source-epochs b=2"
    with pytest.raises(PlanError, match=rf"source 'b' has [\d,]+ tokens left, which last for \d+\. .*{helps}\."):
        grow(dataset, steps=10_000)
    grow(dataset)
    assert curriculum.open(dataset).manifest.accounting.unused_tokens > 10_000
    with pytest.raises(
        PlanError, match=rf"^There is no step .*: source 'b' has \d+ tokens left, .*Extend .* {helps}\."
    ):
        grow(dataset, steps=1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: (d / "build-log.json").unlink(), ConfigError, r"build-log\.json is missing"),
        (lambda d: (d / "manifest.json").unlink(), BuildError, "no finished dataset to extend"),
        (lambda d: None, ConfigError, r"other: is not the token store of .* is missing"),
    ],
)
def test_what_cannot_be_extended_says_why(
    copy: Callable[[str], Path], tmp_path: Path, change: Any, error: type[CurriculumError], message: str
) -> None:
    dataset = copy("segment")
    change(dataset)
    claim_store(DiskFiles(folder=str(tmp_path / "other"), aside="aside"))
    with pytest.raises(error, match=message):
        grow(dataset, steps=1, store=tmp_path / "other")


@pytest.mark.parametrize("ending", ["tokens", "arrow"])
def test_a_damaged_part_extends_nothing(copy: Callable[[str], Path], tmp_path: Path, ending: str) -> None:
    """Rows of wrong ids would tile as well as any: nothing but the digest of the part can tell."""
    dataset = copy("segment")
    store = Path(shutil.copytree(cut_from(dataset), tmp_path / "store"))
    before = bytes_of(dataset)
    damaged = max(store.rglob(f"*.{ending}"), key=lambda file: file.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ConfigError, match=f"its part {damaged.stem} was changed since it was written"):
        grow(dataset, steps=1, store=store)
    assert bytes_of(dataset) == before
    assert damaged.read_bytes() == content


def test_a_mistyped_name_makes_no_folder(copy: Callable[[str], Path], corpus: Path, tmp_path: Path) -> None:
    """A dataset that is not there is not begun, and a store that is not there is not said to lack a part."""
    dataset, nowhere = copy("segment"), tmp_path / "nowhere"
    for more in ([], ["--source", f"new={corpus / 'a.jsonl'}"]):
        run = CliRunner().invoke(main, ["extend", str(nowhere), *more])
        assert run.exit_code == 1
        assert f"{nowhere}: there is no finished dataset to extend" in run.stderr
    run = CliRunner().invoke(main, ["extend", str(dataset), "--steps", "1", "--store", str(nowhere)])
    assert run.exit_code == 2
    assert f"{nowhere}: there is no token store, it has no store.json" in run.stderr
    assert not nowhere.exists()


def test_the_token_store_of_a_dataset_that_was_copied_from_an_object_store_is_named(
    copy: Callable[[str], Path],
) -> None:
    """With the dataset: of several commands of a script, which one?"""
    dataset = copy("segment")
    log = json.loads((dataset / "build-log.json").read_bytes())
    (dataset / "build-log.json").write_text(json.dumps({**log, "store": "s3://bucket/d.store"}))
    wanted = rf"^{dataset}: its token store is s3://bucket/d\.store.* as --store, with"
    with pytest.raises(ConfigError, match=wanted):
        grow(dataset, steps=1)


def test_a_dataset_of_documents_is_refused(build_small: Build, tmp_path: Path) -> None:
    build_small(tmp_path / "d", mode="document", steps=40)
    with pytest.raises(PlanError, match="mode document cannot be extended"):
        grow(tmp_path / "d", steps=1)


def test_the_command(copy: Callable[[str], Path], corpus: Path) -> None:
    """And a build of the original command does not take the longer dataset for its own."""
    dataset = copy("segment")
    run = CliRunner().invoke(main, ["extend", str(dataset), "--tokens", "2000", "--workers", "1", "--json"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert (found["total_steps"], found["already_finished"]) == (63, False)
    run = CliRunner().invoke(main, ["extend", str(dataset), "--steps", "2", "--tokens", "9"])
    assert (run.exit_code, "contradict" in run.stderr) == (2, True)
    run = CliRunner().invoke(main, ["extend", str(dataset), "--steps", "1"])
    assert (run.exit_code, "64 steps" in run.stdout) == (0, True)


@pytest.mark.parametrize(
    "name", [".build", ".build/aside", ".build/windows", "phases", "phases/00004-len0000064", "validation"]
)
@pytest.mark.parametrize("by", ["extend", "build"])
def test_no_link_leads_out_of_a_dataset(
    cases: dict[str, Path], build_small: Build, tmp_path: Path, name: str, by: str
) -> None:
    """A stranger's dataset must not have files of ours removed or overwritten: nothing is, before the refusal."""
    precious, dataset = tmp_path / "precious", tmp_path / "dataset"
    for each in ("aside/note", "windows/000000.json", "request.json", "shard-000000.arrow"):
        (precious / each).parent.mkdir(parents=True, exist_ok=True)
        (precious / each).write_text("precious")
    shutil.copytree(cases["segment"], dataset)
    if (dataset / name).is_dir():
        shutil.rmtree(dataset / name)
    (dataset / name).parent.mkdir(exist_ok=True)
    (dataset / name).symlink_to(precious)
    before = bytes_of(precious), bytes_of(dataset)
    with pytest.raises(BuildError, match=f"{re.escape(str(dataset / name))}: is a link"):
        grow(dataset, steps=2) if by == "extend" else build_small(dataset, steps=10, overwrite=True)
    assert (bytes_of(precious), bytes_of(dataset)) == before
    assert len(before[0]) == 4
