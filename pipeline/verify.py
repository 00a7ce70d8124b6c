"""Verify a dataset: recompute from disk everything that its manifest claims.

In:  the folder of a dataset.   Out: `VerifyReport`, or a `DataError` that names the first bad shard.
Guarantee: the outcome is the same for any number of workers. Files that are missing or have another size are named
before any byte is hashed; then the first bad shard in the order of the manifest. Memory is that of a window per worker.

Proven: digests; schema; ids; document starts against EOS; shards against plan and window arithmetic; each row at the
place where the seed deals it; that the rows tile the stream; accounting. Not proven: that the stream is the corpus,
which only the fingerprint of the sources names; what `claims` lists is said in notes. What differs where rows are
packed is in `packed_proof`.

    verify_dataset(Path("my-dataset"), quick=False, workers=2, progress=Silent()).documents.ratio     0.998
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME, Manifest, load_manifest
from pipeline.claims import claims
from pipeline.diversity import DocumentCounts, diversity_notes, merge_counts
from pipeline.engines.local import local_workers
from pipeline.files.address import dataset_files
from pipeline.layout import extension_begun
from pipeline.manifest_checks import (
    WindowShards,
    all_shards,
    check_accounting,
    check_document_order,
    check_tokenizer,
    extra_files,
    validation_shards,
    window_shards,
)
from pipeline.mixed_checks import compare_sources
from pipeline.packed_proof import Stretch, check_left_out, prove_spans, stream_faults
from pipeline.progress import Progress
from pipeline.shard_checks import REPAIR, ShardPlace, TokenRules, open_place
from pipeline.tiling import Fault
from pipeline.window_checks import VALIDATION, WindowFindings, absolute, check_window

MAX_NAMED = 3
"""Further bad shards that a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """A dataset that passed."""

    path: str
    id: str
    quick: bool
    """only sizes, footers, schemas and row counts were checked"""
    num_shards: int
    num_bytes: int
    num_windows: int
    manifest: Manifest
    documents: DocumentCounts | None
    """distinct documents per warmup batch; None with `quick`, or without a warmup"""
    extra_files: tuple[str, ...]
    """files under phases/ and validation/ that the manifest does not name"""
    notes: tuple[str, ...]
    """sentences about what is no fault of the bytes"""

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        plan, held_out = self.manifest.plan, self.manifest.validation
        return {
            "dataset": self.path,
            "id": self.id,
            "ok": True,
            "quick": self.quick,
            "shards": self.num_shards,
            "bytes": self.num_bytes,
            "windows": self.num_windows,
            "steps": plan.total_steps,
            "rows": sum(phase.num_rows for phase in self.manifest.phases),
            "validation_rows": held_out.num_rows if held_out else 0,
            "trained_tokens": self.manifest.accounting.trained_tokens,
            "accounting": self.manifest.accounting.to_json(),
            "documents_per_batch": self.documents.to_json() if self.documents else None,
            "extra_files": list(self.extra_files),
            "notes": list(self.notes),
        }


def verify_dataset(root: Path, *, quick: bool, workers: int, progress: Progress) -> VerifyReport:
    """Check a dataset against its manifest.

    Args:
        root: folder of the dataset.
        quick: sizes, footers, schemas and row counts only; reads no tokens.
        workers: processes that check windows.
        progress: where bytes checked are reported to.

    Raises:
        DataError: the first thing that is wrong, what was expected and found, and how to repair it.
    """
    manifest = load_manifest(root)
    places = tuple(all_shards(manifest))
    _check_files(root, places)
    counts, windows = None, window_shards(manifest, root)
    if not quick:
        validation_shards(manifest, root)
        check_accounting(manifest, root)
        check_document_order(manifest, root)
        rules = check_tokenizer(manifest, root)
        findings = _check_windows(root, manifest, windows, rules, workers, progress)
        _raise_first([fault for found in findings for fault in found.faults])
        _raise_first(_compare_windows(root, manifest, findings))
        if manifest.packed:
            _check_packed(root, manifest, windows, findings, rules, workers)
        counts = merge_counts([found.counts for found in findings])
    extra = extra_files(manifest, root)
    return VerifyReport(
        path=str(root),
        id=manifest.id,
        quick=quick,
        num_shards=len(places),
        num_bytes=sum(place.entry.num_bytes for place in places),
        num_windows=len(windows),
        manifest=manifest,
        documents=counts,
        extra_files=extra,
        notes=(
            *_extra_notes(extra, extension_begun(dataset_files(root), manifest.id)),
            *claims(root, manifest),
            *diversity_notes(counts),
        ),
    )


def _check_files(root: Path, places: Sequence[ShardPlace]) -> None:
    """Presence, size, footer, schema and row count of every shard, in order."""
    for place in places:
        path = root / place.entry.path
        try:
            if not path.exists():
                raise DataError(_missing(root, place, places))
            open_place(root, place)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}. {REPAIR}") from error


def _missing(root: Path, first: ShardPlace, places: Sequence[ShardPlace]) -> str:
    count = sum(not (root / place.entry.path).exists() for place in places)
    others = "" if count == 1 else f" (the first of {count:,} missing ones)"
    return (
        f"{root / first.entry.path}: the shard is missing{others}, the manifest names {len(places):,}. If the dataset "
        f"was pulled in part, pull the rest before verifying it. {REPAIR}"
    )


def _check_windows(
    root: Path,
    manifest: Manifest,
    windows: Sequence[WindowShards],
    rules: TokenRules,
    workers: int,
    progress: Progress,
) -> list[WindowFindings]:
    """Findings of every window in order, then of the held-out rows."""
    sizes = [sum(place.entry.num_bytes for place in task.places) for task in windows]
    indices = list(range(len(windows)))
    if manifest.validation:
        sizes.append(sum(shard.num_bytes for shard in manifest.validation.shards))
        indices.append(VALIDATION)
    found: dict[int, WindowFindings] = {}
    with (
        local_workers(workers) as pool,
        progress.stage("verify", total=sum(sizes), unit="B") as advance,
    ):
        shared = (str(root), manifest.id, rules)
        for number, findings in pool.run(check_window, shared, [(index,) for index in indices]):
            found[number] = findings
            advance(sizes[number])
    return [found[number] for number in range(len(indices))]


def _compare_windows(root: Path, manifest: Manifest, findings: Sequence[WindowFindings]) -> list[Fault]:
    """Faults at the borders of neighbouring windows of a source."""
    found = compare_sources(manifest, [window.source_ends for window in findings])
    return [absolute(str(root), fault) for fault in found]


def _check_packed(
    root: Path,
    manifest: Manifest,
    windows: Sequence[WindowShards],
    findings: Sequence[WindowFindings],
    rules: TokenRules,
    workers: int,
) -> None:
    """What no window can say alone: that pieces fit together everywhere, and what all of them leave out."""
    streams: list[list[Stretch]] = [[] for _ in manifest.sources]
    for window, found in zip(windows, findings, strict=False):  # held-out rows come last and are not packed
        if found.stretch is not None:
            streams[window.lone or 0].append(found.stretch)
    if manifest.plan.mode == "document":
        spans = [span for found in findings for span in found.spans]
        streams = [prove_spans(root, manifest, spans, rules, workers)]
    _raise_first([absolute(str(root), fault) for fault in stream_faults(manifest, streams, rules)])
    check_left_out(root, manifest, streams, rules)
    padding, claimed = sum(found.padding_tokens for found in findings), manifest.accounting.padding_tokens
    if padding != claimed:
        raise DataError(
            f"{root / FILE_NAME}: accounting: padding_tokens is {claimed}, the shards have {padding} places without a "
            f"target. {REPAIR}"
        )


def _raise_first(faults: Sequence[Fault]) -> None:
    if not faults:
        return
    first, *others = sorted(faults, key=lambda fault: fault.rank)
    further = ""
    if others:
        names = ", ".join(fault.path for fault in others[:MAX_NAMED])
        rest = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        further = f" Bad shards besides: {names}{rest}."
    raise DataError(f"{first.sentence}{further}")


def _extra_notes(extra: Sequence[str], extension_begun: bool) -> tuple[str, ...]:
    if not extra:
        return ()
    if extension_begun:
        return (
            f"{len(extra)} files beside the shards, the first is {extra[0]!r}, belong to an extension that is not "
            f"finished: the command that began it continues it.",
        )
    return (
        f"{len(extra)} files beside the shards are not named by the manifest, the first is {extra[0]!r}. The reader "
        f"ignores them, but load_dataset takes every .arrow file of a folder: remove them.",
    )
