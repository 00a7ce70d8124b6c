"""How long the documents of a dataset are, from the best witness that is there.

In:  the place of a dataset, its manifest and build log, a reader of its rows.
Out: `DocumentLengths`: counts by powers of two, and one sentence that says what was counted; or `LengthsUnknown`.
Guarantee: bounded: `MAX_INDEX_BYTES` of the token store's indexes, or the document borders of a few hundred steps. What
is estimated or a sample is said to be.

1. The token store, while it is on this disk: its indexes have the length of every document.
2. Else borders in rows of the longest phase (`sample_lengths`, `length_estimate`). Rows that are packed (best-fit) have
   the lengths of pieces, and that is what is shown; in mode document every piece is as long as its row, which tells
   nothing.

    a row of 8, documents begin at 2 and 5      one of 3 tokens, one of 4 or more
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curriculum.errors import CurriculumError, DataError
from curriculum.manifest import Manifest
from curriculum.reader import Reader
from pipeline.built_streams import built_stream, require_same_tokens
from pipeline.census import LengthBin, take_census
from pipeline.counted import counted
from pipeline.files.address import is_url
from pipeline.files.contract import Files
from pipeline.page.length_estimate import bins_of, estimated_bins
from pipeline.page.sample_lengths import SampledLengths, UnreadableRowsError, sampled_lengths
from pipeline.store_names import index_name

MAX_INDEX_BYTES = 256 << 20
PART_NAME = re.compile(r"(merged-)?[0-9a-f]{8,64}(-[0-9]{6})?")
"""A build log may come from anybody: nothing else is looked for."""
UNKNOWN = "How long documents are cannot be said:"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthsUnknown:
    """There is no witness."""

    why: str
    """a sentence"""


def document_lengths(
    root: Files, manifest: Manifest, log: dict[str, Any] | None, reader: Reader
) -> DocumentLengths | LengthsUnknown:
    """The lengths, or why they are not known."""
    try:
        if log is not None:
            return _from_store(root, manifest, log)
    except (CurriculumError, OSError, LookupError, TypeError, ValueError):
        pass  # it was moved or removed, or is another one: rows are asked
    return _from_rows(root, manifest, reader)


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
        origin=f"All {counted(sum(counts.values()), 'training document')}, counted in the token store.{sample}"
        if not sample
        else f"{counted(sum(counts.values()), 'training document')}, counted in the token store.{sample}",
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


def _from_rows(root: Files, manifest: Manifest, reader: Reader) -> DocumentLengths | LengthsUnknown:
    if manifest.plan.mode == "document":
        return LengthsUnknown(
            why=f"{UNKNOWN} the token store is not on this disk, and rows of mode document are pieces of documents, "
            f"cut to the lengths of the rows."
        )
    try:
        sample = sampled_lengths(manifest, reader)
    except UnreadableRowsError as error:
        if root.facts(error.shard) is None:
            return LengthsUnknown(why=f"{UNKNOWN} neither the token store nor all rows of the longest phase are here.")
        return LengthsUnknown(
            why=f"{UNKNOWN} the token store is not on this disk, and rows of the longest phase cannot be read: "
            f"`curriculum verify` says why."
        )
    if manifest.packed:
        return _pieces(sample)
    return (
        _estimate(sample, manifest.plan.max_seq_len)
        if sample.seen
        else LengthsUnknown(why=_all_longer(sample, manifest.plan.max_seq_len))
    )


def _pieces(sample: SampledLengths) -> DocumentLengths:
    counts, tokens = Counter[int](), Counter[int]()
    for length in sample.seen:
        counts[1 << length.bit_length() - 1] += 1
        tokens[1 << length.bit_length() - 1] += length
    return DocumentLengths(
        bins=bins_of(counts, tokens),
        what="pieces",
        origin=f"The pieces of documents in {counted(sample.num_rows, 'sampled row')} of the longest phase: rows are "
        f"packed of them. A document that no row holds is several pieces. The token store, which has the lengths "
        f"of documents, is not on this disk.",
    )


def _estimate(sample: SampledLengths, max_seq_len: int) -> DocumentLengths:
    documents = len(sample.seen) + len(sample.unseen)
    return DocumentLengths(
        bins=estimated_bins(sample.seen, sample.unseen, sample.num_rows * max_seq_len, max_seq_len),
        what="documents",
        origin=f"Estimated from {counted(documents, 'document')} that begin in "
        f"{counted(sample.num_rows, 'sampled row')} of the longest phase: the token store, which has all "
        f"lengths, is not on this disk. The last bar is of all that are longer.",
        is_open=True,
    )


def _all_longer(sample: SampledLengths, max_seq_len: int) -> str:
    """Where none ends in a row, as with books: how often one begins is all that can be told."""
    documents, rows = len(sample.unseen), f"{counted(sample.num_rows, 'sampled row')} of {max_seq_len:,} tokens"
    store = "The token store, which has all lengths, is not on this disk."
    if not documents:
        return f"{UNKNOWN} none begins inside {rows}. {store}"
    one_in = f"{round(sample.num_rows * max_seq_len / documents):,}"
    return (
        f"{UNKNOWN} of {documents:,} that begin in {rows}, one in every {one_in} tokens, none is seen to end. The "
        f"longest one has {max(sample.unseen):,} tokens or more. {store}"
    )
