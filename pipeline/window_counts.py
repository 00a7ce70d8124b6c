"""What packing did in one window or in many: where tokens went, per phase and in all.

In:  the pieces of a window.   Out: `WindowCounts`, which add up over windows and survive an interruption as JSON.
Guarantee: padding + boundary slots + targets = slots, for every phase; nothing is estimated.

    2 rows of 4 targets, pieces of 5, 3 and 2 tokens     pieces {0: 3}, targets {0: 7}, 1 slot of 8 without a target
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from curriculum.plan import Plan
from pipeline.order import IntArray
from pipeline.pieces import PackingCounts, Pieces


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowCounts:
    """All zero for rows that are not packed."""

    packing: PackingCounts | None = None
    context_tokens: int = 0
    """first tokens of documents: inputs, never targets"""
    pieces: dict[int, int] = field(default_factory=dict)
    """by phase index"""
    targets: dict[int, int] = field(default_factory=dict)
    """by phase index"""

    @property
    def padding_tokens(self) -> int:
        """Slots without a target: padding, and the places where another piece begins."""
        return 0 if self.packing is None else self.packing.padding_slots + self.packing.boundary_slots

    @property
    def dropped_tokens(self) -> int:
        """Targets that found no place."""
        return 0 if self.packing is None else self.packing.dropped_targets

    def __add__(self, other: WindowCounts) -> WindowCounts:
        one, two = self.packing, other.packing
        return WindowCounts(
            packing=one + two if one and two else one or two,
            context_tokens=self.context_tokens + other.context_tokens,
            pieces=dict(Counter(self.pieces) + Counter(other.pieces)),
            targets=dict(Counter(self.targets) + Counter(other.targets)),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for the record of a window."""
        return {
            "packing": None if self.packing is None else asdict(self.packing),
            "context_tokens": self.context_tokens,
            "pieces": sorted(self.pieces.items()),
            "targets": sorted(self.targets.items()),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> WindowCounts:
        """What `to_json` wrote."""
        packing = value["packing"]
        return cls(
            packing=None if packing is None else PackingCounts(**packing),
            context_tokens=value["context_tokens"],
            pieces=dict(value["pieces"]),
            targets=dict(value["targets"]),
        )

    def summary(self, plan: Plan) -> dict[str, Any] | None:
        """Ratios of the whole and of each phase, for reports; None where rows are not packed."""
        if self.packing is None:
            return None
        return {
            "padding_ratio": self.packing.padding_ratio,
            "truncation_ratio": self.packing.truncation_ratio,
            "concatenation_ratio": self.packing.concatenation_ratio,
            "documents": self.packing.documents,
            "documents_split": self.packing.documents_split,
            "documents_truncated": self.packing.documents_truncated,
            "dropped_targets": self.packing.dropped_targets,
            "phases": [
                {
                    "seq_len": phase.seq_len,
                    "padding_ratio": _padding(phase.num_rows, phase.num_tokens, self.pieces[i], self.targets[i]),
                    "concatenation_ratio": self.pieces[i] / phase.num_rows,
                }
                for i, phase in enumerate(plan.phases)
            ],
        }


def _padding(rows: int, slots: int, pieces: int, targets: int) -> float:
    """Slots whose next token is padding: without the ones whose next token begins another piece."""
    return (slots - targets - (pieces - rows)) / slots


def count_window(packing: PackingCounts, pieces: Pieces, starts: IntArray) -> WindowCounts:
    """Counts of a window whose documents begin at `starts` of the stream."""
    of_phase = np.bincount(pieces.phase)
    targets = np.bincount(pieces.phase, pieces.num_tokens - 1).astype(np.int64)
    phases = np.flatnonzero(of_phase).tolist()
    return WindowCounts(
        packing=packing,
        context_tokens=int(np.count_nonzero(pieces.offset == starts[pieces.document])),
        pieces={phase: int(of_phase[phase]) for phase in phases},
        targets={phase: int(targets[phase]) for phase in phases},
    )
