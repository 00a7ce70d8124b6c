"""Limits of a plan's numbers, and the checks that refuse what lies outside.

In:  a value and its name.   Out: the value, or a `PlanError` whose sentence names what is allowed.

Guarantees: bool, float and text are no whole numbers; nothing is rounded to fit.

    require_int("steps", 7) -> 7        require_int("steps", True) -> refused
    neighbours(10, 8, 8, 1024) -> "8 or 16"
"""

from curriculum.errors import PlanError

MAX_SEQ_LEN = 2**31 - 1
MAX_TOTAL = 2**62  # steps or tokens; offsets are uint64 and sums of two totals must stay below 2**63
MAX_RUNS = 2**20  # of steps of one length in an order: 15 MB of a manifest, some seconds to read
MAX_LENGTHS = 65_536  # a folder per phase: beyond this a plan is a mistake, and refusing beats hanging


def require_int(name: str, value: object, least: int = 1, most: int = MAX_TOTAL) -> int:
    """`value` as it is, when it is a whole number in [least, most]; bool, float and text are refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"{name} is {value!r}; it must be a whole number from {least} to {most}.")
    if not least <= value <= most:
        shown = value if value.bit_length() <= 128 else f"of {value.bit_length()} bits"  # str() refuses 5,000 digits
        raise PlanError(f"{name} is {shown}; choose a whole number from {least} to {most}.")
    return value


def neighbours(value: int, multiple: int, least: int, most: int) -> str:
    """The nearest multiples of `multiple` around `value` within [least, most], in words: "8 or 16"."""
    below = value // multiple * multiple
    found = [str(n) for n in (below, below + multiple) if least <= n <= most]
    return " or ".join(found) if found else f"a smaller multiple than {multiple}"


def require_aligned(name: str, value: int, multiple_of: int) -> None:
    """Refuse a length that is not a multiple of `multiple_of`, naming those around it."""
    if value % multiple_of:
        nearest = neighbours(value, multiple_of, multiple_of, MAX_SEQ_LEN)
        raise PlanError(f"{name} {value} is not a multiple of multiple_of {multiple_of}; use {nearest}.")
