"""The picture of a tune: why each probe was called what it is called can be seen."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pipeline.tuning import Candidate, Evaluation, ProbeRun
from pipeline.tuning.draw_tune import draw_tune, tune_figure
from pipeline.tuning.fluctuation import Judgement, Verdict
from pipeline.tuning.result import JudgedProbe, TuneResult
from tune_world import Tune, World


def a_probe(verdict: Verdict, *perplexities: float) -> JudgedProbe:
    """Validated every ten steps; judged by the last one, unless it is steady."""
    evaluations = tuple(Evaluation(step=9 + 10 * i, perplexity=value) for i, value in enumerate(perplexities))
    step = None if verdict is Verdict.STEADY else evaluations[-1].step
    return JudgedProbe(
        candidate=Candidate(start_length=8, length_warmup_steps=30),
        run=ProbeRun(evaluations=evaluations, num_tokens=1, num_steps=30, stopped_early=True, seconds=1),
        judgement=Judgement(verdict=verdict, step=step, ratio=2.0),
    )


@pytest.fixture
def finished(run: Tune) -> TuneResult:
    return run(World(8, inf))


def test_a_sign_stands_where_a_probe_fluctuated_and_at_the_edge_where_it_diverged(finished: TuneResult) -> None:
    """A line that only ends would be taken for that of a probe that went well."""
    probes = (
        a_probe(Verdict.STEADY, 90, 80, 70),
        a_probe(Verdict.AT_THE_BEGINNING, nan),
        a_probe(Verdict.LATER, 90, 80, 300),
        a_probe(Verdict.LATER, 90, inf),
    )
    axes = tune_figure(replace(finished, probes=probes)).axes[0]
    signs = [
        (line.get_marker(), line.get_xydata().tolist()[0], line.get_transform() == axes.transData)
        for line in axes.lines
        if line.get_marker() != "None"
    ]
    assert signs == [("X", [9, 1], False), ("s", [29, 300], True), ("s", [19, 1], False)]
    low, high = axes.get_ylim()
    assert (low < 70, 300 < high < 1000) == (True, True)
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["1", "2", "3", "4"]


def test_probes_that_end_in_one_place_have_one_text(finished: TuneResult) -> None:
    """At a rate that is too high all three diverge at the same step: "3" upon "2" upon "1" was no number."""
    here = [a_probe(Verdict.LATER, 90, value) for value in (nan, inf, 900, 900)]
    axes = tune_figure(replace(finished, probes=(*here, a_probe(Verdict.STEADY, 90, 80)))).axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["1, 2", "3, 4", "5"]


def test_where_every_probe_diverged_at_once_there_is_a_picture(finished: TuneResult) -> None:
    """Its logarithmic axis has nothing to be chosen by; the answer of the tune must not be lost for that."""
    probes = (a_probe(Verdict.AT_THE_BEGINNING, nan), a_probe(Verdict.AT_THE_BEGINNING, inf))
    assert "<svg" in draw_tune(replace(finished, probes=probes))


def test_numbers_of_an_axis_are_written_alike(finished: TuneResult) -> None:
    """ "2000" stood above "1,000"."""
    figure = tune_figure(replace(finished, probes=(a_probe(Verdict.STEADY, 4_000, 900),)))
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0].yaxis
    shown = {text for minor in (False, True) for one in axis.get_ticklabels(minor=minor) if (text := one.get_text())}
    assert {"1,000", "2,000"} <= shown
