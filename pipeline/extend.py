"""Extend a finished dataset: more steps at its maximum length, from tokens of its corpus that no step has used.

In:  a dataset, its token store, a number of steps or tokens.   Out: the same dataset with more steps, and a new id.
Guarantee: no shard that is there is written or moved. Until the new manifest takes the place of the old one the dataset
is what it was; killed at any moment, the same command continues. A cursor of the dataset before goes on in this one.

    616 steps, extended by 100      steps 616 .. 715 in a folder of their own; build.extensions: parent and step 616
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from curriculum.errors import BuildError, ConfigError
from curriculum.extension import Extension
from curriculum.manifest import FILE_NAME, Manifest, PhaseEntry, parse_manifest, required_features
from pipeline.build import BuildResult
from pipeline.built_streams import built_stream, own_store, require_same_tokens, training_tokens
from pipeline.corpus_plan import CorpusPlan
from pipeline.cut import CutJob
from pipeline.cut_stage import cut_windows
from pipeline.engines.choice import check_engine, open_workers
from pipeline.files.contract import Files
from pipeline.holdout import HeldOut
from pipeline.layout import LOG_NAME, REQUEST_NAME, WORK_FOLDER, read_object, write_object
from pipeline.longer_plan import Extent, account_longer, longer_fill, longer_mixture, longer_plan
from pipeline.mixed_text import NumberedStream
from pipeline.options import Options
from pipeline.output import finish
from pipeline.progress import Progress
from pipeline.store import ALGORITHM
from pipeline.stream import partition_totals
from pipeline.window_counts import WindowCounts
from pipeline.window_tasks import window_tasks

PARENT_LOG = ".build/parent-log.json"
"""The build log of the dataset before, until the extension is finished: it names the parts of the store."""


def extend(options: Options, extent: Extent, progress: Progress) -> BuildResult:
    """Extend the dataset at `options.out`, or continue an interrupted extension.

    Args:
        options: where the dataset and the store are, and who works; nothing else is looked at.
        extent: how far to go.
        progress: where it is shown.

    Raises:
        PlanError, ConfigError: the request cannot work, or the store is not that of the dataset.
        BuildError: a stage could not finish; running again continues.
    """
    if extent.steps is not None and extent.tokens is not None:
        raise ConfigError("steps and tokens are both given; they contradict each other: give one.")
    check_engine(options)
    root = options.out_files()
    with root.held():
        manifest = _read_manifest(root)
        if _is_finished(root, manifest, extent):
            root.remove(WORK_FOLDER)
            return BuildResult(files=root, manifest=manifest, already_finished=True)
        log = _parent_log(root, manifest)
        store = own_store(root, log) if options.store is None else options.store_files()
        with store.held():
            root.forget_unfinished()
            streams = _streams(root, manifest, log, store)
            job, planned = _job(root, manifest, streams, extent)
            write_object(root, PARENT_LOG, log)
            write_object(root, REQUEST_NAME, {"extends": manifest.id, **extent.to_json()})
            tasks = window_tasks(job, planned, shard_bytes=manifest.build.shard_bytes)
            new = [task for task in tasks if task.window.first_step >= manifest.plan.total_steps]
            with open_workers(replace(options, store=store.where), progress.say, cuts=True) as workers:
                shards, counts = cut_windows(job, new, workers, progress)
            added = PhaseEntry(seq_len=job.plan.max_seq_len, shards=shards[-1])
            longer = _extended(manifest, job, added, counts)
            finish(root, longer, _log_of(log, longer, manifest, extent))
    return BuildResult(files=root, manifest=longer, already_finished=False)


def _read_manifest(root: Files) -> Manifest:
    data = root.read(FILE_NAME)
    if data is None:
        raise BuildError(
            f"{root.where}: there is no finished dataset to extend, it has no {FILE_NAME}. Build it first."
        )
    manifest = parse_manifest(data, root.address(FILE_NAME))
    if manifest.build.algorithm != ALGORITHM:
        raise BuildError(
            f"{root.where}: built by algorithm {manifest.build.algorithm}, this release has {ALGORITHM}, whose rows "
            f"would not continue it. Extend it with the release that built it."
        )
    return manifest


def _is_finished(root: Files, manifest: Manifest, extent: Extent) -> bool:
    """Whether the last thing that happened here is this extension, killed after its manifest was there."""
    parents = [entry.parent for entry in manifest.build.extensions]
    return bool(parents) and read_object(root, REQUEST_NAME) == {"extends": parents[-1], **extent.to_json()}


def _parent_log(root: Files, manifest: Manifest) -> dict[str, Any]:
    for name in (LOG_NAME, PARENT_LOG):
        log = read_object(root, name)
        if log is not None and log.get("id") == manifest.id:
            return log
    raise ConfigError(
        f"{root.where}: its {LOG_NAME} is missing or of another build, and nothing else says which parts of the token "
        f"store it was cut from. Copy it back, or build the dataset anew with more steps."
    )


def _streams(root: Files, manifest: Manifest, log: dict[str, Any], store: Files) -> tuple[NumberedStream, ...]:
    """The streams that the dataset was cut from, checked against its counts."""
    streams = []
    for number, source in enumerate(manifest.sources):
        try:
            spec = built_stream(root, manifest, number, log, store)
            require_same_tokens(int(partition_totals(spec)[1].sum()), manifest, number)
        except ConfigError as error:
            raise ConfigError(
                f"{store.where}: is not the token store of {root.where}: {error} Give the store that it was built with "
                f"as --store, or build the dataset anew with more steps."
            ) from error
        first = source.first_document or 0
        streams.append(NumberedStream(spec=spec, offset=source.offset, first_document=first))
    return tuple(streams)


def _job(
    root: Files, manifest: Manifest, streams: tuple[NumberedStream, ...], extent: Extent
) -> tuple[CutJob, CorpusPlan]:
    """What all windows share once the plan is longer."""
    plan = longer_plan(manifest, extent)
    spec, build = streams[0].spec, manifest.build
    fill, mixture = longer_fill(manifest), longer_mixture(manifest)
    job = CutJob(
        dataset=root,
        plan=plan,
        stream=spec,
        window_tokens=build.window_tokens,
        eos_id=manifest.tokenizer.eos_id,
        fill=fill,
        mixture=mixture,
        streams=streams if mixture else (),
    )
    planned = CorpusPlan(
        plan=plan,
        stream=spec,
        held_out=HeldOut(below=spec.held_out_below, tokens=manifest.accounting.validation_tokens),
        corpus_tokens=training_tokens(manifest, 0),
        document_rows=None,
        fill_by_length=None,
        fill=fill,
        mixed=None,
    )
    return job, planned


def _extended(manifest: Manifest, job: CutJob, added: PhaseEntry, counts: WindowCounts) -> Manifest:
    extension = Extension(parent=manifest.id, first_step=manifest.plan.total_steps)
    build = replace(
        manifest.build,
        fill=job.fill,
        mixture=job.mixture,
        extensions=(*manifest.build.extensions, extension),
    )
    return replace(
        manifest,
        plan=job.plan,
        build=build,
        phases=(*manifest.phases, added),
        accounting=account_longer(manifest, job.plan, counts),
        requires=required_features(job.plan, mixture=job.mixture is not None),
    )


def _log_of(log: dict[str, Any], longer: Manifest, parent: Manifest, extent: Extent) -> dict[str, Any]:
    """The log goes on: a build of the original request must not take the longer dataset for its own."""
    request = dict(log["request"])
    request["extensions"] = [*request.get("extensions", []), {"extends": parent.id, **extent.to_json()}]
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    return {**log, "id": longer.id, "request": request, "finished": finished, "packing": None}
