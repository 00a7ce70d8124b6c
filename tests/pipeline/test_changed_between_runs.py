"""A corpus, tokenizer or option that changes between a crash and the rerun: refused or rebuilt, never mixed.

Every case is compared byte for byte with a build of the new inputs from nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.corpus_tokenizer
from crashing_build import OPTIONS, Crash, write_lines
from curriculum.errors import BuildError
from pipeline.build import BuildResult, build
from pipeline.interruption import Interrupted
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.tokenizer import train_tokenizer
from small_corpus import real_texts


def append(place: Path) -> dict[str, Any]:
    """One document more at the end of a file."""
    with (place / "corpus" / "a.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    return {}


def replace_unseen(place: Path) -> dict[str, Any]:
    """Another text of the same size, the modification time set back."""
    path = place / "corpus" / "a.jsonl"
    state = path.stat()
    path.write_text(path.read_text().replace("the", "THE"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    return {}


def remove_one(place: Path) -> dict[str, Any]:
    """A file less."""
    (place / "corpus" / "b.jsonl").unlink()
    return {}


def add_one(place: Path) -> dict[str, Any]:
    """A file more."""
    write_lines(place / "corpus" / "c.jsonl", real_texts()[50:60])
    return {}


def other_tokenizer(place: Path) -> dict[str, Any]:
    """The tokenizer file has other content under the same name."""
    (place / "tokenizer.json").write_text(train_tokenizer(real_texts(), 400))
    return {}


def other_seed(place: Path) -> dict[str, Any]:
    """An option that changes the order only: the store stays valid, finished windows do not."""
    return {"seed": 5}


CHANGES = [
    *((change, "file") for change in (append, replace_unseen, remove_one, add_one, other_tokenizer, other_seed)),
    *((change, "train:300") for change in (append, replace_unseen)),
]


@pytest.mark.parametrize("stage", ["encode", "cut"])
@pytest.mark.parametrize(("change", "tokenizer"), CHANGES)
def test_refused_or_rebuilt_never_mixed(tmp_path: Path, change: Any, stage: str, tokenizer: str) -> None:
    """With finished windows a visible change is refused by name; what is not refused is as if built from nothing."""
    (tmp_path / "corpus").mkdir()
    write_lines(tmp_path / "corpus" / "a.jsonl", real_texts()[:30])
    write_lines(tmp_path / "corpus" / "b.jsonl", real_texts()[30:40])
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(real_texts()[:40], 300))

    def run(out: str, progress: Silent, **more: Any) -> dict[str, bytes]:
        own = {"corpus": (str(tmp_path / "corpus"),), "out": str(tmp_path / out)}
        spec = str(tmp_path / "tokenizer.json") if tokenizer == "file" else tokenizer
        build(load_options(None, {**OPTIONS, "tokenizer": spec, **own, **more}), progress)
        files = [path for path in (tmp_path / out).rglob("*") if path.is_file() and path.name != "build-log.json"]
        return {str(path.relative_to(tmp_path / out)): path.read_bytes() for path in files}

    with pytest.raises(Interrupted):
        run("out", Crash(stage))
    changed = change(tmp_path)
    fresh = run("fresh", Silent(), **changed)
    if stage == "cut" and change is not replace_unseen:
        with pytest.raises(BuildError, match=r"unfinished build .* something else: (corpus|seed|token)"):
            run("out", Silent(), **changed)
        changed["overwrite"] = True
    assert run("out", Silent(), **changed) == fresh


def test_a_sample_that_vanishes_is_no_smaller_sample(
    build_small: Callable[..., BuildResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer would be trained on other documents, and every later build of the store would use it."""
    sample_unit = pipeline.corpus_tokenizer.sample_unit

    def tidied(*task: Any) -> str:
        name = sample_unit(*task)
        (tmp_path / "store" / name).unlink()
        return name

    monkeypatch.setattr(pipeline.corpus_tokenizer, "sample_unit", tidied)
    options = {"store": str(tmp_path / "store"), "tokenizer": "train:300", "workers": 1}
    with pytest.raises(BuildError, match=r"store/aside/sample-\w+\.json: vanished while it was needed\. Run the same"):
        build_small(tmp_path / "out", **options)
    assert not (tmp_path / "store" / "tokenizers").exists()
