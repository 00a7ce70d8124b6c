"""Read the log of one run.

In:  a folder that `recorder` filled.   Out: `RunLog`: for every rank its calls, in order.
Guarantee: a last line that a killed process left half written is ignored; anything else that is not a line of ours is
refused with its place.

    log/1/rank-00000.jsonl, log/1/rank-00001.jsonl   ->   RunLog(world_size=2, calls=((Call, ...), (Call, ...)))
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.doctor.digests import Digests, from_hex
from curriculum.errors import DataError

VERSION = 1
"""Of the lines that `recorder` writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One micro-batch that reached the model of one rank."""

    rank: int
    world_size: int
    shape: tuple[int, int]
    """rows, inputs per row"""
    inputs: Digests
    """uint64 [rows]"""
    labels: Digests | None
    """uint64 [rows], or None if the batch had none"""
    first_tokens: tuple[int, ...]
    """the first 8 inputs, or fewer, of the first row"""
    keys: tuple[str, ...]
    mask_hides_pieces: bool
    loss: float | None
    num_labels: int | None
    """labels that are not negative"""
    num_labels_shifted: int | None
    """the same without each row's first label"""
    cross_entropy: float | None
    cross_entropy_of_shifted: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLog:
    """All calls of a run."""

    where: str
    world_size: int
    calls: tuple[tuple[Call, ...], ...]
    """for each rank, 0 to world_size - 1; empty for a rank without a file"""

    @property
    def missing_ranks(self) -> tuple[int, ...]:
        """Ranks that recorded nothing."""
        return tuple(rank for rank, calls in enumerate(self.calls) if not calls)


MAX_WORLD_SIZE = 1 << 20


def load_run(folder: Path) -> RunLog:
    """Read a run's folder.

    Raises:
        DataError: there is no log, a line is damaged, or ranks and world sizes contradict each other.
    """
    paths = sorted(folder.glob("rank-*.jsonl"))
    if not paths:
        inner = sorted(path.parent.name for path in folder.glob("*/rank-00000.jsonl"))
        hint = f" It holds the runs {', '.join(inner)}: give each with its own --check." if inner else ""
        raise DataError(
            f"{folder}: no log of a run (rank-00000.jsonl) is there. Start training with "
            f"CURRICULUM_DOCTOR_LOG={folder} and curriculum.doctor.record(batch) beside the model's call.{hint}"
        )
    of_file = [_load_file(path) for path in paths]
    found = [calls for calls in of_file if calls]
    if not found:
        raise DataError(f"{folder}: the log is empty; the run ended before its first batch reached the model.")
    sizes = {call.world_size for calls in found for call in calls}
    if len(sizes) > 1:
        raise DataError(
            f"{folder}: lines of world sizes {', '.join(map(str, sorted(sizes)))}; a log holds one run. Record every "
            f"start of the trainer into a folder of its own."
        )
    world_size = sizes.pop()
    by_rank: list[tuple[Call, ...]] = [()] * world_size
    for calls in found:
        if by_rank[calls[0].rank]:
            raise DataError(
                f"{folder}: two files hold rank {calls[0].rank}; a log holds one run, a file for each rank."
            )
        by_rank[calls[0].rank] = calls
    return RunLog(where=str(folder), world_size=world_size, calls=tuple(by_rank))


def _load_file(path: Path) -> tuple[Call, ...]:
    *lines, _ = path.read_bytes().split(b"\n")  # after the last line break: nothing, or half a line
    calls: list[Call] = []
    for number, line in enumerate(lines):
        try:
            call = parse_call(json.loads(line), number)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number + 1}: not a line that curriculum.doctor.record wrote ({error!r}). Record the "
                f"run again into a new folder."
            ) from None
        if calls and (call.rank, call.world_size) != (calls[0].rank, calls[0].world_size):
            raise DataError(f"{path}, line {number + 1}: rank {call.rank} of {call.world_size} in a file of another.")
        calls.append(call)
    return tuple(calls)


def _require_integers(**values: Any) -> None:
    for name, value in values.items():
        if type(value) is not int:
            raise TypeError(f"{name} is {value!r}")


def parse_call(line: dict[str, Any], number: int) -> Call:
    """A line, which is the file's `number`-th; ValueError, KeyError or TypeError if it is none."""
    if line["version"] != VERSION:
        raise ValueError(f"version {line['version']}, this curriculum reads {VERSION}")
    if line["call"] != number:
        raise ValueError(f"call {line['call']} where {number} should be")
    rows, length = line["shape"]
    labels, rank, world_size = line["labels"], line["rank"], line["world_size"]
    _require_integers(rows=rows, length=length, rank=rank, world_size=world_size)
    if not 0 <= rank < world_size <= MAX_WORLD_SIZE or rows < 1 or length < 1:
        raise ValueError(f"rank {rank} of {world_size}, {rows} rows of {length}")
    for name in ("loss", "num_labels", "num_labels_shifted", "cross_entropy", "cross_entropy_of_shifted"):
        if not isinstance(line[name], int | float | None):
            raise TypeError(f"{name} is {line[name]!r}")
    inputs = from_hex(line["inputs"])
    if len(inputs) != rows:
        raise ValueError(f"{len(inputs)} digests of {rows} rows")
    return Call(
        rank=rank,
        world_size=world_size,
        shape=(rows, length),
        inputs=inputs,
        labels=None if labels is None else from_hex(labels),
        first_tokens=tuple(line["first_tokens"]),
        keys=tuple(line["keys"]),
        mask_hides_pieces=line["mask_hides_pieces"],
        loss=line["loss"],
        num_labels=line["num_labels"],
        num_labels_shifted=line["num_labels_shifted"],
        cross_entropy=line["cross_entropy"],
        cross_entropy_of_shifted=line["cross_entropy_of_shifted"],
    )
