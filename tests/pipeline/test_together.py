"""Files that are written together: durable when the block ends, and no error of one of them is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from curriculum.errors import BuildError
from pipeline.files.disk import DiskFiles


def files_in(folder: Path) -> DiskFiles:
    return DiskFiles(folder=str(folder), aside="aside")


def write_together(folder: Path, contents: dict[str, bytes | None]) -> None:
    """Files of these contents; None stands for an error in the middle of a file."""
    with files_in(folder).together() as write:
        for name, content in contents.items():
            with write(name, hashed=True) as file:
                file.write(b"half" if content is None else content)
                if content is None:
                    raise ZeroDivisionError


def test_all_files_and_folders_are_flushed_before_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record written after the block speaks of files that survive a power cut. Each folder is flushed once: with one
    flush for every shard, the first window of a schedule of 128 lengths waits for 256 more."""
    flushed: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    contents = {f"phases/{phase}/shard-{number}": b"%d" % number for phase in range(3) for number in range(5)}
    write_together(tmp_path, dict(contents))
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
    folders = [path for path in flushed if "." not in Path(path).name and Path(path).parent.name != "aside"]
    expected = [tmp_path, tmp_path / "phases", *(tmp_path / "phases" / str(phase) for phase in range(3))]
    # The place itself twice: its new folder `aside` is there before the first file.
    assert sorted(folders) == sorted(map(str, [tmp_path, *expected]))
    assert len(flushed) == len(folders) + len(contents)


def test_a_file_that_cannot_appear_ends_the_block_with_its_sentence(tmp_path: Path) -> None:
    """A thread met the error: a window whose shard is missing must not get a record."""
    (tmp_path / "b" / "in the way").mkdir(parents=True)
    with pytest.raises(BuildError, match=r"/b: cannot be written: .*continues where it stopped"):
        write_together(tmp_path, {"a": b"x", "b": b"x", "c": b"x"})
    assert [(tmp_path / name).is_file() for name in ("a", "b", "c")] == [True, False, True]
    assert list((tmp_path / "aside").iterdir()) == []


def test_an_error_inside_a_file_leaves_only_the_others(tmp_path: Path) -> None:
    """As with one file: neither it nor its half."""
    with pytest.raises(ZeroDivisionError):
        write_together(tmp_path, {"a": b"x", "b": None, "c": b"x"})
    assert (tmp_path / "a").read_bytes() == b"x"
    assert [(tmp_path / name).exists() for name in ("b", "c")] == [False, False]
    assert list((tmp_path / "aside").iterdir()) == []


def test_an_empty_folder_that_cannot_go_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be somebody's mount point; folders that hold something stay."""
    (tmp_path / "full" / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "full" / "file").touch()
    files_in(tmp_path).remove_empty_folders("full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    (tmp_path / "full" / "file").unlink()

    def busy(folder: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "rmdir", busy)
    with pytest.raises(BuildError, match=r"full: cannot be written: Device or resource busy\. .*continues"):
        files_in(tmp_path).remove_empty_folders("full")
