"""Shards on their way into the folder of a dataset.

In:  where each lies at a place.   Out: the shards, under their paths.
Guarantee: fetched aside, decompressed if need be, compared with the sha256 of the plain bytes, then renamed into place.
One that does not match is fetched again, twice, then in its other form if it is there in two; what matches stays even
if another never does. What was fetched whole before an interruption is not fetched again.

    .pull/files/phases/.../shard-000000.arrow.zst  ->  .pull/plain/phases/...  ->  phases/.../shard-000000.arrow
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from curriculum.errors import DataError
from pipeline.progress import Advance, Progress
from pipeline.publish import make_folder, move_into_place, remove, sync_folder
from pipeline.sharing.batches import batches
from pipeline.sharing.counting import from_threads, uncounted
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.offer import Source
from pipeline.sharing.place import BEGUN, Place

ATTEMPTS = 3
CHECKED_AT_ONCE = 4
MAX_NAMED = 5


class Arrivals:
    """Brings shards of one place into one folder."""

    def __init__(
        self,
        place: Place,
        folder: Path,
        work: Path,
        other_form: Callable[[Source], Source | None] = lambda source: None,
    ) -> None:
        """
        Args:
            place: where they are.
            folder: of the dataset.
            work: for what is not checked yet, on the same file system.
            other_form: where else a shard lies that never matches; None if nowhere.
        """
        self._place = place
        self._folder = folder
        self._fetched = work / "files"
        self._plain = work / "plain"
        self._changed: set[Path] = set()
        self._other_form = other_form

    def fetch(self, sources: Sequence[Source], progress: Progress) -> None:
        """All of them.

        Raises:
            DataError: some never match; all others are there.
            BuildError: the place or the disk fails.
        """
        total = sum(source.num_bytes for source in sources)
        self._drop_strangers({source.name: source.num_bytes for source in sources})
        with progress.stage("pull", total=total, unit="B") as advance:
            wrong = self._persist(sources, from_threads(advance))
            # The bar is full after the first attempt; what is fetched again is fetched on top.
            others = {source.name: self._other_form(source) for source in wrong}
            left = self._persist([other for other in others.values() if other is not None], uncounted)
            wrong = [source for source in wrong if others[source.name] is None or others[source.name] in left]
        for folder in sorted(self._changed):
            sync_folder(folder)
        if wrong:
            raise DataError(self._never_matched(wrong))

    def _persist(self, sources: Sequence[Source], advance: Advance) -> list[Source]:
        """Fetch until all match, three times at most. Returns those that do not."""
        wrong = list(sources)
        for attempt in range(ATTEMPTS):
            if wrong:
                wrong = self._attempt(wrong, advance if attempt == 0 else uncounted)
        return wrong

    def _attempt(self, sources: Sequence[Source], advance: Advance) -> list[Source]:
        """Fetch in batches; while one is checked, the next one comes. Returns those that do not match."""
        wrong: list[Source] = []
        pending: list[tuple[Source, Future[bool]]] = []
        with ThreadPoolExecutor(CHECKED_AT_ONCE) as threads:
            for batch in batches(sources, lambda source: source.num_bytes, self._place.batch_bytes):
                self._fetch(batch, advance)
                wrong += [source for source, matches in pending if not matches.result()]
                pending = [(source, threads.submit(self._settle, source)) for source in batch]
            wrong += [source for source, matches in pending if not matches.result()]
        return wrong

    def _fetch(self, batch: Sequence[Source], advance: Advance) -> None:
        missing = {}
        for source in batch:
            if size_of(self._fetched / source.name) == source.num_bytes:
                advance(source.num_bytes)  # by a run that was interrupted
            else:
                missing[source.name] = source.num_bytes
        if missing:
            make_folder(self._fetched)
            self._place.fetch(missing, self._fetched, advance)

    def _settle(self, source: Source) -> bool:
        """Check a file that was fetched and put the shard in place; False if it is not the manifest's."""
        entry = source.wanted.entry
        path = self._fetched / source.name
        if source.compressed:
            plain = self._plain / entry.path
            matches = _decompress(path, plain, entry.num_bytes) == entry.sha256
            remove(path)
            path = plain
        else:
            matches = digest_of(path, uncounted) == entry.sha256
        if matches:
            move_into_place(path, self._folder / entry.path, self._changed.add)
        else:
            remove(path)
        return matches

    def _drop_strangers(self, expected: dict[str, int]) -> None:
        """What an interrupted pull left that this one has no use for."""
        remove(self._plain)
        for path in self._fetched.rglob("*"):
            if self._fetched / BEGUN in path.parents:
                continue
            if not path.is_dir() and expected.get(path.relative_to(self._fetched).as_posix()) != size_of(path):
                remove(path)

    def _never_matched(self, wrong: Sequence[Source]) -> str:
        names = ", ".join(source.name for source in wrong[:MAX_NAMED])
        more = f" and {len(wrong) - MAX_NAMED:,} more" if len(wrong) > MAX_NAMED else ""
        return (
            f"{self._place.where}: fetched {ATTEMPTS} times, the sha256 is never that of the manifest: {names}{more}. "
            f"They are damaged there: have them pushed again (curriculum push --overwrite), then run this again. All "
            f"other shards are in {self._folder}."
        )


def _decompress(source: Path, target: Path, num_bytes: int) -> str | None:
    """The digest of the plain bytes; None if the file is no such frames."""
    from pipeline.sharing.frames import decompress_file

    make_folder(target.parent)
    try:
        return decompress_file(source, target, num_bytes, uncounted)
    except DataError:
        return None
