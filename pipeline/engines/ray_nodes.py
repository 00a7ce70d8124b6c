"""The nodes of a Ray cluster: how many CPUs they have, and whether each is fit to work on a build.

In:  a connection and what a node must have and see.   Out: nothing, or one sentence about the first unfit node.
Guarantee: every node with a CPU is asked, also one that is busy; a node that joins later is asked by its first task.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from curriculum.errors import BuildError
from pipeline.engines.node_checks import NodeCheck
from pipeline.engines.ray_tasks import examine, named

ANSWER_SECONDS = 300.0
"""A node that has to start a process while its disk is busy may take a minute."""


def num_cpus(ray: Any) -> int:
    """CPUs of all nodes that are there now."""
    return int(ray.cluster_resources().get("CPU", 0))


def check_nodes(ray: Any, check: NodeCheck, say: Callable[[str], None]) -> None:
    """Ask every node whether it has what this build needs.

    Raises:
        BuildError: one has not, and which.
    """
    nodes = _working(ray)
    asked = {node: _ask(ray, check, node) for node in nodes}
    wait(asked.values(), timeout=ANSWER_SECONDS)
    silent = [node for node, answer in asked.items() if not answer.done()]
    still_there = _working(ray)
    for node in silent:
        if node in still_there:
            raise BuildError(
                f"{nodes[node]}: did not answer within {ANSWER_SECONDS:.0f} s. Look at that node with `ray status`, "
                f"or remove it from the cluster, then run the same command again."
            )
    for node, answer in asked.items():
        if node in still_there:
            problem = _answer(nodes[node], answer) or check.find_traces(nodes[node], node)
            if problem is not None:
                raise BuildError(problem)
    say(f"Ray: {len(nodes):,} nodes with {num_cpus(ray):,} CPUs; every node has these releases and sees the files.")


def _working(ray: Any) -> dict[str, str]:
    """Nodes that take tasks: id, and name for people."""
    return {
        node["NodeID"]: named(node["NodeManagerAddress"], node["NodeID"])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    }


def _ask(ray: Any, check: NodeCheck, node: str) -> Future[str | None]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    remote = ray.remote(examine).options(num_cpus=0, max_retries=2, scheduling_strategy=there)
    future: Future[str | None] = remote.remote(check, os.getcwd()).future()  # noqa: PTH109 - a plain string
    return future


def _answer(node: str, answer: Future[str | None]) -> str | None:
    """What a node says, or why it could not."""
    error = answer.exception()
    if error is None:
        return answer.result()
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
    return (
        f"{node}: cannot run a task of this build: {reason}. Install the same release of seqlen-curriculum and of "
        f"what it needs on every node."
    )
