"""What keeps tasks of a build that was killed out of the way of the next one.

In:  the token store that a build holds.   Out: a file in it that says "tasks of this run may write".
Guarantee: tasks on other machines live on for a while after the process that sent them was killed. They look at this
file before they begin and every few seconds; when it is gone they end at once. The next build in the same store removes
it and waits until every task has looked, so no file of an old run appears under a new one. A clean end removes it.

    STORE/cluster/5f0c...json     {"poll_seconds": 2.0, "host": "login-1"}
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from curriculum.errors import BuildError
from pipeline.files.contract import Files
from pipeline.layout import read_object, write_object
from pipeline.store_names import CLUSTER

LOOKS_PER_SECOND = 200
"""By all tasks together: a store must not notice that 16,000 of them look."""
MIN_POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """A run whose tasks may write as long as its file is there."""

    store: Files
    token: str
    poll_seconds: float
    """how often a task looks"""

    @property
    def name(self) -> str:
        """The file."""
        return f"{CLUSTER}/{self.token}.json"

    def stands(self) -> bool:
        """Whether the file is there. Opened, not only looked up: NFS answers a look-up from memory for a minute."""
        try:
            return self.store.read(self.name) is not None
        except (OSError, BuildError):
            return True  # a store that does not answer says nothing about the run

    def take_down(self) -> None:
        """The run has ended: no task of it may write any more."""
        self.store.remove(self.name)
        self.store.remove_empty_folders(CLUSTER)


def put_up(store: Files, *, num_tasks: int) -> Fence:
    """Begin a run of so many tasks at once; the caller holds the store."""
    poll_seconds = max(MIN_POLL_SECONDS, num_tasks / LOOKS_PER_SECOND)
    fence = Fence(store=store, token=secrets.token_hex(16), poll_seconds=poll_seconds)
    write_object(store, fence.name, {"poll_seconds": poll_seconds, "host": platform.node()})
    return fence


def wait_for_orphans(store: Files, say: Callable[[str], None]) -> None:
    """Until no task of an earlier run writes any more; the caller holds the store, so whoever sent them is gone."""
    seconds = 0.0
    for name in store.names(CLUSTER):
        poll_seconds = (read_object(store, name) or {}).get("poll_seconds", MIN_POLL_SECONDS)
        seconds = max(seconds, 2 * float(poll_seconds))  # one look, and as long again for the look itself
        store.remove(name)
    if seconds:
        say(f"A build on a cluster was killed here: waiting {seconds:.0f} s until its last tasks have ended.")
        time.sleep(seconds)


@contextmanager
def behind(fence: Fence | None) -> Iterator[None]:
    """In a worker: a block that may write; the process ends when the fence is taken down.

    Raises:
        BuildError: it is down already.
    """
    if fence is None:
        yield
        return
    if not fence.stands():
        raise BuildError(
            f"{fence.store.address(fence.name)}: is gone: another build has taken over this store, or somebody removed "
            f"the file. Run the same command again to continue."
        )
    ended = threading.Event()
    threading.Thread(target=_watch, args=(fence, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(fence: Fence, ended: threading.Event) -> None:
    while not ended.wait(fence.poll_seconds):
        if not fence.stands() and not ended.is_set():
            os._exit(1)
