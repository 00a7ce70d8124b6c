"""Rows of a dataset as text: `curriculum cat`.

In:  the folder of a dataset, and a step, or a phase and a row of it.
Out: `CatRow`: ids, decoded text per document, place in the stream and, while the token store is there, the source.
Guarantee: reads the shards that hold those rows and nothing else. Text is decoded with the dataset's own
tokenizer.json; a row may begin or end inside a character, which then shows as U+FFFD.

    cat_rows(root, step=0, limit=1)[0].texts     ("lo\\n<|endoftext|>", "he quic")     doc_starts (4,)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import curriculum
from curriculum.batch import Batch
from curriculum.errors import ConfigError
from curriculum.manifest import Manifest
from curriculum.plan import Plan
from curriculum.reader import Reader
from pipeline.files.address import dataset_files, is_url, store_files
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.foreign_tokenizer import ForeignTokenizer, open_tokenizer
from pipeline.row_sources import document_sources

DEFAULT_PHASE_ROWS = 16
"""A phase can have millions of rows: without a row or a limit, that many of its first are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatRow:
    """One row, decoded."""

    step: int
    phase: int
    row: int
    """row of its phase, from 0"""
    row_of_step: int
    seq_len: int
    offset: int
    """stream position of the first token"""
    document: int
    """ordinal in the stream of the document that holds the first token"""
    doc_starts: tuple[int, ...]
    """positions, from 1, where further documents begin; where rows are packed, further pieces of documents"""
    documents: tuple[int, ...]
    """ordinal of the document of each text: `document`, then one for each of `doc_starts`"""
    token_ids: tuple[int, ...]
    """seq_len + 1 ids"""
    num_tokens: int
    """of those, tokens before the padding; seq_len + 1 where rows are not packed"""
    texts: tuple[str, ...]
    """decoded text of each document in the row"""
    source: str | None = None
    """name of the source of a mixture, which the offset tells; None if there is one source"""
    file: str | None
    """file of the corpus that the first document came from; None if the token store is gone"""
    position: int | None
    """where in that file: a byte offset in .jsonl, a row in .parquet and .arrow"""

    @property
    def text(self) -> str:
        """The whole row, decoded."""
        return "".join(self.texts)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "step": self.step,
            "phase": self.phase,
            "row": self.row,
            "row_of_step": self.row_of_step,
            "seq_len": self.seq_len,
            "offset": self.offset,
            "document": self.document,
            "doc_starts": list(self.doc_starts),
            "documents": list(self.documents),
            "token_ids": list(self.token_ids),
            "num_tokens": self.num_tokens,
            "texts": list(self.texts),
            "text": self.text,
            "source_name": self.source,
            "source": None if self.file is None else {"file": self.file, "position": self.position},
        }


def cat_rows(
    root: Path | str,
    *,
    step: int | None = None,
    phase: int | None = None,
    row: int | None = None,
    limit: int | None = None,
    store: Path | str | None = None,
    options: StorageOptions = NO_OPTIONS,
) -> list[CatRow]:
    """Rows of a step, or of a phase.

    Args:
        root: folder of the dataset, or its address in a store.
        step: global step; or
        phase: index of a phase.
        row: one row of the step or phase; None means all of a step, the first ones of a phase.
        limit: rows at most; without it a whole step, or 16 rows of a phase.
        store: the token store, if it is not where it was when the dataset was built.
        options: of the clients of stores.

    Raises:
        ConfigError: no such step, phase or row; or `store` is not the store of this dataset.
        DataError: the dataset is damaged, or a shard that is needed is missing.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more.")
    reader = curriculum.open(root, storage_options=options.values()) if is_url(root) else Reader(root)
    places = _places(reader.plan, step, phase, row, limit)
    batches = {number: reader[number] for number in dict.fromkeys(number for number, _ in places)}
    found = [(batches[number], index) for number, index in places]
    ordinals = (int(batch.document[index]) for batch, index in found)
    kept = None if store is None else store_files(store, options)
    files = dataset_files(root, options)
    sources = document_sources(files, reader.manifest, ordinals, store=kept)
    tokenizer = open_tokenizer(files, reader.manifest)
    rows = []
    for batch, index in found:
        source = sources.get(int(batch.document[index]))
        file, position = (source.file, source.position) if source else (None, None)
        of_mixture = source_name(reader.manifest, int(batch.offset[index]))
        rows.append(_cat_row(reader.plan, batch, index, tokenizer, of_mixture, file, position))
    return rows


def source_name(manifest: Manifest, offset: int) -> str | None:
    """The source of a row of a mixture: streams of the sources lie end to end."""
    if manifest.build.mixture is None:
        return None
    return manifest.sources[bisect_right([source.offset for source in manifest.sources], offset) - 1].name


def _places(
    plan: Plan, step: int | None, phase: int | None, row: int | None, limit: int | None
) -> list[tuple[int, int]]:
    """(step, row of the step) of the rows that are asked for."""
    if (step is None) == (phase is None):
        raise ConfigError("Give either a step or a phase to show rows of.")
    if step is not None:
        _require("step", step, plan.total_steps)
        num_rows = plan.phases[plan.locate(step)[0]].rows_per_step
        return [(step, index) for index in _chosen(f"row of step {step}", row, num_rows, limit)]
    assert phase is not None
    _require("phase", phase, len(plan.phases))
    num_rows = plan.phases[phase].num_rows
    chosen = _chosen(f"row of phase {phase}", row, num_rows, limit or DEFAULT_PHASE_ROWS)
    return [_step_of_row(plan, phase, index) for index in chosen]


def _chosen(what: str, row: int | None, num_rows: int, limit: int | None) -> range:
    if row is None:
        return range(min(num_rows, limit or num_rows))
    _require(what, row, num_rows)
    return range(row, row + 1)


def _require(what: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise ConfigError(f"{what} is {number}; give one from 0 to {count - 1}.")


def _step_of_row(plan: Plan, phase: int, row: int) -> tuple[int, int]:
    """(step, row of the step) of a row of a phase; a phase may be visited several times."""
    rows_per_step = plan.phases[phase].rows_per_step
    left, index = divmod(row, rows_per_step)
    first_step = 0
    for visited, num_steps in plan.order:
        if visited == phase:
            if left < num_steps:
                return first_step + left, index
            left -= num_steps
        first_step += num_steps
    raise AssertionError("the row was checked against the plan")


def _cat_row(
    plan: Plan,
    batch: Batch,
    index: int,
    tokenizer: ForeignTokenizer,
    source: str | None,
    file: str | None,
    position: int | None,
) -> CatRow:
    ids = batch.tokens[index].tolist()
    positions, edges = batch.doc_starts
    starts = positions[edges[index] : edges[index + 1]].tolist()
    num_tokens = len(ids) if batch.num_tokens is None else int(batch.num_tokens[index])
    return CatRow(
        step=batch.step,
        phase=batch.phase,
        row=plan.locate(batch.step)[1] + index,
        row_of_step=index,
        seq_len=batch.seq_len,
        offset=int(batch.offset[index]),
        document=int(batch.document[index]),
        doc_starts=tuple(starts),
        documents=documents_of(batch, index, len(starts)),
        token_ids=tuple(ids),
        num_tokens=num_tokens,
        texts=_decode(tokenizer, ids[:num_tokens], starts),
        source=source,
        file=file,
        position=position,
    )


def documents_of(batch: Batch, index: int, num_starts: int) -> tuple[int, ...]:
    """The document of each text of a row: one after the other, unless pieces say which."""
    first = int(batch.document[index])
    if batch.piece_document is None:
        return tuple(range(first, first + num_starts + 1))
    _, edges = batch.doc_starts
    return first, *batch.piece_document[edges[index] : edges[index + 1]].tolist()


def _decode(tokenizer: ForeignTokenizer, ids: Sequence[int], starts: Sequence[int]) -> tuple[str, ...]:
    """Each document by itself: no decoder joins the end of one text with the beginning of another."""
    edges = [0, *starts, len(ids)]
    return tuple(tokenizer.decode(ids[first:stop]) for first, stop in pairwise(edges))
