"""Curves: when, as a share of the warmup, a pacing function reaches each of its lengths.

In:  the lengths of a schedule, or how many they are.
Out: `Curve`: for each length an integer numerator over one common unit, and a slack in the same unit. Length number k
     is reached at the smallest t = step + 1 with t * unit >= T * shares[k] - slack.

Guarantees: integers only, equal on every machine. Rational shares are exact; the noise of the others is far below
`SLACK`, and that far below anything a schedule can tell apart: a share like ln 2 / ln 128 = 1 / 7 lands exactly.
Shares never fall and never exceed the unit, hence no arrival moves by more than 1 when T grows by 1.

    sine_curve(2).shares -> (0, UNIT / 3, UNIT)     sin(pi / 6) = 1 / 2: half the way up at a third of the warmup

Each formula gives the length at x = t / T, 0 <= x <= 1, with D = max - start; it is then rounded down to the multiple.
"""

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import accumulate, repeat
from math import isqrt
from operator import mul
from typing import NamedTuple

UNIT = 2**200
SLACK = 2**120  # 2**-80 of a step; the shares are correct to a few units, so T * error < 2**65 for every T <= 2**62
PRECISION = Context(prec=90, rounding=ROUND_HALF_EVEN)  # UNIT has 61 digits; exp and * are correctly rounded
LOG_BITS = 280  # of the fixed point of logarithms: 80 more than UNIT
ASIN_BITS = 280  # of the fixed point of angles
ASIN_HALVINGS = 5  # tan(pi / 4 / 2**5) < 2**-5: 27 terms of the series


class Curve(NamedTuple):
    """Arrival shares, one for each length; `shares[0]` is 0. All functions below want at least one rise."""

    shares: tuple[int, ...]
    unit: int
    slack: int = 0


def root_curve(num_rises: int, degree: int) -> Curve:
    """length = start + D * x**(1 / degree); linear is degree 1.

    Li, Zhang, He, "The Stability-Efficiency Dilemma" (NeurIPS 2022, arXiv 2108.06084); DeepSpeed fixed_linear and
    fixed_root. The alignment cancels: k of n multiples are reached at T * k**degree / n**degree.
    """
    return Curve(tuple(k**degree for k in range(num_rises + 1)), num_rises**degree)


def even_curve(num_rises: int) -> Curve:
    """Length number k of n at k / n: stages of equal duration, whatever their lengths are."""
    return root_curve(num_rises, 1)


def exponential_curve(lengths: Sequence[int]) -> Curve:
    """length = start * (max / start)**x, so L is reached at ln(L / start) / ln(max / start).

    Zhu et al., "SkyLadder" (2025, arXiv 2503.15450), lit_gpt/packed_dataset.py `exp`.
    """
    start, top = lengths[0], lengths[-1]
    logs = _log_ratios(start, top, lengths[1] - start)
    return Curve(tuple((log * UNIT + logs[-1] // 2) // logs[-1] for log in logs), UNIT, SLACK)


def sine_curve(num_rises: int) -> Curve:
    """length = start + D * sin(pi * x / 2), so k of n multiples are reached at asin(k / n) / asin(1).

    Zhu et al., "SkyLadder" (2025, arXiv 2503.15450), lit_gpt/packed_dataset.py `sin`.
    """
    whole = _asin(1, 1)
    angles = [_asin(k, num_rises) for k in range(num_rises + 1)]
    return Curve(tuple((angle * UNIT + whole // 2) // whole for angle in angles), UNIT, SLACK)


def cosine_curve(num_rises: int) -> Curve:
    """length = start + D * (1 - cos(pi * x / 2)): the sine, run backwards from its end.

    A quarter wave, steepest at the end, after "SkyLadder" (2025, arXiv 2503.15450), not the half wave of cosine
    annealing. SkyLadder's own `cos` is 1 - cos(pi * x) up to x = 1 / 2, where it is at the maximum: the same curve
    with half the warmup.
    """
    return Curve(tuple(UNIT - share for share in reversed(sine_curve(num_rises).shares)), UNIT, SLACK)


def logarithmic_curve(num_rises: int) -> Curve:
    """length = start + D * (1 + ln(x + e**-10) / 10), at most max.

    Wu, Dyer, Neyshabur, "When Do Curricula Work?" (ICLR 2021, arXiv 2012.03107). The maximum is reached at
    x = 1 - e**-10: on the last warmup step, except where T is above e**10 = 22,026.
    """
    with localcontext(PRECISION):
        offset, growth = Decimal(-10).exp(), (Decimal(10) / num_rises).exp()
        powers = list(accumulate(repeat(growth, num_rises), mul, initial=offset))  # e**(10 * k / n - 10)
        return Curve(tuple(int((power - offset) * UNIT) for power in powers), UNIT, SLACK)


def sampled_curve(function: Callable[[float], float], num_rises: int) -> Curve:
    """length = start + D * function(x): for k of n, the smallest multiple x of 2**-50 with function(x) >= k / n.

    Floats are noisy, so an arrival less than a millionth of a step after a step counts as at that step: f(x) = x is
    linear exactly, for every T up to 2**30.
    """
    unit = 2**50
    shares = [0]
    for k in range(1, num_rises + 1):
        low, high = shares[-1], unit  # from the share before: shares never fall, whatever the function does
        while low < high:
            middle = (low + high) // 2
            if function(middle / unit) >= k / num_rises:
                high = middle
            else:
                low = middle + 1
        shares.append(low)
    return Curve(tuple(shares), unit, 2**30)


def _log_ratios(start: int, top: int, multiple_of: int) -> list[int]:
    """ln(length / start) of all lengths in units of 2**-LOG_BITS, correct to 2**26 of them.

    ln(m + 1) = ln(m) + 2 * atanh(1 / (2 * m + 1)), by the series atanh(z) = z + z**3 / 3 + z**5 / 5 + ...
    """
    logs = [0]
    for m in range(start // multiple_of, top // multiple_of):
        divisor = 2 * m + 1
        atanh, power, odd = 0, (1 << LOG_BITS) // divisor, 1
        while power:
            atanh += power // odd
            power, odd = power // divisor**2, odd + 2
        logs.append(logs[-1] + 2 * atanh)
    return logs


def _asin(numerator: int, denominator: int) -> int:
    """asin(numerator / denominator) in units of 2**-ASIN_BITS, correct to 2**12 of them.

    asin(y) = 2 * atan(y / (1 + sqrt(1 - y**2))); then atan(z) = 2 * atan(z / (1 + sqrt(1 + z**2))) until the series
    z - z**3 / 3 + z**5 / 5 - ... is short.
    """
    bits, one = ASIN_BITS, 1 << ASIN_BITS
    cosine = isqrt((denominator**2 - numerator**2) << 2 * bits) // denominator
    tangent = (numerator << 2 * bits) // (denominator * (one + cosine))
    for _ in range(ASIN_HALVINGS):
        tangent = (tangent << bits) // (one + isqrt((one << bits) + tangent**2))
    square = tangent**2 >> bits
    angle, power, odd = 0, tangent, 1
    while power:
        angle += power // odd if odd % 4 == 1 else -(power // odd)
        power, odd = power * square >> bits, odd + 2
    return angle << 1 + ASIN_HALVINGS
