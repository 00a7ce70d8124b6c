"""What runs in a worker process of a Ray cluster.

In:  what all tasks of a run have in common, as an object that each process fetches once, and the arguments of one task.
Out: the result of the task, which is small; or its error.
Guarantee: nothing of a build is imported or done before the process was found fit (`node_checks`), and nothing is done
any more when the build that sent the task is gone (`fence`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from curriculum.errors import BuildError
from pipeline.engines.fence import behind
from pipeline.engines.node_checks import NodeCheck
from pipeline.engines.worker_process import one_thread_per_worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What the tasks of a run have in common."""

    task: Callable[..., Any]
    shared: tuple[Any, ...]
    check: NodeCheck
    folder: str
    """where the driver works: the paths of a command may be relative to it"""


_KNOWN: tuple[str, Run | None] = ("", None)
"""In a worker: the run that it has fetched last."""


def call(key: str, boxed: list[Any], values: tuple[Any, ...]) -> Any:
    """One task. The reference is boxed, else Ray would fetch and unpack the object for each task anew."""
    run = _fetched(key, boxed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_inside(run.folder))
        stack.enter_context(behind(run.check.fence))
        try:
            return run.task(*run.shared, *values)
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a Rust panic is no Exception, and Ray would take it for a crash
            raise RuntimeError(f"{type(error).__name__}: {error}") from None


def _fetched(key: str, boxed: list[Any]) -> Run:
    global _KNOWN
    if _KNOWN[0] != key or _KNOWN[1] is None:
        import ray

        one_thread_per_worker()
        run: Run = ray.get(boxed[0])
        with _inside(run.folder):
            problem = run.check.complaint(node_name()[0])
        if problem is not None:  # of a node that has joined after the driver looked
            raise BuildError(problem)
        _KNOWN = (key, run)
        return run
    return _KNOWN[1]


def examine(check: NodeCheck, folder: str) -> str | None:
    """On a node, before work begins: what is wrong with it."""
    node, node_id = node_name()
    with _inside(folder):
        return check.complaint(node) or check.leave_traces(node, node_id)


def node_name() -> tuple[str, str]:
    """This node, for people and in full."""
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    return named(ray.util.get_node_ip_address(), node_id), node_id


def named(address: str, node_id: str) -> str:
    """A node for people."""
    return f"Node {address} ({node_id[:8]})"


def _inside(folder: str) -> contextlib.AbstractContextManager[None]:
    """As if in that folder; a node that does not have it is found by what it does not see."""
    return contextlib.chdir(folder) if os.path.isdir(folder) else contextlib.nullcontext()  # noqa: PTH112
