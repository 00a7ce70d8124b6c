"""Numbers with their nouns.

In:  a number, a noun that takes an s.   Out: both, as people write them.
Guarantee: one thing is not said to be several.

    counted(1, "row")     1 row
    counted(1200, "row")     1,200 rows
"""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The words."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
