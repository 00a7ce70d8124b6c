"""A worker of this machine, seen from inside: a spawned process that does one task after the other.

In:  orders from a pipe.   Out: an `Answer` to each `Task`.
Guarantee: it ends when its parent is gone, however that died; at SIGTERM it removes what it has not finished; Ctrl-C
in the terminal is left to the parent. On stderr a worker says that a store keeps it waiting, and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any

from curriculum.errors import BuildError, CurriculumError


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """Something to load; nobody waits for it, and what goes wrong is no error yet."""

    function: Callable[..., object]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Common:
    """The function that the next tasks call and the arguments that they share, pickled."""

    pickled: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Call the function of the last `Common` with these arguments after the shared ones."""

    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a task returned, or what it raised."""

    result: Any = None
    error: Exception | None = None


def work(orders: Connection) -> None:
    """Do what comes through the pipe until it is closed."""
    _be_a_worker()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent closed it: it needs no more answers
        _serve(orders)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # on the way out nothing is left to remove


def _serve(orders: Connection) -> None:
    function: Callable[..., Any] = _nothing
    shared: tuple[Any, ...] = ()
    while True:
        order = orders.recv()
        if isinstance(order, Preparation):
            with suppress(Exception):
                order.function(*order.arguments)
        elif isinstance(order, Common):
            function, shared = pickle.loads(order.pickled)
        else:
            _answer(orders, _done(function, (*shared, *order.arguments)))


def _done(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Answer:
    try:
        return Answer(result=function(*arguments))
    except (CurriculumError, OSError, MemoryError) as error:
        return Answer(error=error)
    except Exception as error:
        # A mistake of ours: without the place it happened in nobody finds it.
        error.add_note(f"In a worker:\n{''.join(traceback.format_exception(error))}")
        return Answer(error=error)


def _answer(orders: Connection, answer: Answer) -> None:
    try:
        orders.send(answer)
    except (pickle.PicklingError, AttributeError, TypeError):  # an exception of a library that cannot travel
        orders.send(Answer(error=BuildError(f"{type(answer.error).__name__}: {answer.error}")))


def _nothing() -> None:
    """Before the first `Common`."""


def one_thread_per_worker() -> None:
    """There is a worker per core. Heard by libraries that are loaded after this."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["FASTOKENS_BPE_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of numpy; starting its threads doubles what loading it costs


def _be_a_worker() -> None:
    """One thread; signals; and a watch on the parent."""
    one_thread_per_worker()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a group and a parent may both send it: once is enough
    raise SystemExit(128 + number)  # unwinds, so that an unfinished file is removed


def _end_with(sentinel: int) -> None:
    """Exit at once when the parent is gone: an orphan must not write beside the next build."""
    wait_for_any([sentinel])
    os._exit(1)
