"""What an error of a Ray task means: the error of the task itself, or the loss of its process or node.

In:  the errors of tasks, as Ray reports them.   Out: nothing if the task is to run again; else the error to raise.
Guarantee: tasks are idempotent, so a loss costs time only; but one that is lost again and again ends the build in a
sentence instead of keeping a cluster busy for ever.

    BadRecordError in a task          raised as it was
    a node died                       again, 100 times
    a process died                    again, 4 times
    killed for want of memory         again, 4 times
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from curriculum.errors import BuildError, CurriculumError

MAX_NODE_LOSSES = 100
"""Machines that may be taken away do go by the dozen; a task that breaks every machine must still end."""
MAX_PROCESS_LOSSES = 4
LESS_MEMORY = (
    "Smaller --unit-bytes and --shuffle-window need less per task, fewer --workers (or fewer `--num-cpus` for "
    "`ray start`) mean fewer tasks at once; then run the same command again to continue."
)


class Losses:
    """How often each task of a run was lost."""

    def __init__(self, *, ray: Any, say: Callable[[str], None]) -> None:
        self._errors = ray.exceptions
        self._say = say
        self._nodes: Counter[int] = Counter()
        self._processes: Counter[int] = Counter()
        self._reported: set[str] = set()

    def count(self, number: int, error: BaseException) -> None:
        """Take note of a loss.

        Raises:
            BuildError: the task was lost too often, or Ray itself failed.
            Exception: the task itself raised it.
        """
        errors = self._errors
        if isinstance(error, errors.RayTaskError):
            cause = error.cause
            if isinstance(cause, Exception) and not isinstance(cause, errors.RayError):
                raise cause from None if isinstance(cause, CurriculumError) else error
            raise BuildError(f"A task on the Ray cluster failed: {last_line(error)}.") from error
        if isinstance(error, errors.NodeDiedError | errors.TaskUnschedulableError | errors.ObjectLostError):
            self._report(error)
            self._nodes[number] += 1
            if self._nodes[number] > MAX_NODE_LOSSES:
                raise BuildError(
                    f"A task was on {MAX_NODE_LOSSES + 1} nodes that died. Look at the cluster with `ray status`; "
                    f"the same command run again continues."
                )
        elif isinstance(error, errors.OutOfMemoryError):
            self._count_process(number, "was killed by Ray for want of memory")
        elif isinstance(error, errors.WorkerCrashedError):
            self._count_process(number, "ended with its process, most likely for want of memory,")
        else:
            raise BuildError(
                f"Ray failed: {last_line(error)}. Look at the cluster with `ray status`; the same command run again "
                f"continues."
            ) from error

    def _count_process(self, number: int, what: str) -> None:
        self._processes[number] += 1
        if self._processes[number] > MAX_PROCESS_LOSSES:
            raise BuildError(f"A task {what} {MAX_PROCESS_LOSSES + 1} times. {LESS_MEMORY}")

    def _report(self, error: BaseException) -> None:
        found = re.search(r"Node IP: ([^\s,]+), node ID: (\w{8})", str(error))
        node = f"{found[1]} ({found[2]})" if found else "of the cluster"
        if node not in self._reported:
            self._reported.add(node)
            self._say(f"Ray: the node {node} died; its tasks run again on others.")


def last_line(error: BaseException) -> str:
    """Of the message of an error; that of a traceback says what went wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
