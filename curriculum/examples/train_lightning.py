"""Lightning: a model of two layers on one or more processes. `train_torch` has the same command line.

torchrun --standalone --nproc-per-node 2 -m curriculum.examples.train_lightning DATASET --checkpoint DIR
"""

import argparse
import json
import os
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn import functional as F

import curriculum.doctor
from curriculum.adapters.lightning import CurriculumDataModule


class Model(LightningModule):
    def __init__(self, vocab_size):
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(vocab_size, 32), nn.Linear(32, vocab_size))
        self.register_buffer("sums", torch.zeros(2), persistent=False)  # of this step: loss, labels

    def training_step(self, batch):
        logits = self.layers(batch["input_ids"])
        # The labels are shifted already: no logits[:, :-1], no labels[:, 1:].
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
        num_labels = (batch["labels"] >= 0).sum()
        curriculum.doctor.record(batch, logits=logits, loss=loss / num_labels)
        self.sums += torch.stack((loss.detach(), num_labels))
        self.seq_len = batch["input_ids"].shape[1]
        return loss * self.trainer.accumulate_grad_batches  # Lightning divides by it

    def on_before_optimizer_step(self, optimizer):
        # Micro-batches and ranks of packed rows have unequal numbers of labels: divide the gradient of the summed loss
        # by the labels of the whole step. The strategy averaged over the ranks, so take the average of both sums.
        loss, num_labels = self.trainer.strategy.reduce(self.sums.clone(), reduce_op="mean")
        for parameter in self.parameters():
            parameter.grad /= num_labels
        self.log("loss", loss / num_labels, batch_size=1)
        self.log("grad_norm", torch.nn.utils.get_total_norm([p.grad for p in self.parameters()]), batch_size=1)
        if self.global_rank == 0:
            record = {"step": self.global_step, "seq_len": self.seq_len, "loss": (loss / num_labels).item()}
            print(json.dumps(record), flush=True)
        self.sums.zero_()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder to continue from, and to save to")
    parser.add_argument("--stop-before", type=int, help="end before this step, as a job that ran out of time")
    parser.add_argument("--micro-batches", type=int, default=1, help="per optimizer step and process")
    args = parser.parse_args()

    torch.manual_seed(0)
    data = CurriculumDataModule(args.dataset)
    saved = args.checkpoint / "last.ckpt"
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of torchrun, on this machine
    trainer = Trainer(
        devices=processes,
        num_nodes=int(os.environ.get("WORLD_SIZE", 1)) // processes,
        max_steps=len(data.reader) if args.stop_before is None else args.stop_before,
        accumulate_grad_batches=args.micro_batches,
        default_root_dir=args.checkpoint,
        logger=False,
        enable_checkpointing=False,  # or ModelCheckpoint(save_last=True, every_n_train_steps=1000)
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Model(data.reader.manifest.tokenizer.vocab_size)
    trainer.fit(model, datamodule=data, ckpt_path=saved if saved.exists() else None)
    trainer.save_checkpoint(saved)


if __name__ == "__main__":
    main()
