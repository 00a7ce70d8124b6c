"""Where a resume began, and where it might have: killed runs, several resumes in a row, rows that occur twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import curriculum
from curriculum.batch import Batch
from curriculum.doctor.check import check_runs
from curriculum.doctor.labels import loss_verdict
from curriculum.doctor.planned_rows import PlannedRows
from curriculum.doctor.run_log import RunLog
from curriculum.reader import Reader
from doctor.fake_runs import Ranks, check, kinds, log_of, ranks_of


@pytest.fixture(scope="module")
def reader(small_dataset: Path) -> Reader:
    """8 rows per step; 2 ranks take 4 each."""
    return curriculum.open(small_dataset)


def _killed(reader: Reader, *, behind: int, by: int = 1) -> Ranks:
    """Steps 0 to 3; one rank lacks the last ones."""
    ranks = ranks_of(reader, stop=4)
    del ranks[behind][-by:]
    return ranks


@pytest.mark.parametrize("behind", [0, 1])
def test_a_killed_run_may_lack_the_last_line_of_a_rank(reader: Reader, behind: int) -> None:
    """Otherwise every kill between two ranks' lines is reported as a wrong setup; the run counts as far as all came."""
    report = check(reader, _killed(reader, behind=behind), ranks_of(reader, start=3))
    assert kinds(report) == []
    assert [(run.start, run.stop) for run in report.runs] == [((0, 0), (3, 0)), ((3, 0), (8, 0))]


def test_uneven_ranks_that_no_kill_explains_are_named(reader: Reader) -> None:
    """Two micro-batches apart, or told where to end: the ranks had different plans, and the user must know."""
    two_apart = check(reader, _killed(reader, behind=1, by=2), ranks_of(reader, start=2))
    assert kinds(two_apart) == ["uneven-ranks"]
    told = check(reader, _killed(reader, behind=1), ranks_of(reader, start=3), stop_steps=[3, 8])
    assert kinds(told) == ["uneven-ranks"]
    last = check(reader, _killed(reader, behind=1))
    assert (kinds(last), last.runs[0].stop) == (["uneven-ranks"], (3, 0))


@pytest.mark.parametrize("behind", [0, 1])
def test_a_resume_is_measured_from_what_all_ranks_had(reader: Reader, behind: int) -> None:
    """A step that one rank never saw was not trained on: to resume after it loses rows, whichever rank that was."""
    killed = _killed(reader, behind=behind)
    [skipped] = check(reader, killed, ranks_of(reader, start=4)).findings
    assert skipped.kind == "skipped-at-resume"
    assert "began at step 4, the run before had come to step 3: 8 rows never reached" in skipped.message
    [again] = check(reader, killed, ranks_of(reader)).findings
    assert again.kind == "restart"
    assert "began again at step 0 although the run before had come to step 3:" in again.message


@pytest.mark.parametrize("third", [4, 5, 6])
def test_a_third_run_may_begin_anywhere_that_was_reached(reader: Reader, third: int) -> None:
    """The second fell back to step 3 and ended at 5; checkpoints of the first, up to step 6, may still be loaded."""
    runs = ranks_of(reader, stop=6), ranks_of(reader, start=3, stop=5), ranks_of(reader, start=third)
    report = check(reader, *runs)
    assert kinds(report) == []
    assert [run.start for run in report.runs] == [(0, 0), (3, 0), (third, 0)]


def test_a_third_run_beyond_all_that_was_reached_lost_rows(reader: Reader) -> None:
    """Step 6 reached no model in either run before."""
    report = check(reader, ranks_of(reader, stop=6), ranks_of(reader, start=3, stop=5), ranks_of(reader, start=7))
    assert [(finding.kind, finding.run) for finding in report.findings] == [("skipped-at-resume", 2)]


def test_a_run_that_fell_back_and_went_further_is_resumed_where_it_ended(reader: Reader) -> None:
    """Places are counted from the run before, not from the first one, in what is fine and in what is said."""
    before = ranks_of(reader, stop=4), ranks_of(reader, start=2, stop=6)
    assert kinds(check(reader, *before, ranks_of(reader, start=6))) == []
    [skipped] = check(reader, *before, ranks_of(reader, start=7)).findings
    assert (skipped.kind, skipped.run, skipped.step) == ("skipped-at-resume", 2, 7)
    assert "began at step 7, the run before had come to step 6: 8 rows never reached" in skipped.message
    [again] = check(reader, *before, ranks_of(reader)).findings
    assert (again.kind, again.run) == ("restart", 2)
    assert "although the run before had come to step 6:" in again.message


class _Repeating:
    """A dataset whose step 6 has the rows of step 0, and step 5 those of step 1."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.id, self.where, self.plan, self.manifest = reader.id, reader.where, reader.plan, reader.manifest

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, step: int) -> Batch:
        return self._reader[{6: 0, 5: 1}.get(step, step)]

    def log(self, start: int, stop: int) -> RunLog:
        """Of two ranks."""
        steps = [{6: 0, 5: 1}.get(step, step) for step in range(start, stop)]
        return log_of([[examples[step] for step in steps] for examples in ranks_of(self._reader)])


@pytest.mark.parametrize(("stop", "start"), [(6, 6), (5, 5), (6, 5), (2, 1)])
def test_of_rows_that_occur_twice_the_near_ones_are_meant(reader: Reader, stop: int, start: int) -> None:
    """Boilerplate fills rows of many corpora: a right resume at such a row must not look like a restart or a jump."""
    repeating = _Repeating(reader)
    report = check_runs(repeating, [repeating.log(0, stop), repeating.log(start, 8)])  # type: ignore[arg-type]
    assert kinds(report) == []
    assert report.runs[1].start == (start, 0)


def test_a_resume_in_its_place_is_not_searched_for(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search hashes hundreds of steps; on a large dataset a right run would take minutes to confirm."""
    monkeypatch.setattr(PlannedRows, "find", lambda *_: pytest.fail("searched"))
    assert kinds(check(reader, ranks_of(reader, stop=4), ranks_of(reader, start=4))) == []


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [(2.0, "plain"), (2.03, "plain"), (2.1, "other"), (4.0, "other"), (5.0, "other"), (5.7, "other"), (5.9, "shifted")],
)
def test_a_loss_between_the_two_is_neither(reader: Reader, loss: float, verdict: str) -> None:
    """Plain 2, shifted again 6: an auxiliary loss lifts it towards 6, and is no reason to accuse the model."""
    log = log_of(ranks_of(reader, world_size=1, stop=1))
    numbers = {"cross_entropy": 2.0, "cross_entropy_of_shifted": 6.0, "num_labels": 10, "num_labels_shifted": 10}
    call = replace(log.calls[0][0], loss=loss, **numbers)  # type: ignore[arg-type]
    assert loss_verdict(replace(log, calls=((call,),))) == verdict
