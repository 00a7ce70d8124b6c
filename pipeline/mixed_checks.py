"""Verify what a window takes of several sources: how many rows of each, which ones, and that they tile its stream.

In:  a manifest with a mixture, the shards of one window, the facts of their rows.
Out: nothing, or what contradicts; for each source the ends of its interval, to compare neighbouring windows.
Guarantee: counts, places in the shard and intervals follow from weights, plan and seed alone and are computed again.
The source of a row is told by its offset: streams of the sources lie end to end.

    sources at 0 and 160,002 of the stream      a row at 160,010 is of the second, 8 tokens after its beginning
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME, Manifest
from pipeline.diversity import FloatArray, shares_of_interval, shares_of_rows
from pipeline.mixed_dealing import deal_mixed
from pipeline.mixed_windows import MixedWindow, epochs_begun, number_streams
from pipeline.order import IntArray
from pipeline.shard_checks import REPAIR
from pipeline.source_use import MixtureUse
from pipeline.store import ALGORITHM
from pipeline.tiling import Ends, Fault, RowTable, compare_ends, prove_tiling
from pipeline.windows import ShardSlot, Window


def check_sources(manifest: Manifest, use: MixtureUse, root: Path) -> None:
    """The entries of the sources against each other and what the plan takes of them.

    Raises:
        DataError: one contradicts arithmetic.
    """
    assert use.sizes is not None
    where, sources = root / FILE_NAME, manifest.sources
    for source, size, consumed in zip(sources, use.sizes, use.consumed, strict=True):
        if size < 0 or (size == 0 and consumed):
            raise DataError(
                f"{where}: source {source.name!r} has {source.tokens} tokens, {source.validation_tokens} of them held "
                f"out, and the plan takes {consumed} of the rest. {REPAIR}"
            )
    held_out = sum(source.validation_tokens or 0 for source in sources)
    if held_out != manifest.accounting.validation_tokens:
        raise DataError(
            f"{where}: accounting: validation_tokens is {manifest.accounting.validation_tokens}, the sources give "
            f"{held_out}. {REPAIR}"
        )
    places = number_streams(use.consumed, use.sizes, [0] * len(sources))
    for number, (source, (offset, _)) in enumerate(zip(sources, places, strict=True)):
        share = use.weight(number)
        if (source.offset, source.weight) != (offset, share):
            raise DataError(
                f"{where}: source {source.name!r} has the offset {source.offset} and the weight {source.weight}, plan "
                f"and mixture give {offset} and {share}. {REPAIR}"
            )
    # Of sources that the dataset was built from, only the token store knows how many documents are held out.
    for number in range(manifest.num_built_sources, len(sources)):
        before, source = sources[number - 1], sources[number]
        epochs = epochs_begun(use.consumed[number - 1], use.sizes[number - 1])
        first = (before.first_document or 0) + epochs * before.documents
        if source.first_document != first:
            raise DataError(
                f"{where}: source {source.name!r} begins with document {source.first_document}, expected "
                f"{first}: source {before.name!r} has begun its {before.documents} documents {epochs} times. {REPAIR}"
            )


def expected_offsets(
    manifest: Manifest, window: Window, slots: Sequence[ShardSlot], mixed: MixedWindow
) -> list[IntArray] | None:
    """The offset of every row of each shard, as the seed deals them; None if another algorithm has dealt them."""
    if manifest.build.algorithm != ALGORITHM:
        return None
    names = [source.name for source in manifest.sources]
    begins = [source.offset + offset for source, offset in zip(manifest.sources, mixed.offsets, strict=True)]
    return list(deal_mixed(manifest.plan, window, slots, mixed, begins=begins, names=names, seed=manifest.seed))


def check_rows(
    path: Path, manifest: Manifest, found: IntArray, counts: Sequence[int], expected: IntArray | None
) -> None:
    """Rows of each source in a shard, then the place of every one.

    Raises:
        DataError: the first that differs, by the names of the sources.
    """
    names = [source.name for source in manifest.sources]
    sources = sources_of(manifest, found)
    for name, count, rows in zip(names, np.bincount(sources, minlength=len(names)).tolist(), counts, strict=True):
        if count != rows:
            raise DataError(f"{path}: {count} rows of source {name!r}, the mixture gives it {rows}. {REPAIR}")
    if expected is None or not (wrong := found != expected).any():
        return
    row = int(np.argmax(wrong))
    due = int(sources_of(manifest, expected[row : row + 1])[0])
    raise DataError(
        f"{path}: row {row} has the stream offset {found[row]}, of source {names[int(sources[row])]!r}; expected "
        f"{expected[row]}, of source {names[due]!r}. {REPAIR}"
    )


def sources_of(manifest: Manifest, offsets: IntArray) -> IntArray:
    """[num_rows] index of the source of each row."""
    firsts = np.array([source.offset for source in manifest.sources], np.int64)
    return np.searchsorted(firsts, offsets, side="right") - 1  # of equal firsts, only the last has rows


def prove_sources(table: RowTable, manifest: Manifest, mixed: MixedWindow) -> Fault | tuple[Ends | None, ...]:
    """Prove that the rows of every source fill its interval; None for one without rows in this window."""
    of_row = sources_of(manifest, table.facts.offset)
    ends: list[Ends | None] = []
    for number, source in enumerate(manifest.sources):
        if not mixed.num_tokens[number]:
            ends.append(None)
            continue
        rows = np.flatnonzero(of_row == number)
        proof = prove_tiling(table, source.offset + mixed.offsets[number], mixed.num_tokens[number], rows)
        if isinstance(proof, Fault):
            return proof
        if (fault := _first_document_fault(manifest, number, proof)) is not None:
            return fault
        ends.append(proof)
    return tuple(ends)


def prove_lone(table: RowTable, manifest: Manifest, window: Window, number: int) -> Fault | tuple[Ends | None, ...]:
    """The same of a window that is cut from one source alone."""
    proof = prove_tiling(table, window.offset, window.num_tokens)
    if isinstance(proof, Fault):
        return proof
    fault = _first_document_fault(manifest, number, proof)
    return fault or tuple(proof if source == number else None for source in range(len(manifest.sources)))


def _first_document_fault(manifest: Manifest, number: int, ends: Ends) -> Fault | None:
    """Documents of a source are counted on from where the source begins."""
    source = manifest.sources[number]
    first = source.first_document or 0
    if ends.offset != source.offset or ends.first_document == first:
        return None
    problem = f"begins source {source.name!r} in document {ends.first_document}"
    return _fault(ends, f"{problem}, the manifest says {first}")


def compare_sources(manifest: Manifest, windows: Sequence[Sequence[Ends | None]]) -> list[Fault]:
    """Faults at the borders of the windows of each source, and at the end of its stream.

    Args:
        manifest: with its sources.
        windows: for each window, the ends of every source, from `prove_sources`.
    """
    faults = []
    for number, source in enumerate(manifest.sources):
        ends = [of_window[number] for of_window in windows if of_window]
        known = [one for one in ends if one is not None]
        found = [compare_ends(before, after) for before, after in pairwise(known)]
        faults += [fault for fault in found if fault is not None]
        later = [other.first_document or 0 for other in manifest.sources[number + 1 : number + 2]]
        if known and later and known[-1].next_document.start >= later[0]:
            problem = f"lies in document {known[-1].next_document.start} of source {source.name!r}"
            faults.append(_fault(known[-1], f"{problem}, the next source begins with document {later[0]}"))
    return faults


def shares_by_phase(
    table: RowTable, manifest: Manifest, mixed: MixedWindow, rows_by_phase: dict[int, int]
) -> dict[int, FloatArray]:
    """For each phase the share of a random row that every document of the window has, by the weights of the phase."""
    of_row = sources_of(manifest, table.facts.offset)
    of_start = np.repeat(of_row, table.facts.num_starts)
    shares: list[FloatArray] = []
    for number, source in enumerate(manifest.sources):
        tokens = mixed.num_tokens[number]
        if not tokens:
            shares.append(np.zeros(0))
        elif manifest.plan.mode == "segment":
            boundaries = table.facts.boundaries[of_start == number]
            shares.append(shares_of_interval(boundaries, source.offset + mixed.offsets[number], tokens))
        else:
            shares.append(shares_of_rows(table.facts.document[of_row == number]))
    weights = {
        phase: [manifest.build.mixture.share(phase, number) for number in range(len(shares))]
        for phase in rows_by_phase
        if manifest.build.mixture is not None
    }
    return {
        phase: np.concatenate([weight * of for weight, of in zip(of_phase, shares, strict=True)])
        for phase, of_phase in weights.items()
    }


def _fault(ends: Ends, problem: str) -> Fault:
    place = ends.first_place
    sentence = f"{place.entry.path}: the window's interval {problem}. {REPAIR}"
    return Fault(rank=place.rank, path=place.entry.path, sentence=sentence)
