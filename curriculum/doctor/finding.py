"""What the doctor found, as values.

In:  nothing.   Out: `Finding` and `RunSummary`, plain enough for `--json`.
Guarantee: `kind` is stable, `message` is a sentence that says what happened and what to do about it.

    Finding(kind="same-rows", run=0, step=0, rank=1, message="All 2 ranks were given the same rows ...")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KINDS = {
    "missing-rank": "the log lacks a rank",
    "other-dataset": "no row that reached the model is in the dataset",
    "wrong-length": "rows have another length than the plan's",
    "same-rows": "all ranks were given the same rows",
    "other-rank": "a rank was given the rows of another one",
    "world-size": "the loader was told another number of ranks",
    "micro-batches": "micro-batches were split, merged or cut elsewhere",
    "recorded-twice": "every micro-batch came several times in a row",
    "shuffled": "the order of the plan is lost",
    "dropped": "batches are missing again and again",
    "skipped": "batches are missing at one place",
    "repeated": "batches came a second time",
    "restart": "a resumed run began at the beginning",
    "skipped-at-resume": "batches between two runs never reached the model",
    "repeated-at-resume": "batches were trained on before and after the checkpoint",
    "resume-place": "a run resumed where no micro-batch had ended",
    "padding": "rows that the plan does not have, at the end",
    "changed-rows": "rows that are not in the dataset, among others that are",
    "uneven-ranks": "ranks ended at different places",
    "ended-early": "a run ended before the step that was asked for",
    "ran-on": "a run went beyond the step that was asked for",
    "labels-missing": "the batches have no labels",
    "labels-not-shifted": "labels equal the inputs",
    "labels-shifted-twice": "labels are shifted once too often",
    "labels-unmasked": "labels that should be -100 are not",
    "labels-masked": "labels that should count are -100",
    "labels-wrong": "labels are something else",
    "double-shift": "the model shifted labels that were shifted already",
    "mask-hides-pieces": "an all-ones attention_mask hides packed position_ids",
}
"""Every kind of finding, in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong with a run."""

    kind: str
    """a key of `KINDS`"""
    run: int
    """number of the log, from 0"""
    step: int | None
    """the plan's step at which it shows first; None if it belongs to no step"""
    rank: int | None
    """None if it is not about one rank"""
    message: str

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"kind": self.kind, "run": self.run, "step": self.step, "rank": self.rank, "message": self.message}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """Where a run began and ended, by the count of its rows."""

    log: str
    world_size: int
    num_calls: int
    """micro-batches of all ranks"""
    start: tuple[int, int]
    """(step, row) of the first micro-batch"""
    stop: tuple[int, int]
    """(step, row) after the last one that all ranks had"""
    micro_batches: tuple[tuple[int, int], ...]
    """(seq_len, micro-batches per step), once for every pair, in order"""
    loss: str
    """"plain": equals cross-entropy; "shifted": that of labels shifted again; "other"; "undecided"; "not recorded" """

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "log": self.log,
            "world_size": self.world_size,
            "micro_batches_recorded": self.num_calls,
            "start": {"step": self.start[0], "row": self.start[1]},
            "stop": {"step": self.stop[0], "row": self.stop[1]},
            "micro_batches": [{"seq_len": seq_len, "per_step": count} for seq_len, count in self.micro_batches],
            "loss": self.loss,
        }
