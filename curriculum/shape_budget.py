"""Shape budget: a schedule of many lengths becomes the nearest one of at most K lengths, exactly.

In:  `runs` = ((seq_len, num_steps), ...), growing: the ideal length of every step; the ends of the pacing; K.
Out: `runs` of the same steps with at most K lengths, or a table of what every K costs.

Guarantees: of all sets of at most K lengths that hold both ends, the one with the least summed deviation from the
ideal; then the fewest lengths; then the lexicographically smallest tuple. Integers decide, so every machine agrees.
A step takes the nearest length, a tie the shorter. An end that is nearest to no step counts but gets no run.

    fit_shapes(((8, 5), (16, 1), (32, 1), (64, 5)), max_shapes=3, lengths=(8, 64)) -> ((8, 5), (16, 2), (64, 5))
    32 at 16 is off by a factor of 2; with 32 instead of 16 the step of 16 would be, at 8: equal, and 16 is shorter

Only lengths that occur (and the ends) are candidates: between two of them the cost of moving one chosen length is
linear in its (log) value, so a weighted median, which is a data point, is as good as anything, and the shortest.

How: V(e, i) = least cost of the steps after length i when length i is chosen and e more are, the last of them the
maximum. V(e, i) = min over j > i of cost(i, j) + V(e - 1, j), where cost(i, j) sends the lengths between to the
nearer of the two. cost is Monge (min(x, y) is supermodular), so the leftmost best j never falls when i grows, nor
rises when e does: divide and conquer over i needs O(m log m) costs for each e, each O(log m) from prefix sums.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import cache
from itertools import accumulate, pairwise
from math import gcd, isqrt
from operator import add, mul
from typing import NamedTuple

from curriculum.errors import PlanError
from curriculum.schedule import MAX_SEQ_LEN, require_int

SHAPES_BY = ("relative", "absolute")
LOG_BITS = 100
MAX_TABLE_COSTS = 2_000_000  # about one second
MAX_CHOICES = 2**24  # 64 MiB, and about a minute: refusing beats hanging

Runs = tuple[tuple[int, int], ...]

_DECIMALS = Context(prec=60, rounding=ROUND_HALF_EVEN)  # ln and exp are correctly rounded: equal on every machine


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRow:
    """What a shape budget of `num_shapes` costs; the floats are for people, nothing is decided by them."""

    num_shapes: int
    mean_deviation: float  # relative: exp(mean |ln ratio|) - 1, so 0.05 is 5 %; absolute: tokens of length
    worst_deviation: float  # of any step, same unit
    largest_jump: float  # ratio of neighbouring lengths that get steps; 1.0 where there is one
    relative_length_sum: float  # summed lengths over the ideal sum: with constant rows, trained tokens change by it

    def to_json(self) -> dict[str, int | float]:
        return {name: getattr(self, name) for name in self.__slots__}


def fit_shapes(runs: Runs, *, max_shapes: int, by: str = "relative", lengths: tuple[int, int]) -> Runs:
    """The same steps with at most `max_shapes` lengths, both ends of the pacing counted.

    Args:
        runs: ((seq_len, num_steps), ...), strictly growing.
        max_shapes: 2 or more.
        by: the deviation to sum over the steps: "relative" |ln(assigned / ideal)|, "absolute" |assigned - ideal|.
        lengths: (start, max) of the pacing; always among the chosen lengths.
    """
    points = _points(runs, by, lengths)
    require_int("max_shapes", max_shapes, least=2, most=MAX_SEQ_LEN)
    num_lengths = len(points.lengths)
    if max_shapes >= num_lengths:
        return runs
    if max_shapes * num_lengths > MAX_CHOICES:
        raise PlanError(
            f"max_shapes {max_shapes} of {num_lengths} lengths is too large a choice to search; use at most "
            f"{MAX_CHOICES // num_lengths} shapes, a larger multiple_of, or leave max_shapes out."
        )
    return points.assign(_chosen(points, _solve(points, max_shapes - 1, last_row_only=True), max_shapes - 1))


def shape_table(
    runs: Runs, *, by: str = "relative", lengths: tuple[int, int], counts: tuple[int, ...] | None = None
) -> tuple[ShapeRow, ...]:
    """One row for each K of `counts`, by one run of the dynamic program.

    `counts` None: 2 .. all where at most 16 lengths occur, else 2, 3, 4, 6, 8, 12, 16, 24 ... while the work stays
    near a second (all for 128 lengths, up to 16 for 8,192, up to 3 for 65,536), and all.
    """
    points = _points(runs, by, lengths)
    num_lengths = len(points.lengths)
    wanted = _default_counts(num_lengths) if counts is None else counts
    for count in wanted:
        require_int("a number of shapes", count, least=min(2, num_lengths), most=MAX_SEQ_LEN)
    solved = max((count for count in wanted if count < num_lengths), default=0)
    choices = _solve(points, solved - 1) if solved else []
    rows = []
    for count in sorted(set(wanted)):
        fits = count >= num_lengths
        chosen = range(num_lengths) if fits else _chosen(points, choices, count - 1)
        rows.append(_row(points, min(count, num_lengths), tuple(chosen)))
    return tuple(rows)


class _Points(NamedTuple):
    """The candidate lengths x with steps w and coordinate L, in which every deviation is a difference.

    With W and S the prefix sums of w and w * L, and s the number of lengths that go to i or before it,
    cost(i, j) = 2 S[s] - (L_i + L_j) W[s] + A_i + A_j where A_i = L_i W[i] - S[i].
    """

    lengths: tuple[int, ...]
    num_steps: tuple[int, ...]  # 0 for an end that is no step's ideal
    by: str
    coordinates: tuple[int, ...]  # ln(length) * 2**100 plus a constant, or the length
    pair: Callable[[int, int], int]  # x is nearest to a of a < b, or tied, iff pair(x, x) <= pair(a, b)
    borders: tuple[int, ...]  # pair(x, x)
    steps_before: tuple[int, ...]  # W
    twice_sums: tuple[int, ...]  # 2 S
    ends: tuple[int, ...]  # A

    def assign(self, chosen: tuple[int, ...]) -> Runs:
        """Every step at the nearest chosen length; `chosen` are indices, growing."""
        stops = [bisect_right(self.borders, self.pair(self.lengths[i], self.lengths[j])) for i, j in pairwise(chosen)]
        before = [self.steps_before[stop] for stop in (0, *stops, len(self.lengths))]
        runs = zip(chosen, pairwise(before), strict=True)
        return tuple((self.lengths[i], stop - start) for i, (start, stop) in runs if stop > start)


def _points(runs: Runs, by: str, ends: tuple[int, int]) -> _Points:
    if by not in SHAPES_BY:
        raise PlanError(f"shapes_by is {by!r}; choose one of {', '.join(SHAPES_BY)}.")
    given = [seq_len for seq_len, _ in runs]
    if any(before >= after for before, after in pairwise(given)):
        raise PlanError("a shape budget needs lengths that grow; leave max_shapes out for this schedule.")
    start, top = ends
    if not given or not 1 <= start <= given[0] or given[-1] > top:
        raise PlanError(f"a shape budget from {start} to {top} needs steps at lengths within these ends.")
    steps = {start: 0, top: 0} | dict(runs)
    lengths = tuple(sorted(steps))
    num_steps = tuple(steps[seq_len] for seq_len in lengths)
    coordinates = _logarithms(lengths) if by == "relative" else lengths
    pair = mul if by == "relative" else add
    steps_before = (0, *accumulate(num_steps))
    sums = (0, *accumulate(map(mul, num_steps, coordinates)))
    return _Points(
        lengths=lengths,
        num_steps=num_steps,
        by=by,
        coordinates=coordinates,
        pair=pair,
        borders=tuple(map(pair, lengths, lengths)),
        steps_before=steps_before,
        twice_sums=tuple(2 * total for total in sums),
        ends=tuple(x * w - s for x, w, s in zip(coordinates, steps_before[:-1], sums[:-1], strict=True)),
    )


def _logarithms(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """ln(length / gcd) * 2**100 as a sum over prime factors, so that equal products have equal sums: 8 * 32 = 16 * 16.

    Rounding is below 2**-95 for each length, far below the 2**-62 or more by which two distances from one step can
    differ: the nearest length by logarithm is the nearest by exact product.
    """
    common = gcd(*lengths)
    primes = _primes(isqrt(lengths[-1] // common))
    return tuple(sum(map(_log_of_prime, _prime_factors(seq_len // common, primes))) for seq_len in lengths)


@cache
def _log_of_prime(prime: int) -> int:
    scaled = _DECIMALS.multiply(_DECIMALS.ln(Decimal(prime)), Decimal(2**LOG_BITS))
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN, context=_DECIMALS))


def _primes(most: int) -> list[int]:
    composite = bytearray(most + 1)
    for n in range(2, isqrt(most) + 1):
        if not composite[n]:
            composite[n * n :: n] = b"\1" * len(range(n * n, most + 1, n))
    return [n for n in range(2, most + 1) if not composite[n]]


def _prime_factors(number: int, primes: list[int]) -> Iterator[int]:
    for prime in primes:
        if prime * prime > number:
            break
        while number % prime == 0:
            yield prime
            number //= prime
    if number > 1:
        yield number


def _solve(points: _Points, edges: int, last_row_only: bool = False) -> list["array[int]"]:
    """`choices[e - 1][i]`: the next chosen length after i when e more are chosen, for e = 1..edges."""
    last = len(points.lengths) - 1
    choices = [array("I", [last]) * (last + 1)]
    costs = [_cost(points, i, last) for i in range(last)]
    for e in range(2, edges + 1):
        tails = list(map(add, costs, points.ends))
        num_rows = 1 if last_row_only and e == edges else last + 1 - e
        chosen, costs = _layer(points, tails, choices[-1], num_rows)
        choices.append(chosen)
    return choices


def _cost(points: _Points, i: int, j: int) -> int:
    """Summed deviation of the lengths between i and j, each from the nearer of the two."""
    split = bisect_right(points.borders, points.pair(points.lengths[i], points.lengths[j]), i, j)
    both = points.coordinates[i] + points.coordinates[j]
    return points.twice_sums[split] - both * points.steps_before[split] + points.ends[i] + points.ends[j]


def _layer(points: _Points, tails: list[int], fewer: "array[int]", num_rows: int) -> tuple["array[int]", list[int]]:
    """Best next length and cost of rows 0..num_rows-1.

    Args:
        points: the candidates.
        tails: cost of what follows column j, plus A_j; the columns are 1..len(tails)-1.
        fewer: best next length of each row with one length less to choose; an upper bound.
        num_rows: rows to solve.
    """
    lengths, coordinates, borders = points.lengths, points.coordinates, points.borders
    pair, steps_before, twice_sums, ends = points.pair, points.steps_before, points.twice_sums, points.ends
    chosen, costs = array("I", [0]) * num_rows, [0] * num_rows
    todo = [(0, num_rows, 1, len(tails) - 1)]
    while todo:
        first, stop, left, right = todo.pop()
        row = (first + stop) // 2
        length, coordinate = lengths[row], coordinates[row]
        begin = best = max(left, row + 1)
        least = None
        for j in range(begin, min(right, fewer[row]) + 1):
            split = bisect_right(borders, pair(length, lengths[j]), row, j)
            cost = tails[j] + twice_sums[split] - (coordinate + coordinates[j]) * steps_before[split]
            if least is None or cost < least:  # leftmost: the lexicographically smallest of equal sets
                least, best = cost, j
        chosen[row], costs[row] = best, (least or 0) + ends[row]
        if first < row:
            todo.append((first, row, left, best))
        if row + 1 < stop:
            todo.append((row + 1, stop, best, right))
    return chosen, costs


def _chosen(points: _Points, choices: list["array[int]"], edges: int) -> tuple[int, ...]:
    """Indices of the best `edges + 1` lengths, from the start on, so that ties give the smallest tuple."""
    chosen = [0]
    for e in range(edges, 0, -1):
        chosen.append(choices[e - 1][chosen[-1]])
    return tuple(chosen)


def _default_counts(num_lengths: int) -> tuple[int, ...]:
    if num_lengths <= 16:
        return tuple(range(min(2, num_lengths), num_lengths + 1))
    costs_per_layer = num_lengths * num_lengths.bit_length()
    most = min(num_lengths - 1, max(3, MAX_TABLE_COSTS // costs_per_layer))
    ladder = sorted(n << k for n in (2, 3) for k in range(num_lengths.bit_length()))
    return (*(count for count in ladder if count <= most), num_lengths)


def _row(points: _Points, num_shapes: int, chosen: tuple[int, ...]) -> ShapeRow:
    assigned = _assigned(points, chosen)
    steps, total_steps = points.num_steps, points.steps_before[-1]
    got = [points.lengths[i] for i in assigned]
    moves = [
        abs(points.coordinates[i] - coordinate) for i, coordinate in zip(assigned, points.coordinates, strict=True)
    ]
    used = [pair for *pair, w in zip(got, points.lengths, steps, strict=True) if w]
    trained = sorted({length for length, _ in used})
    return ShapeRow(
        num_shapes=num_shapes,
        mean_deviation=_mean_deviation(points.by, sum(map(mul, moves, steps)), total_steps),
        worst_deviation=max(_deviation(points.by, max(two), min(two)) for two in used),
        largest_jump=max((after / before for before, after in pairwise(trained)), default=1.0),
        relative_length_sum=sum(map(mul, got, steps)) / sum(map(mul, points.lengths, steps)),
    )


def _assigned(points: _Points, chosen: tuple[int, ...]) -> list[int]:
    """For each candidate length the index of the nearest chosen one."""
    borders = [points.pair(points.lengths[i], points.lengths[j]) for i, j in pairwise(chosen)]
    assigned, at = [], 0
    for border in points.borders:
        while at < len(borders) and border > borders[at]:
            at += 1
        assigned.append(chosen[at])
    return assigned


def _mean_deviation(by: str, cost: int, total_steps: int) -> float:
    if by == "absolute":
        return cost / total_steps
    mean = _DECIMALS.divide(Decimal(cost), Decimal(total_steps << LOG_BITS))
    return float(_DECIMALS.subtract(_DECIMALS.exp(mean), Decimal(1)))


def _deviation(by: str, longer: int, shorter: int) -> float:
    return float(longer - shorter) if by == "absolute" else float(Fraction(longer, shorter) - 1)
