"""Shards that an export needs and that are not there: a dataset that was pulled in part.

In:  a dataset on a disk, and what is to be exported.   Out: nothing, or a refusal that names what can be exported.
Guarantee: looked at before anything is written, so that a refused export leaves no folder behind. A file that is there
is not opened here: who reads it compares its digest.

    phases 0 and 1 pulled, all of 8 asked for       "... Export the phases that are here by --phases 0-1 ..."
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from curriculum.errors import DataError
from curriculum.manifest import Manifest, PhaseEntry
from curriculum.storage import HELD_OUT
from pipeline.exporters.selection import Selection


def refuse_missing(root: Path, manifest: Manifest, selection: Selection) -> None:
    """Refuse an export of rows that are not on the disk.

    Raises:
        DataError: shards of the selection are missing; names the first of them and the phases that are whole.
    """
    missing = list(_missing(root, manifest, selection))
    if not missing:
        return
    more = f", as are {len(missing) - 1:,} more shards that are asked for" if len(missing) > 1 else ""
    raise DataError(f"{root / missing[0]}: missing{more}: the dataset is here in part. {_way_out(root, manifest)}")


def _missing(root: Path, manifest: Manifest, selection: Selection) -> Iterator[str]:
    for phase, parts in selection.parts.items():
        entry = manifest.validation if phase == HELD_OUT else manifest.phases[phase]
        assert entry is not None
        for index in sorted({part.shard for part in parts}):
            if not _is_there(root / entry.shards[index].path):
                yield entry.shards[index].path


def _is_there(path: Path) -> bool:
    """Also what cannot be looked at: who reads it says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _way_out(root: Path, manifest: Manifest) -> str:
    """What can be asked for instead, and how to get the rest."""
    whole = [phase for phase, entry in enumerate(manifest.phases) if _is_whole(root, entry)]
    held_out = "" if manifest.validation is None or _is_whole(root, manifest.validation) else " --no-validation"
    rest = "get the rest with `curriculum pull`"
    if len(whole) == len(manifest.phases):
        return f"Export without held-out rows by{held_out}, or {rest}."
    if not whole:
        return f"No phase is whole: give --steps that are here, or {rest}."
    return f"Export the phases that are here by --phases {_ranges(whole)}{held_out}, or {rest}."


def _is_whole(root: Path, entry: PhaseEntry) -> bool:
    return all(_is_there(root / shard.path) for shard in entry.shards)


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as options have them: 0-2,5."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
