"""`curriculum doctor`: did the rows that a run trained on reach the model in the plan's order?

In:  what a training loop hands to its model, one call of `record` for each micro-batch.
Out: a log, one folder per run, one file per rank; `curriculum doctor --check` compares it with the dataset.
Guarantee: without the environment variable CURRICULUM_DOCTOR_LOG a call does nothing and takes under a microsecond;
nothing heavy is imported before it is set, and torch never.

    for batch in loader:                                    CURRICULUM_DOCTOR_LOG=log/1 torchrun my_train.py
        logits, loss = model(batch)                         curriculum doctor --check log/1 DATASET
        curriculum.doctor.record(batch, logits=logits, loss=loss)

`recorder` writes a log of `digests` and of the loss (`cross_entropy`), `run_log` reads it, `run_trace` lays it beside
the `planned_rows`. `check` compares them: what differs is a `case`; `causes` (with `order_causes` and `sharing_causes`)
and `labels` say why, and each answer is a `finding`.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["LOG_VARIABLE", "record"]

LOG_VARIABLE = "CURRICULUM_DOCTOR_LOG"
"""The environment variable that names the folder of a run's log."""


def record(batch: Any, *, logits: Any = None, loss: Any = None) -> None:
    """Note what the model was given; does nothing unless CURRICULUM_DOCTOR_LOG names a folder.

    Args:
        batch: a mapping with `input_ids` (or `input`) and `labels`, perhaps also `shift_labels`, `attention_mask` and
            `position_ids`; or a pair (inputs, labels), of which the first may be such a mapping; or a `Batch` of the
            reader. Integers [rows, seq_len], arrays or tensors of any framework. The model's batch as it is, before
            rows are laid end to end.
        logits: what the model answered, [rows, seq_len, vocabulary]; not with a vocabulary that ranks share.
        loss: mean over the targets of this micro-batch, a number or a tensor. With `logits` too, labels that the model
            shifts a second time are found.

    Raises:
        ConfigError: `batch` is nothing of that, or the folder holds the log of an earlier process.
    """
    folder = os.environ.get(LOG_VARIABLE)
    if folder:
        from curriculum.doctor.recorder import write_record  # numpy loads only here

        write_record(folder, batch, logits=logits, loss=loss)
