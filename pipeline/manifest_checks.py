"""Check a manifest against arithmetic: which shards there must be, what the accounting must say, the tokenizer.

In:  a manifest that is consistent in itself, and the folder beside it.
Out: for each window the shards that it must have written; or a `DataError`.
Guarantee: nothing here reads a shard. Everything that follows from the plan, the window size and the shard size is
computed again and compared, so a manifest whose shards were reordered, renamed or regrouped is refused.

    plan of 3 windows, shard_bytes 8,000    phase 0 must list phases/00000-len0000008/shard-000000.arrow, 136 rows, ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from curriculum.accounting import left_over
from curriculum.document_order import document_runs
from curriculum.errors import CurriculumError, DataError
from curriculum.manifest import FILE_NAME, Manifest, PhaseEntry, load_manifest
from curriculum.printable import one_line
from curriculum.regular_file import read_regular
from curriculum.schedule import DOCUMENT_CURRICULA
from curriculum.shard_format import shard_path
from pipeline.lone_windows import place_windows
from pipeline.mixed_checks import check_sources
from pipeline.mixed_windows import MixedWindow, split_sources
from pipeline.shard_checks import ShardPlace, TokenRules
from pipeline.source_use import use_of
from pipeline.stated_windows import REPAIR, stated_windows
from pipeline.windows import ShardSlot, Window, lay_out_shards

MAX_LENGTHS = 31
"""Of document mode: the powers of two below 2**31."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowShards:
    """The shards that a window wrote, in the order of the manifest."""

    window: Window
    """of one source alone: at its place among the streams of all"""
    lone: int | None
    """the source that it is cut from alone; None if it takes of several"""
    places: tuple[ShardPlace, ...]
    slots: tuple[ShardSlot, ...]
    """as arithmetic has them, one for each place"""
    mixed: MixedWindow | None
    """what the window takes of several sources"""


def window_shards(manifest: Manifest, root: Path) -> tuple[WindowShards, ...]:
    """The shards of each window, as plan, window size and shard size dictate.

    Raises:
        DataError: the manifest lists others.
    """
    plan = manifest.plan
    windows = stated_windows(manifest, root / FILE_NAME)
    layout = lay_out_shards(plan, windows, shard_bytes=manifest.build.shard_bytes, itemsize=manifest.itemsize)
    expected: list[list[tuple[str, int]]] = [[] for _ in plan.phases]
    members: list[list[ShardPlace]] = [[] for _ in windows]
    for window, slots in zip(windows, layout, strict=True):
        for slot in slots:
            number = len(expected[slot.phase])
            expected[slot.phase].append((slot.path, slot.stop_row - slot.first_row))
            if number < len(manifest.phases[slot.phase].shards):
                members[window.index].append(shard_place(manifest, slot.phase, number))
    for index, (phase, of_phase) in enumerate(zip(manifest.phases, expected, strict=True)):
        _compare_shards(phase, of_phase, f"{root / FILE_NAME}: phase {index}")
    mixture = manifest.build.mixture
    mixed = split_sources(plan, mixture, layout) if mixture else [None] * len(windows)
    placed = place_windows(plan, windows, manifest.lone_sources, [source.offset for source in manifest.sources])
    return tuple(
        WindowShards(window=window, lone=lone, places=tuple(places), slots=slots, mixed=part if lone is None else None)
        for (window, lone), places, slots, part in zip(placed, members, layout, mixed, strict=True)
    )


@lru_cache(maxsize=4)
def open_windows(root: str, dataset_id: str) -> tuple[Manifest, tuple[WindowShards, ...]]:
    """Manifest and windows, once per worker.

    Raises:
        DataError: it is no longer the manifest that verification began with.
    """
    manifest = load_manifest(Path(root))
    if manifest.id != dataset_id:
        raise DataError(
            f"{root}/{FILE_NAME}: changed while the dataset was verified. Run verify again once nothing writes there."
        )
    return manifest, window_shards(manifest, Path(root))


def validation_shards(manifest: Manifest, root: Path) -> tuple[ShardPlace, ...]:
    """The shards of the held-out documents: whole rows of the maximum length, in order.

    Raises:
        DataError: the manifest lists others.
    """
    held_out, seq_len = _stored_validation_tokens(manifest), manifest.plan.max_seq_len
    where = f"{root / FILE_NAME}: validation"
    if manifest.validation is None or held_out == 0:
        if manifest.validation is not None or held_out:
            raise DataError(f"{where}: rows and {held_out} validation_tokens contradict each other. {REPAIR}")
        return ()
    if manifest.validation.seq_len != seq_len:
        raise DataError(f"{where}: rows of {manifest.validation.seq_len} tokens, expected {seq_len}. {REPAIR}")
    num_rows = (held_out - 1) // seq_len
    per_shard = max(1, manifest.build.shard_bytes // ((seq_len + 1) * manifest.itemsize))
    count = -(-num_rows // per_shard)
    if count != len(manifest.validation.shards):
        raise DataError(f"{where}: {len(manifest.validation.shards)} shards, expected {count}. {REPAIR}")
    rows = [min(per_shard, num_rows - number * per_shard) for number in range(count)]
    expected = [(shard_path("validation", number, count), of_shard) for number, of_shard in enumerate(rows)]
    _compare_shards(manifest.validation, expected, where)
    return tuple(shard_place(manifest, -1, number) for number in range(count))


def _stored_validation_tokens(manifest: Manifest) -> int:
    """Tokens of the held-out documents that rows are made of: those of sources that were added later are left out."""
    added = manifest.sources[manifest.num_built_sources :]
    return manifest.accounting.validation_tokens - sum(source.validation_tokens or 0 for source in added)


def check_document_order(manifest: Manifest, root: Path) -> None:
    """In document mode the order of lengths follows from the steps of each and the seed; `Plan` checks other modes.

    Raises:
        DataError: it is another one.
    """
    plan, schedule = manifest.plan, manifest.plan.schedule
    name, cycles = str(schedule.get("name")), schedule.get("cycles")
    if plan.mode != "document" or name not in DOCUMENT_CURRICULA or isinstance(cycles, str):
        return
    found = tuple((plan.phases[phase].seq_len, num_steps) for phase, num_steps in plan.order)
    steps = {phase.seq_len: phase.num_steps for phase in plan.phases}
    if len(steps) > MAX_LENGTHS or (cycles or 1) > plan.total_steps:
        raise DataError(
            f"{root / FILE_NAME}: {len(steps)} lengths in {cycles} cycles, expected {MAX_LENGTHS} powers of two at "
            f"most and no more cycles than steps. {REPAIR}"
        )
    if schedule.get("seed") != manifest.seed or found != document_runs(
        steps, name=name, cycles=cycles, seed=manifest.seed
    ):
        raise DataError(
            f"{root / FILE_NAME}: the plan's lengths do not come in the order that schedule {name!r} and seed "
            f"{manifest.seed} give. {REPAIR}"
        )


def check_accounting(manifest: Manifest, root: Path) -> None:
    """Recompute what follows from the plan and the sources; the manifest's own sums were checked when it was read.

    Raises:
        DataError: a number differs.
    """
    found, plan = manifest.accounting, manifest.plan
    packed = manifest.packed
    trained = plan.total_tokens - (found.padding_tokens or 0)
    # What packing leaves out and where documents begin is seen in the shards: `packed_proof` compares it.
    truncated = found.truncated_tokens if packed else plan.dropped_tokens
    use = use_of(manifest)
    taken = [(found.corpus_tokens - found.validation_tokens, trained + truncated)]
    if use is not None and use.sizes is not None:
        check_sources(manifest, use, root)
        if not packed:  # there, what rows leave out of a source, only all of them together tell
            taken = list(zip(use.sizes, use.consumed, strict=True))
    unused, repeated, context = left_over(taken)
    expected = {
        "trained_tokens": trained,
        "truncated_tokens": truncated,
        "unused_tokens": unused,
        "repeated_tokens": repeated,
        "context_tokens": found.context_tokens if packed else context,
        "corpus_tokens": sum(source.tokens for source in manifest.sources),
        "documents": sum(source.documents for source in manifest.sources),
    }
    for name, number in expected.items():
        if getattr(found, name) != number:
            raise DataError(
                f"{root / FILE_NAME}: accounting: {name} is {getattr(found, name)}, plan and sources give {number}. "
                f"{REPAIR}"
            )


def check_tokenizer(manifest: Manifest, root: Path) -> TokenRules:
    """Check tokenizer.json against the manifest; what ids mean.

    Raises:
        DataError: it is missing, is another one, or has another vocabulary size.
    """
    path = root / "tokenizer.json"
    try:
        content = read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Copy it again.") from error
    tokenizer = manifest.tokenizer
    found = hashlib.sha256(content).hexdigest()
    if found != tokenizer.sha256:
        raise DataError(
            f"{path}: its bytes have the sha256 {found}, the manifest says {tokenizer.sha256}: it was edited, or "
            f"belongs to another dataset. Copy it again."
        )
    size = _vocab_size(path)
    if size != tokenizer.vocab_size:
        raise DataError(
            f"{root / FILE_NAME}: vocab_size is {tokenizer.vocab_size}, tokenizer.json has ids up to {size - 1}. "
            f"{REPAIR}"
        )
    if (tokenizer.bos_id is None) != (manifest.build.bos == "none"):
        raise DataError(
            f"{root / FILE_NAME}: bos is {manifest.build.bos!r}, but bos_id is {tokenizer.bos_id}. {REPAIR}"
        )
    return TokenRules(
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        bos_id=tokenizer.bos_id,
        eos_only_ends=tokenizer.eos_id in _reserved_ids(path, content),
    )


def extra_files(manifest: Manifest, root: Path) -> tuple[str, ...]:
    """Files under phases/ and validation/ that the manifest does not name, relative to `root`, by name."""
    entries = manifest.entries
    named = {shard.path for entry in entries for shard in entry.shards}
    found = (path for folder in ("phases", "validation") for path in (root / folder).rglob("*") if not path.is_dir())
    return tuple(sorted({path.relative_to(root).as_posix() for path in found} - named))


def all_shards(manifest: Manifest) -> Iterator[ShardPlace]:
    """Every shard in the order of the manifest, validation last."""
    for index, phase in enumerate(manifest.phases):
        for number in range(len(phase.shards)):
            yield shard_place(manifest, index, number)
    for number in range(len(manifest.validation.shards) if manifest.validation else 0):
        yield shard_place(manifest, -1, number)


def shard_place(manifest: Manifest, phase: int, number: int) -> ShardPlace:
    """A shard by its rank; phase -1, or one after the last, means the held-out rows."""
    phase = phase if phase < len(manifest.phases) else -1
    entry = manifest.phases[phase] if phase >= 0 else manifest.validation
    assert entry is not None
    return ShardPlace(
        rank=(phase if phase >= 0 else len(manifest.phases), number),
        entry=entry.shards[number],
        seq_len=entry.seq_len,
        consumed=manifest.plan.consumed_per_row(phase) if phase >= 0 else entry.seq_len,
        dtype=manifest.dtype,
        packed=manifest.packed and phase >= 0,
    )


def _compare_shards(phase: PhaseEntry, expected: list[tuple[str, int]], where: str) -> None:
    found = [(shard.path, shard.num_rows) for shard in phase.shards]
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            raise DataError(
                f"{where}: shard {number} is {one[0]!r} with {one[1]} rows, plan and window size give {other[0]!r} "
                f"with {other[1]}. {REPAIR}"
            )
    if len(found) != len(expected):
        raise DataError(f"{where}: {len(found)} shards, plan and window size give {len(expected)}. {REPAIR}")


def _vocab_size(path: Path) -> int:
    from pipeline.backends import load_reference

    try:
        return 1 + max(load_reference(str(path)).get_vocab(with_added_tokens=True).values(), default=-1)
    except CurriculumError as error:
        raise DataError(f"{path}: matches its digest, but cannot be used: {error}") from error


def _reserved_ids(path: Path, content: bytes) -> frozenset[int]:
    """Ids of special added tokens that no text encodes to: a build refuses tokenizers where another one could."""
    try:
        top = json.loads(content)
        unknown = top.get("model", {}).get("unk_token")
        return frozenset(
            token["id"]
            for token in top.get("added_tokens", [])
            if token.get("special") and token.get("content") != unknown
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: its added tokens cannot be read ({one_line(error)}). Copy it again.") from error
