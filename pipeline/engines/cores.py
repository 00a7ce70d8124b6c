"""How many cores this process may use.

In:  nothing.   Out: a number of 1 or more: of the machine, or of the cores that a container or `taskset` left.

    taskset -c 0,1 python -c "from pipeline.engines.cores import num_cores; print(num_cores())"      2
"""

from __future__ import annotations

import os


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
