"""Lightning resumes the model; a plain DataLoader has no state, and the data begin at step 0 again, without a word."""

import sys

from lightning_loader import example, fit
from torch.utils.data import DataLoader, IterableDataset

import curriculum

reader = curriculum.open(sys.argv[1])


class Steps(IterableDataset):
    def __iter__(self):
        return map(example, reader.steps())


fit(reader, DataLoader(Steps(), batch_size=None), sys.argv[2])
