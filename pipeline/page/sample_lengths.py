"""How long pieces of documents are in sampled rows of the longest phase, by the borders in them.

In:  a manifest, a reader of the rows.   Out: `SampledLengths`.
Guarantee: bounded: the borders of a few hundred steps, spread evenly over the first visit of the phase.

    a row of 8, documents begin at 2 and 5      3 tokens seen of one that ends; 4 of one that goes on
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise

from curriculum.errors import CurriculumError
from curriculum.manifest import Manifest
from curriculum.reader import Reader
from pipeline.files.address import is_url

MOST_STEPS, MOST_STEPS_OF_STORE = 512, 8
MOST_TOKENS = 8 << 20
"""In the rows whose borders are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledLengths:
    """In tokens."""

    seen: tuple[int, ...]
    """of documents that begin and end inside a row; of packed rows, of every piece"""
    unseen: tuple[int, ...]
    """of those that begin in a row and go on behind it, what the row has"""
    num_rows: int


class UnreadableRowsError(Exception):
    """The rows of `shard`, a path of the manifest, cannot be read."""

    def __init__(self, shard: str) -> None:
        super().__init__(shard)
        self.shard = shard


def sampled_lengths(manifest: Manifest, reader: Reader) -> SampledLengths:
    """The lengths.

    Raises:
        UnreadableRowsError: a shard is not here, or damaged.
    """
    plan = manifest.plan
    longest = next(number for number, phase in enumerate(plan.phases) if phase.seq_len == plan.max_seq_len)
    place = next(place for place, (phase, _) in enumerate(plan.order) if phase == longest)
    first, count = sum(steps for _, steps in plan.order[:place]), plan.order[place][1]
    most = min(count, MOST_STEPS_OF_STORE if is_url(reader.where) else MOST_STEPS)
    most = max(1, min(most, MOST_TOKENS // plan.phases[longest].tokens_per_step))
    seen: list[int] = []
    unseen: list[int] = []
    num_rows = 0
    for step in (first + count * number // most for number in range(most)):
        try:
            batch = reader[step]
            positions, edges = batch.doc_starts
        except (CurriculumError, OSError) as error:
            raise UnreadableRowsError(_shard_of(manifest, step)) from error
        for row in range(len(batch.tokens)):
            starts = positions[edges[row] : edges[row + 1]].tolist()
            if batch.num_tokens is not None:
                ends = [0, *starts, int(batch.num_tokens[row])]
                seen += [after - before for before, after in pairwise(ends)]
            else:
                seen += [after - before for before, after in pairwise(starts)]
                unseen += [plan.max_seq_len + 1 - start for start in starts[-1:]]
        num_rows += len(batch.tokens)
    return SampledLengths(seen=tuple(seen), unseen=tuple(unseen), num_rows=num_rows)


def _shard_of(manifest: Manifest, step: int) -> str:
    phase, row = manifest.plan.locate(step)
    shards = manifest.phases[phase].shards
    return shards[bisect_right(list(accumulate(shard.num_rows for shard in shards)), row)].path
