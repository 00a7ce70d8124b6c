"""The headline of docs/evidence.md: losses on documents that no run has read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curriculum.reader import Reader
from pipeline.files.address import store_files
from small_corpus import expected_documents

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its modules stand beside each other, not in a package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_no_row_holds_a_document_that_counts(tiny: Path, other: Path) -> None:
    """One that was trained on flatters the run that read it: each is looked for in all bytes of all rows, the held-out
    ones too. The datasets have the seeds 0 and 1, so that what one leaves the other may have read."""
    import evidence_documents as measured  # type: ignore[import-not-found]

    stores = [store_files(dataset.with_name("dataset.store")) for dataset in (tiny, other)]
    left = [measured.unread(dataset, store) for dataset, store in zip((tiny, other), stores, strict=True)]
    common = measured.draw(left, 20)
    assert len(set(common)) == 20
    assert left[0] != left[1]
    texts = [text + b"\0" for text in expected_documents(tiny)]
    for dataset in (tiny, other):
        reader = Reader(dataset)
        rows = [row.tobytes() for step in range(len(reader)) for row in reader[step].tokens.astype(np.uint8)]
        assert reader.validation is not None
        rows += [row.tobytes() for batch in reader.validation.batches(8) for row in batch.tokens.astype(np.uint8)]
        for document in common:
            whole = measured.window(stores[0], reader.manifest.dtype, document, 10_000).astype(np.uint8).tobytes()
            assert len(whole) == document[2]
            assert whole[:-1] in {text[:-1] for text in texts}
            assert not any(whole[at : at + 40] in row for at in range(0, len(whole) - 40, 7) for row in rows)


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
    assert lines[-1] == "Left out, without a model as they diverged: aggressive-constant-seed0."
