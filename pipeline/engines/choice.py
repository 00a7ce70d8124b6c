"""The engine that the options ask for.

In:  options.   Out: `Workers`, ended with the block.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from pipeline.engines.local import local_workers
from pipeline.engines.workers import Workers
from pipeline.options import Options


def open_workers(options: Options) -> AbstractContextManager[Workers]:
    """Start nothing yet: workers begin with the first task."""
    return local_workers(options.num_workers())
