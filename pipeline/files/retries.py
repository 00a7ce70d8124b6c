"""Try again what may pass: a store that throttles, restarts or drops connections must not end a build.

In:  an attempt.   Out: its result, or one `BuildError`.
Guarantee: pauses double from `first_pause` to `longest_pause`, each shortened by chance so that many workers do not
come back at the same instant; the clock is monotonic; what cannot pass is not tried again. Attempts must be repeatable.

    503, 503, 200   ->   pauses of 0.1 to 0.2 s and 0.2 to 0.4 s, then the result
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from curriculum.errors import ConfigError
from curriculum.remote.failures import reason
from pipeline.files.failures import gave_up, passes, refusal
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions

T = TypeVar("T")
TELL_AFTER_SECONDS = 3.0
"""Shorter troubles are everyday life of a store."""
_LOG = logging.getLogger(__name__)
_CHANCE = SystemRandom()


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a store may fail before a build gives up on it."""

    seconds: float
    """since the first failure of an operation"""
    first_pause: float = 0.2
    longest_pause: float = 10.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


PATIENT = Patience(seconds=300.0)
"""While a build runs: hours of work are worth waiting for a server that restarts."""
FIRST_CONTACT = Patience(seconds=30.0)
"""At its start: an address that nobody answers is more likely a wrong one."""


def persist(
    attempt: Callable[[], T],
    what: str,
    doing: str,
    *,
    patience: Patience = PATIENT,
    options: StorageOptions = NO_OPTIONS,
) -> T:
    """Call `attempt` until it succeeds.

    Args:
        what, doing, options: as of `pipeline.files.failures.refusal`.

    Raises:
        BuildError: it failed for good, or for as long as `patience` lasts.
        ConfigError: there is no client for such an address or such options.
    """
    failing_since: float | None = None
    pause, told = patience.first_pause, False
    while True:
        try:
            return attempt()
        except ConfigError as error:
            raise ConfigError(options.conceal(str(error))) from None
        except Exception as error:
            if not passes(error):
                raise refusal(error, what, doing, options) from error
            now = patience.clock()
            failing_since = now if failing_since is None else failing_since
            failing = now - failing_since
            if failing >= patience.seconds:
                raise gave_up(error, what, doing, failing, options) from error
            if failing >= TELL_AFTER_SECONDS and not told:
                told = True
                text = reason(error, options.conceal)
                _LOG.warning("%s: cannot be %s yet (%s); trying for %g s", what, doing, text, patience.seconds)
        patience.sleep(pause * _CHANCE.uniform(0.5, 1.0))
        pause = min(2 * pause, patience.longest_pause)
