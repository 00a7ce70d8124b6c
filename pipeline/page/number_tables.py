"""Numbers of a page as tables: for who wants them exactly, or does not see the pictures.

In:  a manifest.   Out: `Table`s of numbers and short texts.
Guarantee: every number is the manifest's own; rows have keys by which programs find them on the page.

    accounting_table(manifest).rows[1]      ("trained: a target of some row", 640, "64.0 %")
"""

from __future__ import annotations

from dataclasses import dataclass

from curriculum.accounting import NO_SHARE
from curriculum.manifest import Manifest
from pipeline.page.draw_flow import percent_of

MOST_PHASES = 256
"""Of a table; of more, the first and the last half of that many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Numbers of a figure."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int | str, ...], ...]
    keys: tuple[str, ...] = ()
    """one for each row, for programs; () if they have none"""
    note: str = ""


def accounting_table(manifest: Manifest) -> Table:
    """Where every token went."""
    counts = manifest.accounting.to_json()
    tokens = {name: count for name, count in counts.items() if name.endswith("_tokens")}
    rows = [
        (ACCOUNTING[name], count, "" if name in NO_SHARE else percent_of(count, counts["corpus_tokens"]))
        for name, count in tokens.items()
    ]
    others = {name: count for name, count in counts.items() if name not in tokens}
    rows += [(ACCOUNTING[name], count, "") for name, count in others.items()]
    return Table(columns=("what", "number", "of the corpus"), rows=tuple(rows), keys=(*tokens, *others))


ACCOUNTING = {
    "corpus_tokens": "corpus: every token of every document, end marks included",
    "trained_tokens": "trained: a target of some row",
    "truncated_tokens": "cut off: behind the end of a row, or found no place in one",
    "validation_tokens": "validation: documents that are held out",
    "unused_tokens": "unused: no step needs them",
    "repeated_tokens": "read again: in further epochs, counted under trained too",
    "context_tokens": "only ever an input: the first token of a stream or document",
    "padding_tokens": "padding: places in rows without a target, no text",
    "documents": "documents",
    "empty_documents": "documents without a token",
    "skipped_records": "records that could not be read and were skipped, as asked",
}


def source_table(manifest: Manifest) -> Table:
    """The sources, as they are in the manifest."""
    rows = [
        (one.name, one.documents, one.tokens, one.validation_tokens or 0, percent_of_rows(one.weight))
        for one in manifest.sources
    ]
    columns = ("source", "documents", "tokens", "held out", "share of rows")
    return Table(columns=columns, rows=tuple(rows), keys=tuple(f"source-{k}" for k in range(len(rows))))


def percent_of_rows(weight: float) -> str:
    """A weight as a percentage."""
    return f"{100 * weight:.2f} %"


def phase_table(manifest: Manifest) -> Table:
    """Every phase, or the first and the last of very many."""
    plan = manifest.plan
    rows = [
        (number, phase.seq_len, phase.rows_per_step, phase.num_steps, phase.num_tokens, len(entry.shards))
        for number, (phase, entry) in enumerate(zip(plan.phases, manifest.phases, strict=True))
    ]
    keys = tuple(f"phase-{number}" for number in range(len(rows)))
    what = "slots" if manifest.packed else "trained tokens"
    columns = ("phase", "tokens in a row", "rows in a step", "steps", what, "shards")
    note, half = "", MOST_PHASES // 2
    if len(rows) > MOST_PHASES:
        note = f"{len(rows) - MOST_PHASES:,} phases in the middle are left out: `curriculum inspect --json` has all."
        rows, keys = rows[:half] + rows[-half:], keys[:half] + keys[-half:]
    return Table(columns=columns, rows=tuple(rows), keys=keys, note=note)
