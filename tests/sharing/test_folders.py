"""From folder to folder: the same files, only what is missing, whatever is broken; never over what is not ours."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import BuildError, CurriculumError, DataError
from curriculum.manifest import ShardEntry, load_manifest
from curriculum.reader import Reader
from pipeline.sharing.contents import shards_of
from pipeline.sharing.moved import report
from pipeline.sharing.selection import select
from travels import content, flip, pull, push, travelling

Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "missing": lambda path: path.unlink(),
}


def test_there_and_back(tiny: Path, tmp_path: Path) -> None:
    """Everything but build-log.json, which names hosts; the second time nothing moves."""
    there, back = tmp_path / "there", tmp_path / "back"
    moved = push(tiny, there)
    assert content(there) == travelling(tiny)
    assert {file.name for file in moved.files} == set(content(there))
    assert moved.num_bytes == sum(map(len, content(there).values()))
    assert push(tiny, there).files == ()
    assert pull(there, back).complete
    assert content(back) == travelling(tiny)
    again = pull(there, back)
    assert again.files == ()
    assert "Everything is there already" in report(again)


def test_the_build_log_comes_along_if_asked(tiny: Path, tmp_path: Path) -> None:
    """Between machines of one's own."""
    push(tiny, tmp_path / "there", build_log=True)
    pull(tmp_path / "there", tmp_path / "without")
    pull(tmp_path / "there", tmp_path / "with", build_log=True)
    assert content(tmp_path / "with") == content(tiny)
    assert content(tmp_path / "without") == travelling(tiny)


def test_every_part_by_steps_serves_its_steps(tiny: Path, tmp_path: Path) -> None:
    """Every range of steps: its shards are there and no others, each step reads as it does in the whole."""
    whole, manifest = Reader(tiny), load_manifest(tiny)
    total = len(whole)
    for start in range(total):
        for last in range(start, total):
            part = tmp_path / f"{start}-{last}"
            moved = pull(tiny, part, steps=f"{start}-{last}")
            wanted = {each.entry.path for each in select(manifest, steps=f"{start}-{last}")}
            assert {name for name in content(part) if name.endswith(".arrow")} == wanted
            assert moved.complete == (len(wanted) == len(shards_of(manifest)))
            reader = Reader(part)
            for step in range(start, last + 1):
                np.testing.assert_array_equal(reader[step].tokens, whole[step].tokens)
            shutil.rmtree(part)


def test_a_part_says_how_to_get_the_rest(tiny: Path, tmp_path: Path) -> None:
    """A missing step is found when it is read; pulling it then completes the dataset."""
    part = tmp_path / "part"
    pull(tiny, part, phases="0")
    with pytest.raises(DataError, match=r"pulled in part, `curriculum pull` brings the rest"):
        Reader(part)[15]
    pull(tiny, part, steps="15")
    np.testing.assert_array_equal(Reader(part)[15].tokens, Reader(tiny)[15].tokens)
    pull(tiny, part)
    assert content(part) == travelling(tiny)


def test_a_part_pushed_is_a_part_at_the_place(tiny: Path, tmp_path: Path) -> None:
    """What is there can be pulled; the rest is refused before anything moves, and may follow later."""
    push(tiny, tmp_path / "there", phases="0")
    with pytest.raises(DataError, match=r"is not there \(the first of .*pushed in part"):
        pull(tmp_path / "there", tmp_path / "all")
    assert content(tmp_path / "all") == {}
    pull(tmp_path / "there", tmp_path / "part", phases="0")
    with pytest.raises(DataError, match=r"the shard is missing\. If the dataset was pulled in part, push that part"):
        push(tmp_path / "part", tmp_path / "elsewhere")
    assert push(tmp_path / "part", tmp_path / "elsewhere", phases="0").complete is False
    assert push(tiny, tmp_path / "there").complete
    assert content(tmp_path / "there") == travelling(tiny)


def test_a_dry_run_changes_nothing_and_tells_all(tiny: Path, tmp_path: Path) -> None:
    """What it lists is what the run then moves."""
    for run, source in ((push, tiny), (pull, tiny)):
        target = tmp_path / run.__name__
        told = run(source, target, dry_run=True, steps="0-9")
        assert not target.exists()
        done = run(source, target, steps="0-9")
        assert told.files == done.files
        assert sum(file.num_bytes for file in told.files) == sum(map(len, content(target).values()))
        assert [file["name"] for file in told.to_json()["files"]] == [file.name for file in done.files]
        assert "would" in report(told)


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_shard_damaged_at_the_place(tiny: Path, tmp_path: Path, damage: str) -> None:
    """One sentence names it; nothing damaged appears, and a dataset that is whole again is fetched to its end."""
    there = tmp_path / "there"
    push(tiny, there)
    whole = content(there)
    for shard in shards_of(load_manifest(tiny)):
        back = tmp_path / "back"
        DAMAGES[damage](there / shard.path)
        with pytest.raises(DataError) as refused:
            pull(there, back)
        assert shard.path in str(refused.value)
        assert "push" in str(refused.value)
        found = content(back)
        assert "manifest.json" not in found
        assert all(whole[name] == data for name, data in found.items() if not name.startswith(".pull/"))
        if damage == "flipped":  # sizes are known before: else nothing is fetched at all
            assert len([name for name in found if name.endswith(".arrow")]) == len(shards_of(load_manifest(tiny))) - 1
        (there / shard.path).write_bytes(whole[shard.path])
        moved = pull(there, back)
        assert content(back) == whole
        if damage == "flipped":
            assert [file.name for file in moved.files if file.phase is not None] == [shard.path]
        shutil.rmtree(back)


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_shard_damaged_in_the_folder(tiny: Path, tmp_path: Path, damage: str) -> None:
    """A pull repairs it and moves nothing else; a push of it is refused before the place is touched."""
    back = tmp_path / "back"
    pull(tiny, back)
    whole = content(back)
    for shard in shards_of(load_manifest(tiny)):
        DAMAGES[damage](back / shard.path)
        with pytest.raises(DataError) as refused:
            push(back, tmp_path / "there")
        assert shard.path in str(refused.value)
        assert "manifest.json" not in content(tmp_path / "there")
        moved = pull(tiny, back)
        assert [file.name for file in moved.files] == [shard.path]
        assert content(back) == whole


def test_a_wrong_tokenizer_is_refused_both_ways(tiny: Path, tmp_path: Path) -> None:
    """Another tokenizer gives the right ids another meaning."""
    there = tmp_path / "there"
    push(tiny, there)
    flip(there / "tokenizer.json")
    with pytest.raises(DataError, match=r"tokenizer.json has the sha256 [0-9a-f]{64}, the manifest says"):
        pull(there, tmp_path / "back")
    assert content(tmp_path / "back") == {}
    shutil.copytree(tiny, tmp_path / "copy")
    flip(tmp_path / "copy" / "tokenizer.json")
    with pytest.raises(DataError, match=r"tokenizer.json: it has the sha256"):
        push(tmp_path / "copy", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_strangers_card_is_not_taken(tiny: Path, tmp_path: Path) -> None:
    """Markdown and pictures of a stranger may hold anything; ours are made of the manifest alone."""
    there = tmp_path / "there"
    push(tiny, there)
    for name in ("README.md", "schedule.svg"):
        (there / name).write_text("<script>alert(1)</script>")
    (there / "run.sh").write_text("rm -rf /")
    pull(there, tmp_path / "back")
    assert content(tmp_path / "back") == travelling(tiny)


def test_another_dataset_is_not_replaced(tiny: Path, other: Path, tmp_path: Path) -> None:
    """Both ids are named; with --overwrite no byte of the other one is left, though names and sizes are the same."""
    ids = (load_manifest(tiny).id, load_manifest(other).id)
    for run in (push, pull):
        target = tmp_path / run.__name__
        run(tiny, target)
        before = content(target)
        with pytest.raises(BuildError) as refused:
            run(other, target)
        assert all(each in str(refused.value) for each in ids)
        assert "--overwrite" in str(refused.value)
        assert content(target) == before
        run(other, target, overwrite=True)
        assert content(target) == travelling(other)


def only_in(dataset: Path, another: Path) -> list[ShardEntry]:
    """Shards that differ, so that they have to move."""
    shared = {shard.sha256 for shard in shards_of(load_manifest(another))}
    return [shard for shard in shards_of(load_manifest(dataset)) if shard.sha256 not in shared]


def test_a_damaged_dataset_replaces_nothing(tiny: Path, other: Path, tmp_path: Path) -> None:
    """Found after the other one was removed, it would have cost a dataset for nothing."""
    there, damaged = tmp_path / "there", tmp_path / "damaged"
    push(tiny, there)
    for shard in only_in(other, tiny)[::4]:
        shutil.copytree(other, damaged)
        flip(damaged / shard.path)
        for compress in (False, True):
            with pytest.raises(DataError, match=f"{shard.path}: its sha256 is "):
                push(damaged, there, overwrite=True, compress=compress)
            assert content(there) == travelling(tiny)
        shutil.rmtree(damaged)


def test_a_pull_that_fails_replaces_nothing(tiny: Path, other: Path, tmp_path: Path) -> None:
    """A shard that is damaged at the place costs nobody the dataset in the folder; then it goes on."""
    there, back = tmp_path / "there", tmp_path / "back"
    push(other, there)
    pull(tiny, back)
    *others, last = only_in(other, tiny)
    flip(there / last.path)
    with pytest.raises(DataError, match=last.path):
        pull(there, back, overwrite=True)
    assert {name: data for name, data in content(back).items() if not name.startswith(".pull/")} == travelling(tiny)
    shutil.copy(other / last.path, there / last.path)
    for shard in others:
        flip(there / shard.path)  # what has arrived is not fetched again
    pull(there, back, overwrite=True)
    assert content(back) == travelling(other)


def test_without_room_for_both_the_one_before_goes_first(
    tiny: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that holds one of them is no reason to refuse; what has arrived stays if the rest fails."""
    there, back = tmp_path / "there", tmp_path / "back"
    push(other, there)
    pull(tiny, back)
    part = [shard for shard in only_in(other, tiny) if shard.path.startswith("phases/00001")]
    needed = sum(entry.num_bytes for entry in part) + (64 << 20)
    monkeypatch.setattr("pipeline.sharing.staging.free_bytes", lambda folder: needed - 1)
    flip(there / part[1].path)
    with pytest.raises(DataError, match=part[1].path):
        pull(there, back, overwrite=True, phases="1")
    assert "manifest.json" not in content(back)
    assert content(back)[part[0].path] == (other / part[0].path).read_bytes()
    shutil.copy(other / part[1].path, there / part[1].path)
    pull(there, back, phases="1")
    pull(there, back)
    assert content(back) == travelling(other)


def test_a_part_of_another_dataset_leaves_nothing_of_the_one_before(tiny: Path, other: Path, tmp_path: Path) -> None:
    """A shard of the right name and size would else be read as the new dataset's."""
    for run in (push, pull):
        target = tmp_path / run.__name__
        run(tiny, target)
        run(other, target, phases="0", overwrite=True)
        found = {name: data for name, data in content(target).items() if name.endswith(".arrow")}
        assert found == {each.entry.path: (other / each.entry.path).read_bytes() for each in _part(other)}


def _part(dataset: Path) -> Any:
    return select(load_manifest(dataset), phases="0")


def test_what_is_not_ours_is_not_touched(tiny: Path, tmp_path: Path) -> None:
    """A home folder, with --overwrite too."""
    for run in (push, pull):
        for name in ("thesis.tex", "phases/notes.txt"):
            target = tmp_path / run.__name__ / name.replace("/", "-")
            (target / name).parent.mkdir(parents=True)
            (target / name).write_text("years of work")
            for overwrite in (False, True) if name == "thesis.tex" else (False,):
                with pytest.raises(BuildError, match=r"nothing .* is touched"):
                    run(tiny, target, overwrite=overwrite)
            assert content(target) == {name: b"years of work"}


def test_an_interrupted_push_goes_on_and_another_does_not(tiny: Path, other: Path, tmp_path: Path) -> None:
    """The marker tells whose shards are there: names and sizes would not."""
    there = tmp_path / "there"
    push(tiny, there)
    for name in ("manifest.json", "README.md"):
        (there / name).unlink()
    last = shards_of(load_manifest(tiny))[-1].path
    (there / last).unlink()
    with pytest.raises(BuildError, match="not a curriculum dataset"):
        push(tiny, there)  # without a marker nobody knows whose they are
    (there / ".push.json").write_text(json.dumps({"format": "curriculum-push", "id": load_manifest(tiny).id}))
    with pytest.raises(BuildError, match=f"another dataset, {load_manifest(tiny).id}, goes on there"):
        push(other, there)
    with pytest.raises(DataError, match="is being pushed there, or its push was interrupted"):
        pull(there, tmp_path / "back")
    assert [file.name for file in push(tiny, there).files] == [last, "README.md", "manifest.json"]
    assert content(there) == travelling(tiny)


def test_links_in_the_target_are_not_followed(tiny: Path, tmp_path: Path) -> None:
    """A folder that somebody else can write to must not turn a pull into a write elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (".pull", "phases", "phases/00000-len0000008"):
        back = tmp_path / "back"
        pull(tiny, back)
        if (back / name).exists():
            shutil.rmtree(back / name)
        (back / name).symlink_to(elsewhere)
        with pytest.raises(CurriculumError, match=r"is a link"):
            pull(tiny, back)
        assert content(elsewhere) == {}
        shutil.rmtree(back)


def test_a_link_in_place_of_a_shard_is_replaced(tiny: Path, tmp_path: Path) -> None:
    """Its target stays as it is."""
    back, precious = tmp_path / "back", tmp_path / "precious"
    pull(tiny, back)
    shard = shards_of(load_manifest(tiny))[0].path
    (back / shard).rename(precious)
    (back / shard).symlink_to(precious)
    os.truncate(precious, 3)
    pull(tiny, back)
    assert content(back) == travelling(tiny)
    assert not (back / shard).is_symlink()
    assert precious.stat().st_size == 3


def test_a_folder_of_links_is_a_source(tiny: Path, tmp_path: Path) -> None:
    """The cache of huggingface_hub is one: links to files named by their digest."""
    linked = tmp_path / "linked"
    for name in travelling(tiny):
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(tiny / name)
    push(linked, tmp_path / "there")
    pull(linked, tmp_path / "back")
    assert content(tmp_path / "there") == content(tmp_path / "back") == travelling(tiny)
    assert not any(path.is_symlink() for path in (tmp_path / "there").rglob("*"))


def test_two_pulls_into_one_folder(tiny: Path, tmp_path: Path) -> None:
    """The second is told to wait."""
    from pipeline.lock import locked

    with (
        locked(tmp_path / "back"),
        pytest.raises(BuildError, match=r"another process is writing there.*another folder"),
    ):
        pull(tiny, tmp_path / "back")


@pytest.mark.parametrize(("run", "noun"), [(push, "place"), (pull, "folder")])
def test_a_file_system_without_locks(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[Path, Path], object], noun: str
) -> None:
    """Said in a sentence that tells what to give instead; folders that were made for it do not stay."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("pipeline.lock.fcntl.flock", refuse)
    (tmp_path / "mine").mkdir()
    for end in (tmp_path / "mine", tmp_path / "new" / "end"):
        with pytest.raises(BuildError) as refusal:
            run(tiny, end)
        assert str(refusal.value) == (
            f"{end}: cannot be locked (No locks available): this file system may have no locks. Give another {noun}, "
            "on a file system that has them."
        )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_disk_without_room_is_found_before(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both numbers are named."""
    monkeypatch.setattr("pipeline.sharing.staging.free_bytes", lambda folder: 1234)
    with pytest.raises(BuildError, match=r"[0-9,]+ bytes are needed, 1,234 are free"):
        pull(tiny, tmp_path / "back")
    assert content(tmp_path / "back") == {}
