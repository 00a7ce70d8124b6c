"""How long the length warmup lasts: a share of all steps, a number of steps, or a number of trained tokens.

In:  decimal text or `Decimal`, a number of tokens.   Out: an exact `Fraction`, T for a total, `TokenWarmup`.

Guarantees: "0.3" is 3/10 and nothing near it; T rounds half to even, is at least 1, and one more step in the total
lengthens it by 0 or 1, which the budget solver relies on.

    parse_frac("0.3") -> Fraction(3, 10)        warmup_steps_of(Fraction(3, 10), 15) -> 4 (of 4.5)
    TokenWarmup(tokens=5_000_000): the largest T whose first T steps train at most 5,000,000 tokens
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from curriculum.errors import PlanError
from curriculum.limits import require_int

MAX_FRAC_DECIMALS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenWarmup:
    """A warmup that trains at most `tokens`; the batch and the pacing decide how many steps that is."""

    tokens: int

    def __post_init__(self) -> None:
        require_int("length_warmup_tokens", self.tokens)


Warmup = Fraction | int | TokenWarmup


def parse_frac(value: str | Decimal | int, *, name: str = "frac") -> Fraction:
    """The exact decimal: "0.3" is 3/10. Floats are refused, because 0.3 as a float is not 3/10."""
    if isinstance(value, bool) or not isinstance(value, str | Decimal | int):
        raise PlanError(f"{name} is {value!r} of type {type(value).__name__}; give it as decimal text such as '0.3'.")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise PlanError(f"{name} is {str(value)[:40]!r}; write a decimal above 0 and at most 1, such as 0.3.") from None
    if not number.is_finite() or not 0 < number <= 1:
        raise PlanError(f"{name} is {str(value)[:40]}; choose a decimal above 0 and at most 1, such as 0.3.")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_FRAC_DECIMALS:  # Fraction("1e-999999999") never returns
        raise PlanError(f"{name} has more than {MAX_FRAC_DECIMALS} decimals; round it.")
    return Fraction(number)


def warmup_steps_of(frac: Fraction, total_steps: int) -> int:
    """T = max(1, round half even of frac * total_steps). Grows by 0 or 1 when total_steps grows by 1."""
    return max(1, round(frac * total_steps))
