"""A rerun does not read the token store to find that nothing changed, and reads what may have changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import pipeline.usable_parts
from crashing_build import OPTIONS, Crash, write_lines
from pipeline.build import prepare_plan
from pipeline.files.address import store_files
from pipeline.interruption import Interrupted
from pipeline.option_sources import load_options
from pipeline.part_index import read_index
from pipeline.progress import Silent
from pipeline.store_names import index_name, tokens_name
from small_corpus import real_texts


@pytest.fixture
def read_parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tokens files that were read to compare their digests; cleared by the test."""
    names: list[str] = []
    compute = pipeline.usable_parts._digest

    def noted(store: Any, name: str, num_bytes: int) -> str:
        names.append(name)
        return compute(store, name, num_bytes)

    monkeypatch.setattr(pipeline.usable_parts, "_digest", noted)
    return names


def run(place: Path, store: str = "store", progress: Silent | None = None) -> list[str]:
    """Tokenize into a store of `place`; the names of the parts."""
    if not (place / "corpus").exists():
        (place / "corpus").mkdir()
        write_lines(place / "corpus" / "a.jsonl", real_texts()[:40])
    own = {
        "corpus": (str(place / "corpus"),),
        "store": str(place / store),
        "tokenizer": "bytes",
        "out": str(place / "o"),
    }
    _, tokenized = prepare_plan(load_options(None, {**OPTIONS, **own}), progress or Silent())
    return list(tokenized.part_names)


def test_what_this_run_wrote_or_checked_is_believed_by_the_next(tmp_path: Path, read_parts: list[str]) -> None:
    """Terabytes, hashed at every restart of a preempted job, would be hours."""
    parts = run(tmp_path)
    assert len(parts) > 4
    run(tmp_path)
    assert read_parts == []
    (tmp_path / "store" / "checked.json").unlink()
    for expected in (len(parts), 0):
        run(tmp_path)
        assert len(read_parts) == expected
        read_parts.clear()


def test_an_interrupted_run_remembers_what_it_checked(tmp_path: Path, read_parts: list[str]) -> None:
    """Else a job that is preempted every hour would never get beyond checking."""
    parts = run(tmp_path)
    (tmp_path / "store" / "checked.json").unlink()
    with pytest.raises(Interrupted):
        run(tmp_path, progress=Crash("encode"))
    assert len(read_parts) == 1
    run(tmp_path)
    assert sorted(read_parts) == sorted(tokens_name(part) for part in parts)


def test_a_copy_of_a_store_is_checked_once(tmp_path: Path, read_parts: list[str]) -> None:
    """A copy may be damaged, and its inodes and change times say that it is one, though times of modification stay."""
    parts = run(tmp_path)
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    for expected in (len(parts), 0):
        run(tmp_path, "copy")
        assert len(read_parts) == expected
        read_parts.clear()


@pytest.mark.parametrize("where", ["tokens", "columns", "summary"])
def test_a_flipped_bit_with_its_times_put_back_is_noticed(tmp_path: Path, read_parts: list[str], where: str) -> None:
    """Any write through the file system changes the change time, which nobody can set."""
    (name, *_) = run(tmp_path)
    store = store_files(tmp_path / "store")
    path = store.local(tokens_name(name) if where == "tokens" else index_name(name))
    sound, state = path.read_bytes(), path.stat()
    # The summary is in the file twice; the one in the footer counts.
    wanted = {
        "tokens": path.read_bytes()[:1],
        "columns": read_index(store, name).num_tokens.tobytes(),
        "summary": b'"text_bytes":',
    }
    at = sound.rindex(wanted[where]) + len(wanted[where]) // 2
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([sound[at] ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == len(sound)
    run(tmp_path)
    assert path.read_bytes() == sound
    run(tmp_path)
    assert len(read_parts) <= 1


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": "curriculum-checked-parts", "version": 1, "parts": {"x": [[1, 2], 3]}}'],
)
def test_a_damaged_memory_is_none(tmp_path: Path, read_parts: list[str], content: str) -> None:
    """It holds nothing that cannot be found again."""
    parts = run(tmp_path)
    (tmp_path / "store" / "checked.json").write_text(content)
    assert run(tmp_path) == parts
    assert len(read_parts) == len(parts)


def test_other_clocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files from 1970, before it and from 2200, and a clock set back between two runs: the parts are the same, since
    times are compared for being equal and never with now."""
    run(tmp_path)
    for number, seconds in enumerate((0, -1_000_000_000, 7_258_118_400)):
        os.utime(tmp_path / "corpus" / "a.jsonl", (seconds, seconds))
        first = run(tmp_path, f"store{number}")
        for path in (tmp_path / f"store{number}").rglob("*.tokens"):
            os.utime(path, (seconds, seconds))
        monkeypatch.setattr("time.time", lambda: 1_000.0)
        assert run(tmp_path, f"store{number}") == first
