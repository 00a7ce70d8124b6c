"""The headline of docs/evidence.md: losses on documents that no run has read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curriculum.reader import Reader
from pipeline.build import BuildResult
from pipeline.files.address import store_files
from small_corpus import expected_documents, read_rows

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its modules stand beside each other, not in a package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))


EOS = b"\0"
"""256, after the bytes, as one byte."""


def test_no_run_has_read_a_document_that_counts(build_small: Callable[..., BuildResult], tmp_path: Path) -> None:
    """One that was trained on flatters the run that read it. All documents of a dataset are accounted for: those that
    its rows read, the one that its last row ends in, those held out, and those that count."""
    import evidence_documents as measured  # type: ignore[import-not-found]

    left = []
    for seed in (0, 1):
        dataset = tmp_path / str(seed) / "dataset"
        lengths = {"schedule": "constant", "start_length": None, "max_length": 1024}
        build_small(dataset, **lengths, batch_rows=1, steps=9, validation_tokens=4096, seed=seed)
        reader, store = Reader(dataset), store_files(dataset.with_name("dataset.store"))
        left.append(measured.unread(dataset, store))
        windows = {each: measured.window(store, reader.manifest.dtype, each, 10_000) for each in left[-1]}
        assert all(len(window) == num_tokens for (_, _, num_tokens), window in windows.items())
        texts = [window.astype(np.uint8).tobytes().removesuffix(EOS) for window in windows.values()]
        *read, begun = read_rows(reader).astype(np.uint8).tobytes().split(EOS)
        assert not set(texts) & set(read)
        assert not any(text.startswith(begun) for text in texts)
        held_out = 2
        assert len(texts) + len(read) + 1 + held_out == len(expected_documents(dataset))
    assert len(begun) == 38, "so few tokens of it are in the last row: it begins where a row that is too short ends"
    assert left[0] != left[1]
    assert set(measured.draw(left, 100)) < left[0] & left[1]


def test_too_few_such_documents_end_in_a_sentence() -> None:
    """Runs that went through the whole corpus leave none. One of 32 tokens is too short, one of 33 is not."""
    import evidence_documents as measured

    with pytest.raises(SystemExit, match="Only 1 documents of more than 32 tokens were read by none of the runs, 2 "):
        measured.draw([{("a", 0, 33), ("a", 33, 32), ("b", 0, 99)}, {("a", 0, 33), ("a", 33, 32)}], 2)


def test_windows_of_all_lengths_have_the_loss_they_have_alone() -> None:
    """Padding must cost nothing. A model that gives the token after the input, of 4, the odds 3 : 1 : 1 : 1."""
    torch = pytest.importorskip("torch")
    import evidence_documents as measured

    def model(inputs: Any) -> Any:
        odds = torch.nn.functional.one_hot((inputs + 1) % 4, 4) * 2 + 1
        return SimpleNamespace(logits=odds.float().log())

    windows = [np.array([0, 1, 2, 3, 0]), np.array([0, 0]), np.array([3, 0, 0])]
    found = measured.evaluate(model, windows)
    assert found == pytest.approx([np.log(2), np.log(6), (np.log(2) + np.log(6)) / 2])


def test_gains_are_paired_document_by_document() -> None:
    """Documents differ by nats, models by hundredths: only the error of the differences tells models apart."""
    import evidence_documents as measured

    losses = {
        "normal-constant-seed1": np.array([5.0, 4.0, 3.0]),
        "normal-truncation-seed1": np.array([4.5, 4.0, 2.5]),
        "normal-truncation-seed2": np.array([4.5, 4.0, 2.5]),
    }
    found = measured.compare(losses)
    assert found["runs"][1]["gain"] == pytest.approx((1 / 3, 1 / 6))
    assert measured.markdown({**found, "targets": 1234, "left_out": []}).splitlines() == [
        "3 documents, 1,234 targets; loss in nats ± standard error.",
        "",
        "| setting, seed | constant | truncation | truncation lower by |",
        "| --- | ---: | ---: | ---: |",
        "| normal, 1 | 4.000 ± 0.577 | 3.667 ± 0.601 | +0.333 ± 0.167 |",
        "| normal, 2 |  | 3.667 ± 0.601 |  |",
    ]


def test_a_run_without_a_model_is_left_out_and_named(tmp_path: Path) -> None:
    """As of a baseline that diverged, the event that the large setting is there for: the others are still compared."""
    import evidence_documents as measured

    for name in ("aggressive-constant-seed0", "aggressive-truncation-seed0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "cost.json").touch()
    (tmp_path / "runs" / "aggressive-truncation-seed0" / "model").mkdir()
    names, left_out = measured.models_of(tmp_path)
    assert names == ["aggressive-truncation-seed0"]
    found = measured.compare({name: np.array([4.5, 4.0, 2.5]) for name in names})
    lines = measured.markdown({**found, "targets": 1234, "left_out": left_out}).splitlines()
    assert "| aggressive, 0 |  | 3.667 ± 0.601 |  |" in lines
    assert lines[-1] == "Left out, without a model (those that diverged have none): aggressive-constant-seed0."
