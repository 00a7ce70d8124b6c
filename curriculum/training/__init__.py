"""A reference trainer: a GPT-2 on a compiled dataset, on one process or many. Read it, copy from it, or use it.

In:  a finished dataset and `Settings`.   Out: in the run's folder, a checkpoint and the log of its stability.
Guarantees: the same settings continue from the checkpoint, on any number of processes, as if the run had not stopped
(bit for bit on one CPU process); validation is at full length; the learning rate is decayed by trained tokens; the loss
of a step is the mean over its targets, however many micro-batches and processes share them.

    outcome = train(Settings(dataset="curriculum-data", out="run"))

In reading order: `settings` (what can be said), `run_folder` (one run at a time), `gpt2` (the model and its parameter
groups), `processes` (torchrun, or one process), `failures` (torch's, as sentences), `checkpoint`, `validation`, `loop`
(the run).
"""

from __future__ import annotations

try:
    from curriculum.training.loop import Outcome, train
except ImportError as error:
    raise ImportError(
        f"curriculum.training needs torch and transformers ({error}); "
        f"install them with: pip install 'seqlen-curriculum[train]'"
    ) from error
from curriculum.training.settings import Settings

__all__ = ["Outcome", "Settings", "train"]
