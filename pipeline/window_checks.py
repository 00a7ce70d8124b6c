"""Verify one window, or the held-out rows: the task that runs on a worker.

In:  the folder of a dataset, its id, and which window.
Out: `WindowFindings`: the faults of its shards, or its ends in the streams of the sources and document counts.
Guarantee: a pure task that raises nothing about the shards: faults come back as values, so that the first one in the
order of the manifest is the same whatever the workers. Memory is that of the rows of one window.

    check_window("my-dataset", "sha256:1f...", 0, rules)     WindowFindings(faults=(), counts=..., source_ends=(...,))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from curriculum.errors import DataError
from curriculum.limits import MAX_TOTAL
from curriculum.manifest import Manifest
from curriculum.plan import Plan
from pipeline.diversity import DocumentCounts, FloatArray, count_documents, shares_of_interval, shares_of_rows
from pipeline.manifest_checks import WindowShards, open_windows, validation_shards
from pipeline.mixed_checks import check_rows, expected_offsets, prove_lone, prove_sources, shares_by_phase
from pipeline.mixed_windows import MixedWindow
from pipeline.order import IntArray
from pipeline.packed_checks import PieceFacts, check_packed_shard
from pipeline.packed_proof import Span, Stretch, prove_window, shortest_row, span_of
from pipeline.segment import deal_rows
from pipeline.shard_checks import REPAIR, RowFacts, ShardPlace, TokenRules, check_shard
from pipeline.store import ALGORITHM
from pipeline.tiling import Ends, Fault, RowTable, collect, prove_tiling
from pipeline.windows import Window, rows_by_phase

Facts = TypeVar("Facts", RowFacts, PieceFacts)
VALIDATION = -1
"""Instead of the index of a window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFindings:
    """What a window turned out to be."""

    faults: tuple[Fault, ...]
    counts: DocumentCounts | None
    padding_tokens: int = 0
    """slots without a target"""
    stretch: Stretch | None = None
    """best-fit mode: what the pieces of the window prove"""
    spans: tuple[Span, ...] = ()
    """where rows are packed: where the pieces of each shard lie"""
    source_ends: tuple[Ends | None, ...] = ()
    """ends of the window in the stream of each source; None for those without a row, and () where rows are packed"""


def check_window(root: str, dataset_id: str, rules: TokenRules, index: int) -> WindowFindings:
    """Check every shard of a window and prove that its rows tile its interval of the stream."""
    manifest, windows = open_windows(root, dataset_id)
    if index == VALIDATION:
        return _check_validation(Path(root), manifest, rules)
    task = windows[index]
    window = task.window
    if manifest.packed:
        return _check_packed(Path(root), manifest, task, rules)
    if task.mixed is not None:
        return _check_mixed(Path(root), manifest, task, task.mixed, rules)
    dealt = _dealt(manifest, window)
    facts, faults = _check_shards(Path(root), task.places, rules, dealt, range(window.offset, _stop(window)))
    if faults:
        return WindowFindings(faults=faults, counts=None)
    table = collect(task.places, facts)
    proof = prove_lone(table, manifest, window, task.lone or 0)
    if isinstance(proof, Fault):
        return WindowFindings(faults=(absolute(root, proof),), counts=None)
    return WindowFindings(faults=(), counts=_count(manifest.plan, window, table), source_ends=proof)


def _check_mixed(
    root: Path, manifest: Manifest, task: WindowShards, mixed: MixedWindow, rules: TokenRules
) -> WindowFindings:
    """Rows of several sources: each source's share of every shard, then its interval."""
    dealt = expected_offsets(manifest, task.window, task.slots, mixed)
    number = {place.rank: i for i, place in enumerate(task.places)}

    def check(place: ShardPlace) -> RowFacts:
        facts = check_shard(root, place, rules, range(MAX_TOTAL))
        i = number[place.rank]
        check_rows(root / place.entry.path, manifest, facts.offset, mixed.rows[i], dealt[i] if dealt else None)
        return facts

    facts, faults = _check_each(root, task.places, check)
    if faults:
        return WindowFindings(faults=faults, counts=None)
    table = collect(task.places, facts)
    proof = prove_sources(table, manifest, mixed)
    if isinstance(proof, Fault):
        return WindowFindings(faults=(absolute(str(root), proof),), counts=None)
    shares = shares_by_phase(table, manifest, mixed, rows_by_phase(manifest.plan, task.window))
    counts = count_documents(manifest.plan, task.window, _documents_by_phase(table), shares)
    return WindowFindings(faults=(), counts=counts, source_ends=proof)


def _check_packed(root: Path, manifest: Manifest, task: WindowShards, rules: TokenRules) -> WindowFindings:
    """Rows that hold pieces of documents: in document mode there is no interval to prove them in."""
    plan, stretch = manifest.plan, None
    shortest = shortest_row(plan) if plan.mode == "document" else None

    def check(place: ShardPlace) -> PieceFacts:
        return check_packed_shard(root, place, rules, shortest)

    facts, faults = _check_each(root, task.places, check)
    if faults:
        return WindowFindings(faults=faults, counts=None)
    if plan.mode == "best-fit":
        stretch = prove_window(manifest, task.window, task.places, facts, rules)
        if stretch.fault is not None:
            return WindowFindings(faults=(absolute(str(root), stretch.fault),), counts=None)
    of_phase: dict[int, list[IntArray]] = {}
    for place, of_shard in zip(task.places, facts, strict=True):
        of_phase.setdefault(place.rank[0], []).append(of_shard.row_documents)
    documents = {phase: np.concatenate(rows) for phase, rows in of_phase.items()}
    slots = sum(place.entry.num_rows * place.seq_len for place in task.places)
    return WindowFindings(
        faults=(),
        counts=_count_packed(plan, task.window, documents, facts),
        padding_tokens=slots - sum(of_shard.num_targets for of_shard in facts),
        stretch=stretch,
        spans=tuple(map(span_of, task.places, facts)),
    )


def _shares_of_pieces(facts: Sequence[PieceFacts]) -> FloatArray:
    """Share of the window's tokens that each document fills: rows filled from one document do not make it likely."""
    documents = np.concatenate([of_shard.document for of_shard in facts])
    _, which = np.unique(documents, return_inverse=True)
    tokens = np.bincount(which, np.concatenate([of_shard.num_tokens for of_shard in facts]))
    return np.asarray(tokens / tokens.sum(), np.float64)


def _count_packed(
    plan: Plan, window: Window, documents: Mapping[int, IntArray], facts: Sequence[PieceFacts]
) -> DocumentCounts | None:
    """None in document mode: its short steps are no warmup, and their rows are no random ones."""
    return count_documents(plan, window, documents, _shares_of_pieces(facts)) if plan.mode == "best-fit" else None


def _stop(window: Window) -> int:
    return window.offset + window.num_tokens


def _check_validation(root: Path, manifest: Manifest, rules: TokenRules) -> WindowFindings:
    places = validation_shards(manifest, root)
    num_tokens = sum(place.entry.num_rows for place in places) * places[0].seq_len
    in_order = np.arange(0, num_tokens, places[0].seq_len)
    facts, faults = _check_shards(root, places, rules, {places[0].rank[0]: in_order}, range(num_tokens))
    if faults:
        return WindowFindings(faults=faults, counts=None)
    proof = prove_tiling(collect(places, facts), 0, num_tokens)
    if isinstance(proof, Fault):
        return WindowFindings(faults=(absolute(str(root), proof),), counts=None)
    return WindowFindings(faults=(), counts=None)


def _check_shards(
    root: Path,
    places: Sequence[ShardPlace],
    rules: TokenRules,
    offsets: Mapping[int, IntArray],
    interval: range,
) -> tuple[list[RowFacts], tuple[Fault, ...]]:
    """Facts of all shards, and the faults of those that have one; `offsets` are those of all rows of each phase."""
    used: dict[int, int] = {}

    def check(place: ShardPlace) -> RowFacts:
        phase = place.rank[0]
        first = used.get(phase, 0)
        used[phase] = first + place.entry.num_rows
        expected = offsets[phase][first : used[phase]] if phase in offsets else interval
        return check_shard(root, place, rules, expected)

    return _check_each(root, places, check)


def _check_each(
    root: Path, places: Sequence[ShardPlace], check: Callable[[ShardPlace], Facts]
) -> tuple[list[Facts], tuple[Fault, ...]]:
    """Facts of all shards, and the faults of those that have one."""
    facts: list[Facts] = []
    faults: list[Fault] = []
    for place in places:
        try:
            facts.append(check(place))
        except DataError as error:
            faults.append(Fault(rank=place.rank, path=place.entry.path, sentence=str(error)))
        except OSError as error:
            sentence = f"{root / place.entry.path}: cannot be read: {error.strerror}. {REPAIR}"
            faults.append(Fault(rank=place.rank, path=place.entry.path, sentence=sentence))
    return facts, tuple(faults)


def _dealt(manifest: Manifest, window: Window) -> Mapping[int, IntArray]:
    """The offset of every row, as the seed deals them; nothing for a dataset that another algorithm has dealt."""
    if manifest.build.algorithm != ALGORITHM:
        return {}
    plan = manifest.plan
    rows = rows_by_phase(plan, window)
    consumed = {phase: plan.consumed_per_row(phase) for phase in rows}
    return deal_rows(rows, consumed, offset=window.offset, seed=manifest.seed, window=window.index)


def _count(plan: Plan, window: Window, table: RowTable) -> DocumentCounts | None:
    facts = table.facts
    if plan.mode == "segment":
        shares = shares_of_interval(facts.boundaries, window.offset, window.num_tokens)
    else:
        shares = shares_of_rows(facts.document)
    return count_documents(plan, window, _documents_by_phase(table), shares)


def _documents_by_phase(table: RowTable) -> dict[int, IntArray]:
    of_phase: dict[int, list[IntArray]] = {}
    for i, place in enumerate(table.places):
        rows = table.facts.document[table.first_rows[i] : table.first_rows[i + 1]]
        of_phase.setdefault(place.rank[0], []).append(rows)
    return {phase: np.concatenate(rows) for phase, rows in of_phase.items()}


def absolute(root: str, fault: Fault) -> Fault:
    """A fault whose sentence begins with the path of the shard on this machine."""
    return Fault(rank=fault.rank, path=fault.path, sentence=f"{root}/{fault.sentence}")
