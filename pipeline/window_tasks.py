"""The windows of a build as tasks: which pieces of the stream each reads, which shards it writes.

In:  what all windows share, and the plan with the stream it cuts.   Out: `WindowTask`, one per window, in step order.
Guarantee: arithmetic and small numbers only; a task says nothing that another worker would say otherwise.

    segment mode, partitions of 16 Mi tokens, a window of 20 Mi at 10 Mi      pieces 0 and 1
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from curriculum.mixture import Mixture
from curriculum.shard_format import token_itemsize
from pipeline.cut import CutJob, MixedPart, WindowTask
from pipeline.cut_packed import BucketRows
from pipeline.document_rows import DocumentRows
from pipeline.lone_windows import shift_pieces
from pipeline.mixed_windows import split_sources
from pipeline.stream import lay_out_stream, overlapping
from pipeline.windows import ShardSlot, Window, consumed_tokens, lay_out_shards, rows_by_phase, split_windows


def window_tasks(job: CutJob, document_rows: DocumentRows | None, *, shard_bytes: int) -> list[WindowTask]:
    """One task per window, with the pieces of the stream that it reads.

    Args:
        job: what the windows have in common.
        document_rows: of mode document; None in others.
        shard_bytes: size of a shard at most.
    """
    plan = job.plan
    windows = split_windows(plan, job.window_tokens, job.fill)
    itemsize = token_itemsize(job.stream.dtype)
    layout = lay_out_shards(plan, windows, shard_bytes=shard_bytes, itemsize=itemsize)
    if document_rows is not None:
        return list(_document_tasks(job, document_rows, zip(windows, layout, strict=True)))
    if job.mixture is not None:
        return list(_mixed_tasks(job, job.mixture, list(zip(windows, layout, strict=True))))
    pieces = lay_out_stream(job.stream, consumed_tokens(plan, job.fill) + 1)
    identity = job.identity
    return [
        WindowTask(
            build=identity,
            window=window,
            slots=slots,
            pieces=tuple(overlapping(pieces, window.offset, window.num_tokens)),
        )
        for window, slots in zip(windows, layout, strict=True)
    ]


def tasks_of_extension(job: CutJob, *, first_step: int, used: int, shard_bytes: int) -> list[WindowTask]:
    """One task per window of an extension; windows before it are there.

    Args:
        job: what the windows have in common; of one source alone, its one stream.
        first_step: the first step of the extension.
        used: tokens of that stream that were used up before.
        shard_bytes: size of a shard at most.
    """
    plan = job.plan
    windows = split_windows(plan, job.window_tokens, job.fill)
    layout = lay_out_shards(plan, windows, shard_bytes=shard_bytes, itemsize=token_itemsize(job.stream.dtype))
    pairs = list(zip(windows, layout, strict=True))
    if job.mixture is not None:
        return list(_mixed_tasks(job, job.mixture, pairs, first_step))
    pairs = [pair for pair in pairs if pair[0].first_step >= first_step]
    (stream,) = job.streams
    stop = used + sum(window.num_tokens for window, _ in pairs)
    pieces = shift_pieces(lay_out_stream(stream.spec, stop + 1), stream.offset, stream.first_document)
    shift, identity = stream.offset + used - pairs[0][0].offset, job.identity
    tasks = []
    for unplaced, slots in pairs:
        window = replace(unplaced, offset=unplaced.offset + shift)
        read = tuple(overlapping(pieces, window.offset, window.num_tokens))
        tasks.append(WindowTask(build=identity, window=window, slots=slots, pieces=read))
    return tasks


def _mixed_tasks(
    job: CutJob, mixture: Mixture, windows: Sequence[tuple[Window, tuple[ShardSlot, ...]]], first_step: int = 0
) -> Iterator[WindowTask]:
    """Of several sources a window owns the next interval of every stream."""
    identity = job.identity
    parts = split_sources(job.plan, mixture, [slots for _, slots in windows])
    chosen = [part for part, (window, _) in zip(parts, windows, strict=True) if window.first_step >= first_step]
    ends = [offset + tokens for offset, tokens in zip(chosen[-1].offsets, chosen[-1].num_tokens, strict=True)]
    is_read = [any(part.num_tokens[k] for part in chosen) for k in range(mixture.num_sources)]
    pieces = [
        lay_out_stream(one.spec, end + 1) if read else []
        for one, end, read in zip(job.streams, ends, is_read, strict=True)
    ]
    for (window, slots), part in zip(windows, parts, strict=True):
        if window.first_step < first_step:
            continue
        intervals = zip(pieces, part.offsets, part.num_tokens, strict=True)
        read = tuple(tuple(overlapping(of, offset, tokens)) if tokens else () for of, offset, tokens in intervals)
        mixed = MixedPart(window=part, pieces=read)
        yield WindowTask(build=identity, window=window, slots=slots, pieces=(), mixed=mixed)


def _document_tasks(
    job: CutJob, rows: DocumentRows, windows: Iterable[tuple[Window, tuple[ShardSlot, ...]]]
) -> Iterator[WindowTask]:
    """In document mode a window owns the next rows of each bucket, wherever they lie in the stream."""
    plan, identity = job.plan, job.identity
    used = dict.fromkeys(rows.buckets, 0)
    for window, slots in windows:
        first_rows = tuple(used.values())
        for phase, count in rows_by_phase(plan, window).items():
            used[plan.phases[phase].seq_len] += count
        read = rows.overlapping(list(zip(first_rows, used.values(), strict=True)))
        before = tuple(tuple(line) for line in rows.rows_before[read].tolist())
        yield WindowTask(
            build=identity,
            window=window,
            slots=slots,
            pieces=tuple(rows.pieces[piece] for piece in read),
            owned=BucketRows(buckets=rows.buckets, first_rows=first_rows, rows_before=before),
        )
