"""Packed rows, all shards together: no token of the stream is a target twice, and what is left out is accounted for.

In:  what the windows of a packed dataset turned out to be.
Out: stretches of the stream, each proven in itself; faults inside them or between them; or a `DataError`.
Guarantee: in best-fit mode a window is a stretch. In document mode its rows lie anywhere, so the stream is proven in a
second pass that reads lengths and places of pieces, not tokens, `STRETCH_PIECES` at a time: memory does not grow.

Proven: no token of the stream is a target twice; pieces of a document continue each other or leave a gap; documents
follow each other in the order of the stream, from EOS to BOS where nothing is left out in between; `truncated_tokens`
counts the gaps; `context_tokens`, exactly so where there are none. In best-fit mode without truncation also that each
row is where the seed deals it; in document mode that rows longer than the shortest are one piece, and gaps inside a
document whole rows.
Not proven: that the stream is the corpus. In document mode, where rows that fill no step are left out: which row comes
when, and that the first piece of a document after such a gap is not some tokens away from where it says. Both depend on
the lengths of documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME, Manifest
from curriculum.plan import Plan
from pipeline.deal_proof import check_deal
from pipeline.engines.local import local_workers
from pipeline.manifest_checks import open_windows, shard_place
from pipeline.packed_checks import PieceFacts, read_pieces
from pipeline.piece_table import (
    Gaps,
    PieceTable,
    along_stream,
    check_neighbours,
    collect_pieces,
    count_gap_before,
    count_gaps,
    join,
)
from pipeline.shard_checks import ShardPlace, TokenRules, open_place
from pipeline.source_use import use_of
from pipeline.stated_windows import REPAIR
from pipeline.store import ALGORITHM
from pipeline.tiling import Fault
from pipeline.windows import Window, consumed_tokens

STRETCH_PIECES = 4 << 20
"""Pieces that are proven together: about half a gigabyte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """An interval of the stream and the pieces in it."""

    fault: Fault | None
    ends: PieceTable
    """the first and the last piece; none if it is empty"""
    gaps: Gaps


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where the pieces of a shard lie, for document mode."""

    rank: tuple[int, int]
    num_pieces: int
    first: int
    """lowest stream position where one begins"""
    last: int
    """highest"""


def span_of(place: ShardPlace, facts: PieceFacts) -> Span:
    """Where the pieces of a shard lie."""
    return Span(
        rank=place.rank, num_pieces=len(facts.offset), first=int(facts.offset.min()), last=int(facts.offset.max())
    )


def prove_window(
    manifest: Manifest, window: Window, places: Sequence[ShardPlace], facts: Sequence[PieceFacts], rules: TokenRules
) -> Stretch:
    """Best-fit mode: the pieces of a window lie in its interval, which ends with a token shared with the next."""
    in_rows = collect_pieces(places, facts)
    along = along_stream(in_rows)
    stop = window.offset + window.num_tokens
    outside = (along.offset < window.offset) | (along.last > stop)
    if outside.any():
        at = int(np.argmax(outside))
        problem = f"has a piece from {along.offset[at]} to {along.last[at]} of the stream, its window has"
        astray = along.fault(at, f"{problem} {window.offset} to {stop}")
        return Stretch(fault=astray, ends=along.ends(), gaps=Gaps())
    gaps = count_gaps(along)
    complete = gaps.dropped == 0 and manifest.accounting.truncated_tokens == 0
    disagreement = check_neighbours(along, rules)
    if disagreement is None and complete and manifest.build.algorithm == ALGORITHM:
        disagreement = check_deal(manifest, window, in_rows, along)
    return Stretch(fault=disagreement, ends=along.ends(), gaps=gaps)


def prove_spans(
    root: Path, manifest: Manifest, spans: Sequence[Span], rules: TokenRules, workers: int
) -> list[Stretch]:
    """Document mode: the whole stream, in stretches."""
    count = -(-sum(span.num_pieces for span in spans) // STRETCH_PIECES)
    stop = 1 + max(span.last for span in spans)
    borders = [stop * i // count for i in range(count + 1)]
    arguments = []
    for first, last in pairwise(borders):
        ranks = tuple(span.rank for span in spans if span.first < last and span.last >= first)
        arguments.append((first, last, ranks))
    found: dict[int, Stretch] = {}
    with local_workers(workers) as pool:
        for number, stretch in pool.run(prove_stretch, (str(root), manifest.id, rules), arguments):
            found[number] = stretch
    return [found[number] for number in range(len(arguments))]


def prove_stretch(
    root: str, dataset_id: str, rules: TokenRules, first: int, stop: int, ranks: Sequence[tuple[int, int]]
) -> Stretch:
    """The pieces that begin at `first <= position < stop` of the stream, of the shards that have any."""
    manifest, _ = open_windows(root, dataset_id)
    tables = []
    for rank in ranks:
        place = shard_place(manifest, *rank)
        table = collect_pieces([place], [read_pieces(Path(root, place.entry.path), open_place(Path(root), place))])
        tables.append(table.select((table.offset >= first) & (table.offset < stop)))
    along = along_stream(join(tables))
    fault = check_neighbours(along, rules, shortest_row(manifest.plan))
    return Stretch(fault=fault, ends=along.ends(), gaps=count_gaps(along))


def shortest_row(plan: Plan) -> int:
    """Document mode: what every row length is a multiple of, also lengths without a step; 1 in best-fit mode."""
    shortest = plan.schedule.get("start_length") if plan.mode == "document" else None
    return shortest if isinstance(shortest, int) and shortest > 0 else 1


def stream_faults(manifest: Manifest, streams: Sequence[Sequence[Stretch]], rules: TokenRules) -> list[Fault]:
    """Faults inside the stretches of each source's stream, or else where they meet."""
    faults = [stretch.fault for stretches in streams for stretch in stretches if stretch.fault is not None]
    if faults:
        return faults
    borders = [border for stretches in streams for border in _borders(stretches)]
    found = [check_neighbours(border, rules, shortest_row(manifest.plan)) for border in borders]
    return [fault for fault in found if fault is not None]


def _borders(stretches: Sequence[Stretch]) -> list[PieceTable]:
    """Last and first piece where two stretches meet."""
    ends = [stretch.ends for stretch in stretches if len(stretch.ends)]
    return [join([before.select([-1]), after.select([0])]) for before, after in pairwise(ends)]


def check_left_out(root: Path, manifest: Manifest, streams: Sequence[Sequence[Stretch]], rules: TokenRules) -> None:
    """Compare what the shards leave out of the streams with the accounting.

    Args:
        root: place of the dataset.
        manifest: its manifest.
        streams: the stretches of each source's stream.
        rules: what ids mean.

    Raises:
        DataError: it differs.
    """
    use, accounting = use_of(manifest), manifest.accounting
    consumed = (consumed_tokens(manifest.plan, manifest.build.fill),) if use is None else use.consumed
    gaps, least, most = Gaps(), 0, 0
    for source, used, stretches in zip(manifest.sources, consumed, streams, strict=True):
        ends = [stretch.ends for stretch in stretches if len(stretch.ends)]
        if not ends:
            continue
        of_source = count_gap_before(ends[0], source.offset, source.first_document or 0)
        of_source = sum((stretch.gaps for stretch in stretches), of_source)
        of_source = sum((count_gaps(border) for border in _borders(stretches)), of_source)
        gaps += of_source
        after = source.offset + used - int(ends[-1].last[-1])
        ended = bool(ends[-1].last_token[-1] == rules.eos_id)
        # Documents may begin after the last piece; one does if it ends its own, and it goes on if it does not.
        dropped = of_source.dropped + (rules.eos_only_ends and not ended and after > 0)
        least += dropped
        most += max(dropped, of_source.dropped + after - (rules.eos_only_ends and ended))
    bounds = {
        "context_tokens": [gaps.begun_least, gaps.begun_most],
        "truncated_tokens": [0, 0] if manifest.plan.mode == "document" else [least, most],
    }
    for name, (least, most) in bounds.items():
        claimed = getattr(accounting, name)
        if not least <= claimed <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            raise DataError(
                f"{root / FILE_NAME}: accounting: {name} is {claimed}, the shards give {expected}. {REPAIR}"
            )
