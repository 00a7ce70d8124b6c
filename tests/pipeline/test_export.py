"""`curriculum export`: which rows, in which order, into which folder; what is refused; what survives.

What the files mean to other libraries is in test_export_peers.py.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st

import curriculum
from curriculum.about_entry import About
from curriculum.errors import BuildError, ConfigError, DataError
from curriculum.manifest import Manifest, load_manifest
from curriculum.storage import HELD_OUT
from forged_shards import Columns, forge_shard
from packed_dataset import GOLDEN, write_and_open, write_packed_dataset
from pipeline.cli import main
from pipeline.export import Export, ExportReport, export_dataset
from pipeline.exporters import FORMATS
from pipeline.exporters.mds import _rows_that_fit
from pipeline.exporters.rows import aligned_labels, rows_between
from pipeline.exporters.selection import same_ranges, select_rows
from pipeline.progress import Silent

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cyclic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed rows; 3 steps of 8, 3 of 16, 2 of 8 again; two steps to a shard; held-out rows. Read-only."""
    root = tmp_path_factory.mktemp("cyclic") / "dataset"
    root.mkdir()
    write_packed_dataset(root)
    return root


def export(dataset: Path, out: Path, to: str = "npy", *, workers: int = 1, **options: Any) -> ExportReport:
    own = {name: options.pop(name) for name in ("overwrite", "dry_run") if name in options}
    return export_dataset(str(dataset), str(out), Export(to=to, **options), workers=workers, progress=Silent(), **own)


def digests(folder: Path) -> dict[str, str]:
    """Of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def follow(out: Path) -> Iterator[tuple[int, int, list[list[int]]]]:
    """(step, seq_len, rows) as a trainer visits them that knows nothing but export.json and numpy."""
    said = json.loads((out / "export.json").read_text())
    arrays = [np.load(out / phase["name"] / "tokens.npy", mmap_mode="r") for phase in said["phases"]]
    taken = [0] * len(arrays)
    for first_step, index, num_steps in said["order"]:
        rows = said["phases"][index]["rows_per_step"]
        for step in range(first_step, first_step + num_steps):
            yield step, said["phases"][index]["seq_len"], arrays[index][taken[index] : taken[index] + rows].tolist()
            taken[index] += rows
    assert taken == [len(array) for array in arrays], "every row is in a step"


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({}, range(8)),
        ({"phases": "0"}, [0, 1, 2, 6, 7]),
        ({"phases": "1"}, [3, 4, 5]),
        ({"steps": "1-3"}, [1, 2, 3]),  # step 1 shares a shard with step 0, step 3 one with step 4
        ({"steps": "0,2,6-"}, [0, 2, 6, 7]),  # rows of one phase that do not follow each other
    ],
)
def test_export_json_says_in_which_order_steps_visit_the_rows(
    cyclic: Path, asked: dict[str, str], steps: list[int], tmp_path: Path
) -> None:
    """A phase that is visited twice is one folder; its rows must not be trained in one go."""
    export(cyclic, tmp_path / "out", **asked)
    reader = curriculum.open(cyclic)
    wanted = [(step, reader[step].seq_len, reader[step].tokens.tolist()) for step in steps]
    assert list(follow(tmp_path / "out")) == wanted


@given(steps=st.sets(st.integers(0, 7), min_size=1))
def test_exactly_the_rows_of_the_steps_are_selected(steps: set[int]) -> None:
    """Against a list of every row, whatever the steps; no shard is opened for nothing."""
    manifest = _manifest()
    plan, rows = manifest.plan, []
    for step in sorted(steps):
        phase, first = plan.locate(step)
        rows += [(phase, first + i) for i in range(plan.phases[phase].rows_per_step)]
    found = select_rows(manifest, steps=",".join(map(str, steps)), validation=False)
    selected = []
    for phase, parts in found.parts.items():
        starts = list(itertools.accumulate((shard.num_rows for shard in manifest.phases[phase].shards), initial=0))
        exported = 0
        for number, part in enumerate(parts):
            assert (part.phase, part.index, part.first_row) == (phase, number, exported)
            assert 0 <= part.start < part.stop <= manifest.phases[phase].shards[part.shard].num_rows
            selected += [(phase, starts[part.shard] + row) for row in range(part.start, part.stop)]
            exported += part.num_rows
    assert selected == sorted(rows)
    assert found.num_steps == len(steps)


def _manifest(found: list[Manifest] = []) -> Manifest:  # noqa: B006 - made once
    if not found:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            found.append(write_packed_dataset(Path(folder)))
    return found[0]


def test_ranges_are_written_in_one_way() -> None:
    """The same part, asked for in other words, is the same export."""
    assert same_ranges("2,0-1,5", 9, "phases") == "0-2,5"
    assert same_ranges("6-", 9, "phases") == "6-8"


def test_labels_stand_where_their_token_does(tmp_path: Path) -> None:
    """As Hugging Face models take them, which shift: labels[j] is token j where that is a target."""
    shard = write_and_open(tmp_path, GOLDEN)
    none = -100
    assert aligned_labels(shard, 0, 4).tolist() == [
        [none, 6, 0, none, 9, 1, none, none],
        [none, 2, 3, 4, 5, 6, 7, 8],
        [none, 0, none, none, none, none, none, none],
        [none, 0, none, 0, none, 0, none, 0],
    ]
    assert aligned_labels(shard, 3, 4).tolist() == aligned_labels(shard, 0, 4).tolist()[3:]
    rows = rows_between(shard, 2, 4)
    assert rows.doc_offsets.tolist() == [0, 0, 3]
    assert rows.doc_positions.tolist() == [2, 4, 6]
    assert rows.piece_offset is not None
    assert rows.piece_offset.tolist() == [62, 64, 2**40]


def test_a_file_of_mds_is_as_full_as_that_of_its_own_writer() -> None:
    """64 MiB with everything in it; a sample that is larger has a file of its own."""
    sizes = np.full(10_000, 10_000)
    fit = (2**26 - 8 - 300) // 10_004
    assert _rows_that_fit(sizes, 300) == fit
    assert _rows_that_fit(np.array([2**26]), 300) == 1


@pytest.mark.parametrize("to", FORMATS)
def test_workers_and_a_second_time_give_the_same_bytes(small_dataset: Path, to: str, tmp_path: Path) -> None:
    """And there is nothing left to do for the same command."""
    first = export(small_dataset, tmp_path / "one", to, phases="6-")
    export(small_dataset, tmp_path / "two", to, phases="6,7", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert first.num_bytes == sum(path.stat().st_size for path in tmp_path.glob("one/*/**/*") if path.is_file()), (
        "export.json counts every file of the rows"
    )
    again = export(small_dataset, tmp_path / "one", to, phases="6-")
    assert (again.was_there, again.num_bytes) == (True, first.num_bytes)
    assert not (tmp_path / "one" / ".export").exists()


@pytest.mark.parametrize("to", FORMATS)
def test_licence_and_languages_go_along(small_dataset: Path, to: str, tmp_path: Path) -> None:
    """An export that is shared is bound by them too; the language no is Norwegian. What was not said is not there."""
    silent = load_manifest(small_dataset)
    spoken = replace(silent, about=About(license="cc-by-4.0", language=("no", "deu")))
    shutil.copytree(small_dataset, tmp_path / "dataset")
    (tmp_path / "dataset" / "manifest.json").write_text(json.dumps(spoken.to_json()))
    export(tmp_path / "dataset", tmp_path / "spoken", to, phases="7")
    export(small_dataset, tmp_path / "silent", to, phases="7")
    words = "- licence: `cc-by-4.0`\n- languages: `no`, `deu`\n"
    readme, before = (((tmp_path / name / "README.md").read_text("utf-8")) for name in ("spoken", "silent"))
    assert words in readme
    front = 'license: "cc-by-4.0"\nlanguage:\n- "no"\n- "deu"\n' if to == "parquet" else ""
    assert readme.replace(words, "").replace(front, "").replace(spoken.id, silent.id) == before
    if to == "parquet":
        data = DatasetCard(readme).data
        assert (data.license, data.language) == ("cc-by-4.0", ["no", "deu"])
    said, unsaid = (json.loads((tmp_path / name / "export.json").read_text()) for name in ("spoken", "silent"))
    assert said.pop("about") == {"license": "cc-by-4.0", "language": ["no", "deu"]}
    assert {**said, "request": {**said["request"], "dataset": silent.id}} == unsaid


@pytest.mark.parametrize("to", [*FORMATS])
def test_killed_or_failing_at_any_effect_on_the_disk(to: str, tmp_path: Path) -> None:
    """A preempted node, a full disk: the rerun gives the same bytes, and export.json is never there too early."""
    command = [sys.executable, str(Path(__file__).with_name("kill_exports.py")), str(tmp_path), to]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": _path()}, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["effects"] > 50
    assert found["wrong"] == {}


def _path() -> str:
    return f"{ROOT}:{ROOT / 'tests'}"


def test_packed_rows_are_refused_where_labels_have_no_place(cyclic: Path, tmp_path: Path) -> None:
    """A trainer would train on padding, and across documents, without a word."""
    with pytest.raises(ConfigError, match=r"cannot say so.*Use --format parquet, mds or npy, which have labels\."):
        export(cyclic, tmp_path / "out", "megatron")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["parquet", "mds", "npy"])
def test_held_out_rows_can_be_left_out(cyclic: Path, to: str, tmp_path: Path) -> None:
    """Also a part without any is whole."""
    export(cyclic, tmp_path / "out", to, validation=False)
    assert not (tmp_path / "out" / "validation").exists()
    assert json.loads((tmp_path / "out" / "export.json").read_text())["validation"] is None
    assert HELD_OUT not in select_rows(load_manifest(cyclic), validation=False).parts


def test_a_damaged_dataset_is_not_exported(small_dataset: Path, tmp_path: Path) -> None:
    """A flipped bit that Arrow does not see, a missing shard, another tokenizer: named, and nothing looks finished."""
    dataset = tmp_path / "dataset"
    shutil.copytree(small_dataset, dataset)
    manifest = load_manifest(dataset)
    victim = manifest.phases[3].shards[0]
    path = dataset / victim.path
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[victim.data_offset + 5] ^= 1
    path.write_bytes(flipped)
    for to in FORMATS:
        with pytest.raises(DataError, match=rf"{victim.path}: its bytes have the sha256"):
            export(dataset, tmp_path / to, to)
        assert not (tmp_path / to / "export.json").exists()
        assert [path.name for path in (tmp_path / to).iterdir()] == [".export"]
        export(dataset, tmp_path / f"{to}-part", to, phases="4-", validation=False)  # without the damaged one
    path.unlink()
    with pytest.raises(DataError, match=rf"{victim.path}: .*missing"):
        export(dataset, tmp_path / "npy")
    path.write_bytes(whole)
    (dataset / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: missing, or not the one"):
        export(dataset, tmp_path / "npy")
    shutil.copyfile(small_dataset / "tokenizer.json", dataset / "tokenizer.json")
    export(dataset, tmp_path / "npy")
    export(small_dataset, tmp_path / "fresh")
    assert digests(tmp_path / "npy") == digests(tmp_path / "fresh"), "what was refused continues after the repair"


def test_an_id_beyond_the_vocabulary_is_not_exported(small_dataset: Path, tmp_path: Path) -> None:
    """A stranger's digests fit whatever he wrote, and no other format knows the vocabulary. Others can be had."""
    dataset = shutil.copytree(small_dataset, tmp_path / "dataset")
    victim = load_manifest(dataset).phases[3].shards[0].path

    def id_beyond(columns: Columns) -> None:
        columns.tokens[-1, 2] = 60_000

    forge_shard(dataset, victim, id_beyond)
    for to in FORMATS:
        said = rf"{victim}: row \d+, position 2 holds the id 60000, expected one below the vocab_size 257\. Copy"
        with pytest.raises(DataError, match=said):
            export(dataset, tmp_path / to, to)
        assert not (tmp_path / to / "export.json").exists()
    export(dataset, tmp_path / "others", phases="4-", validation=False)


@pytest.mark.parametrize(
    ("gone", "asked", "refused", "said"),
    [
        ({1}, {}, True, "by --phases 0, or get the rest with `curriculum pull`"),
        ({0}, {"steps": "5-7"}, True, "by --phases 1, or get the rest"),
        ({0, 1}, {"phases": "0"}, True, "No phase is whole: give --steps that are here, or get the rest"),
        ({HELD_OUT}, {}, True, "Export without held-out rows by --no-validation, or get the rest"),
        ({1, HELD_OUT}, {}, True, "by --phases 0 --no-validation, or get the rest"),
        ({1}, {"phases": "0"}, False, ""),
        ({0, HELD_OUT}, {"phases": "1", "validation": False}, False, ""),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_part_of_a_dataset_is_exported_or_refused_before_anything_is_written(
    cyclic: Path, gone: set[int], asked: dict[str, Any], refused: bool, said: str, dry_run: bool, tmp_path: Path
) -> None:
    """A pull of some phases: an export that fails half-way leaves a folder that then refuses the right options."""
    dataset = shutil.copytree(cyclic, tmp_path / "part")
    manifest = load_manifest(dataset)
    for phase in gone:
        entry = manifest.validation if phase == HELD_OUT else manifest.phases[phase]
        assert entry is not None
        (dataset / entry.shards[-1].path).unlink()
    if not refused:
        export(dataset, tmp_path / "out", dry_run=dry_run, **asked)
        return
    with pytest.raises(DataError, match=r"\.arrow: missing.*: the dataset is here in part\.") as error:
        export(dataset, tmp_path / "out", dry_run=dry_run, **asked)
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_only_exports_are_touched(cyclic: Path, small_dataset: Path, tmp_path: Path) -> None:
    """A folder with anything else in it, another export without --overwrite, an address, the dataset itself."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(BuildError, match=r"holds 'thesis\.tex' and is no export, so nothing in it is touched\."):
        export(cyclic, foreign, overwrite=True)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]

    out = tmp_path / "out"
    export(cyclic, out, steps="0-3")
    before = digests(out)
    with pytest.raises(BuildError, match=r"export of something else: steps was 0-3, now all\. Give --overwrite"):
        export(cyclic, out)
    assert digests(out) == before
    (out / "notes.txt").write_text("kept")
    export(cyclic, out, "parquet", overwrite=True)
    assert (out / "notes.txt").read_text() == "kept"
    assert sorted(path.suffix for path in (out / "validation").iterdir()) == [".parquet"]

    with pytest.raises(ConfigError, match=r"lies in the dataset .* Give another folder\."):
        export(cyclic, cyclic / "export")
    with pytest.raises(ConfigError, match="an export is written to a folder"):
        export_dataset(str(cyclic), "s3://bucket/out", Export(to="npy"), workers=1, progress=Silent())


def test_an_unfinished_export_is_continued_or_dropped_on_request(
    cyclic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before a stop is not written again; other options do not mix with it."""
    import pipeline.exporters.npy

    write, calls = pipeline.exporters.npy.write, []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise BuildError("the power went.")
        return write(*arguments)

    monkeypatch.setattr(pipeline.exporters.npy, "write", failing)
    out = tmp_path / "out"
    with pytest.raises(BuildError, match="the power went"):
        export(cyclic, out)
    with pytest.raises(BuildError, match=r"unfinished export of something else: phases was all, now 0\. Repeat"):
        export(cyclic, out, phases="0")
    export(cyclic, out)
    assert len(calls) == 3 + 4  # six parts: two were there, the third failed
    export(cyclic, tmp_path / "fresh")
    assert digests(out) == digests(tmp_path / "fresh")


def test_a_finished_export_that_lost_a_file_says_so(cyclic: Path, tmp_path: Path) -> None:
    """It would else be called complete."""
    export(cyclic, tmp_path / "out", "mds")
    (tmp_path / "out" / "validation" / "shard.000000.0000.mds").unlink()
    with pytest.raises(DataError, match=r"validation/shard\.000000\.0000\.mds: missing, damaged or unknown\. Give"):
        export(cyclic, tmp_path / "out", "mds")
    said = json.loads((tmp_path / "out" / "export.json").read_text())
    (tmp_path / "out" / "export.json").write_text(json.dumps({**said, "phases": [{"files": [3]}]}))
    with pytest.raises(DataError, match=r"export\.json: is damaged\. Give --overwrite to export again\."):
        export(cyclic, tmp_path / "out", "mds")


def test_the_command(cyclic: Path, tmp_path: Path) -> None:
    """What people type: one object on stdout, exit codes, a dry run that writes nothing."""
    out = str(tmp_path / "out")
    runner = CliRunner()
    dry = runner.invoke(main, ["export", str(cyclic), out, "--format", "npy", "--dry-run"])
    assert dry.output == f"{out}: npy of 2 phases, 8 steps, 32 rows, 352 tokens, 3 held-out rows would be written.\n"
    assert not Path(out).exists()
    done = runner.invoke(main, ["export", str(cyclic), out, "--format", "parquet", "--steps", "2-4", "--json"])
    said = json.loads(done.stdout)
    assert (said["to"], said["steps"], said["num_steps"], said["num_rows"], said["num_tokens"]) == (
        "parquet",
        "2-4",
        3,
        12,
        4 * 8 + 8 * 16,
    )
    assert said["num_files"] == 1 + 1 + 1  # a part of one shard of each phase, and the held-out rows
    wrong = [
        (["--format", "csv"], 2, "'csv' is not one of"),
        ([], 2, "Missing option '--format'"),
        (["--format", "npy", "--phases", "0-2"], 2, "the dataset has the phases 0 to 1."),
        (["--format", "npy", "--phases", "0", "--steps", "1"], 2, "--phases and --steps are both given"),
        (["--format", "megatron"], 2, "cannot be exported as megatron"),
        (["--format", "parquet"], 1, "Give --overwrite to replace it"),
    ]
    for options, code, sentence in wrong:
        result = runner.invoke(main, ["export", str(cyclic), out, *options])
        assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr
    missing = runner.invoke(main, ["export", str(tmp_path / "nothing"), out, "--format", "npy"])
    assert (missing.exit_code, "not a curriculum dataset" in missing.stderr) == (1, True)
