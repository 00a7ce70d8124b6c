"""What the log of a probe says, however its lines come."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from curriculum.stability_log import StabilityLog
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.follow_log import FollowedLog
from pipeline.tuning.probe_log import ProbeLog


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_log_is_read_the_same_however_it_is_cut(cut: int) -> None:
    """A line that is read half counts when it is whole; one that is never finished does not count."""
    text = b'{"step": 0, "loss": 7}\n\n{"step": 1, "loss": 6, "validation_loss": 0}\n{"step": 2, "validation_loss": 1'
    reader = ProbeLog(where="log", num_steps=10)
    found = [one for start in range(0, len(text), cut) for one in reader.take(text[start : start + cut])]
    assert found == [Evaluation(step=1, perplexity=1.0)]
    assert (reader.end(), reader.steps_trained) == ([], 2)
    reader.take(b'{"step": 2, "validation_loss": 0}')
    assert reader.end() == [Evaluation(step=2, perplexity=1.0)]


@pytest.mark.parametrize(
    ("entry", "perplexity"),
    [
        ('"validation_loss": 0', 1.0),
        ('"validation_perplexity": 200.5, "validation_loss": 3', 200.5),
        ('"loss": NaN', math.nan),
        ('"loss": "NaN"', math.nan),
        ('"loss": Infinity', math.inf),
        ('"loss": "-Infinity"', math.nan),
        ('"loss": 5, "validation_loss": "Infinity"', math.inf),
        ('"validation_loss": 1e9', math.inf),
        ('"validation_perplexity": "Infinity"', math.inf),
        ('"validation_perplexity": "NaN", "validation_loss": 3', math.nan),
        (f'"validation_loss": {10**400}', math.inf),
        (f'"validation_loss": {-(10**400)}', math.nan),
        ('"loss": 5, "validation_loss": null', None),
    ],
)
def test_a_divergence_is_an_evaluation(entry: str, perplexity: float | None) -> None:
    """NaN as strict JSON, as Python's `json` writes it, or in the training loss alone: the search has to hear of it."""
    found = ProbeLog(where="log", num_steps=10).take(f'{{"step": 4, {entry}}}\n'.encode())
    assert repr(found) == repr([] if perplexity is None else [Evaluation(step=4, perplexity=perplexity)])


@pytest.mark.parametrize(
    ("steps", "is_complete"),
    [
        (range(10), True),
        (range(9), False),
        (range(1, 11), True),  # counted from 1
        (range(0, 10, 3), True),
        ([0, 3, 6], False),
        ([4, 9], True),  # logged after every fifth
        ([4], False),
    ],
)
def test_a_log_tells_whether_all_steps_were_trained(steps: range, is_complete: bool) -> None:
    """Also one that has a line for every third step only."""
    reader = ProbeLog(where="log", num_steps=10)
    reader.take("".join(json.dumps({"step": step}) + "\n" for step in steps).encode())
    assert reader.is_complete is is_complete


def test_a_last_line_that_is_written_anew_is_read_again(tmp_path: Path) -> None:
    """As `StabilityLog.add` does after a validation, which may take minutes, and a crash in it may cut."""
    followed, reader = FollowedLog(path=tmp_path / "log"), ProbeLog(where="log", num_steps=10)

    def told() -> list[tuple[int, float]]:
        news = followed.look()
        found = reader.take(news.lines, replaces_last=news.replaces_last)
        return [(one.step, round(math.log(one.perplexity), 6)) for one in found]

    assert told() == []
    log = StabilityLog(tmp_path / "log")
    log.write(0, loss=4.0)
    log.write(1, loss=4.0)
    assert told() == []
    log.add(validation_loss=4.5)
    assert (told(), told()) == ([(1, 4.5)], [])
    log.write(2, loss=4.0)
    assert told() == []
    log.add(validation_loss=4.25)
    log.write(3, loss=4.0)
    log.add(validation_loss=4.125)
    assert (told(), reader.num_lines) == ([(2, 4.25), (3, 4.125)], 4)
    log.close()
    with (tmp_path / "log").open("r+b") as file:  # a longer last line, cut
        file.seek(-1, os.SEEK_END)
        file.write(b', "val')
    assert (told(), followed.look().rest[-5:]) == ([], b' "val')
    log = StabilityLog(tmp_path / "log", start_step=2)  # goes back
    log.write(2, loss=4.0)
    log.add(validation_loss=4.0)
    log.close()
    assert (told()[-1], sorted(reader.evaluations)) == ((2, 4.0), [1, 2])  # from its start: it is shorter than it was
    (tmp_path / "log").write_text('{"step": 0, "validation_loss": 3}\n')  # begins anew
    assert (told(), sorted(reader.evaluations)) == ([(0, 3.0)], [0])
