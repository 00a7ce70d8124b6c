"""What keeps tasks of a build that was killed out of the way of the next one.

In:  the token store that a build holds, and its output.   Out: a file in the store that says "tasks of this run may
write", and one in the output that says where that is: the next run there may use another store.
Guarantee: tasks on other machines live on for a while after the process that sent them was killed. They look at this
file before they begin and every few seconds; when it is gone they end at once. The next build in the same store removes
it and waits until every task has looked, so no file of an old run appears under a new one; killed while it waits, the
one after it waits again. A clean end removes it.

    STORE/cluster/5f0c...json     {"poll_seconds": 2.0, "host": "login-1"}
    STORE/cluster/5f0c...ended    the same, while the next build waits
    OUT/.build/fence.json         {"store": "/scratch/store", "token": "5f0c...", "poll_seconds": 2.0}
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
from typing import Any

from curriculum.errors import BuildError, CurriculumError
from pipeline.files.address import store_files
from pipeline.files.contract import Files
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.layout import WORK_FOLDER, read_object, write_object
from pipeline.store_names import CLUSTER

WHERE_NAME = f"{WORK_FOLDER}/fence.json"
LOOKS_PER_SECOND = 200
"""By all tasks together: a store must not notice that 16,000 of them look."""
MIN_POLL_SECONDS = 2.0
MAX_POLL_SECONDS = 300.0
"""Of 60,000 tasks at once; a file that says more was edited or damaged, and nobody should wait for it."""
RUNNING = ".json"
ENDED = ".ended"


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
        return f"{CLUSTER}/{self.token}{RUNNING}"

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
    poll_seconds = _bounded(num_tasks / LOOKS_PER_SECOND)
    fence = Fence(store=store, token=secrets.token_hex(16), poll_seconds=poll_seconds, out=out)
    write_object(store, fence.name, {"poll_seconds": poll_seconds, "host": platform.node()})
    if out is not None:
        where = {"store": store.where, "token": fence.token, "poll_seconds": poll_seconds}
        write_object(out, WHERE_NAME, where)
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

    Raises:
        BuildError: the store that the earlier run in this output used does not answer.
    """
    waited_for: list[tuple[Files, str]] = []
    if store is not None:
        waited_for += [(store, _end(store, name)) for name in store.names(CLUSTER)]
    if out is not None and out.facts(WHERE_NAME) is not None:
        told = read_object(out, WHERE_NAME) or {}
        if store is None or told.get("store") != store.where:
            _end_elsewhere(out, told, options)
        waited_for.append((out, WHERE_NAME))
    if waited_for:
        seconds = max(_patience(read_object(place, name)) for place, name in waited_for)
        say(f"A build on a cluster was killed here: waiting {seconds:.0f} s until its last tasks have ended.")
        time.sleep(seconds)
    for place, name in waited_for:  # not before: killed while it waits, the next run has to wait as well
        place.remove(name)


def _end(store: Files, name: str) -> str:
    """End the run of a file in a store that is held; the file that says so."""
    if not name.endswith(RUNNING):
        return name
    ended = name.removesuffix(RUNNING) + ENDED
    write_object(store, ended, read_object(store, name) or {})
    store.remove(name)
    return ended


def _end_elsewhere(out: Files, told: dict[str, Any], options: StorageOptions) -> None:
    """End the run that an output tells of, whose store is not the one that is used now.

    Raises:
        BuildError: that store does not answer.
    """
    where, token = told.get("store"), str(told.get("token"))
    if not isinstance(where, str) or not re.fullmatch("[0-9a-f]{32}", token):
        return  # no run of ours
    try:
        store_files(where, options).remove(f"{CLUSTER}/{token}{RUNNING}")
    except (CurriculumError, OSError) as error:
        address = out.address(WHERE_NAME)
        raise BuildError(
            f"{address}: says that a run on a cluster was killed here which used the token store {where}, and that one "
            f"cannot be told to end its last tasks: {error} Make it reachable, with --storage-option if its client "
            f"needs any; or, when no task of that run is left, remove {address}. Then run the same command again."
        ) from error


def _patience(fence: dict[str, Any] | None) -> float:
    """Seconds until every task of a run has looked: one look, and as long again for the look itself."""
    told = (fence or {}).get("poll_seconds")
    return 2 * _bounded(told if isinstance(told, int | float) else MIN_POLL_SECONDS)


def _bounded(poll_seconds: float) -> float:
    return min(max(poll_seconds, MIN_POLL_SECONDS), MAX_POLL_SECONDS)


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
