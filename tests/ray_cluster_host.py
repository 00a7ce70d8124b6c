"""A Ray cluster of several nodes on this machine, in a process of its own, told by lines on stdin what to do.

python ray_cluster_host.py 3       prints {"address": "...", "nodes": ["<head>", "<node>", "<node>"]}
kill <node>                        its raylet gets SIGKILL, as when a machine dies; prints null
add [NAME=VALUE ...]               one node more, with that environment; prints its id
(end of stdin)                     everything ends
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


def serve(num_nodes: int) -> None:
    """Until stdin ends."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    nodes = {cluster.head_node.node_id: cluster.head_node}

    def add(**more: Any) -> str:
        node = cluster.add_node(**NODE, **more)
        nodes[node.node_id] = node
        return str(node.node_id)

    for _ in range(num_nodes - 1):
        add(wait=False)  # they start side by side
    cluster.wait_for_nodes()
    answer({"address": cluster.address, "nodes": list(nodes)})
    for line in sys.stdin:
        what, *rest = line.split()
        if what == "kill":
            cluster.remove_node(nodes.pop(rest[0]), allow_graceful=False)
            answer(None)
        else:
            answer(add(env_vars=dict(pair.split("=", 1) for pair in rest)))
    cluster.shutdown()


def answer(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
