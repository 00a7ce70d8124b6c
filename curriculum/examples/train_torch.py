"""Train a small GPT on a curriculum dataset with DistributedDataParallel, on CPUs or GPUs. One JSON line per step."""

import argparse
import contextlib
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from curriculum import doctor
from curriculum.adapters.pytorch import CurriculumDataset, lr_lambda


class TinyGPT(nn.Module):
    """Two layers. It knows the longest length, but not that there is a curriculum."""

    def __init__(self, vocab_size, max_seq_len, width=64, layers=2, heads=4):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(max_seq_len, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, input_ids):
        seq_len = input_ids.shape[1]
        x = self.tokens(input_ids) + self.positions.weight[:seq_len]
        mask = nn.Transformer.generate_square_subsequent_mask(seq_len, device=x.device)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.norm(x) @ self.tokens.weight.T


def steps(dataset):
    """The micro-batches of each optimizer step that remains."""
    micro_batches = []
    for batch in dataset:
        micro_batches.append(batch)
        if dataset.cursor.row == 0:  # the global batch is complete
            yield micro_batches
            micro_batches = []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", type=Path, help="folder: continue from it if it holds one, and save there")
    parser.add_argument("--stop-before", type=int, help="end before this step, as a job that ran out of time")
    parser.add_argument("--micro-batches", type=int, help="per step and rank; default 1")
    args = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()

    dataset = CurriculumDataset(
        args.dataset, rank=rank, world_size=world_size, micro_batches=args.micro_batches, device=device
    )
    plan = dataset.reader.plan
    torch.manual_seed(0)
    model = DistributedDataParallel(TinyGPT(dataset.reader.manifest.tokenizer.vocab_size, plan.max_seq_len).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    warmup_steps = min(10, plan.total_steps - 1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda(plan, warmup_steps=warmup_steps))

    path = args.checkpoint and args.checkpoint / "checkpoint.pt"
    if path and path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model.module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        dataset.load_state_dict(saved["data"])  # one cursor, whoever saved it, for any number of ranks

    step = dataset.cursor.step
    stop = plan.total_steps if args.stop_before is None else args.stop_before
    for micro_batches in steps(dataset) if step < stop else ():
        # Ranks and micro-batches of packed rows differ in targets: a mean of their means would be wrong.
        num_targets = sum((batch["labels"] >= 0).sum() for batch in micro_batches)
        dist.all_reduce(num_targets)
        step_loss = torch.zeros((), device=device)
        for i, batch in enumerate(micro_batches):
            labels = batch["labels"]
            last = i + 1 == len(micro_batches)
            with contextlib.nullcontext() if last else model.no_sync():  # gradients travel once a step
                logits = model(batch["input_ids"])
                # The labels are shifted already: no logits[:, :-1], no labels[:, 1:].
                loss_sum = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
                # DistributedDataParallel takes the mean of the ranks' gradients; their sum is wanted.
                (loss_sum * world_size / num_targets).backward()
            step_loss += loss_sum.detach() / num_targets
            doctor.record(batch, logits=logits, loss=loss_sum / (labels >= 0).sum())
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        dist.all_reduce(step_loss)
        if rank == 0:
            print(json.dumps({"step": step, "seq_len": labels.shape[1], "loss": step_loss.item()}), flush=True)
        step += 1
        if step == stop:
            break

    if path and rank == 0:
        state = {
            "model": model.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "data": dataset.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)  # a job killed while it saves leaves the last checkpoint whole
    del model  # before its process group: freed after it, DDP was seen to hang at exit
    dist.barrier()  # a thread of gloo frees its last tensor meanwhile; in an interpreter that ends, that aborts
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
