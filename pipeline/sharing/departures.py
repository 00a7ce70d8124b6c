"""Shards on their way from the folder of a dataset to a place.

In:  the shards.   Out: the same at the place, plain or compressed.
Guarantee: a shard whose sha256 is not the manifest's is never sent. They go in batches: while one is sent, the next one
is hashed, and compressed into a folder for temporary files, which holds two batches at most. A byte counts half when it
is checked, and half when it is sent: each may be the slow one.

    phases/.../shard-000000.arrow  ->  checked  ->  phases/.../shard-000000.arrow[.zst]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from curriculum.shard_format import COMPRESSED
from pipeline.progress import Advance, Progress
from pipeline.publish import make_folder
from pipeline.sharing.batches import batches, do_each
from pipeline.sharing.contents import damaged
from pipeline.sharing.counting import from_threads, share
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.place import Place, unflushed
from pipeline.sharing.selection import Selected

CHECKED_AT_ONCE = 4
_Ready = tuple[Selected, Future[str]]


class Departures:
    """Sends shards of one folder to one place."""

    def __init__(self, folder: Path, place: Place, made: Path, *, compress: bool) -> None:
        """
        Args:
            folder: of the dataset.
            place: where they go.
            made: for compressed shards.
            compress: send each as zstd frames.
        """
        self._folder = folder
        self._place = place
        self._made = made
        self._ending = COMPRESSED if compress else ""
        self.sent: dict[str, int] = {}
        """bytes of what was sent, by its name at the place"""

    def check(self, shards: Sequence[Selected], progress: Progress) -> None:
        """Hash all of them, before what they replace is removed.

        Raises:
            DataError: one is damaged.
        """
        total = sum(each.entry.num_bytes for each in shards)
        with progress.stage("check", total=total, unit="B") as advance:
            counted = from_threads(advance)
            do_each(lambda each: self._check(each, counted), shards, CHECKED_AT_ONCE)

    def send(self, shards: Sequence[Selected], progress: Progress) -> None:
        """All of them.

        Raises:
            DataError: one is damaged; none of its batch is sent.
            BuildError: the place fails.
        """
        total = sum(each.entry.num_bytes for each in shards)
        runs = batches(shards, lambda each: each.entry.num_bytes, self._place.batch_bytes)
        with progress.stage("push", total=total, unit="B") as advance, ThreadPoolExecutor(CHECKED_AT_ONCE) as threads:
            counted = from_threads(advance)
            try:
                with share(counted, total, total // 2) as checked, share(counted, total, total - total // 2) as sent:
                    before: list[_Ready] = []
                    for run in runs:
                        ready = [(each, threads.submit(self._prepare, each, checked)) for each in run]
                        self._send(before, sent)
                        before = ready
                    self._send(before, sent)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _prepare(self, each: Selected, advance: Advance) -> str:
        """Check a shard, and compress it if it is to be; its name at the place."""
        path, name = self._folder / each.entry.path, each.entry.path + self._ending
        if self._ending:
            from pipeline.sharing.frames import compress_file

            make_folder((self._made / name).parent, unflushed)
            found: str | None = compress_file(path, self._made / name, advance)
        else:
            found = digest_of(path, advance, follow=True)
        _require_digest(path, found, each)
        return name

    def _check(self, each: Selected, advance: Advance) -> None:
        path = self._folder / each.entry.path
        _require_digest(path, digest_of(path, advance, follow=True), each)

    def _send(self, ready: Sequence[_Ready], advance: Advance) -> None:
        names = [name.result() for _, name in ready]
        if not names:
            return
        folder = self._made if self._ending else self._folder
        sizes = {name: size_of(folder / name, follow=True) or 0 for name in names}
        with share(advance, sum(sizes.values()), sum(each.entry.num_bytes for each, _ in ready)) as sent:
            self._place.send(names, folder, sent)
        self.sent.update(sizes)
        if self._ending:
            for name in names:
                with suppress(OSError):
                    os.unlink(self._made / name)  # noqa: PTH108 - made here; its room is wanted


def _require_digest(path: Path, found: str | None, each: Selected) -> None:
    if found != each.entry.sha256:
        raise damaged(path, f"its sha256 is {found}, the manifest says {each.entry.sha256}")
