"""Wait for what another process holds, and for no other fault.

In:  what to do, how long it may be put off.   Out: what it returns.
Guarantee: a tune that has trained for days does not end because somebody looks at a plan over the same store for a
second. That it waits is said once for each wait.

    when_free(act, seconds=3600, waits="...", progress=progress)     tries again after 0.2, 0.4, 0.8 ... 10 seconds
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.lock import HeldError
from pipeline.options import Options
from pipeline.progress import Progress

Result = TypeVar("Result")
STORE_SECONDS = 3600.0
"""Others may tokenize or cut for so long, and at night nobody is there to begin again."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0


def when_free(act: Callable[[], Result], *, seconds: float, waits: str, progress: Progress) -> Result:
    """Do it as soon as no other process holds what it needs.

    Args:
        act: what is tried, until it fails by something else or not at all.
        seconds: for so long.
        waits: a sentence for people, where it has to wait.
        progress: where that is said.

    Raises:
        HeldError: another process still holds it.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return act()
        except HeldError:
            if time.monotonic() > deadline:
                raise
        if pause == FIRST_PAUSE_SECONDS:
            progress.say(f"{time.strftime('%H:%M:%S')}: {waits}")  # the time: `Once` says no line twice
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def when_store_is_free(options: Options, act: Callable[[], Result], progress: Progress) -> Result:
    """Do something that needs the token store: plans, builds and other tunes hold it, too.

    Raises:
        HeldError: another process still holds it.
    """
    waits = (
        f"{options.store_address()}: another process works with this token store; waits until it has ended, for "
        f"{STORE_SECONDS:,.0f} seconds at most."
    )
    return when_free(act, seconds=STORE_SECONDS, waits=waits, progress=progress)
