"""Where training stands: three values, the same on every rank and for every world size.

In:  a finished batch, or a checkpoint.   Out: the step and row to continue with.
Guarantee: nothing else is needed to resume, on any number of processes.

    Cursor("sha256:4f...", 180000)       the next batch is step 180,000
"""

from __future__ import annotations

from typing import Any, NamedTuple

from curriculum.errors import CursorError


class Cursor(NamedTuple):
    """Where training stands: the whole resume state. A tuple, since every batch has one: 0.2 us instead of 0.8."""

    dataset_id: str
    step: int
    """the global step to continue with"""
    row: int = 0
    """rows of that step's global batch that were consumed already"""

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"dataset_id": self.dataset_id, "step": self.step, "row": self.row}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Cursor:
        """The cursor that `state_dict` described.

        Raises:
            CursorError: the state is not a cursor.
        """
        try:
            dataset_id, step, row = state["dataset_id"], state["step"], state["row"]
        except (KeyError, TypeError):
            raise CursorError(f"not a cursor: {state!r}, expected dataset_id, step and row.") from None
        if not (isinstance(dataset_id, str) and _is_count(step) and _is_count(row)):
            raise CursorError(f"not a cursor: {state!r}, expected a string and two integers that are not negative.")
        return cls(dataset_id, step, row)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
