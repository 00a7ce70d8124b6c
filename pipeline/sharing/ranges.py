"""Numbers as people write them: `0-3`, `0,2,5-7`, `9000-`.

In:  the text of `--phases` or `--steps`, and how many there are.   Out: ranges, half-open, ascending, disjoint.
Guarantee: both ends count as people mean them; what does not exist is refused, naming what does.

    parse_ranges("0,2,5-7", 10, "phases")     ((0, 1), (2, 3), (5, 8))
    parse_ranges("9000-", 10_000, "steps")    ((9000, 10000),)
"""

from __future__ import annotations

import re

from curriculum.errors import ConfigError

Ranges = tuple[tuple[int, int], ...]
"""Half-open (start, stop), ascending, none touching the next."""
_ITEM = re.compile(r"([0-9][0-9_]{0,19})(?:(-)([0-9][0-9_]{0,19})?)?")


def parse_ranges(text: str, total: int, what: str) -> Ranges:
    """Ranges below `total`.

    Args:
        text: numbers and ranges with commas between; the last number of a range belongs to it.
        total: how many there are.
        what: "phases" or "steps", for messages.

    Raises:
        ConfigError: it is no such list, or names one that there is not.
    """
    ranges = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item.strip())
        if match is None:
            raise ConfigError(
                f"--{what} is {text[:80]!r}: give numbers and ranges such as 0-3 or 0,2,5-7, both ends included, or "
                f"5- for all from 5 on."
            )
        first = _number(match[1])
        last = first if match[2] is None else _number(match[3]) if match[3] else max(first, total - 1)
        if last < first:
            raise ConfigError(f"--{what} {item.strip()}: it ends before it begins. Write the smaller number first.")
        if last >= total:
            raise ConfigError(f"--{what} {item.strip()}: the dataset has the {what} 0 to {total - 1:,}.")
        ranges.append((first, last + 1))
    return _joined(ranges)


def _number(text: str) -> int:
    return int(text.replace("_", ""))


def _joined(ranges: list[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return tuple(joined)
