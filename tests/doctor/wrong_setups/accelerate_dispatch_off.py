"""A loader that knows its rank is given to accelerate, which takes every second batch of it for each of two ranks.

`prepare_data_loader` is what `accelerator.prepare` calls; here it is told the rank, so that one process shows it.
"""

import os
import sys

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, IterableDataset

import curriculum
from curriculum import doctor

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class MicroBatches(IterableDataset):
    """This rank's micro-batches of the first 12 steps."""

    def __iter__(self):
        for batch in curriculum.open(sys.argv[1]).steps(0, RANK, WORLD_SIZE):
            if batch.step == 12:
                break
            yield torch.from_numpy(batch.inputs.astype("int64")), torch.from_numpy(batch.labels)


loader = DataLoader(MicroBatches(), batch_size=1, collate_fn=lambda items: items[0])
for pair in prepare_data_loader(loader, num_processes=WORLD_SIZE, process_index=RANK, dispatch_batches=False):
    doctor.record(pair)
