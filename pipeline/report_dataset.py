"""What `verify`, `inspect` and `cat` show people: text for 80 columns.

In:  a report, a summary, rows.   Out: a string, without the last line break.
Guarantee: text that comes from a corpus or a file name reaches the terminal without control characters: an escape
sequence in a web page could otherwise move the cursor, set the title or hide what follows.

    a document "a\\x1b[2Jb"     | a\\x1b[2Jb, nine visible characters
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from curriculum.manifest import Manifest
from curriculum.phase import EXTENSIONS
from curriculum.plan import Plan
from curriculum.printable import printable_text
from pipeline.lineage import extended_by
from pipeline.report_packing import packing_lines
from pipeline.report_sources import source_lines
from pipeline.rows import CatRow
from pipeline.summary import Summary
from pipeline.verify import VerifyReport

COLUMNS = 80
LABEL_COLUMNS = 9
"""So that an id, 71 characters, fits on a line."""
SHOWN_PHASES = 16
"""More phases than that are shortened to the first and last eight."""
SHOWN_NUMBERS = 12
MANY_ROWS = 128
"""Rows of a batch from which on the normal law describes how many of them repeat a document."""


def verify_report(report: VerifyReport) -> str:
    """A dataset that passed, and what is worth knowing about it."""
    manifest, plan = report.manifest, report.manifest.plan
    checked = "sizes and footers fit (--quick read no tokens)" if report.quick else "every byte was checked"
    held_out = f", {manifest.validation.num_rows:,} validation rows" if manifest.validation else ""
    rows, trained = sum(phase.num_rows for phase in manifest.phases), manifest.accounting.trained_tokens
    lines = [
        *_fact("dataset", f"{report.path}: {checked}"),
        *_fact("id", report.id),
        *_fact("shards", f"{report.num_shards:,} shards, {_size(report.num_bytes)}"),
        *_fact("rows", f"{plan.total_steps:,} steps, {rows:,} rows, {trained:,} trained tokens{held_out}"),
    ]
    if not report.quick:
        windows = "1 window" if report.num_windows == 1 else f"{report.num_windows:,} windows"
        lines += _fact("stream", f"{_tiling(manifest)}, {windows}")
    counts = report.documents
    if counts is not None:
        # In a few rows one repeat is many deviations of a tiny, skewed number: that would only alarm.
        sigmas = f", {counts.worst_sigmas:+.1f} standard deviations" if counts.worst_rows >= MANY_ROWS else ""
        lines += _fact(
            "batches",
            f"{counts.distinct / counts.num_steps:,.1f} distinct documents per warmup batch on average, random rows "
            f"have {counts.expected / counts.num_steps:,.1f} (ratio {counts.ratio:.3f}); at least {counts.least:,}; "
            f"worst is step {counts.worst_step:,} with {counts.worst_distinct:,} of {counts.worst_rows:,} rows{sigmas}",
        )
    for note in report.notes:
        lines += _fact("note", note)
    return "\n".join(lines)


def _tiling(manifest: Manifest) -> str:
    if not manifest.packed:
        return f"the rows tile {manifest.plan.consumed_tokens:,} tokens of the stream"
    return "; ".join(["no token is a target twice", *packing_lines(manifest, None)])


def summary_report(summary: Summary) -> str:
    """A dataset at a glance."""
    manifest, plan = summary.manifest, summary.manifest.plan
    tokenizer, trained = manifest.tokenizer, manifest.accounting.trained_tokens
    bos = "" if tokenizer.bos_id is None else f", BOS {tokenizer.bos_id} before each document"
    missing = f", {summary.missing_shards:,} of them missing" if summary.missing_shards else ""
    lines = [
        *_fact("dataset", summary.path),
        *_fact("id", manifest.id),
        *_fact("plan", f"{plan.total_steps:,} steps, {trained:,} trained tokens, mode {plan.mode}"),
        *_fact("shapes", f"{plan.num_shapes:,}, up to {plan.max_seq_len:,} tokens per row"),
        *_fact("schedule", _schedule(plan)),
        *_fact("ranks", f"world sizes that divide every step: {_numbers(plan.world_sizes)}"),
        *_fact(
            "tokens",
            f"{manifest.dtype}, {tokenizer.vocab_size:,} entries, EOS {tokenizer.eos_id}{bos}; seed {manifest.seed}",
        ),
        *_fact(
            "disk",
            f"{_size(summary.bytes_on_disk)} in all, {summary.num_shards:,} shards{missing}, "
            f"{summary.bytes_per_token:.2f} bytes per trained token",
        ),
    ]
    if tokenizer.hub is not None:
        lines += _fact("hub", f"tokenizer hf:{tokenizer.hub.name}@{tokenizer.hub.revision}")
    for label, said in manifest.about.to_json().items():
        lines += _fact(label, said if isinstance(said, str) else ", ".join(said))
    for source in manifest.sources:
        lines += _fact("source", f"{source.name}: {source.documents:,} documents, {source.tokens:,} tokens")
    for steps, parent in extended_by(manifest):
        lines += _fact("extended", f"by {steps}, from {parent}")
    for line in packing_lines(manifest, (summary.build or {}).get("packing")):
        lines += _fact("packing", line)
    lines += [*_build_lines(summary.build), "", *_accounting_table(summary), "", *_phase_table(summary)]
    if summary.use is not None:
        lines += ["", *map(printable_text, source_lines(summary.use))]
    return "\n".join(lines)


def _schedule(plan: Plan) -> str:
    """Extensions have lines of their own."""
    return ", ".join(f"{key} {value}" for key, value in plan.schedule.items() if key != EXTENSIONS)


def cat_report(rows: Sequence[CatRow]) -> str:
    """Rows as text, a rule of dots where one document ends and the next begins."""
    return "\n".join(line for row in rows for line in _cat_lines(row)).rstrip("\n")


def _cat_lines(row: CatRow) -> Iterator[str]:
    yield (
        f"step {row.step:,} row {row.row_of_step:,}   phase {row.phase:,} row {row.row:,}   "
        f"{row.seq_len:,} tokens at {row.offset:,} of the stream"
    )
    of_source = f" of source {row.source}" if row.source else ""
    if row.file is None:
        yield f"  document {row.document:,}{of_source}"
    else:
        yield from textwrap.wrap(
            f"document {row.document:,}{of_source} from {printable_text(row.file)}, position {row.position:,}",
            COLUMNS,
            initial_indent="  ",
            subsequent_indent="    ",
        )
    for number, text in enumerate(row.texts):
        if number:
            label = f" document {row.documents[number]:,} from {row.doc_starts[number - 1]:,} on "
            yield f"  {label:.^{COLUMNS - 2}}"
        for line in text.split("\n"):
            yield from _folded(printable_text(line))
    if padding := row.seq_len + 1 - row.num_tokens:
        yield f"  {f' {padding:,} tokens of padding ':.^{COLUMNS - 2}}"
    yield ""


def _folded(line: str) -> Iterator[str]:
    """Pieces of a line that fit; unlike textwrap it drops no space, since spaces are tokens too."""
    width = COLUMNS - 4
    for start in range(0, max(len(line), 1), width):
        yield f"  | {line[start : start + width]}"


def _fact(label: str, value: str) -> list[str]:
    indent = " " * LABEL_COLUMNS
    lines = textwrap.wrap(
        printable_text(value), COLUMNS, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ) or [indent]
    return [f"{label:<{LABEL_COLUMNS}}{lines[0][LABEL_COLUMNS:]}".rstrip(), *lines[1:]]


def _build_lines(build: dict[str, Any] | None) -> Iterator[str]:
    if build is None:
        return
    facts = [f"{name} {build[key]}" for name, key in (("finished", "finished"), ("with", "backend")) if key in build]
    if isinstance(build.get("mb_per_second"), int | float):
        facts.append(f"{build['mb_per_second']:,} MB/s")
    yield from _fact("build", ", ".join(facts))
    for name in ("corpus", "store"):
        if name in build:
            yield from _fact(name, str(build[name]))


def _accounting_table(summary: Summary) -> Iterator[str]:
    accounting = summary.manifest.accounting
    for name, percent in summary.percentages.items():
        yield f"{name.replace('_', ' '):<20}{getattr(accounting, name):>24,}{percent:>10.2f} %"
    for name in ("documents", "empty_documents", "skipped_records"):
        yield f"{name.replace('_', ' '):<20}{getattr(accounting, name):>24,}"


def _phase_table(summary: Summary) -> Iterator[str]:
    plan, entries = summary.manifest.plan, summary.manifest.phases
    yield f"{'phase':>7}{'length':>10}{'rows/step':>12}{'steps':>13}{'tokens':>20}{'shards':>10}"
    half = SHOWN_PHASES // 2
    hidden = len(plan.phases) - SHOWN_PHASES
    for index, (phase, entry) in enumerate(zip(plan.phases, entries, strict=True)):
        if hidden > 0 and half <= index < half + hidden:
            if index == half:
                yield f"{'...':>7}{f'{hidden:,} more, in --json':>32}"
            continue
        yield (
            f"{index:>7,}{phase.seq_len:>10,}{phase.rows_per_step:>12,}{phase.num_steps:>13,}"
            f"{phase.num_tokens:>20,}{len(entry.shards):>10,}"
        )


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(f"{number:,}" for number in islice(numbers, SHOWN_NUMBERS))
    more = f" and {len(numbers) - SHOWN_NUMBERS:,} more" if len(numbers) > SHOWN_NUMBERS else ""
    return f"{shown}{more}"


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes} bytes"
