"""JAX: data parallel over the devices of all processes. Prints one JSON line per step.

    torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_jax DATASET --checkpoint DIR

torchrun only starts the processes and numbers them; nothing of torch is imported.
"""

import argparse
import functools
import json
import os
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from curriculum import doctor
from curriculum.adapters.jax import CurriculumLoader, local_rows

LEARNING_RATE = 2.0


def join_processes():
    """torchrun says in variables who we are. On TPUs and Slurm `jax.distributed.initialize()` finds out itself."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # MASTER_PORT is torchrun's own. Every process can compute this one; systems hand out none below 32,768.
    run = f"{os.environ.get('TORCHELASTIC_RUN_ID')} {os.environ['MASTER_PORT']}"
    port = 10_000 + zlib.crc32(run.encode()) % 20_000
    jax.distributed.initialize(
        f"{os.environ['MASTER_ADDR']}:{port}",
        int(os.environ["WORLD_SIZE"]),
        int(os.environ["RANK"]),
        local_device_ids=[int(os.environ["LOCAL_RANK"])],  # else each process takes every GPU of the machine
    )


@jax.jit  # compiled once for each of loader.shapes
@functools.partial(jax.grad, has_aux=True)
def gradients(params, batch):
    """Of the sum of losses over the rows of all processes; also the losses of each row, and the logits."""
    logits = params["embedding"][batch["inputs"]] @ params["head"]
    of_targets = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], axis=-1)[..., 0]
    losses = jnp.where(batch["mask"], -of_targets, 0.0).sum(axis=1)
    return losses.sum(), (losses, logits)


@jax.jit
def update(params, sums, num_targets):
    return jax.tree.map(lambda value, total: value - LEARNING_RATE * total / num_targets, params, sums)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder to continue from, and to save to")
    parser.add_argument("--stop-before", type=int, help="end before this step, as a job that ran out of time")
    parser.add_argument("--micro-batches", type=int, default=1)
    args = parser.parse_args()
    join_processes()
    mesh = Mesh(np.array(jax.devices()), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())
    rows_over_devices = NamedSharding(mesh, PartitionSpec("data"))
    loader = CurriculumLoader(args.dataset, sharding=rows_over_devices, micro_batches=args.micro_batches)

    vocab_size, random = loader.reader.manifest.tokenizer.vocab_size, np.random.default_rng(0)
    params = {
        "embedding": random.normal(0, 1, (vocab_size, 32)).astype(np.float32),
        "head": random.normal(0, 0.02, (32, vocab_size)).astype(np.float32),
    }
    file = args.checkpoint / "checkpoint.npz"
    if file.exists():
        with np.load(file) as saved:
            params = {name: saved[name] for name in params}
            loader.load_state_dict(json.loads(str(saved["cursor"])))
    params = jax.device_put(params, replicated)

    step, total, sums = loader.cursor.step, 0.0, None
    num_steps = len(loader.reader) if args.stop_before is None else args.stop_before
    num_targets = 0
    for batch in loader if step < num_steps else ():
        grads, (losses, logits) = gradients(params, batch)
        sums = grads if sums is None else jax.tree.map(jnp.add, sums, grads)
        num_targets += int(batch["mask"].sum())  # of all processes; packed rows have unequal numbers
        total += float(losses.sum())
        inputs, targets, mask = (local_rows(batch[name]) for name in ("inputs", "targets", "mask"))
        mean = local_rows(losses).sum() / mask.sum()
        doctor.record((inputs, np.where(mask, targets, -100)), logits=local_rows(logits), loss=mean)
        if loader.cursor.row:
            continue  # a micro-batch is left in this step
        params = update(params, sums, num_targets)
        if jax.process_index() == 0:
            print(json.dumps({"step": step, "seq_len": inputs.shape[1], "loss": total / num_targets}), flush=True)
        step, total, num_targets, sums = loader.cursor.step, 0.0, 0, None
        if step == num_steps:
            break

    if jax.process_index() == 0:
        args.checkpoint.mkdir(parents=True, exist_ok=True)
        aside = args.checkpoint / "aside.npz"
        np.savez(aside, cursor=json.dumps(loader.state_dict()), **jax.device_get(params))
        aside.replace(file)


if __name__ == "__main__":
    main()
