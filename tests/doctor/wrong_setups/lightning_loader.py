"""A Lightning Trainer on one process that saves in the middle and resumes; the loader is the script's.

In:  a loader.   Out: 6 steps at the first start, from the checkpoint to step 12 at the second.
"""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn import functional as F

from curriculum import doctor


class Model(LightningModule):
    def __init__(self, reader):
        super().__init__()
        vocab_size = reader.manifest.tokenizer.vocab_size
        self.layers = nn.Sequential(nn.Embedding(vocab_size, 16), nn.Linear(16, vocab_size))

    def training_step(self, batch):
        logits = self.layers(batch["input_ids"])
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
        doctor.record(batch, logits=logits, loss=loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def example(batch):
    """Tensors of a batch of the reader."""
    return {"input_ids": torch.from_numpy(batch.inputs.astype("int64")), "labels": torch.from_numpy(batch.labels)}


def fit(reader, loader, folder):
    """Train up to step 6 and save there, or from there up to step 12."""
    saved = Path(folder) / "saved.ckpt"
    again = saved.exists()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=12 if again else 6,
        default_root_dir=folder,
        enable_checkpointing=False,
        **quiet,
    )
    trainer.fit(Model(reader), loader, ckpt_path=saved if again else None)
    trainer.save_checkpoint(saved)
