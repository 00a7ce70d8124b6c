"""How long the documents of a dataset are, from the best witness that is there.

In:  the place of a dataset, its manifest and build log, a reader of its rows.
Out: `DocumentLengths`: counts by powers of two, and one sentence that says what was counted.
Guarantee: bounded: `MAX_INDEX_BYTES` of the token store's indexes, or the document borders of a few hundred steps. What
is estimated or a sample is said to be.

1. The token store, while it is on this disk: its indexes have the length of every document.
2. Else borders in rows of the longest phase (`length_estimate`). Rows of pieces of documents (packed) have the lengths
   of the pieces, and that is what is shown.

    a row of 8, documents begin at 2 and 5      one of 3 tokens, one of 4 or more
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from curriculum.errors import CurriculumError, DataError
from curriculum.manifest import Manifest
from curriculum.reader import Reader
from pipeline.built_streams import built_stream, require_same_tokens
from pipeline.census import LengthBin, take_census
from pipeline.files.address import is_url
from pipeline.files.contract import Files
from pipeline.page.length_estimate import bins_of, estimated_bins
from pipeline.store_names import index_name

MAX_INDEX_BYTES = 256 << 20
MOST_STEPS, MOST_STEPS_OF_STORE = 512, 8
MOST_TOKENS = 8 << 20
"""In the rows whose borders are asked for."""
PART_NAME = re.compile(r"(merged-)?[0-9a-f]{8,64}(-[0-9]{6})?")
"""A build log may come from anybody: nothing else is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentLengths:
    """Documents by length."""

    bins: tuple[LengthBin, ...]
    """of neighbouring powers of two, shortest first"""
    what: str
    """what was counted"""
    origin: str
    """where the counts come from: a sentence"""
    is_open: bool = False
    """the last bin has no upper end"""


def document_lengths(
    root: Files, manifest: Manifest, log: dict[str, Any] | None, reader: Reader
) -> DocumentLengths | None:
    """The lengths; None if neither store nor rows are at hand."""
    try:
        if log is not None:
            return _from_store(root, manifest, log)
    except (CurriculumError, OSError, LookupError, TypeError, ValueError):
        pass  # it was moved or removed, or is another one: rows are asked
    try:
        return _from_rows(manifest, reader)
    except (CurriculumError, OSError):
        return None


def _from_store(root: Files, manifest: Manifest, log: dict[str, Any]) -> DocumentLengths:
    counts, read, there = Counter[int](), 0, 0
    tokens = Counter[int]()
    for number, source in enumerate(manifest.sources):
        listed = log["parts"] if len(manifest.sources) == 1 else log["source_parts"][source.name]
        if not listed or not all(isinstance(name, str) and PART_NAME.fullmatch(name) for name in listed):
            raise DataError("the build log names no parts of a token store.")
        spec = built_stream(root, manifest, number, log, None)
        if is_url(spec.store.where):
            raise DataError("the token store is not on this disk.")
        chosen = _within(spec.store, spec.parts, MAX_INDEX_BYTES // len(manifest.sources))
        census = take_census(spec.store, chosen, held_out_below=spec.held_out_below)
        if len(chosen) == len(spec.parts):
            require_same_tokens(census.tokens, manifest, number)
        for one in census.histogram():
            counts[one.low] += one.documents
            tokens[one.low] += one.tokens
        read, there = read + len(chosen), there + len(spec.parts)
    sample = "" if read == there else f" A sample: {read:,} of its {there:,} parts, of which each is a random one."
    return DocumentLengths(
        bins=bins_of(counts, tokens),
        what="documents",
        origin=f"All {sum(counts.values()):,} training documents, counted in the token store.{sample}"
        if not sample
        else f"{sum(counts.values()):,} training documents, counted in the token store.{sample}",
    )


def _within(store: Files, parts: Sequence[str], most_bytes: int) -> tuple[str, ...]:
    """As many parts as that, one at least; names are digests, so their order is a random one."""
    chosen: list[str] = []
    total = 0
    for name in sorted(parts):
        facts = store.facts(index_name(name))
        total += facts.num_bytes if facts else 0
        if chosen and total > most_bytes:
            break
        chosen.append(name)
    return tuple(chosen)


def _from_rows(manifest: Manifest, reader: Reader) -> DocumentLengths | None:
    plan = manifest.plan
    longest = next(number for number, phase in enumerate(plan.phases) if phase.seq_len == plan.max_seq_len)
    runs = [
        (first, steps)
        for (phase, steps), first in zip(plan.order, _first_steps(plan.order), strict=True)
        if phase == longest
    ]
    first, count = runs[0]
    most = min(count, MOST_STEPS_OF_STORE if is_url(reader.where) else MOST_STEPS)
    most = max(1, min(most, MOST_TOKENS // plan.phases[longest].tokens_per_step))
    seen: list[int] = []
    unseen: list[int] = []
    num_rows = 0
    for number in range(most):
        batch = reader[first + count * number // most]
        positions, edges = batch.doc_starts
        for row in range(len(batch.tokens)):
            starts = positions[edges[row] : edges[row + 1]].tolist()
            if batch.num_tokens is not None:
                ends = [0, *starts, int(batch.num_tokens[row])]
                seen += [after - before for before, after in pairwise(ends)]
            else:
                seen += [after - before for before, after in pairwise(starts)]
                unseen += [plan.max_seq_len + 1 - start for start in starts[-1:]]
        num_rows += len(batch.tokens)
    if manifest.packed:
        counts, tokens = Counter[int](), Counter[int]()
        for length in seen:
            counts[1 << length.bit_length() - 1] += 1
            tokens[1 << length.bit_length() - 1] += length
        origin = f"The pieces of documents in {num_rows:,} sampled rows of the longest phase: rows are packed of them."
        return DocumentLengths(bins=bins_of(counts, tokens), what="pieces", origin=origin)
    if not seen:
        return None
    bins = estimated_bins(seen, unseen, num_rows * plan.max_seq_len, plan.max_seq_len)
    origin = (
        f"Estimated from {len(seen) + len(unseen):,} documents that begin in {num_rows:,} sampled rows of the longest "
        f"phase: the token store, which has all lengths, is not on this disk. The last bar is of all that are longer."
    )
    return DocumentLengths(bins=bins, what="documents", origin=origin, is_open=True)


def _first_steps(order: Sequence[tuple[int, int]]) -> Any:
    """The first step of each run."""
    return np.concatenate(([0], np.cumsum([steps for _, steps in order])))[:-1].tolist()
