"""The search against probes whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from curriculum.errors import ConfigError
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.fluctuation import Verdict
from pipeline.tuning.search import (
    Answer,
    Found,
    NoDuration,
    NoStart,
    Probe,
    SearchSpace,
    Start,
    doubled_starts,
    gone_by,
    most_more,
    next_move,
)

Truth = Callable[[Candidate], Verdict]


def space(starts: tuple[int, ...], least: int, most: int, resolution: int) -> SearchSpace:
    return SearchSpace(
        starts=tuple(Start(length=length, most_length_warmup_steps=most) for length in starts),
        least_length_warmup_steps=least,
        resolution_steps=resolution,
    )


def search(
    where: SearchSpace, truth: Truth, before: dict[Candidate, Verdict] | None = None
) -> tuple[Answer, list[Candidate]]:
    """The answer, and what was probed for it after the verdicts before, in order."""
    verdicts = dict(before or {})
    while isinstance(move := next_move(where, verdicts), Probe):
        assert move.candidate not in verdicts, "a candidate is trained once"
        verdicts[move.candidate] = truth(move.candidate)
    return move, list(verdicts)[len(before or {}) :]


def known(smallest_start: int, longest: int) -> Truth:
    """The world that the paper describes: short starts fluctuate at once, long warmups later."""

    def truth(candidate: Candidate) -> Verdict:
        if candidate.start_length < smallest_start:
            return Verdict.AT_THE_BEGINNING
        return Verdict.STEADY if candidate.length_warmup_steps <= longest else Verdict.LATER

    return truth


def test_the_example_of_the_module() -> None:
    """As a reader checks it by eye."""
    answer, probed = search(space((8, 16, 32, 64), 300, 900, 100), known(10, 750))
    assert [(one.start_length, one.length_warmup_steps) for one in probed] == [
        (8, 300),
        (16, 300),
        (16, 600),
        (16, 800),
        (16, 700),
    ]
    assert answer == Found(candidate=Candidate(start_length=16, length_warmup_steps=700), fluctuates_with=800)
    assert space((8, 16, 32, 64), 300, 900, 100).most_probes == 7


STARTS = (8, 16, 32, 64)


@pytest.mark.parametrize("resolution", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 9), (3, 20), (10, 11)])
def test_the_known_answer_is_found_over_the_whole_grid(least: int, most: int, resolution: int) -> None:
    """Every true start with every true duration: the smallest start that works, the longest duration of the grid."""
    where = space(STARTS, least, most, resolution)
    durations = sorted({*range(least, most, resolution), most})
    for smallest, longest in product(range(1, 70), range(least - 1, most + 2)):
        answer, probed = search(where, known(smallest, longest))
        assert len(probed) <= where.most_probes
        right = [start for start in STARTS if start >= smallest]
        working = [duration for duration in durations if duration <= longest]
        if not right:
            assert answer == NoStart(candidate=Candidate(start_length=64, length_warmup_steps=least))
        elif not working:
            assert answer == NoDuration(candidate=Candidate(start_length=right[0], length_warmup_steps=least))
        else:
            beyond = [duration for duration in durations if duration > longest]
            assert answer == Found(
                candidate=Candidate(start_length=right[0], length_warmup_steps=working[-1]),
                fluctuates_with=beyond[0] if beyond else None,
            )
            assert longest - working[-1] < resolution or working[-1] == most


def test_no_search_takes_more_probes_than_were_announced_and_one_takes_as_many() -> None:
    """What people are told in advance is what it may cost, and not a wild guess."""
    for most in range(1, 40):
        where = space((8, 16, 32), 1, most, 1)
        used = [
            len(search(where, known(smallest, longest))[1])
            for smallest, longest in product((8, 16, 32, 64), range(most + 1))
        ]
        assert max(used) == where.most_probes


def every_truth(num: int) -> Iterator[tuple[bool, ...]]:
    return product((True, False), repeat=num)


def test_answers_that_are_not_monotone_still_end_in_one_that_was_steady() -> None:
    """All 512 worlds of nine durations: the answer was probed and steady, the next longer one was not."""
    where = space((8,), 1, 9, 1)
    for world in every_truth(9):
        verdict = {duration: Verdict.STEADY if world[duration - 1] else Verdict.LATER for duration in range(1, 10)}
        answer, probed = search(where, lambda one, verdict=verdict: verdict[one.length_warmup_steps])  # type: ignore[misc]
        if not world[0]:
            assert isinstance(answer, NoDuration)
            continue
        assert isinstance(answer, Found)
        duration = answer.candidate.length_warmup_steps
        assert answer.candidate in probed
        assert world[duration - 1]
        assert answer.fluctuates_with == (None if duration == 9 else duration + 1)
        assert duration == 9 or not world[duration]


def test_a_long_warmup_that_fluctuates_at_once_is_too_long_and_not_a_reason_for_another_start() -> None:
    """The start was steady with the shortest warmup; only the duration is searched from there."""
    truth = {300: Verdict.STEADY, 600: Verdict.AT_THE_BEGINNING, 400: Verdict.STEADY, 500: Verdict.AT_THE_BEGINNING}
    answer, _ = search(space((8, 16), 300, 900, 100), lambda one: truth[one.length_warmup_steps])
    assert answer == Found(candidate=Candidate(start_length=8, length_warmup_steps=400), fluctuates_with=500)


def test_each_start_has_a_longest_warmup_of_its_own() -> None:
    """From a longer start the same tokens are fewer steps, and so have room for less."""
    where = SearchSpace(
        starts=(Start(length=8, most_length_warmup_steps=100), Start(length=16, most_length_warmup_steps=70)),
        least_length_warmup_steps=10,
        resolution_steps=30,
    )
    assert [where.duration(where.starts[1], number) for number in range(where.num_durations(where.starts[1]))] == [
        10,
        40,
        70,
    ]
    answer, probed = search(where, known(16, 999))
    assert answer == Found(candidate=Candidate(start_length=16, length_warmup_steps=70), fluctuates_with=None)
    assert max(one.length_warmup_steps for one in probed) == 70


def test_wider_and_finer_bounds_go_on_with_the_probes_that_are_there() -> None:
    """The answer recommends other bounds; days of probes are not trained again for them."""
    truth = known(16, 750)
    verdicts = {one: truth(one) for one in search(space((8, 16), 300, 640, 100), truth)[1]}
    assert [one.length_warmup_steps for one in verdicts] == [300, 300, 500, 600, 640]
    wider, added = search(space((8, 16), 300, 900, 100), truth, verdicts)
    assert [one.length_warmup_steps for one in added] == [800, 700]
    assert wider == Found(candidate=Candidate(start_length=16, length_warmup_steps=700), fluctuates_with=800)
    verdicts |= {one: truth(one) for one in added}
    finer, added = search(space((8, 16), 300, 900, 25), truth, verdicts)
    assert [one.length_warmup_steps for one in added] == [750, 775]
    assert finer == Found(candidate=Candidate(start_length=16, length_warmup_steps=750), fluctuates_with=775)
    bounded, added = search(space((16,), 450, 620, 1000), truth, verdicts)
    assert [one.length_warmup_steps for one in added] == [450, 620]
    assert bounded == Found(candidate=Candidate(start_length=16, length_warmup_steps=620), fluctuates_with=None)


def test_what_another_search_has_left_never_changes_what_is_true() -> None:
    """Every search after every other, with its bounds on another grid: no more probes than were announced, all others
    counted as of no use, and an answer that was steady while the next longer one was not."""
    spaces = [
        space(starts, least, most, resolution)
        for starts in ((8, 16), (16,))
        for least, most, resolution in ((1, 12, 3), (2, 9, 1), (4, 11, 5), (6, 6, 1), (1, 8, 2))
    ]
    for smallest, longest, first, then in product((8, 16, 32), range(13), spaces, spaces):
        truth = known(smallest, longest)
        before = {one: truth(one) for one in search(first, truth)[1]}
        answer, added = search(then, truth, before)
        assert len(added) <= min(most_more(then, before), then.most_probes)
        verdicts = before | {one: truth(one) for one in added}
        used = gone_by(then, verdicts)
        assert {*added, answer.candidate} <= used
        assert all(
            one.start_length in {start.length for start in then.starts}
            and then.least_length_warmup_steps <= one.length_warmup_steps <= then.starts[0].most_length_warmup_steps
            for one in used
        )
        fresh = search(then, truth)[0]
        assert type(answer) is type(fresh)
        if isinstance(answer, Found) and isinstance(fresh, Found):
            assert verdicts[answer.candidate] is Verdict.STEADY
            duration, bound = answer.candidate.length_warmup_steps, answer.fluctuates_with
            assert answer.candidate.start_length == fresh.candidate.start_length
            assert fresh.candidate.length_warmup_steps <= duration <= longest
            assert (bound is None) == (duration == then.starts[0].most_length_warmup_steps)
            assert bound is None or (fresh.fluctuates_with is not None and longest < bound <= fresh.fluctuates_with)


@pytest.mark.parametrize(
    ("first", "max_length", "starts"),
    [(8, 1024, (8, 16, 32, 64, 128, 256, 512)), (8, 96, (8, 16, 32, 64)), (24, 48, (24,)), (8, 12, (8,))],
)
def test_starts_are_doubled_below_the_full_length(first: int, max_length: int, starts: tuple[int, ...]) -> None:
    """A start of the full length would be no warmup."""
    assert doubled_starts(first, max_length) == starts


def test_spaces_without_a_candidate_are_refused() -> None:
    """In a sentence that says what to give instead."""
    with pytest.raises(ConfigError, match="start of 1024 and the full length is 1024; give a start_length of 1"):
        doubled_starts(1024, 1024)
    with pytest.raises(ConfigError, match=r"start of 0 and .*; give a start_length of 1 or more below"):
        doubled_starts(0, 1024)
    with pytest.raises(ConfigError, match=r"least_length_warmup_steps is 30.*from a start of 8.*20 steps at most"):
        space((8,), 30, 20, 1)
    with pytest.raises(ConfigError, match="resolution_steps is 0; give 1 or more"):
        space((8,), 3, 20, 0)
