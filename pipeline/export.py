"""Export a dataset for trainers that read nothing of ours: `curriculum export`.

In:  a dataset (folder or address), a folder, a format, and which phases or steps.   Out: `ExportReport`.
Guarantee: the same request gives the same bytes, however many workers there are and however often it was killed; every
shard is compared with its sha256 before a row of it is written; a task holds a few blocks of rows in memory. Nothing is
at its final place before all of it is complete.

    export_dataset("my-dataset", "my-parquet", Export(to="parquet"), workers=2, progress=Terminal())
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError, DataError
from curriculum.manifest import Manifest
from curriculum.storage import HELD_OUT, LocalStorage
from pipeline.engines.local import local_workers
from pipeline.export_folder import files_below, prepare, publish, read_object, refuse_place
from pipeline.export_missing import refuse_missing
from pipeline.export_part import Source, export_part, open_dataset, record_path
from pipeline.exporters import exporter
from pipeline.exporters.contract import Target, Written, targets_of
from pipeline.exporters.description import README_NAME, Request, describe, readme, to_bytes
from pipeline.exporters.selection import Selection, same_ranges, select_rows
from pipeline.exporters.work_folder import WorkFolder
from pipeline.files.address import dataset_files
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.lock import locked
from pipeline.progress import Progress

WRITER = 2
"""Raised when the bytes of an export change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What is asked for."""

    to: str
    """one of `pipeline.exporters.FORMATS`"""
    phases: str | None = None
    steps: str | None = None
    validation: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What is in the folder, or would be."""

    out: str
    request: Request
    num_phases: int
    num_steps: int
    num_rows: int
    num_tokens: int
    """inputs, padding included"""
    held_out_rows: int
    num_files: int | None
    """None of a dry run, as the next"""
    num_bytes: int | None
    seconds: float
    was_there: bool
    """the same export was finished before"""

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "export": self.out,
            **self.request,
            "num_phases": self.num_phases,
            "num_steps": self.num_steps,
            "num_rows": self.num_rows,
            "num_tokens": self.num_tokens,
            "validation_rows": self.held_out_rows,
            "num_files": self.num_files,
            "num_bytes": self.num_bytes,
            "seconds": round(self.seconds, 3),
            "was_there": self.was_there,
        }


def export_dataset(
    dataset: str,
    out: str,
    asked: Export,
    *,
    workers: int,
    progress: Progress,
    overwrite: bool = False,
    dry_run: bool = False,
    options: StorageOptions = NO_OPTIONS,
) -> ExportReport:
    """Export, or continue an export that was interrupted.

    Args:
        dataset: folder or address.
        out: folder.
        overwrite: replace another export.
        dry_run: only say what would be exported.
        options: of the client of the store, where the dataset is in one.

    Raises:
        ConfigError: the dataset cannot be exported so, or there are no such phases or steps.
        DataError: the dataset is damaged, or was pulled without what is asked for.
        BuildError: the folder holds something else, or cannot be written.
    """
    began = time.monotonic()
    refuse_place(out, dataset)
    storage = open_dataset(dataset, options)
    manifest = storage.manifest
    refusal = exporter(asked.to).refusal(manifest)
    if refusal is not None:
        raise ConfigError(f"{dataset}: cannot be exported as {asked.to}: {refusal}")
    selection = select_rows(manifest, phases=asked.phases, steps=asked.steps, validation=asked.validation)
    if isinstance(storage, LocalStorage):
        refuse_missing(storage.root, manifest, selection)
    job = _Job(
        source=Source(dataset=dataset, options=options, dataset_id=manifest.id),
        work=WorkFolder(out=out),
        request=_request(manifest, asked),
        manifest=manifest,
        selection=selection,
        targets=targets_of(manifest, selection),
    )
    if dry_run:
        return _report(job, None, began=began)
    with locked(Path(out), "folder"):
        names = [target.name for target in job.targets.values()]
        before = prepare(job.work, job.request, names, overwrite=overwrite)
        if before is not None:
            return _report(job, before, began=began, was_there=True)
        _write(job, workers, progress)
        return _report(job, _finish(job), began=began)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What an export is made of."""

    source: Source
    work: WorkFolder
    request: Request
    manifest: Manifest
    selection: Selection
    targets: dict[int, Target]


def _request(manifest: Manifest, asked: Export) -> Request:
    """What the bytes of the export depend on."""
    plan = manifest.plan
    return {
        "dataset": manifest.id,
        "to": asked.to,
        "phases": None if asked.phases is None else same_ranges(asked.phases, len(plan.phases), "phases"),
        "steps": None if asked.steps is None else same_ranges(asked.steps, plan.total_steps, "steps"),
        "validation": asked.validation and manifest.validation is not None,
        "writer": WRITER,
    }


def _write(job: _Job, workers: int, progress: Progress) -> None:
    """Every part that no earlier run has written; then what can be written only after all of them."""
    format_, work, targets = exporter(job.request["to"]), job.work, job.targets
    left = [
        target for target in targets.values() if not (Path(work.out) / target.name).exists()
    ]  # nothing was moved yet
    for target in left:
        format_.begin(work, target)
    parts = [part for of_phase in job.selection.parts.values() for part in of_phase]
    records = [read_object(record_path(work, number)) for number in range(len(parts))]
    missing = [number for number, record in enumerate(records) if record is None]
    sizes = [part.num_rows * targets[part.phase].row_tokens * job.manifest.itemsize for part in parts]
    tasks = [(targets[parts[number].phase], parts[number], number) for number in missing]
    with local_workers(workers) as pool, progress.stage("export", total=sum(sizes), unit="B") as advance:
        advance(sum(sizes) - sum(sizes[number] for number in missing))
        for task, said in pool.run(export_part, (job.source, work, job.request["to"]), tasks):
            records[missing[task]] = said
            advance(sizes[missing[task]])
    written: dict[int, list[Written]] = {phase: [] for phase in targets}
    for part, record in zip(parts, records, strict=True):
        assert record is not None
        written[part.phase].append(record)
    for target in left:
        format_.end(work, target, written[target.phase])


def _finish(job: _Job) -> list[tuple[str, int]]:
    """The files beside the rows; then all of them to their final places. Returns the files of the rows."""
    source, work, manifest = job.source, job.work, job.manifest
    tokenizer = dataset_files(source.dataset, source.options).read("tokenizer.json")
    if tokenizer is None or hashlib.sha256(tokenizer).hexdigest() != manifest.tokenizer.sha256:
        where = f"{source.dataset.rstrip('/')}/tokenizer.json"
        raise DataError(f"{where}: missing, or not the one that the manifest names. Copy it again.")
    with work.write("tokenizer.json") as file:
        file.write(tokenizer)
    with work.write(README_NAME) as file:
        file.write(readme(manifest, job.request, list(job.targets.values()), job.selection).encode())
    files = {}
    for target in job.targets.values():
        place = work.tree if (work.tree / target.name).exists() else Path(work.out)
        files[target.name] = files_below(place, target.name)
    publish(work, to_bytes(describe(manifest, job.selection, job.targets, job.request, files)))
    return [file for of_target in files.values() for file in of_target]


def _report(job: _Job, files: list[tuple[str, int]] | None, *, began: float, was_there: bool = False) -> ExportReport:
    """`files`: None of a dry run."""
    targets = job.targets
    phases = [target for target in targets.values() if target.phase != HELD_OUT]
    return ExportReport(
        out=job.work.out,
        request=job.request,
        num_phases=len(phases),
        num_steps=job.selection.num_steps,
        num_rows=sum(target.num_rows for target in phases),
        num_tokens=sum(target.num_rows * target.seq_len for target in phases),
        held_out_rows=targets[HELD_OUT].num_rows if HELD_OUT in targets else 0,
        num_files=None if files is None else len(files),
        num_bytes=None if files is None else sum(num_bytes for _, num_bytes in files),
        seconds=time.monotonic() - began,
        was_there=was_there,
    )
