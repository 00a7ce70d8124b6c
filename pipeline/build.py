"""Build a dataset: the only module that knows all stages.

In:  options.   Out: a finished dataset, its manifest written last.
Guarantee: the same inputs, options and seed give the same bytes for any number of workers, any division into units and
either tokenizer backend. Killed at any moment, the same command continues and ends in the same bytes.

    corpus -> token store (-> fewer, larger parts) -> plan -> windows -> shards -> manifest
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curriculum.errors import PlanError
from curriculum.manifest import (
    BuildEntry,
    Manifest,
    PhaseEntry,
    SourceEntry,
    TokenizerEntry,
    required_features,
)
from curriculum.plan import Plan
from pipeline.accounting import account
from pipeline.build_identity import build_identity
from pipeline.build_log import BuildLog
from pipeline.corpus import Corpus, find_corpus
from pipeline.corpus_plan import CorpusPlan, StoredCorpus, StoredSource, plan_corpus
from pipeline.cut import CutJob
from pipeline.cut_stage import cut_windows
from pipeline.cut_validation import cut_validation
from pipeline.engines.choice import check_engine, open_workers
from pipeline.engines.fence import wait_for_orphans
from pipeline.engines.workers import Workers
from pipeline.files.contract import Files
from pipeline.holdout import HeldOut
from pipeline.hub.names import is_hub_name
from pipeline.layout import OWN_FOLDERS, read_build_log, write_bytes
from pipeline.merge import merge_parts
from pipeline.options import Options
from pipeline.output import finish, prepare, tell_what_is_kept
from pipeline.progress import Progress
from pipeline.requested_plan import check_requested
from pipeline.source_use import use_of
from pipeline.store import ALGORITHM, claim_store, remove_store
from pipeline.stored_documents import PartFiles
from pipeline.tokenize_stage import tokenize_corpus
from pipeline.tokenized_corpus import TokenizedCorpus
from pipeline.tokenizer import named_tokenizer
from pipeline.window_counts import WindowCounts
from pipeline.window_tasks import window_tasks
from pipeline.windows import window_size


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """A finished dataset."""

    files: Files
    manifest: Manifest
    already_finished: bool

    @property
    def path(self) -> Path:
        """The folder, of a dataset on a disk."""
        return Path(self.files.where)

    @property
    def packing(self) -> dict[str, Any] | None:
        """Ratios of padding, truncation and concatenation; None where rows are not packed, or the log is gone."""
        log = read_build_log(self.files, self.manifest.id) or {}
        packing: dict[str, Any] | None = log.get("packing")
        return packing

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        plan, use = self.manifest.plan, use_of(self.manifest)
        return {
            "dataset": self.files.where,
            "id": self.manifest.id,
            "already_finished": self.already_finished,
            "extensions": [entry.to_json() for entry in self.manifest.build.extensions],
            "total_steps": plan.total_steps,
            "total_tokens": plan.total_tokens,
            "accounting": self.manifest.accounting.to_json(),
            "packing": self.packing,
            "sources": [source.to_json() for source in self.manifest.sources],
            "mixture": None if use is None else use.to_json(),
        }


def build(options: Options, progress: Progress) -> BuildResult:
    """Build the dataset that the options ask for, or continue an interrupted build of it.

    Raises:
        PlanError, ConfigError: the request cannot work.
        BuildError: a stage could not finish; running again continues.
    """
    check_requested(options)
    check_engine(options)
    options = _with_commit(options)
    corpus = find_corpus(options, progress)
    request = _request(options, corpus)
    root, store = options.out_files(), options.store_files()
    log = BuildLog(request)
    with root.held(), store.held():
        root.require_own_folders(OWN_FOLDERS)
        claim_store(store)
        # Before anything of theirs is removed.
        wait_for_orphans(progress.say, store=store, out=root, options=options.storage_option)
        finished = prepare(root, request, overwrite=options.overwrite)
        root.forget_unfinished()
        store.forget_unfinished()
        if finished is None:
            with open_workers(options, progress.say, encodes=True, cuts=True, files=corpus.sizes) as workers:
                manifest = _build(options, corpus, workers, progress, log)
        else:
            tell_what_is_kept(root, finished, progress.say)
        if not options.keep_store:
            remove_store(store)
        return BuildResult(files=root, manifest=finished or manifest, already_finished=finished is not None)


def _import_stages() -> None:
    """Do nothing, in a worker that has loaded this module to unpickle this function: 0.4 s, while files are looked for.

    Encoders are loaded where something is to be encoded, in 4 ms: to cut a store anew takes none.
    """


def prepare_plan(options: Options, progress: Progress) -> tuple[CorpusPlan, TokenizedCorpus]:
    """The plan for a corpus, which is tokenized into the store for it; a later build uses that store.

    Raises:
        PlanError, ConfigError, BuildError: as `build`.
    """
    check_requested(options)
    check_engine(options)
    options = _with_commit(options)
    corpus = find_corpus(options, progress)
    with options.store_files().held():
        claim_store(options.store_files())
        with open_workers(options, progress.say, encodes=True, files=corpus.sizes) as workers:
            tokenized = tokenize_corpus(options, corpus, workers, progress)
            # Only in document mode does a plan read much: the rows of every partition.
            merged = _merged(options, tokenized, workers, progress) if options.mode == "document" else None
            return plan_corpus(options, _stored(tokenized, merged), workers, progress), tokenized


def _with_commit(options: Options) -> Options:
    """With the commit of a tokenizer of the Hub: its branch is looked at here, and never again in this build."""
    if not is_hub_name(options.tokenizer):
        return options
    from pipeline.hub.tokenizer import pinned  # its client loads only where it is used

    return replace(options, tokenizer=pinned(options.tokenizer))


def _merged(
    options: Options, tokenized: TokenizedCorpus, workers: Workers, progress: Progress
) -> list[PartFiles | None]:
    """For every source the larger parts to read in place of its own."""
    store, dtype = options.store_files(), tokenized.tokenizer.dtype
    return [merge_parts(store, source.parts, dtype, workers, progress) for source in tokenized.sources]


def _stored(tokenized: TokenizedCorpus, merged: list[PartFiles | None] | None) -> StoredCorpus:
    sources = tuple(
        StoredSource(
            name=one.name,
            parts=tuple(part.name for part in one.parts),
            tokens=one.tokens,
            documents=one.documents,
            merged=larger,
        )
        for one, larger in zip(tokenized.sources, merged or [None] * len(tokenized.sources), strict=True)
    )
    return StoredCorpus(sources=sources, dtype=tokenized.tokenizer.dtype)


def _build(options: Options, corpus: Corpus, workers: Workers, progress: Progress, log: BuildLog) -> Manifest:
    with log.stage("tokenize"):
        units = corpus.units(options.unit_bytes, options.stored())
        workers.prepare(len(units), _import_stages)
        tokenized = tokenize_corpus(options, corpus, workers, progress, units=units)
    with log.stage("merge"):
        merged = _merged(options, tokenized, workers, progress)
    with log.stage("plan"):
        planned = plan_corpus(options, _stored(tokenized, merged), workers, progress)
        plan, held_out = planned.plan, planned.held_out
        _check_validation(plan, held_out)
    job = CutJob(
        dataset=options.out_files(),
        plan=plan,
        stream=planned.stream,
        window_tokens=window_size(plan, options.shuffle_window),
        eos_id=tokenized.tokenizer.eos_id,
        fill=planned.fill,
        mixture=planned.mixed.use.mixture if planned.mixed else None,
        streams=planned.mixed.streams() if planned.mixed else (),
    )
    with log.stage("cut"):
        tasks = window_tasks(job, planned.document_rows, shard_bytes=options.shard_bytes)
        shards, counts = cut_windows(job, tasks, workers, progress)
        phases = tuple(PhaseEntry(seq_len=p.seq_len, shards=of) for p, of in zip(plan.phases, shards, strict=True))
        validation = None
        if held_out.tokens:
            of_validation = (job.dataset, job.stream, plan.max_seq_len, options.shard_bytes)
            ((_, held_out_shards),) = workers.run(cut_validation, of_validation, [()])
            validation = PhaseEntry(seq_len=plan.max_seq_len, shards=held_out_shards)
    manifest = _manifest(options, job, tokenized, planned, counts, phases, validation)
    facts = log.to_json(manifest, tokenized, corpus, options, held_out.below, counts.summary(plan))
    _finish(options, manifest, Path(tokenized.tokenizer.path), facts)
    return manifest


def _manifest(
    options: Options,
    job: CutJob,
    tokenized: TokenizedCorpus,
    planned: CorpusPlan,
    counts: WindowCounts,
    phases: tuple[PhaseEntry, ...],
    validation: PhaseEntry | None,
) -> Manifest:
    plan = job.plan
    tokenizer = tokenized.tokenizer
    return Manifest(
        plan=plan,
        tokenizer=TokenizerEntry(
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            sha256=tokenizer.sha256,
            hub=tokenizer.hub,
        ),
        dtype=tokenizer.dtype,
        seed=options.seed,
        build=BuildEntry(
            algorithm=ALGORITHM,
            window_tokens=job.window_tokens,
            shard_bytes=options.shard_bytes,
            bos=options.bos,
            fill=job.fill,
            mixture=job.mixture,
        ),
        phases=phases,
        validation=validation,
        sources=_sources(job, tokenized, planned),
        accounting=account(
            plan, tokenized, planned.held_out.tokens, counts, planned.mixed.taken if planned.mixed else ()
        ),
        requires=required_features(plan, mixture=job.mixture is not None),
        about=options.about(),
    )


def _sources(job: CutJob, tokenized: TokenizedCorpus, planned: CorpusPlan) -> tuple[SourceEntry, ...]:
    """The entries of the manifest: more of a mixture than of a single source, whose place and share are no question."""
    entries = []
    for number, source in enumerate(tokenized.sources):
        mixed = planned.mixed
        entries.append(
            SourceEntry(
                name=source.name,
                documents=source.documents,
                tokens=source.tokens,
                offset=job.streams[number].offset if mixed else 0,
                weight=mixed.use.weight(number) if mixed else 1.0,
                fingerprint=source.fingerprint,
                validation_tokens=mixed.sources[number].held_out_tokens if mixed else None,
                first_document=job.streams[number].first_document if mixed else None,
            )
        )
    return tuple(entries)


def _finish(options: Options, manifest: Manifest, tokenizer: Path, facts: dict[str, Any]) -> None:
    root = options.out_files()
    write_bytes(root, "tokenizer.json", tokenizer.read_bytes())
    finish(root, manifest, facts)
    options.store_files().forget_unfinished()


def _request(options: Options, corpus: Corpus) -> dict[str, Any]:
    """What this build is asked for, as plain JSON values; two builds with equal requests give equal bytes."""
    request = {**build_identity(options), "corpus": corpus.digest, "algorithm": ALGORITHM}
    request |= {f"commit of {name}": commit for name, commit in corpus.commits.items()}
    info = named_tokenizer(options.tokenizer, eos=options.eos, bos=options.bos)
    if info is not None:
        request |= {"tokenizer": info.sha256, "eos": info.eos_id, "bos_id": info.bos_id}
        if info.hub is not None:  # the manifest has it
            request |= {f"commit of tokenizer hf:{info.hub.name}": info.hub.revision}
    return request


def _check_validation(plan: Plan, held_out: HeldOut) -> None:
    if held_out.tokens and held_out.tokens <= plan.max_seq_len:
        raise PlanError(
            f"The held-out documents have {held_out.tokens:,} tokens, which is no row of {plan.max_seq_len:,} "
            f"(and the token after it). Hold out more with --validation-tokens or --validation-frac."
        )
