"""The nodes of a Ray cluster: how many CPUs they have, and whether each is fit to work on a build.

In:  a connection and what a node must have and see.   Out: nothing, or one sentence about the first unfit node.
Guarantee: every node with a CPU is asked, also one that is busy; a node that joins later is asked by its first task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

from curriculum.errors import BuildError
from pipeline.engines.node_checks import NodeCheck
from pipeline.engines.ray_losses import last_line
from pipeline.engines.ray_tasks import examine, named

ANSWER_SECONDS = 300.0
"""A node that has to start a process while its disk is busy may take a minute."""
ATTEMPTS = 3


def num_cpus(ray: Any) -> int:
    """CPUs of all nodes that are there now."""
    return int(ray.cluster_resources().get("CPU", 0))


def check_nodes(ray: Any, check: NodeCheck, say: Callable[[str], None]) -> None:
    """Ask every node whether it has what this build needs.

    Raises:
        BuildError: one has not, and which.
    """
    nodes = _working(ray)
    answers = _ask_all(ray, check, nodes)
    still_there = _working(ray)
    for node in nodes:
        if node in still_there:
            problem = _problem(ray, nodes[node], answers[node]) or check.find_traces(nodes[node], node)
            if problem is not None:
                raise BuildError(problem)
    say(f"Ray: {len(nodes):,} nodes with {num_cpus(ray):,} CPUs; every node has these releases and sees the files.")


def _ask_all(ray: Any, check: NodeCheck, nodes: Iterable[str]) -> dict[str, Future[str | None]]:
    """What each node says; one whose process is lost is asked again, but not for ever, as Ray would."""
    answers: dict[str, Future[str | None]] = {}
    ask = list(nodes)
    for _ in range(ATTEMPTS):
        answers |= {node: _ask(ray, check, node) for node in ask}
        done, _ = wait(answers.values(), timeout=ANSWER_SECONDS)
        ask = [node for node, answer in answers.items() if answer in done and answer.exception() is not None]
    return answers


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
    remote = ray.remote(examine).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    future: Future[str | None] = remote.remote(check, os.getcwd()).future()  # noqa: PTH109 - a plain string
    return future


def _problem(ray: Any, node: str, answer: Future[str | None]) -> str | None:
    """What a node says that is wrong with it, or why it could not say anything."""
    again = "Look at that node, or take it out of the cluster, then run the same command again."
    if not answer.done():
        return f"{node}: did not answer within {ANSWER_SECONDS:.0f} s. {again}"
    error = answer.exception()
    if error is None:
        return answer.result()
    if isinstance(error, ray.exceptions.RayTaskError):
        again = "Install the same release of seqlen-curriculum and of what it needs on every node."
    return f"{node}: cannot run a task of this build: {last_line(error)}. {again}"
