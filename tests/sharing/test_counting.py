"""Progress that moves where time goes by, and sums that are right: what was sent, not what it was before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import BuildError
from curriculum.manifest import load_manifest
from pipeline.progress import Advance
from pipeline.sharing.batches import do_each
from pipeline.sharing.contents import shards_of
from pipeline.sharing.counting import from_threads, share
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.moved import report
from pipeline.sharing.push import Offering
from pipeline.sharing.push import push as push_to
from pipeline.sharing.store_place import StorePlace
from travels import content, push


class Watching:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total = self.done = self.steps = 0

    @contextmanager
    def stage(self, name: str, *, total: int, unit: str) -> Iterator[Advance]:
        self.total += total
        yield self.advance

    def advance(self, amount: int) -> None:
        self.done += amount
        self.steps += 1

    def say(self, message: str) -> None:
        pass


class Slow(FolderPlace):
    """Looks at the progress when it is to send shards, and does not tell of what it sends."""

    def __init__(self, folder: Path, watching: Watching) -> None:
        super().__init__(folder)
        self.watching = watching
        self.seen: list[int] = []

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        if any(".arrow" in name for name in names):
            self.seen.append(self.watching.done)
        super().send(names, folder, lambda amount: None)


@pytest.mark.parametrize("compress", [False, True])
def test_it_moves_while_shards_are_checked_and_packed(tiny: Path, tmp_path: Path, compress: bool) -> None:
    """Half of it before the first byte is sent, also of a single batch: packing a gibibyte takes twenty seconds."""
    watching = Watching()
    place = Slow(tmp_path / "there", watching)
    push_to(tiny, place, Offering(compress=compress), watching)
    total = sum(shard.num_bytes for shard in shards_of(load_manifest(tiny)))
    assert place.seen == [total // 2]
    assert (watching.done, watching.total) == (total, total)
    assert watching.steps >= len(shards_of(load_manifest(tiny)))


def test_an_upload_is_told_of_as_it_goes(tmp_path: Path) -> None:
    """Of a shard of 256 MiB, not when it is there: by what the client tells, 64 KiB or parts of 50 MiB."""
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    watching = Watching()
    StorePlace("memory://counting/x").send(["a"], tmp_path, watching.advance)
    assert watching.done == 1 << 20
    assert watching.steps > 1
    assert fsspec.filesystem("memory").size("/counting/x/a") == 1 << 20


def test_a_push_that_compresses_says_what_was_sent(tiny: Path, tmp_path: Path) -> None:
    """Not the plain size, which is several times as much; a dry run cannot know, and says so."""
    told = push(tiny, tmp_path / "there", compress=True, dry_run=True)
    assert "before they are compressed" in report(told)
    done = push(tiny, tmp_path / "there", compress=True)
    assert "before they are compressed" not in report(done)
    there = {name: len(data) for name, data in content(tmp_path / "there").items()}
    assert {file.name: file.num_bytes for file in done.files} == there
    assert done.to_json()["moved_bytes"] == sum(there.values()) < told.num_bytes


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 400), st.integers(0, 1000))
def test_a_share_ends_at_what_it_counts(amounts: list[int], expected: int, counts: int) -> None:
    """Told of less, of more, or of nothing at all: never beyond, and all of it at the end."""
    steps: list[int] = []
    with share(steps.append, expected, counts) as tell:
        for amount in amounts:
            tell(amount)
        assert sum(steps) == min(counts, sum(amounts) * counts // max(1, expected))
    assert sum(steps) == counts
    assert all(step >= 0 for step in steps)


def test_threads_lose_nothing() -> None:
    watching = Watching()
    counted = from_threads(watching.advance)
    with share(counted, 8_000, 4_000) as tell, ThreadPoolExecutor(8) as threads:
        for _ in range(8_000):
            threads.submit(tell, 1)
    assert watching.done == 4_000


def test_after_one_that_fails_no_other_is_begun() -> None:
    """Not even while an earlier one goes on: an upload of a terabyte ends when the first is refused."""
    begun: list[int] = []
    failed = threading.Event()

    def do(item: int) -> None:
        begun.append(item)
        if item == 1:
            failed.set()
            raise BuildError("refused.")
        if item == 0:
            failed.wait()
            time.sleep(0.5)
        time.sleep(0.001)

    with pytest.raises(BuildError, match="refused"):
        do_each(do, range(1000), 2)
    assert len(begun) < 200
    done: list[int] = []
    do_each(done.append, range(100), 3)
    assert sorted(done) == list(range(100))
