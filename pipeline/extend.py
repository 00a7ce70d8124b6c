"""Extend a finished dataset: more steps at its maximum length, from tokens that no step has used, or from new text.

In:  a dataset, its token store, a number of steps or tokens; the files of a new source.
Out: the same dataset with more steps, and a new id.
Guarantee: no shard that is there is written or moved. Until the new manifest takes the place of the old one the dataset
is what it was; killed at any moment, the same command continues. A cursor of the dataset before goes on in this one.

    616 steps, extended by 100      steps 616 .. 715 in a folder of their own; build.extensions: parent and step 616
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from curriculum.errors import BuildError, ConfigError
from curriculum.extension import Extension, added_sources
from curriculum.manifest import FILE_NAME, Manifest, PhaseEntry, parse_manifest, required_features
from curriculum.plan import Plan
from pipeline.build import BuildResult
from pipeline.built_streams import own_store, require_store
from pipeline.corpus import find_corpus
from pipeline.cut import CutJob
from pipeline.cut_stage import cut_windows
from pipeline.engines.choice import check_engine, open_workers
from pipeline.engines.fence import wait_for_orphans
from pipeline.engines.workers import Workers
from pipeline.extension_request import Request, extension_request, is_finished, longer_log, source_number
from pipeline.extension_streams import Ready, with_known, with_new_text
from pipeline.files.contract import Files
from pipeline.layout import LOG_NAME, OWN_FOLDERS, read_build_log
from pipeline.longer_plan import Extent, Longer, account_longer, longer_plan, wanted_steps
from pipeline.new_source import TOKENIZER
from pipeline.options import Options
from pipeline.output import begin_extension, finish, settle, tell_what_is_kept
from pipeline.progress import Progress
from pipeline.store import ALGORITHM, claim_store
from pipeline.window_counts import WindowCounts
from pipeline.window_tasks import tasks_of_extension


def extend(options: Options, extent: Extent, progress: Progress, *, sources: tuple[str, ...] = ()) -> BuildResult:
    """Extend the dataset at `options.out`, or continue an interrupted extension.

    Args:
        options: where the dataset and the store are, who works, and a new source: its path and how to read it.
            Nothing else is looked at.
        extent: how far to go.
        progress: where it is shown.
        sources: the name of a source that the dataset has, to go on in it alone; none for those that it was built from.

    Raises:
        PlanError, ConfigError: the request cannot work, or the store is not that of the dataset.
        BuildError: a stage could not finish; running again continues.
    """
    root = options.out_files()
    _read_manifest(root)  # before anything else: to hold a folder is to make it
    corpus = find_corpus(options, progress) if options.source else None
    request = extension_request(options, extent, sources, corpus)
    check_engine(options)
    with root.held():
        root.require_own_folders(OWN_FOLDERS)
        manifest = _read_manifest(root)
        log = _parent_log(root, manifest)
        if is_finished(manifest, log, request):
            # Of an extension that was begun.
            wait_for_orphans(progress.say, out=root, options=options.storage_option)
            settle(root, manifest, log)
            tell_what_is_kept(root, manifest, progress.say)
            return BuildResult(files=root, manifest=manifest, already_finished=True)
        number = source_number(manifest, request)
        wanted_steps(manifest.plan, extent)  # what cannot be extended so is refused before anything is read
        name = "" if number is None or request.is_new else manifest.sources[number].name
        store = own_store(root, log, name) if options.store is None else options.store_files()
        if not request.is_new:
            require_store(store, root, manifest, number)
        tokenizer = root.address(TOKENIZER)
        options = replace(options, store=store.where, tokenizer=tokenizer, bos=manifest.build.bos)
        with store.held(), _workers(options, request, store, progress) as workers:
            root.forget_unfinished()
            if request.corpus is not None:
                ready = with_new_text(root, manifest, log, request.corpus, options, workers, progress)
            else:
                ready = with_known(root, manifest, log, store, number, workers, progress)
            longer = _extend(root, manifest, ready, request, log, workers, progress)
            store.forget_unfinished()  # nothing is written there any more; after `finish` nobody would come back to it
            finish(root, longer, longer_log(log, longer, manifest, request, ready.added, store))
    return BuildResult(files=root, manifest=longer, already_finished=False)


@contextmanager
def _workers(options: Options, request: Request, store: Files, progress: Progress) -> Iterator[Workers]:
    if request.is_new:
        claim_store(store)
    store.forget_unfinished()
    sizes = request.corpus.sizes if request.corpus else ()
    with open_workers(options, progress.say, encodes=request.is_new, cuts=True, files=sizes) as workers:
        yield workers


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


def _parent_log(root: Files, manifest: Manifest) -> dict[str, Any]:
    log = read_build_log(root, manifest.id)
    if log is not None:
        return log
    raise ConfigError(
        f"{root.where}: its {LOG_NAME} is missing or of another build, and nothing else says which parts of the token "
        f"store it was cut from, and what was held out. Copy it back, or build the dataset anew with more steps."
    )


def _extend(
    root: Files,
    manifest: Manifest,
    ready: Ready,
    request: Request,
    log: dict[str, Any],
    workers: Workers,
    progress: Progress,
) -> Manifest:
    """Plan, cut, and describe the longer dataset."""
    longer = ready.longer
    plan = longer_plan(longer, request.extent)
    job = CutJob(
        dataset=root,
        plan=plan,
        stream=ready.streams[0].spec,
        window_tokens=manifest.build.window_tokens,
        eos_id=manifest.tokenizer.eos_id,
        fill=longer.fill,
        mixture=longer.mixture if longer.source is None else None,
        streams=ready.streams,
    )
    begin_extension(root, request.to_json(manifest.id), log, progress.say)
    tasks = tasks_of_extension(
        job,
        first_step=manifest.plan.total_steps,
        used=longer.consumed(manifest.plan)[longer.source or 0],
        shard_bytes=manifest.build.shard_bytes,
    )
    shards, counts = cut_windows(job, tasks, workers, progress)
    added = PhaseEntry(seq_len=plan.max_seq_len, shards=shards[-1])
    return _extended(manifest, longer, plan, added, counts)


def _extended(parent: Manifest, longer: Longer, plan: Plan, added: PhaseEntry, counts: WindowCounts) -> Manifest:
    before, name = longer.manifest, None
    if longer.source is not None and longer.source >= parent.num_built_sources:
        name = before.sources[longer.source].name
    extension = Extension(parent=parent.id, first_step=parent.plan.total_steps, source=name)
    build = replace(
        before.build,
        fill=longer.fill,
        mixture=longer.mixture,
        extensions=(*before.build.extensions, extension),
    )
    sources, num_rows = before.sources, [phase.num_rows for phase in plan.phases]
    if build.mixture is not None:
        shares = [build.mixture.share_of_all(num_rows, number) for number in range(len(sources))]
        sources = tuple(replace(one, weight=share) for one, share in zip(sources, shares, strict=True))
    return replace(
        before,
        plan=plan,
        sources=sources,
        build=build,
        phases=(*before.phases, added),
        accounting=account_longer(longer, plan, counts),
        requires=required_features(
            plan, mixture=build.mixture is not None, added=bool(added_sources(build.extensions))
        ),
    )
