"""Runs in a process of its own, on four devices of one CPU: what the adapter does with JAX, as JSON.

Not in the process of the tests: once JAX has started its threads, every later `os.fork` there warns, and may deadlock.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python jax_probe.py DATASET
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from curriculum.adapters.jax import CurriculumLoader, local_rows

FOUR = np.array(jax.devices())
MESHES = {
    "rows": NamedSharding(Mesh(FOUR, ("data",)), PartitionSpec("data")),
    "backwards": NamedSharding(Mesh(FOUR[::-1], ("data",)), PartitionSpec("data")),
    "rows and model": NamedSharding(Mesh(FOUR.reshape(2, 2), ("data", "model")), PartitionSpec("data")),
    "rows and tokens": NamedSharding(Mesh(FOUR.reshape(2, 2), ("data", "seq")), PartitionSpec("data", "seq")),
    "replicated": NamedSharding(Mesh(FOUR, ("data",)), PartitionSpec()),
}


def global_arrays(dataset: str) -> dict[str, Any]:
    """The first four steps under each sharding: the whole array, and what `local_rows` collects of it."""
    found = {}
    for name, sharding in MESHES.items():
        batches = [batch for batch, _ in zip(CurriculumLoader(dataset, sharding=sharding), range(4), strict=False)]
        found[name] = {
            "inputs": [np.asarray(batch["inputs"]).tolist() for batch in batches],
            "sharded": all(array.sharding == sharding for batch in batches for array in batch.values()),
            "dtypes": [str(batches[0][key].dtype) for key in ("inputs", "targets", "mask")],
        }
    found["local"] = local_rows(next(iter(CurriculumLoader(dataset, sharding=MESHES["rows"])))["inputs"]).tolist()
    return found


def compilations(dataset: str) -> list[Any]:
    """Shapes for which a jitted function was traced in one pass, and those announced."""
    traced = []

    @jax.jit
    def step(inputs: Any) -> Any:
        traced.append(inputs.shape)
        return inputs.sum()

    loader = CurriculumLoader(dataset, sharding=MESHES["rows and model"], micro_batches=2)
    for batch in loader:
        step(batch["inputs"])
    return [traced, loader.shapes]


def first_loss(dataset: str) -> float:
    """Mean over the targets of the first step, as a loop of JAX computes it; the logits are random."""
    batch = next(iter(CurriculumLoader(dataset)))
    logits = np.random.default_rng(0).normal(size=(*batch["inputs"].shape, 257))
    log_p = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))
    losses = -jnp.take_along_axis(log_p, jnp.asarray(batch["targets"])[..., None], axis=-1)[..., 0]
    return float(jnp.where(batch["mask"], losses, 0.0).sum() / batch["mask"].sum())


def main(dataset: str) -> None:
    facts = {"global": global_arrays(dataset), "shapes": compilations(dataset), "loss": first_loss(dataset)}
    print(json.dumps(facts))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
