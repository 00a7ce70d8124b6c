"""The loss on held-out rows, at full length whatever the step trains.

In:  a model and a dataset.   Out: mean loss over all held-out targets, nats; the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.widened import Example
from curriculum.training.processes import Processes

LossSum = Callable[[Example], torch.Tensor]
"""An example -> sum of the losses of its targets, a tensor of one element."""


def validation_loss(loss_sum: LossSum, dataset: CurriculumDataset, rows: int, among: Processes) -> float:
    """Losses and targets are summed over all batches and processes: a mean of means would weigh them wrong."""
    total = torch.zeros(2, device=among.device, dtype=torch.float64)  # losses, targets
    with torch.no_grad():
        for example in dataset.validation(rows):
            total[0] += loss_sum(example)
            total[1] += (example["labels"] >= 0).sum()
    losses, targets = among.sum(total).tolist()
    return float(losses / targets)
