"""Packed builds give the same bytes whatever did the work, interrupted or not; short batches stay diverse."""

from __future__ import annotations

import filecmp
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.cut_stage
import pipeline.stream
from forged_shards import verify
from packed_model import write_short_documents
from pipeline.build import BuildResult
from small_corpus import dataset_files, real_texts

Build = Callable[..., BuildResult]
MODES = ("best-fit", "document")
OPTIONS: dict[str, Any] = {"validation_tokens": 2_000, "unit_bytes": 20_000, "shuffle_window": 1}


@pytest.fixture(scope="module", autouse=True)
def several_partitions() -> Iterator[None]:
    """The corpus of 160,000 tokens in nine partitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.stream, "PARTITION_TOKENS", 20_000)
        yield


@pytest.fixture(scope="module")
def short_corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Documents of which many fit in a row."""
    return str(write_short_documents(tmp_path_factory.mktemp("corpus") / "short"))


@pytest.fixture(scope="module")
def built(build_small: Build, short_corpus: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset of each mode; treat them as read-only."""
    folder = tmp_path_factory.mktemp("built")
    for mode in MODES:
        build_small(folder / mode, mode=mode, corpus=(short_corpus,), **OPTIONS)
    return {mode: folder / mode for mode in MODES}


def assert_same_dataset(one: Path, other: Path) -> None:
    """`diff -r`, build-log.json aside; and the counts in it."""
    files = dataset_files(one)
    assert files == dataset_files(other)
    assert [name for name in files if not filecmp.cmp(one / name, other / name, shallow=False)] == []
    packing = [json.loads((root / "build-log.json").read_bytes())["packing"] for root in (one, other)]
    assert packing[0] == packing[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"workers": 2}, id="2 workers"),
        pytest.param({"unit_bytes": 3_000, "backend": "tokenizers"}, id="small units, the reference backend"),
    ],
)
def test_the_same_request_gives_the_same_bytes(
    built: dict[str, Path], short_corpus: str, build_small: Build, tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    """Else nobody could check, share or resume a dataset that another machine built."""
    build_small(tmp_path / "again", mode=mode, corpus=(short_corpus,), **{**OPTIONS, **options})
    assert_same_dataset(built[mode], tmp_path / "again")


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_build_continues(
    built: dict[str, Path],
    short_corpus: str,
    build_small: Build,
    tmp_path: Path,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Finished windows are kept, with what they counted: neither bytes nor accounting tell of the interruption."""
    cut, windows = pipeline.cut_stage.cut_window, []

    def cut_some(job: Any, task: Any) -> None:
        windows.append(task.window.index)
        if len(windows) == 3:
            raise KeyboardInterrupt
        cut(job, task)

    monkeypatch.setattr(pipeline.cut_stage, "cut_window", cut_some)
    request = {"mode": mode, "corpus": (short_corpus,), **OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        build_small(tmp_path / "out", **request)
    build_small(tmp_path / "out", **request)
    assert windows == [0, 1, 2, *range(2, windows[-1] + 1)]
    assert windows[-1] > 3
    assert_same_dataset(built[mode], tmp_path / "out")


def test_warmup_batches_of_best_fit_are_as_diverse_as_random_rows(build_small: Build, tmp_path: Path) -> None:
    """Rows of 8 tokens take parts of long documents. Were they dealt one document after the other, a batch of 16 would
    come from two, and raise the gradient variance that short sequences are to lower. The measure is the same for
    segment mode, which shows that the corpus is not to blame."""
    chance, source = random.Random(0), "".join(real_texts())
    sizes = [max(1, int(chance.lognormvariate(math.log(400), 1))) for _ in range(2_000)]
    starts = [chance.randrange(len(source)) for _ in sizes]
    texts = [(source[start:] + source)[:size] for start, size in zip(starts, sizes, strict=True)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    for mode in ("segment", "best-fit"):
        request = {"corpus": (str(tmp_path / "corpus.jsonl"),), "store": str(tmp_path / "store"), "mode": mode}
        manifest = build_small(
            tmp_path / mode, **request, max_length=256, batch_rows=16, frac="1.0", shard_bytes=1 << 20
        ).manifest
        report = verify(tmp_path / mode)
        assert len(manifest.plan.phases) == 32
        assert report.num_windows > 5
        assert report.documents is not None
        assert report.documents.ratio > 0.97, mode
        assert report.documents.least >= 10, mode
        assert report.notes == ()
