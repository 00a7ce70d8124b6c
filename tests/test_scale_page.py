"""docs/scale.md says what the model computes, and the model lays out what a build would."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text("utf-8")
sys.path.insert(0, str(ROOT / "benchmarks"))

import scale_model  # noqa: E402 - benchmarks are no package


def test_the_page_shows_the_tables_of_the_model() -> None:
    """People order machines by these numbers; a change of the code that changes them must change the page."""
    for number, table in enumerate(scale_model.page()):
        assert table in PAGE, f"table {number} of docs/scale.md is not that of `python benchmarks/scale_model.py`"


def test_a_stage_without_luck_takes_longer_than_the_arithmetic_and_not_much() -> None:
    """Stragglers and dead machines cost the end of a stage: with 36 tasks for each worker, less than a fifth."""
    encode = scale_model.stages(scale_model.Corpus(), scale_model.Cluster(), scale_model.Rates())[0]
    ideal = max(encode.hours(scale_model.Cluster()).values())
    assert ideal < scale_model.simulate(encode, scale_model.Cluster()) < 1.2 * ideal
