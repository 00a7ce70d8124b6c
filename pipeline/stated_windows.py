"""Whether the windows of a manifest can be counted out: before anything is laid out as it says.

In:  a manifest that is consistent in itself, possibly a stranger's.   Out: nothing, or a `DataError`.
Guarantee: costs no more than the manifest has shards and its plan has runs. Window and shard sizes are numbers that
anybody can write down: windows of one token, or shards of one step, of a plan of 10**15 steps would fill any memory.

    one shard listed, 32 million tokens, windows of 1,000        manifest.json: windows of 1000 tokens cannot have ...
"""

from __future__ import annotations

from fractions import Fraction

from curriculum.errors import DataError
from curriculum.manifest import Manifest
from pipeline.windows import Window, consumed_tokens, count_shards, split_windows, window_size

REPAIR = "The manifest does not belong to these shards, or was edited: copy the dataset again, or build it again."


def stated_windows(manifest: Manifest, where: object) -> tuple[Window, ...]:
    """The windows that plan and window size give.

    Raises:
        DataError: they, or their shards, are not as many as the manifest lists.
    """
    plan, size, fill = manifest.plan, manifest.build.window_tokens, manifest.build.fill
    num_shards = sum(len(phase.shards) for phase in manifest.phases)
    # Every window writes a shard.
    if window_size(plan, size) != size or round(Fraction(consumed_tokens(plan, fill), size)) > max(1, num_shards):
        raise DataError(
            f"{where}: windows of {size} tokens cannot have written {num_shards} shards of this plan. {REPAIR}"
        )
    windows = split_windows(plan, size, fill)
    expected = count_shards(plan, windows, shard_bytes=manifest.build.shard_bytes, itemsize=manifest.itemsize)
    if expected != num_shards:
        raise DataError(f"{where}: {num_shards:,} shards, plan and window size give {expected:,}. {REPAIR}")
    return windows
