"""What keeps tasks of a build that was killed out of the way of the next one.

In:  the token store that a build holds, and its output.   Out: a file in the store that says "tasks of this run may
write", and one in the output that says where that is: the next run there may use another store.
Guarantee: tasks on other machines live on for a while after the process that sent them was killed. They look at this
file before they begin and every few seconds; when it is gone they end at once. The next build in the same store removes
it and waits until every task has looked, so no file of an old run appears under a new one. A clean end removes it.

    STORE/cluster/5f0c...json     {"poll_seconds": 2.0, "host": "login-1"}
    OUT/.build/fence.json         {"store": "/scratch/store", "token": "5f0c..."}
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from curriculum.errors import BuildError
from pipeline.files.address import store_files
from pipeline.files.contract import Files
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.layout import WORK_FOLDER, read_object, write_object
from pipeline.store_names import CLUSTER

WHERE_NAME = f"{WORK_FOLDER}/fence.json"
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
    out: Files | None = None
    """the output that tasks write to, if they do"""

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
        if self.out is not None:
            self.out.remove(WHERE_NAME)


def put_up(store: Files, *, num_tasks: int, out: Files | None = None) -> Fence:
    """Begin a run of so many tasks at once; the caller holds the store and the output."""
    poll_seconds = max(MIN_POLL_SECONDS, num_tasks / LOOKS_PER_SECOND)
    fence = Fence(store=store, token=secrets.token_hex(16), poll_seconds=poll_seconds, out=out)
    write_object(store, fence.name, {"poll_seconds": poll_seconds, "host": platform.node()})
    if out is not None:
        write_object(out, WHERE_NAME, {"store": store.where, "token": fence.token})
    return fence


def wait_for_orphans(
    say: Callable[[str], None],
    *,
    store: Files | None = None,
    out: Files | None = None,
    options: StorageOptions = NO_OPTIONS,
) -> None:
    """Until no task of an earlier run writes any more; the caller holds these places, so whoever sent them is gone.

    Args:
        say: takes a line for people.
        store: the token store, if tasks are to write.
        out: the output, if it is to change.
        options: of the client of the store that the earlier run in this output used.
    """
    fences = {(store.where, name): store for name in store.names(CLUSTER)} if store is not None else {}
    told = (read_object(out, WHERE_NAME) if out is not None else None) or {}
    if re.fullmatch("[0-9a-f]{32}", str(told.get("token"))):
        where, name = str(told.get("store")), f"{CLUSTER}/{told['token']}.json"
        known = store is not None and store.where == where
        fences[where, name] = store if store is not None and known else store_files(where, options)
    seconds = 0.0
    for (_, name), place in fences.items():
        if place.facts(name) is not None:
            poll_seconds = (read_object(place, name) or {}).get("poll_seconds", MIN_POLL_SECONDS)
            seconds = max(seconds, 2 * float(poll_seconds))  # one look, and as long again for the look itself
            place.remove(name)
    if seconds:
        say(f"A build on a cluster was killed here: waiting {seconds:.0f} s until its last tasks have ended.")
        time.sleep(seconds)
    if out is not None and told:
        out.remove(WHERE_NAME)


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
