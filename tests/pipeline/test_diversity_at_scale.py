"""Short batches are as diverse as random rows: the reason why rows are dealt from a permuted list."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build import build
from pipeline.engines.cores import num_cores
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.verify import verify_dataset


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus is tokenized by the first build."""
    return tmp_path_factory.mktemp("diversity") / "store"


@pytest.mark.parametrize(("frac", "max_length"), [("1.0", 256), ("0.3", 64)])
def test_warmup_batches_of_the_default_corpus(store: Path, tmp_path: Path, frac: str, max_length: int) -> None:
    """Cut in stream order, the first steps would hold a few documents each and raise the gradient variance they are
    to lower. Mean within 3 % of drawing 512 rows at random, no batch below the expectation minus 6 deviations."""
    options = {
        "out": str(tmp_path / "out"),
        "tokenizer": "bytes",
        "store": str(store),
        "frac": frac,
        "max_length": max_length,
        "batch_rows": 512,
        "tokens": 8_000_000,
    }
    build(load_options(None, options), Silent())
    report = verify_dataset(tmp_path / "out", quick=False, workers=num_cores(), progress=Silent())
    assert report.documents is not None
    found = report.documents.to_json()
    assert found["warmup_steps"] > 80
    assert 0.97 < found["mean"] / found["expected_mean"] < 1.03
    assert found["worst"]["standard_deviations"] > -6
    assert found["min"] > 100
