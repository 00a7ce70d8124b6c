"""JAX: micro-batches as int32 arrays, or as global arrays over the devices of all processes. Needs no torch.

In:  a dataset, and a sharding (which says by itself what this process reads), or a rank and a world size.
Out: {"inputs", "targets", "mask"} per micro-batch, [rows, seq_len]: int32, int32, bool. `targets` are shifted already;
`mask` is False where a packed row has no target. Losses of JAX take a mask (optax: `where=mask`; MaxText: weights), and
index with the label: a -100 would be the 100th id from the end.
Guarantee: a global array is rows of the step in their order, whatever the order of the devices; the state is the same
cursor in every process; nothing is read ahead, nothing collective is called.

    mesh = Mesh(np.array(jax.devices()), ("data",))
    loader = CurriculumLoader("curriculum-data", sharding=NamedSharding(mesh, PartitionSpec("data")))
    stored row  5 6 7 0 8   ->   inputs  5 6 7 0    targets  6 7 0 8    mask  1 1 1 1

`jit` compiles once for each of `loader.shapes`. Without a sharding the arrays are numpy's, and jax is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np

import curriculum
from curriculum.batch import Batch
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader
from curriculum.resumable import Resumable
from curriculum.share import Share

__all__ = ["CurriculumLoader", "local_rows", "rows_of_process"]

Arrays = dict[str, Any]


class CurriculumLoader(Resumable[Arrays]):
    """The micro-batches of one process, in training order; see the module.

    Every `iter` begins at the cursor that was loaded last, or at step 0. A pass that reached the end makes the next one
    begin at step 0.
    """

    def __init__(
        self,
        dataset: str | PathLike[str] | Reader,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int | None = None,
        micro_tokens: int | None = None,
        sharding: Any = None,
        documents: bool = False,
    ) -> None:
        """Open the dataset.

        Args:
            dataset: folder of a finished dataset, or a reader of it.
            rank, world_size: which share of each step this process reads. Not together with `sharding`.
            micro_batches: micro-batches per step; 1 if neither it nor `micro_tokens` is given.
            micro_tokens: instead of a fixed number, at most so many inputs of this process in each.
            sharding: a `jax.sharding.Sharding` of arrays [rows, seq_len]; batches are global arrays that have it.
            documents: also give "positions" and "segments", int32 [rows, seq_len]: the place in its document of each
                input, from 0, and the number of that document in its row, from 1 (padding is the last one).

        Raises:
            ConfigError: the sharding wants rows from this process that are not consecutive.
            CursorError: ranks, devices and micro-batches do not divide every step.
        """
        if sharding is not None:
            if (rank, world_size) != (0, 1):
                raise ConfigError(
                    f"rank={rank}, world_size={world_size} and a sharding: the sharding says which rows this process "
                    f"holds. Give one or the other."
                )
            rank, world_size = rows_of_process(sharding)
        reader = dataset if isinstance(dataset, Reader) else curriculum.open(dataset)
        share = Share(
            plan=reader.plan, rank=rank, world_size=world_size, micro_batches=micro_batches, micro_tokens=micro_tokens
        )
        super().__init__(reader, share)
        self.sharding = sharding
        self.documents = documents
        self.share.require_fits(0, 0, self.reader.where)
        if sharding is not None:
            self._require_devices_divide(_row_blocks(sharding.devices_indices_map, _probe(sharding)))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Distinct (rows, seq_len) of the batches, as they come: one compilation of a jitted function each."""
        plan = self.reader.plan
        rows = self.share.world_size if self.sharding is not None else 1
        return list(
            dict.fromkeys((rows * self.share.rows(index), plan.phases[index].seq_len) for index, _ in plan.order)
        )

    def _examples(self, batches: Iterator[Batch]) -> Iterator[tuple[Cursor, Arrays]]:
        for batch in batches:
            arrays = self._of_process(batch)
            if self.sharding is not None:
                arrays = {name: self._global(array) for name, array in arrays.items()}
            yield batch.cursor, arrays

    def _of_process(self, batch: Batch) -> Arrays:
        """Fresh memory each time: JAX on a CPU may keep numpy's instead of copying it."""
        arrays: Arrays = {
            "inputs": batch.inputs.astype(np.int32),
            "targets": batch.targets.astype(np.int32),
            "mask": np.array(batch.has_target),
        }
        if self.documents:
            positions = batch.varlen.position_ids.astype(np.int32)
            arrays["positions"] = positions
            arrays["segments"] = np.cumsum(positions == 0, axis=1, dtype=np.int32)
        return arrays

    def _global(self, array: np.ndarray[Any, Any]) -> Any:
        try:
            import jax  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise ImportError(
                f"curriculum.adapters.jax needs jax for a sharding ({error}); install it with: pip install jax"
            ) from error
        shape = (len(array) * self.share.world_size, array.shape[1])
        return jax.make_array_from_process_local_data(self.sharding, array, shape)  # type: ignore[no-untyped-call, unused-ignore]

    def _require_devices_divide(self, blocks: list[tuple[int, int]]) -> None:
        for index, phase in enumerate(self.reader.plan.phases):
            rows = self.share.rows(index) * self.share.world_size
            if rows % len(blocks):
                raise CursorError(
                    f"{self.reader.where}: micro-batches of phase {index} (length {phase.seq_len}) have {rows} rows, "
                    f"and the sharding cuts rows into {len(blocks)} parts, which do not divide them; use fewer "
                    f"devices or micro-batches, or build with --rows-multiple-of {len(blocks)}."
                )

    def __repr__(self) -> str:
        return (
            f"CurriculumLoader({self.reader!r}, rank={self.share.rank}, world_size={self.share.world_size}, "
            f"step={self._cursor.step})"
        )


def rows_of_process(sharding: Any) -> tuple[int, int]:
    """`(rank, world_size)`: which part of the rows the devices of this process hold.

    Processes that hold the same rows (they share a model's layers or a row's tokens) have the same rank here.

    Raises:
        ConfigError: the devices of this process hold rows that are not consecutive, or not an even part.
    """
    probe = _probe(sharding)
    blocks = _row_blocks(sharding.addressable_devices_indices_map, probe)
    start, stop = blocks[0][0], blocks[-1][1]
    rows = sum(end - begin for begin, end in blocks)
    if stop - start != rows or start % rows or probe[0] % rows:
        raise ConfigError(
            f"the sharding gives this process rows {', '.join(f'{a} to {b}' for a, b in blocks)} of every {probe[0]}, "
            f"not one even part of them. Order the mesh so that the devices of a process are neighbours along its "
            f"data axis, as in Mesh(np.array(jax.devices()), ('data',))."
        )
    return start // rows, probe[0] // rows


def local_rows(array: Any) -> np.ndarray[Any, Any]:
    """The rows of a global array that this process holds, in their order, as numpy: [rows of this process, ...]."""
    shards = {shard.index[0].indices(array.shape[0])[0]: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[first]) for first in sorted(shards)])


def _probe(sharding: Any) -> tuple[int, int]:
    """A shape that every sharding over these devices can cut."""
    devices = len(sharding.device_set)
    return devices, devices


def _row_blocks(indices_map: Any, probe: tuple[int, int]) -> list[tuple[int, int]]:
    """Distinct half-open ranges of the probe's rows that devices hold, growing."""
    return sorted({index[0].indices(probe[0])[:2] for index in indices_map(probe).values()})
