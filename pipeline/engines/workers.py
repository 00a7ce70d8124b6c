"""What runs the tasks of a build.

In:  a function of a module, what all its tasks share, and the arguments of each.
Out: (task number, result) as tasks finish.
Guarantee: a task may run more than once, anywhere, and at the same time as another run of itself: all of them write the
same bytes. The order of results is that of completion; nothing in a dataset depends on it.

    for number, result in workers.run(power, (2,), [(1,), (2,), (3,)]): ...     (0, 2), (2, 8), (1, 4)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Workers(Protocol):
    """Processes, here or on other machines, that are started at the first task and kept for all stages of a build."""

    def run(
        self, task: Callable[..., Result], shared: tuple[Any, ...], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Result]]:
        """Call `task(*shared, *arguments[i])` for every i; yields (i, result) in the order of completion.

        Args:
            task: a function of a module.
            shared: what all tasks have in common; it is sent to a worker once, so it may be large.
            arguments: what each task has of its own; small.

        Raises:
            BuildError: workers died; or whatever the first failing task raised.
        """

    def prepare(self, num_tasks: int, task: Callable[..., object], *arguments: Any) -> None:
        """Let each worker load something while this process goes on; what goes wrong is no error yet.

        Args:
            num_tasks: how many there will be: a worker more would load for nothing.
            task: what loads it; a function of a module.
            arguments: of `task`.
        """
