"""DeepSpeed: a model of two layers on one or more processes. `train_torch` has the same command line.

torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_deepspeed DATASET --checkpoint DIR
"""

import argparse
import json
from pathlib import Path

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import nn
from torch.nn import functional as F

import curriculum.doctor
from curriculum.adapters.deepspeed import dataset_for


def whole_steps(dataset):
    micro_batches = []
    for batch in dataset:
        micro_batches.append(batch)
        if dataset.cursor.row == 0:  # that was the last of the step
            yield micro_batches
            micro_batches = []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder to continue from, and to save to")
    parser.add_argument("--stop-before", type=int, help="end before this step, as a job that ran out of time")
    parser.add_argument("--micro-batches", type=int, default=1, help="per optimizer step and process")
    parser.add_argument("--zero-stage", type=int, default=0, help="0 can continue on another number of processes")
    args = parser.parse_args()

    reader = curriculum.open(args.dataset)
    plan, vocab_size = reader.plan, reader.manifest.tokenizer.vocab_size
    if get_accelerator().device_name() == "cpu":
        deepspeed.ops.__compatible_ops__ = {}  # else an operator is compiled first, 47 s, which gloo does without
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(vocab_size, 32), nn.Linear(32, vocab_size))
    config = {
        "train_batch_size": plan.phases[0].rows_per_step,  # kept up to date if later phases have other rows
        "gradient_accumulation_steps": args.micro_batches,
        "gradient_clipping": 1.0,  # the default, too
        "zero_optimization": {"stage": args.zero_stage},
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    dataset = dataset_for(engine, reader, device=engine.device)
    path, saved = engine.load_checkpoint(args.checkpoint) if args.checkpoint.exists() else (None, {})
    if path:
        dataset.load_state_dict(saved["curriculum"])

    step = dataset.cursor.step
    stop = plan.total_steps if args.stop_before is None else args.stop_before
    for micro_batches in whole_steps(dataset) if step < stop else ():
        # Micro-batches and ranks of packed rows have unequal numbers of labels: divide by those of the whole step.
        sums = torch.zeros(2, device=engine.device)  # loss, labels
        sums[1] = sum((batch["labels"] >= 0).sum() for batch in micro_batches)
        dist.all_reduce(num_labels := sums[1].clone())
        for batch in micro_batches:
            logits = engine(batch["input_ids"])
            # The labels are shifted already: no logits[:, :-1], no labels[:, 1:].
            loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
            curriculum.doctor.record(batch, logits=logits, loss=loss / (batch["labels"] >= 0).sum())
            # The engine averages over the ranks. It need not divide by the accumulation steps.
            engine.backward(loss * engine.dp_world_size / num_labels, scale_wrt_gas=False)
            engine.step()  # steps after the last micro-batch
            sums[0] += loss.detach()
        dist.all_reduce(sums)
        if dist.get_rank() == 0:
            line = {"step": step, "seq_len": batch["labels"].shape[1], "loss": (sums[0] / sums[1]).item()}
            print(json.dumps(line), flush=True)
        step += 1
        if step == stop:
            break
    engine.save_checkpoint(args.checkpoint, client_state={"curriculum": dataset.state_dict()})
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
