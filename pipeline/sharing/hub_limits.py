"""How many files the Hub takes: 10,000 in a folder, 100,000 in a repository.

In:  names that are there and names that come.   Out: nothing, or a sentence before anything is sent.

    100,001 files     "hf://datasets/org/x: would have 100,001 files, and the Hub takes 100,000 ... --shard-bytes ..."
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from curriculum.errors import BuildError

MOST_OF_A_REPOSITORY = 100_000
MOST_OF_A_FOLDER = 10_000
_REMEDY = "Build the dataset with a larger --shard-bytes, or push to an empty repository."


def check_counts(where: str, there: Iterable[str], coming: Iterable[str]) -> None:
    """Refuse more than the Hub takes.

    Args:
        there, coming: paths within the repository; a path may be among both.

    Raises:
        BuildError: it would be too many.
    """
    paths = {*there, *coming}
    if len(paths) > MOST_OF_A_REPOSITORY:
        raise BuildError(
            f"{where}: would have {len(paths):,} files, and the Hub takes {MOST_OF_A_REPOSITORY:,} in a repository. "
            f"{_REMEDY}"
        )
    entries = {path[:end] for path in paths for end in (*_slashes(path), len(path))}
    folders = Counter(entry.rpartition("/")[0] for entry in entries)
    fullest, count = max(folders.items(), key=lambda each: each[1], default=("", 0))
    if count > MOST_OF_A_FOLDER:
        raise BuildError(
            f"{where}: the folder {fullest or 'of the repository itself'} would have {count:,} entries, and the Hub "
            f"takes {MOST_OF_A_FOLDER:,} in a folder. {_REMEDY}"
        )


def _slashes(path: str) -> Iterable[int]:
    return (place for place, letter in enumerate(path) if letter == "/")
