"""A Hugging Face Trainer that is right but for what each script passes to it.

In:  the arguments of a wrong script.   Out: a Trainer on one process, 12 steps.
"""

import torch
from tiny_llama import llama
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

RIGHT = {
    "max_steps": 12,
    "per_device_train_batch_size": 1,
    "train_sampling_strategy": "sequential",
    "remove_unused_columns": False,
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "save_strategy": "no",
}


class Steps(Dataset):
    """One item is one whole step."""

    def __init__(self, reader, keys):
        self.reader, self.keys = reader, keys

    def __len__(self):
        return len(self.reader)

    def __getitem__(self, step):
        batch = self.reader[step]
        labels = torch.from_numpy(batch.labels)
        item = {"input_ids": torch.from_numpy(batch.inputs.astype("int64")), "labels": labels, "shift_labels": labels}
        return {key: item[key] for key in self.keys}


def trainer(reader, folder, keys=("input_ids", "labels", "shift_labels"), **wrong):
    """The Trainer; `wrong` replaces arguments that are right."""
    args = TrainingArguments(folder, **{**RIGHT, **wrong})
    return Trainer(llama(reader), args, train_dataset=Steps(reader, keys), data_collator=lambda items: items[0])
