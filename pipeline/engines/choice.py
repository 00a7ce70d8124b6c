"""The engine that the options ask for.

In:  options, what the tasks will write to and read from, and where to report.   Out: `Workers`, ended with the block.
Guarantee: no task of an earlier run writes any more when the block begins, and none of this one when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.engines.fence import wait_for_orphans
from pipeline.engines.local import local_workers
from pipeline.engines.workers import Workers
from pipeline.layout import ASIDE
from pipeline.options import Options
from pipeline.store_names import STORE_ASIDE
from pipeline.units import MAX_UNIT_BYTES
from pipeline.windows import MAX_WINDOW_TOKENS

SAMPLED_FILES = 3


@contextmanager
def open_workers(
    options: Options,
    say: Callable[[str], None],
    *,
    encodes: bool = False,
    cuts: bool = False,
    files: tuple[tuple[str, int], ...] = (),
) -> Iterator[Workers]:
    """Start nothing on this machine yet: local workers begin with the first task.

    Whoever has tasks that write holds the token store, whether they write there or only read it: orphans of an earlier
    run are known by a file in it, wherever they write.

    Args:
        say: takes a line for people.
        encodes: tasks write to the token store, which the caller holds.
        cuts: tasks write to the output, which the caller holds, and read the token store.
        files: path and bytes of the files that tasks read.

    Raises:
        ConfigError: the engine is not installed, or its address is none.
        BuildError: a cluster does not answer, or a node of it cannot work on this build.
    """
    writes, out = encodes or cuts, options.out_files() if cuts else None
    if writes:
        wait_for_orphans(say, store=options.store_files(), out=out, options=options.storage_option)
    if options.engine == "local":
        with local_workers(options.num_workers(), lambda stage: what_to_lower(options, stage)) as workers:
            yield workers
        return
    from pipeline.engines.node_checks import SharedFolder
    from pipeline.engines.ray_cluster import Places, ray_workers

    store = options.store_files()
    shared = [SharedFolder(files=store, aside=STORE_ASIDE)] if writes else []
    shared += [SharedFolder(files=out, aside=ASIDE)] if out is not None else []
    places = Places(
        fence_in=store if writes else None,
        out=out,
        shared=tuple(shared),
        reads=files[:: max(1, -(-len(files) // SAMPLED_FILES))],
    )
    with ray_workers(address=options.ray_address, num_workers=options.workers, places=places, say=say) as cluster:
        yield cluster


def check_engine(options: Options) -> None:
    """Refuse an engine that is not installed before anything is touched.

    Raises:
        ConfigError: it is not installed.
    """
    if options.engine == "ray":
        from pipeline.engines.ray_connection import import_ray

        import_ray()


def what_to_lower(options: Options, stage: str) -> str:
    """The options whose smaller values make a stage need less memory, with their values now, as a clause.

    Args:
        stage: the module of its tasks.
    """
    workers = f"fewer --workers (now {options.num_workers():,})"
    unit = f"up to {MAX_UNIT_BYTES:,}" if options.unit_bytes is None else f"{options.unit_bytes:,}"
    window = f"up to {MAX_WINDOW_TOKENS:,}" if options.shuffle_window is None else f"{options.shuffle_window:,}"
    smaller = {
        "pipeline.tokenize_stage": f"a smaller --unit-bytes (now {unit})",
        "pipeline.corpus_tokenizer": f"a smaller --unit-bytes (now {unit})",
        "pipeline.cut": f"a smaller --shuffle-window (now {window})",
    }
    return f"{workers} or {smaller[stage]} need less" if stage in smaller else f"{workers} need less"
