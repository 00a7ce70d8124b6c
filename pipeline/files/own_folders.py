"""No link leads out of a folder that is about to be written to: it may be a stranger's.

In:  a folder, and names of folders in it that are written to or cleared.   Out: nothing, or a refusal.
Guarantee: after it, whatever is written below one of those names lands in the folder, and whatever is removed was
there. Links to files are no danger: a file is written aside and renamed over them, and removing one removes the link.

    .build -> /home/me/photos      refused, before what is "unfinished" there is tidied up
    phases/00000-len0000008/shard-000000.arrow -> ../blobs/3f      a snapshot of the Hub's cache: fine
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from curriculum.errors import BuildError


def require_own_folders(folder: Path, names: Iterable[str]) -> None:
    """Refuse links, and files, in the place of these folders and of all folders in them.

    Raises:
        BuildError: there is one.
    """
    walked: set[Path] = set()
    for name in sorted(names):
        path = folder / name
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(mode):
            raise _leads_away(path)
        if walked.isdisjoint(path.parents):
            walked.add(path)
            _require_no_links_in(path)


def _require_no_links_in(folder: Path) -> None:
    for found, folders, _ in os.walk(folder):  # which does not follow them
        for name in folders:
            if (Path(found) / name).is_symlink():
                raise _leads_away(Path(found) / name)


def _leads_away(path: Path) -> BuildError:
    return BuildError(
        f"{path}: is a link or a file, and what is written below it would go to another place. Remove it, or give "
        f"another folder."
    )
