"""The search of the paper: raise the start until nothing fluctuates at once, then bisect for the longest warmup.

In:  where to search, and the verdicts so far.   Out: the next move: a candidate to probe, or the answer.
Guarantee: pure, and a function of the verdicts alone, so that a search that was killed goes on with those that it had,
and one with other bounds with those of the search before. No candidate is asked for twice, and no more than
`most_probes` are. Whatever the verdicts are, the answer was itself found steady, and the next longer duration was not,
or is beyond the longest that may be.

    starts 8 16 32 64, durations 300 400 500 ... 900

    (8, 300)  fluctuates at the very beginning      (16, 600)  steady                at most 4 starts and 3 durations
    (16, 300) steady                                (16, 800)  fluctuates later
                                                    (16, 700)  steady      ->  16, 700

Starts are doubled: what a start changes goes by its ratio to the full length, and raised by `multiple_of` from 8 to
512 it would take 64 probes instead of 7. Bisecting takes it that whoever fluctuates at one duration fluctuates at all
longer ones. If that is not so, the answer is still steady, and a longer one may be too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from curriculum.errors import ConfigError
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.fluctuation import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A length to start from, and the longest warmup that a run from there has room for."""

    length: int
    most_length_warmup_steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """Where the answer is looked for."""

    starts: tuple[Start, ...]
    """rising"""
    least_length_warmup_steps: int
    """starts are tried with it"""
    resolution_steps: int
    """the answer is the longest of durations that far apart"""

    def __post_init__(self) -> None:
        """Refuse a space without candidates.

        Raises:
            ConfigError: names the value and what is allowed.
        """
        least = self.least_length_warmup_steps
        for name, value in (("least_length_warmup_steps", least), ("resolution_steps", self.resolution_steps)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; give 1 or more.")
        for start in self.starts:
            most = start.most_length_warmup_steps
            if most < least:
                raise ConfigError(
                    f"least_length_warmup_steps is {least}, and from a start of {start.length} the warmup may take "
                    f"{most} steps at most: give less, or more steps or tokens to train."
                )
        assert self.starts
        assert all(one.length < other.length for one, other in pairwise(self.starts))

    def num_durations(self, start: Start) -> int:
        """How many durations there are to choose from."""
        return -(-(start.most_length_warmup_steps - self.least_length_warmup_steps) // self.resolution_steps) + 1

    def duration(self, start: Start, number: int) -> int:
        """Duration `number` from 0 on, rising; the last is the longest that may be."""
        return min(self.least_length_warmup_steps + number * self.resolution_steps, start.most_length_warmup_steps)

    @property
    def most_probes(self) -> int:
        """No search in here takes more."""
        return most_more(self, {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Try this one next."""

    candidate: Candidate


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A warmup to train with."""

    candidate: Candidate
    fluctuates_with: int | None
    """the next longer duration, which was not steady; None: the answer is the longest that was allowed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoStart:
    """Perplexity fluctuated at the very beginning from every start."""

    candidate: Candidate
    """the last one"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoDuration:
    """From the first start that was steady at the very beginning, the shortest duration fluctuated later."""

    candidate: Candidate


Answer = Found | NoStart | NoDuration
"""What a search ends with; `candidate` is the one that it rests on."""


def doubled_starts(first: int, max_length: int) -> tuple[int, ...]:
    """The lengths to start from: `first` and its doubles below the full length.

    Raises:
        ConfigError: there is none.
    """
    if not 1 <= first < max_length:
        raise ConfigError(
            f"the search begins at a start of {first} and the full length is {max_length}; give a start_length of 1 or "
            f"more below max_length, or there is nothing to warm up."
        )
    return tuple(
        first << doublings for doublings in range((max_length // first).bit_length()) if first << doublings < max_length
    )


def next_move(space: SearchSpace, verdicts: Mapping[Candidate, Verdict]) -> Probe | Answer:
    """What to do after these verdicts."""
    for start in space.starts:
        candidate = _shortest(space, start)
        verdict = verdicts.get(candidate)
        if verdict is None:
            return Probe(candidate=candidate)
        if verdict is Verdict.LATER:
            return NoDuration(candidate=candidate)
        if verdict is Verdict.STEADY:
            return _bisect(space, start, verdicts)
    return NoStart(candidate=candidate)


def most_more(space: SearchSpace, verdicts: Mapping[Candidate, Verdict]) -> int:
    """No more probes than that follow these verdicts."""
    tries = most = 0
    for start in space.starts:
        verdict = verdicts.get(_shortest(space, start))
        tries += verdict is None
        if verdict in (None, Verdict.STEADY):
            most = max(most, tries + len(_between(space, start, verdicts)[1]).bit_length())
        if verdict in (Verdict.LATER, Verdict.STEADY):
            break
    return max(tries, most)


def gone_by(space: SearchSpace, verdicts: Mapping[Candidate, Verdict]) -> frozenset[Candidate]:
    """Those of the verdicts that the search goes by; a search with other bounds may have left more."""
    candidates: set[Candidate] = set()
    for start in space.starts:
        shortest = _shortest(space, start)
        verdict = verdicts.get(shortest)
        candidates |= {shortest} & verdicts.keys()
        if verdict is Verdict.STEADY:
            candidates |= _known(space, start, verdicts).keys()
        if verdict is not Verdict.AT_THE_BEGINNING:
            break
    return frozenset(candidates)


def _bisect(space: SearchSpace, start: Start, verdicts: Mapping[Candidate, Verdict]) -> Probe | Found:
    """Between the longest duration known to be steady and the shortest after it known not to be."""
    steady, untried, unsteady = _between(space, start, verdicts)
    if not untried:
        return Found(candidate=_candidate(start, steady), fluctuates_with=unsteady)
    return Probe(candidate=_candidate(start, space.duration(start, untried[(len(untried) - 1) // 2])))


def _between(space: SearchSpace, start: Start, verdicts: Mapping[Candidate, Verdict]) -> tuple[int, range, int | None]:
    """The longest steady duration, the numbers of those that are untried, and the shortest that is too long."""
    known = {one.length_warmup_steps: verdict for one, verdict in _known(space, start, verdicts).items()}
    least, resolution = space.least_length_warmup_steps, space.resolution_steps
    steady = max((duration for duration, verdict in known.items() if verdict is Verdict.STEADY), default=least)
    unsteady = min((duration for duration in known if duration > steady), default=None)
    first, stop = (steady - least) // resolution + 1, space.num_durations(start)
    if steady == start.most_length_warmup_steps:
        stop = first
    elif unsteady is not None:
        stop = -(-(unsteady - least) // resolution)
    return steady, range(first, stop), unsteady


def _known(space: SearchSpace, start: Start, verdicts: Mapping[Candidate, Verdict]) -> dict[Candidate, Verdict]:
    """The verdicts on durations that may be from this start, also such as lie on no grid of this resolution."""
    least, most = space.least_length_warmup_steps, start.most_length_warmup_steps
    return {
        one: verdict
        for one, verdict in verdicts.items()
        if one.start_length == start.length and least <= one.length_warmup_steps <= most
    }


def _shortest(space: SearchSpace, start: Start) -> Candidate:
    return _candidate(start, space.least_length_warmup_steps)


def _candidate(start: Start, duration: int) -> Candidate:
    return Candidate(start_length=start.length, length_warmup_steps=duration)
