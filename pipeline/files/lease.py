"""One build or push at a time below a prefix of a store, which has no locks: a counter that its owner renews.

In:  a place in a store.   Out: the place is ours until the block ends, or an error.
Guarantee: no clocks of two machines are compared and no conditional write is needed. A newcomer who finds a lease
watches whether its counter moves: if it does, he is refused, if it stands still, he takes over. An owner who finds
another's name in the lease stops, and commits nothing; one who could not renew for so long that another may have taken
over, because the machine slept, looks before it writes anything; if it slept in the middle of a renewal, which may
have replaced the lease of another, it stops, and its lease stays as that of a killed one. Two who begin at the same
instant both look again a little later: at most one of them finds its own name. What was on its way when a machine fell
asleep may still arrive: no store takes that back.

    {"count": 41, "host": "node3", "owner": "9f0c...", "pid": 4711}       41, 42, ...: alive

Where a process of this machine was killed, the next one sees that it is gone and does not wait.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from curriculum.errors import BuildError, CurriculumError
from pipeline.files.retries import FIRST_CONTACT, PATIENT, Patience
from pipeline.interruption import interrupt_main
from pipeline.lock import HeldError

LEASE_NAME = ".curriculum-lease.json"
JOIN_SECONDS = 10.0
_LOG = logging.getLogger(__name__)
_LOST: dict[str, BuildError] = {}
"""Places that this process held and another one has taken."""
_HELD: dict[str, _Held] = {}
"""Places that this process holds."""


class Place(Protocol):
    """What a lease needs of a place."""

    @property
    def where(self) -> str:
        """The address."""

    def read(self, name: str, patience: Patience) -> bytes | None:
        """All bytes of an object; None if there is none."""

    def write_small(self, name: str, data: bytes, patience: Patience) -> None:
        """Replace an object."""

    def remove_object(self, name: str, patience: Patience) -> None:
        """Remove an object."""


def _clock() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast a lease lives; seconds."""

    renew: float = 5.0
    watch: float = 30.0
    """a counter that stands still for so long belongs to nobody: six renewals, or a store that is down"""
    settle: float = 1.0
    """after writing a new lease, before looking whether it is still ours"""
    clock: Callable[[], float] = _clock
    sleep: Callable[[float], None] = time.sleep


PACE = Pace()


@dataclass(kw_only=True, slots=True)
class _Held:
    """A lease of this process."""

    place: Place
    owner: str
    pace: Pace
    renewed: float
    """when the last renewal that succeeded began: nobody takes over within `watch` seconds of it"""
    count: int = 0
    failed: BuildError | None = None
    """of a renewal"""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self) -> None:
        """The caller has the lock. Once it failed it fails again, whatever the place would say then.

        In doubt as who begins: write, wait until one who was about to take over has done so, look again.
        """
        if self.failed is not None:
            raise self.failed
        began, in_doubt = self.pace.clock(), self.is_doubtful()
        self.count += 1
        try:
            renew(self.place, self.owner, self.count, self.pace)
            if in_doubt:
                self.pace.sleep(self.pace.settle)
                now = _read(self.place, PATIENT)
                if now is None or now.get("owner") != self.owner:
                    raise _taken_by(self.place, now)
        except BuildError as error:
            self.failed = error
            raise
        self.renewed = began

    def is_doubtful(self) -> bool:
        return self.pace.clock() - self.renewed > self.pace.watch

    def make_sure(self) -> None:
        """Renew where that is in doubt; a thread that asks meanwhile waits for the answer."""
        with self.lock:
            if self.is_doubtful():
                self.renew()


@contextmanager
def leased(place: Place) -> Iterator[None]:
    """Hold a place.

    Raises:
        BuildError: another process holds it, or takes it meanwhile; or it cannot be written.
    """
    began = PACE.clock()
    held = _Held(place=place, owner=acquire(place, PACE), pace=PACE, renewed=began)
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(held, stop), name="curriculum-lease", daemon=True)
    renewing.start()
    _HELD[place.where] = held
    try:
        yield
    except BaseException:
        stop.set()
        _HELD.pop(place.where, None)
        renewing.join(JOIN_SECONDS)  # it may be waiting for a store that is down
        lost = _LOST.pop(place.where, None)
        if lost is not None:
            raise lost from None  # the interrupt was ours: say why
        with suppress(CurriculumError):  # what went wrong first is what people need to know
            _release(held, FIRST_CONTACT)
        raise
    stop.set()
    _HELD.pop(place.where, None)
    renewing.join()
    _LOST.pop(place.where, None)  # whatever it was: all is written, and the place itself says whose it is
    _release(held, PATIENT)


def acquire(place: Place, pace: Pace) -> str:
    """Write a lease of our own, and return the name in it.

    Raises:
        HeldError: another process holds the place.
        BuildError: it cannot be written.
    """
    found = _read(place, FIRST_CONTACT)
    if found is not None and not _is_dead(found):
        _watch(place, found, pace)
    looked = pace.clock()
    now = _read(place, PATIENT)
    if now is not None and now != found:
        raise _held_by(place, now)
    owner = secrets.token_hex(16)
    place.write_small(LEASE_NAME, _lease(owner, 0), FIRST_CONTACT)
    took = pace.clock() - looked
    if took > pace.settle:  # another may have come first: until it has found our name and stopped, however slow all is
        pace.sleep(pace.renew if took <= pace.renew else pace.watch)
    pace.sleep(pace.settle)
    now = _read(place, PATIENT)
    if now is None or now.get("owner") != owner:
        raise _held_by(place, now)
    return owner


def require_held(where: str) -> None:
    """Stop if another process has taken a place that this one held: asked before anything is written there.

    Raises:
        BuildError: it has.
    """
    if where in _LOST:
        raise _LOST[where]
    held = _HELD.get(where)
    if held is not None and held.is_doubtful():
        held.make_sure()


def renew(place: Place, owner: str, count: int, pace: Pace = PACE) -> None:
    """Move the counter of a lease. An answer that is as old as a sleep is asked for again: it tells of what was before.

    Raises:
        BuildError: another process has the lease, or it is gone.
    """
    asked = pace.clock() - 2 * pace.watch
    while pace.clock() - asked > pace.watch:
        asked = pace.clock()
        found = _read(place, PATIENT)
        if found is None or found.get("owner") != owner:
            raise _taken_by(place, found)
    place.write_small(LEASE_NAME, _lease(owner, count), PATIENT)
    if pace.clock() - asked > pace.watch:  # what it replaced may have been the lease of another
        raise _taken_by(place, None)


def _release(held: _Held, patience: Patience) -> None:
    """Remove the lease, unless another process has taken it."""
    now = _read(held.place, patience)
    if now is None or now.get("owner") != held.owner:
        raise _overtaken(held.place, now)
    if held.failed is None:  # else it may have replaced that of another, who has to find our name before it goes
        held.place.remove_object(LEASE_NAME, patience)


def _renew(held: _Held, stop: threading.Event) -> None:
    while not stop.wait(held.pace.renew):
        try:
            with held.lock:
                held.renew()
        except BuildError as error:
            if not stop.is_set():
                _LOST[held.place.where] = error
                interrupt_main(error)
            return


def _watch(place: Place, found: dict[str, Any], pace: Pace) -> None:
    """Until the lease is known to be of a living process, or of none."""
    began = pace.clock()
    _LOG.warning("%s: there is a lease of %s; watching for up to %g s", place.where, _name(found), pace.watch)
    while pace.clock() - began < pace.watch:
        pace.sleep(min(1.0, pace.watch))
        now = _read(place, PATIENT)
        if now is None:
            return
        if now != found:
            raise _held_by(place, now)
    _LOG.warning("%s: %s is gone; taking over", place.where, _name(found))


def _held_by(place: Place, lease: dict[str, Any] | None) -> HeldError:
    return HeldError(
        f"{place.where}: another build or push is writing there ({_name(lease)}). Wait until it ends, or give another "
        f"address."
    )


def _taken_by(place: Place, lease: dict[str, Any] | None) -> BuildError:
    return BuildError(
        f"{place.where}: another build or push has taken this place ({_name(lease)}), because for some time this one "
        f"could not show that it is alive. Nothing is committed. Let one of them finish, then run the same command "
        f"again."
    )


def _overtaken(place: Place, lease: dict[str, Any] | None) -> BuildError:
    return BuildError(
        f"{place.where}: another build or push has taken this place ({_name(lease)}) when this one had written all of "
        f"it, and may replace it. Once that one has ended, run the same command again."
    )


def _name(lease: dict[str, Any] | None) -> str:
    return "unknown" if lease is None else f"process {lease.get('pid')} on {lease.get('host')}"


def _read(place: Place, patience: Patience) -> dict[str, Any] | None:
    data = place.read(LEASE_NAME, patience)
    try:
        value = None if data is None else orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) or value is None else {}


def _lease(owner: str, count: int) -> bytes:
    pid = os.getpid()
    value = {"count": count, "host": platform.node(), "owner": owner, "pid": pid, "born": _birth(pid), "seen": _seen()}
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _is_dead(lease: dict[str, Any]) -> bool:
    """Whether it was written by a process of this machine that is no more."""
    seen, pid = lease.get("seen"), lease.get("pid")
    if not seen or seen != _seen() or not isinstance(pid, int):
        return False
    return _birth(pid) != lease.get("born")


def _seen() -> str | None:
    """What process ids mean here: this boot of this machine, and the container; None if nothing tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - the link leads to no file
    except OSError:
        return None


def _birth(pid: int) -> str | None:
    """When a process began, in ticks since the boot: ids are used again; None if there is no such process."""
    try:
        # The name in the second field may hold anything; what follows its last bracket does not.
        fields = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
