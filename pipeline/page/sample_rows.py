"""Rows of a dataset, decoded, to look at: a few of its first, middle and last phase.

In:  a reader, the place of its tokenizer, how many rows of a phase.
Out: `SampleStep`s of `SampleRow`s; sentences about what could not be shown.
Guarantee: bounded: rows of three steps. The first rows of a step, and the first that has a border between documents if
none of those has. A phase that is not here (a dataset pulled in part) gives way to the nearest that is. A
tokenizer.json that is not the one of the manifest decodes nothing.

    phase 0 of 8 tokens, document 17 from position 5 on     ● 16 "lo\\n" EOS   ▲ 17 "he quic"
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curriculum.batch import Batch
from curriculum.errors import CurriculumError
from curriculum.plan import Plan
from curriculum.reader import Reader
from pipeline.files.contract import Files
from pipeline.foreign_tokenizer import ForeignTokenizer, open_tokenizer
from pipeline.page.sample_documents import SampleDocument, documents_in
from pipeline.rows import documents_of, source_name

MOST_DOCUMENTS = 12
"""Of a row that are shown."""
SHORT_ROW = 64
"""Of rows below this, three times as many are shown: one alone says nothing."""
MOST_TRIES = 32
"""Phases that are tried where one is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRow:
    """A row."""

    row_of_step: int
    offset: int
    source: str | None
    documents: tuple[SampleDocument, ...]
    documents_left_out: int
    padding: int
    """tokens behind the documents"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleStep:
    """Some rows of a step."""

    step: int
    phase: int
    seq_len: int
    num_rows: int
    """that the step has"""
    rows: tuple[SampleRow, ...]

    @property
    def is_short(self) -> bool:
        """Several rows have room side by side."""
        return self.seq_len < SHORT_ROW


def sample_steps(reader: Reader, files: Files, num_rows: int) -> tuple[list[SampleStep], list[str]]:
    """Rows of the first, the middle and the last phase, and notes."""
    if not num_rows:
        return [], []
    try:
        tokenizer = open_tokenizer(files, reader.manifest)
    except (CurriculumError, OSError) as error:
        return [], [f"No rows are shown: {error}"]
    count, first_steps = len(reader.plan.phases), _first_steps(reader.plan)
    shown: dict[int, SampleStep] = {}
    notes = []
    for wanted in dict.fromkeys((0, count // 2, count - 1)):
        batch = _nearest(reader, first_steps, wanted)
        if batch is None:
            notes.append(
                f"No rows of phase {wanted} are shown: neither its shards nor those of its neighbours are here."
            )
        elif batch.phase not in shown:
            shown[batch.phase] = SampleStep(
                step=batch.step,
                phase=batch.phase,
                seq_len=batch.seq_len,
                num_rows=len(batch.tokens),
                rows=tuple(_row(reader, tokenizer, batch, index) for index in chosen_rows(batch, num_rows)),
            )
    return list(shown.values()), notes


def chosen_rows(batch: Batch, num_rows: int) -> list[int]:
    """The first ones; the last of them gives way to the first row with a border if none of them has one."""
    most = num_rows * (3 if batch.seq_len < SHORT_ROW else 1)
    chosen = list(range(min(most, len(batch.tokens))))
    _, edges = batch.doc_starts
    with_border = np.flatnonzero(np.diff(edges))
    if len(with_border) and with_border[0] > chosen[-1] and len(chosen) > 1:
        chosen[-1] = int(with_border[0])
    return chosen


def _first_steps(plan: Plan) -> dict[int, int]:
    """The first step of every phase."""
    first_steps: dict[int, int] = {}
    step = 0
    for phase, num_steps in plan.order:
        first_steps.setdefault(phase, step)
        step += num_steps
    return first_steps


def _nearest(reader: Reader, first_steps: dict[int, int], wanted: int) -> Batch | None:
    """The first step of a phase, or of the nearest one that is here."""
    for phase in sorted(first_steps, key=lambda number: (abs(number - wanted), number))[:MOST_TRIES]:
        try:
            return reader[first_steps[phase]]
        except CurriculumError:
            continue
    return None


def _row(reader: Reader, tokenizer: ForeignTokenizer, batch: Batch, index: int) -> SampleRow:
    positions, edges = batch.doc_starts
    starts = positions[edges[index] : edges[index + 1]].tolist()
    width = batch.seq_len + 1
    num_tokens = width if batch.num_tokens is None else int(batch.num_tokens[index])
    offset = int(batch.offset[index])
    numbers = documents_of(batch, index, len(starts))
    spans = [batch.tokens[index][first:stop].tolist() for first, stop in pairwise([0, *starts, num_tokens])]
    shown = list(zip(numbers, spans, strict=True))[:MOST_DOCUMENTS]
    return SampleRow(
        row_of_step=index,
        offset=offset,
        source=source_name(reader.manifest, offset),
        documents=documents_in(tokenizer, shown, reader.manifest.tokenizer.eos_id),
        documents_left_out=len(numbers) - len(shown),
        padding=width - num_tokens,
    )
