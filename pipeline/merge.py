"""Merge parts of the token store into larger ones, so that windows read few large slices.

In:  the parts of a corpus.   Out: the parts to read in their place, in the store; None if there are few enough.
Guarantee: the order of the stream is that of the documents' keys, so the dataset's bytes do not depend on this. A
merged part is named by what went in and checked like any part: it serves later builds, and a killed build goes on. The
parts of the corpus stay, since later builds find them by their files: the store then holds every token twice.

    part 1: documents of keys 3 8, part 2: 5 9      merged, keys 0 .. 7: documents 3 5; keys 8 .. 15: 8 9
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash

from curriculum.errors import BuildError
from curriculum.shard_format import token_itemsize
from pipeline.engines.workers import Workers
from pipeline.files.contract import Files
from pipeline.merge_layout import MergeLayout, MergeTask, StoredPart, lay_out_merge, part_bytes
from pipeline.part_index import PartIndex, PartSummary, fold_content, write_index
from pipeline.progress import Progress
from pipeline.store_names import tokens_name
from pipeline.stored_documents import Documents, PartFiles, collect, fill, sort_by_key
from pipeline.stream import count_partitions
from pipeline.usable_parts import usable_part

BLOCK_TOKENS = 8 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeJob:
    """What all tasks have in common."""

    store: Files
    dtype: str


def merge_parts(
    store: Files, parts: tuple[PartSummary, ...], dtype: str, workers: Workers, progress: Progress
) -> PartFiles | None:
    """Merge what would be read in too small slices.

    Raises:
        BuildError: a part is damaged, or the store cannot be written.
    """
    itemsize, num_tokens = token_itemsize(dtype), sum(part.tokens for part in parts)
    stored = [
        StoredPart(
            name=part.name,
            digest=part.tokens_digest,
            num_bytes=part_bytes(part.tokens, part.documents, itemsize),
        )
        for part in parts
    ]
    layout = lay_out_merge(stored, count_partitions(num_tokens))
    if layout is None or not _has_room(store, layout, num_tokens * itemsize, progress):
        return None
    job = MergeJob(store=store, dtype=dtype)
    with progress.stage("merge", total=len(layout.rounds) * num_tokens * itemsize, unit="B") as advance:
        for tasks in layout.rounds:
            done = 0
            for _, tokens in workers.run(merge_range, (job,), [(task,) for task in tasks]):
                advance(tokens * itemsize)
                done += tokens
            if done != num_tokens:
                raise BuildError(
                    f"{store.where}: {num_tokens:,} tokens were to be merged and {done:,} came out: the token store "
                    f"was changed meanwhile. Run the same command again."
                )
    return layout.merged


def merge_range(job: MergeJob, task: MergeTask) -> int:
    """Write one merged part unless it is there; the number of its tokens."""
    found = usable_part(job.store, task.name, token_itemsize(job.dtype))
    if found is not None:
        return found.tokens
    files = PartFiles.of_parts(task.sources)
    (unsorted,) = collect(job.store, files, [task.keys], lambda index: np.ones(len(index.key_high), bool))
    documents = sort_by_key(unsorted)
    lengths = documents.index.num_tokens
    index = PartIndex(
        key_high=documents.index.key_high,
        key_low=documents.index.key_low,
        text_hash=documents.index.text_hash,
        start=np.cumsum(lengths) - lengths,
        num_tokens=lengths,
        file=documents.part.astype(np.uint64),
        position=documents.index.position,
    )
    with job.store.write(tokens_name(task.name)) as file:
        digest = xxhash.xxh3_128()
        for block in _tokens(job, task, documents):
            file.write(block)
            digest.update(block)
    write_index(job.store, index, _summary(task, index, digest.hexdigest()))
    return int(lengths.sum())


def _tokens(job: MergeJob, task: MergeTask, documents: Documents) -> Iterator[memoryview]:
    """The documents end to end, in blocks."""
    lengths = documents.index.num_tokens.astype(np.int64)
    ends = np.cumsum(lengths)
    tokens = np.empty(int(lengths.sum()), job.dtype)
    fill(job.store, task.sources, documents.places(), ends - lengths, tokens)
    for start in range(0, len(tokens), BLOCK_TOKENS):
        yield memoryview(tokens[start : start + BLOCK_TOKENS].data).cast("B")


def _summary(task: MergeTask, index: PartIndex, tokens_digest: str) -> PartSummary:
    """Counts of documents and tokens; what was skipped is told by the parts that went in."""
    return PartSummary(
        name=task.name,
        documents=len(index.key_high),
        tokens=int(index.num_tokens.sum()),
        empty_documents=0,
        skipped_records=0,
        skipped_examples=(),
        text_bytes=0,
        content=fold_content(index),
        tokens_digest=tokens_digest,
        index_digest=index.digest(),
        backend="merged",
        files=task.sources,
    )


def _has_room(store: Files, layout: MergeLayout, num_bytes: int, progress: Progress) -> bool:
    """Whether the disk holds what merging writes; without it a build is slower and no different."""
    needed, free = len(layout.rounds) * num_bytes, store.free_bytes()
    if free is None or needed <= free:
        return True
    progress.say(
        f"Store: its parts are many and small. Merging them would need {needed / 1e9:,.1f} GB and the disk has "
        f"{free / 1e9:,.1f} GB left, so they are read as they are, which is slower; the dataset is the same."
    )
    return False
