"""The engine that the options ask for.

In:  options.   Out: `Workers`, ended with the block.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from pipeline.engines.local import local_workers
from pipeline.engines.workers import Workers
from pipeline.options import Options
from pipeline.units import MAX_UNIT_BYTES
from pipeline.windows import MAX_WINDOW_TOKENS


def open_workers(options: Options) -> AbstractContextManager[Workers]:
    """Start nothing yet: workers begin with the first task."""
    return local_workers(options.num_workers(), lambda stage: what_to_lower(options, stage))


def what_to_lower(options: Options, stage: str) -> str:
    """The options whose smaller values make a stage need less memory, with their values now, as a clause.

    Args:
        stage: the module of its tasks.
    """
    workers = f"fewer --workers (now {options.num_workers():,})"
    unit = f"up to {MAX_UNIT_BYTES:,}" if options.unit_bytes is None else f"{options.unit_bytes:,}"
    window = f"up to {MAX_WINDOW_TOKENS:,}" if options.shuffle_window is None else f"{options.shuffle_window:,}"
    smaller = {
        "pipeline.corpus": f"a smaller --unit-bytes (now {unit})",
        "pipeline.cut": f"a smaller --shuffle-window (now {window})",
    }
    return f"{workers} or {smaller[stage]} need less" if stage in smaller else f"{workers} need less"
