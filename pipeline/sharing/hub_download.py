"""Files of one commit into a folder, by the Hub's own `snapshot_download`.

In:  the client, repository, commit and the size of each file.   Out: the files, each under its path in the repository.
Guarantee: files appear whole, of the announced size or not at all. What arrives beyond twice what was announced ends
the download, where the library tells of bytes as they arrive (most of 1.x, and 2.x). The folder is for this alone:
the library leaves records in it (`.cache/huggingface`), by which a repeated call fetches only what is missing.

    download(api, "org/books", "9f2c...", {"8k/manifest.json": 4211}, Path("aside"), seen, at_once=8)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum.errors import DataError
from pipeline.progress import Advance
from pipeline.publish import remove

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MOST_PATTERNS = 2_000
"""Each is compared with each file of the repository: of 4 million pairs in a second."""
SLACK_BYTES = 16 << 20


def download(
    api: HfApi, name: str, commit: str, sizes: Mapping[str, int], folder: Path, seen: Advance, *, at_once: int
) -> list[str]:
    """Fetch what is not in the folder yet, in one attempt.

    Args:
        seen: told of bytes as they arrive; told again of what an attempt repeats.

    Returns:
        The files that did not come, although nothing failed: the library returns what the folder has where it cannot
        ask the Hub.

    Raises:
        DataError: a file has another size.
    """
    missing = [path for path in sizes if not _is_whole(folder / path, sizes[path])]
    for start in range(0, len(missing), MOST_PATTERNS):
        part = missing[start : start + MOST_PATTERNS]
        budget = sum(sizes[path] for path in part)
        api.snapshot_download(
            name,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            allow_patterns=[pattern(path) for path in part],
            max_workers=at_once,
            tqdm_class=counting_bar(f"{name}@{commit[:12]}", budget, seen),
        )
    for path in missing:
        if (folder / path).is_file() and not _is_whole(folder / path, sizes[path]):
            has = (folder / path).stat().st_size
            remove(folder / path)
            raise DataError(
                f"{path} of {name} at commit {commit}: has {has:,} bytes, and {sizes[path]:,} were announced. Do not "
                f"trust it."
            )
    return [path for path in missing if not (folder / path).is_file()]


def pattern(path: str) -> str:
    """A pattern of `fnmatch` for this path alone; one that ends in a slash would be a folder."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def counting_bar(what: str, budget: int, seen: Advance) -> type[Any]:
    """A bar for `tqdm_class` that shows nothing and counts the bytes written to the disk.

    Raises, when it is advanced:
        DataError: by more than twice `budget`.
    """
    from tqdm import tqdm

    lock = threading.Lock()
    counted = 0

    class Bar(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # What comes over the network is another bar, of Xet files.
            self._counts = kwargs.get("unit") == "B" and kwargs.get("desc") != "Downloading bytes"
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal counted
            if not self._counts or not n:
                return
            with lock:
                counted += int(n)
                if counted > 2 * budget + SLACK_BYTES:
                    raise DataError(
                        f"{what}: more bytes arrive than the {budget:,} that were announced. Do not trust it."
                    )
                seen(int(n))

    return Bar


def _is_whole(path: Path, num_bytes: int) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == num_bytes
