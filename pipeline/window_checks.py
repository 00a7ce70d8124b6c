"""Verify one window, or the held-out rows: the task that runs on a worker.

In:  the folder of a dataset, its id, and which window.
Out: `WindowFindings`: the faults of its shards, or its ends and document counts.
Guarantee: a pure task that raises nothing about the shards: faults come back as values, so that the first one in the
order of the manifest is the same whatever the workers. Memory is that of the rows of one window.

    check_window("my-dataset", "sha256:1f...", 0, rules)     WindowFindings(faults=(), ends=Ends(...), counts=...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from curriculum.errors import DataError
from curriculum.limits import MAX_TOTAL
from curriculum.manifest import FILE_NAME, Manifest, load_manifest
from curriculum.plan import Plan
from pipeline.diversity import DocumentCounts, count_documents, shares_of_interval, shares_of_rows
from pipeline.manifest_checks import WindowShards, validation_shards, window_shards
from pipeline.order import IntArray
from pipeline.packed_checks import PieceFacts, check_packed_shard, prove_disjoint
from pipeline.segment import deal_rows
from pipeline.shard_checks import REPAIR, RowFacts, ShardPlace, TokenRules, check_shard
from pipeline.store import ALGORITHM
from pipeline.tiling import Ends, Fault, RowTable, collect, prove_tiling
from pipeline.windows import Window, rows_by_phase

VALIDATION = -1
"""Instead of the index of a window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFindings:
    """What a window turned out to be."""

    faults: tuple[Fault, ...]
    ends: Ends | None
    counts: DocumentCounts | None
    padding_tokens: int = 0
    """slots without a target"""


def check_window(root: str, dataset_id: str, index: int, rules: TokenRules) -> WindowFindings:
    """Check every shard of a window and prove that its rows tile its interval of the stream."""
    manifest, windows = _open(root, dataset_id)
    if index == VALIDATION:
        return _check_validation(Path(root), manifest, rules)
    task = windows[index]
    window = task.window
    if manifest.packed:
        return _check_packed(Path(root), manifest.plan, task, rules)
    dealt = _dealt(manifest, window)
    facts, faults = _check_shards(Path(root), task.places, rules, dealt, range(window.offset, _stop(window)))
    if faults:
        return WindowFindings(faults=faults, ends=None, counts=None)
    table = collect(task.places, facts)
    proof = prove_tiling(table, window.offset, window.num_tokens)
    if isinstance(proof, Fault):
        return WindowFindings(faults=(_absolute(root, proof),), ends=None, counts=None)
    return WindowFindings(faults=(), ends=proof, counts=_count(manifest.plan, window, table))


def _check_packed(root: Path, plan: Plan, task: WindowShards, rules: TokenRules) -> WindowFindings:
    """Rows that hold pieces of documents: no interval to tile in document mode, gaps where documents meet."""
    facts: list[PieceFacts] = []
    faults: list[Fault] = []
    for place in task.places:
        try:
            facts.append(check_packed_shard(root, place, rules))
        except DataError as error:
            faults.append(Fault(rank=place.rank, path=place.entry.path, sentence=str(error)))
        except OSError as error:
            sentence = f"{root / place.entry.path}: cannot be read: {error.strerror}. {REPAIR}"
            faults.append(Fault(rank=place.rank, path=place.entry.path, sentence=sentence))
    if faults:
        return WindowFindings(faults=tuple(faults), ends=None, counts=None)
    # In document mode the rows of a window lie anywhere in the stream.
    interval = range(task.window.offset, _stop(task.window)) if plan.mode == "best-fit" else range(MAX_TOTAL)
    fault = prove_disjoint(task.places, facts, interval)
    if fault is not None:
        return WindowFindings(faults=(_absolute(str(root), fault),), ends=None, counts=None)
    of_phase: dict[int, list[IntArray]] = {}
    for place, of_shard in zip(task.places, facts, strict=True):
        of_phase.setdefault(place.rank[0], []).append(of_shard.row_documents)
    documents = {phase: np.concatenate(rows) for phase, rows in of_phase.items()}
    shares = shares_of_rows(np.concatenate(list(documents.values())))
    slots = sum(place.entry.num_rows * place.seq_len for place in task.places)
    return WindowFindings(
        faults=(),
        ends=None,
        counts=count_documents(plan, task.window, documents, shares),
        padding_tokens=slots - sum(of_shard.num_targets for of_shard in facts),
    )


def _stop(window: Window) -> int:
    return window.offset + window.num_tokens


def _check_validation(root: Path, manifest: Manifest, rules: TokenRules) -> WindowFindings:
    places = validation_shards(manifest, root)
    num_tokens = sum(place.entry.num_rows for place in places) * places[0].seq_len
    in_order = np.arange(0, num_tokens, places[0].seq_len)
    facts, faults = _check_shards(root, places, rules, {places[0].rank[0]: in_order}, range(num_tokens))
    if faults:
        return WindowFindings(faults=faults, ends=None, counts=None)
    proof = prove_tiling(collect(places, facts), 0, num_tokens)
    if isinstance(proof, Fault):
        return WindowFindings(faults=(_absolute(str(root), proof),), ends=None, counts=None)
    return WindowFindings(faults=(), ends=proof, counts=None)


def _check_shards(
    root: Path,
    places: Sequence[ShardPlace],
    rules: TokenRules,
    offsets: Mapping[int, IntArray],
    interval: range,
) -> tuple[list[RowFacts], tuple[Fault, ...]]:
    """Facts of all shards, and the faults of those that have one; `offsets` are those of all rows of each phase."""
    facts: list[RowFacts] = []
    faults: list[Fault] = []
    used: dict[int, int] = {}
    for place in places:
        phase = place.rank[0]
        first = used.get(phase, 0)
        used[phase] = first + place.entry.num_rows
        expected = offsets[phase][first : used[phase]] if phase in offsets else interval
        try:
            facts.append(check_shard(root, place, rules, expected))
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
    of_phase: dict[int, list[IntArray]] = {}
    for i, place in enumerate(table.places):
        rows = facts.document[table.first_rows[i] : table.first_rows[i + 1]]
        of_phase.setdefault(place.rank[0], []).append(rows)
    documents = {phase: np.concatenate(rows) for phase, rows in of_phase.items()}
    return count_documents(plan, window, documents, shares)


def _absolute(root: str, fault: Fault) -> Fault:
    return Fault(rank=fault.rank, path=fault.path, sentence=f"{root}/{fault.sentence}")


@lru_cache(maxsize=4)
def _open(root: str, dataset_id: str) -> tuple[Manifest, tuple[WindowShards, ...]]:
    """Manifest and windows, once per worker."""
    manifest = load_manifest(Path(root))
    if manifest.id != dataset_id:
        raise DataError(
            f"{root}/{FILE_NAME}: changed while the dataset was verified. Run verify again once nothing writes there."
        )
    return manifest, window_shards(manifest, Path(root))
