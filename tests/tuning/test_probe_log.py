"""What the log of a probe says, however its lines come."""

from __future__ import annotations

import json
import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import BuildError
from curriculum.stability_log import StabilityLog
from curriculum.stability_records import parse_records
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.follow_log import FollowedLog, News
from pipeline.tuning.probe_log import ProbeLog, perplexity


def news(*lines: str, first_number: int = 1) -> News:
    return News(first_number=first_number, lines=tuple(line.encode() for line in lines))


def read(*lines: str) -> ProbeLog:
    """The log of a probe of ten steps."""
    reader = ProbeLog(where="log", num_steps=10)
    reader.take(news(*lines))
    return reader


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_log_is_read_the_same_however_it_is_cut(tmp_path: Path, cut: int) -> None:
    """A line that is read half counts when it is whole; one that is never finished does not count."""
    text = b'{"step": 0, "loss": 7}\n\n{"step": 1, "loss": 6, "validation_loss": 0}\n{"step": 2, "validation_loss": 1'
    followed, reader = FollowedLog(path=tmp_path / "log"), ProbeLog(where="log", num_steps=10)
    for stop in [*range(0, len(text), cut), len(text)]:
        (tmp_path / "log").write_bytes(text[:stop])
        reader.take(followed.look())
    reader.take(followed.look(at_end=True))
    assert (reader.evaluations, reader.steps_trained) == ([Evaluation(step=1, perplexity=1.0)], 2)
    (tmp_path / "log").write_bytes(text[:-1] + b"0}")
    reader.take(followed.look(at_end=True))
    assert reader.evaluations[1:] == [Evaluation(step=2, perplexity=1.0)]


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
        ('"loss": NaN, "validation_loss": 4', math.nan),
        ('"validation_loss": "NaN", "validation_perplexity": 3', math.nan),
    ],
)
def test_a_divergence_is_an_evaluation(entry: str, perplexity: float | None) -> None:
    """NaN as strict JSON, as Python's `json` writes it, or in the training loss alone: the search has to hear of it."""
    found = read(f'{{"step": 4, {entry}}}')
    assert repr(found.evaluations) == repr([] if perplexity is None else [Evaluation(step=4, perplexity=perplexity)])


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
    assert read(*(json.dumps({"step": step}) for step in steps)).is_complete is is_complete


def test_a_divergence_stays_one_whatever_is_validated_after_it() -> None:
    """In one line or two, the validation before or after, with nulls for what is not known: one verdict."""
    loss, validation = '"loss": NaN', '"validation_loss": 4'
    for lines in (
        [f'{{"step": 9, {loss}, {validation}}}'],
        [f'{{"step": 9, {loss}}}', f'{{"step": 9, {validation}}}'],
        [f'{{"step": 9, {validation}}}', f'{{"step": 9, {loss}}}'],
        [f'{{"step": 9, {loss}}}', f'{{"step": 9, "loss": null, {validation}}}'],
        [f'{{"step": 9, {loss}}}', '{"step": 10, "loss": 4}', f'{{"step": 9, {validation}}}'],
    ):
        assert repr(read(*lines).evaluations) == "[Evaluation(step=9, perplexity=nan)]"


def test_what_a_probe_does_not_use_is_no_reason_to_refuse_a_log() -> None:
    """A trainer of people's own calls something else `tokens`; `loss` is what it is judged by."""
    for key in ("tokens", "seq_len", "grad_norm", "loss_ratio", "variance_l1", "learning_rate", "mine"):
        for value in ('"12"', "12.5", "-1", "[]"):
            found = read(f'{{"step": 0, "validation_loss": 0, "{key}": {value}}}')
            assert found.evaluations == [Evaluation(step=0, perplexity=1.0)]
    for key in ("loss", "validation_loss", "validation_perplexity"):
        with pytest.raises(BuildError, match=f"{key} is '3.2', which is no number"):
            read(f'{{"step": 0, "{key}": "3.2"}}')


def test_a_byte_order_mark_is_no_reason_to_refuse_a_log() -> None:
    """Windows writes it; `curriculum stability` reads it."""
    assert read('\ufeff{"step": 0, "validation_loss": 0}').evaluations == [Evaluation(step=0, perplexity=1.0)]


LINES = st.fixed_dictionaries(
    {"step": st.integers(0, 9)},
    optional={key: st.sampled_from([4.0, 5.0, None, "NaN"]) for key in ("loss", "grad_norm", "validation_loss")},
)


@given(lines=st.lists(LINES, max_size=12), looks=st.lists(st.integers(0, 12), max_size=4))
def test_a_probe_and_a_report_agree_on_which_lines_count(lines: list[dict[str, Any]], looks: list[int]) -> None:
    """`curriculum stability` reads at once what a tune follows: resumes, late validations and divergences."""
    texts = [json.dumps(line) for line in lines]
    reader = ProbeLog(where="log", num_steps=20)
    borders = sorted({0, len(texts), *(min(look, len(texts)) for look in looks)})
    for start, stop in pairwise(borders):
        reader.take(news(*texts[start:stop], first_number=start + 1))
    records = parse_records("".join(f"{text}\n" for text in texts).encode(), "log").records
    assert reader.last_step == (records[-1]["step"] if records else -1)
    assert repr([(one.step, one.perplexity) for one in reader.evaluations]) == repr(
        [(record["step"], found) for record in records if (found := perplexity(record)) is not None]
    )


def test_a_last_line_that_is_written_anew_is_read_again(tmp_path: Path) -> None:
    """As `StabilityLog.add` does after a validation, which may take minutes, and a crash in it may cut."""
    followed, reader = FollowedLog(path=tmp_path / "log"), ProbeLog(where="log", num_steps=10)

    def told() -> list[tuple[int, float]]:
        before = reader.evaluations
        reader.take(followed.look())
        return [(one.step, round(math.log(one.perplexity), 6)) for one in reader.evaluations if one not in before]

    def steps() -> list[int]:
        return [one.step for one in reader.evaluations]

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
    assert (told()[-1], steps()) == ((2, 4.0), [1, 2])  # from its start: it is shorter than it was
    (tmp_path / "log").write_text('{"step": 1, "validation_loss": 3}\n')  # begins anew: no late validation
    assert (told(), steps(), reader.last_step) == ([(1, 3.0)], [1], 1)
