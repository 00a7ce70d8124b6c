"""The rows of a dataset, numbered in training order, and their digests.

In:  a reader.   Out: digests of any run of rows, and where in the dataset a given digest belongs.
Guarantee: row numbers are arithmetic over the plan; rows are hashed when they are asked for, step by step, and the
digests of the last `_KEPT_STEPS` steps are kept. Searches are bounded: at most `MAX_SEARCHED_TOKENS` are hashed.

    3 steps of 4 rows     number(1, 2) is 6     place(6) is (1, 2)
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from curriculum.batch import Batch
from curriculum.doctor.digests import Digests, row_digests
from curriculum.reader import Reader

MAX_SEARCHED_TOKENS = 1 << 27
"""Some two seconds of hashing."""
_KEPT_STEPS = 1024
_BLOCK_STEPS = 128


class PlannedRows:
    """Rows of all steps end to end; see the module."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.plan = reader.plan
        order = self.plan.order
        self._first_steps = list(accumulate((steps for _, steps in order), initial=0))
        rows = (steps * self.plan.phases[phase].rows_per_step for phase, steps in order)
        self._first_rows = list(accumulate(rows, initial=0))
        self._of_step = lru_cache(maxsize=_KEPT_STEPS)(self._digests_of_step)
        self._index = lru_cache(maxsize=4)(self._make_index)
        self._labels_of_step = lru_cache(maxsize=_KEPT_STEPS)(self._label_digests_of_step)

    def __len__(self) -> int:
        """Rows of the whole plan."""
        return self._first_rows[-1]

    def number(self, step: int, row: int = 0) -> int:
        """Number of a step's row; also of the step after the last."""
        run = min(bisect_right(self._first_steps, step) - 1, len(self.plan.order) - 1)
        per_step = self.plan.phases[self.plan.order[run][0]].rows_per_step
        return self._first_rows[run] + (step - self._first_steps[run]) * per_step + row

    def place(self, number: int) -> tuple[int, int]:
        """`(step, row)` of a number; those beyond the end count on in steps of the last size."""
        run = min(bisect_right(self._first_rows, number) - 1, len(self.plan.order) - 1)
        per_step = self.plan.phases[self.plan.order[run][0]].rows_per_step
        steps, row = divmod(number - self._first_rows[run], per_step)
        return self._first_steps[run] + steps, row

    def rows_per_step(self, step: int) -> int:
        """Rows of a step's global batch."""
        return self.plan.phases[self.plan.locate(step)[0]].rows_per_step

    def seq_len(self, step: int) -> int:
        """Inputs of a step's rows."""
        return self.plan.phases[self.plan.locate(step)[0]].seq_len

    def digests(self, number: int, count: int) -> Digests | None:
        """Digests of the inputs of consecutive rows; None if the plan does not have them all."""
        if number < 0 or number + count > len(self):
            return None
        step, row = self.place(number)
        found = self._of_step(step)[row : row + count]
        if len(found) == count:
            return found
        parts, missing = [found], count - len(found)
        while missing:
            step += 1
            parts.append(self._of_step(step)[:missing])
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def label_digests(self, step: int, row: int, count: int) -> Digests:
        """Digests of the labels of consecutive rows of one step."""
        return self._labels_of_step(step)[row : row + count]

    def batch(self, step: int) -> Batch:
        """The global batch of a step."""
        return self.reader[step]

    def _digests_of_step(self, step: int) -> Digests:
        return row_digests(self.reader[step].inputs)

    def _label_digests_of_step(self, step: int) -> Digests:
        return row_digests(self.reader[step].labels)

    def _make_index(self, first_step: int, stop_step: int) -> _Index:
        hashed = [self._of_step(step) for step in range(first_step, stop_step)]
        return _Index(self.number(first_step), np.concatenate([np.empty(0, np.uint64), *hashed]))

    @cached_property
    def searched_steps(self) -> int:
        """Steps from the first one that searches look at: all of them, unless the dataset is large."""
        total = self.plan.total_steps
        if self.plan.total_tokens <= MAX_SEARCHED_TOKENS:
            return total
        return bisect_right(range(total), MAX_SEARCHED_TOKENS, key=self.plan.tokens_at)

    def find(self, wanted: Digests, near: int) -> int | None:
        """Where consecutive rows of the dataset have these digests: the number nearest to `near`, if there is one."""
        block = self.place(max(0, near))[0] // _BLOCK_STEPS
        first, stop = (block - 1) * _BLOCK_STEPS, (block + 2) * _BLOCK_STEPS
        total = self.plan.total_steps
        for index in (self._index(min(max(0, first), total), min(stop, total)), self._index(0, self.searched_steps)):
            numbers = index.find(wanted)
            if len(numbers):
                return int(numbers[np.abs(numbers - near).argmin()])
        return None


class _Index:
    """Digests of consecutive rows, sorted."""

    def __init__(self, first: int, values: Digests) -> None:
        self.first = first
        self.values = values
        self.sorting = np.argsort(values, kind="stable")
        self.sorted = values[self.sorting]

    def find(self, wanted: Digests) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Numbers at which all of `wanted` begin, growing."""
        if not len(wanted) or len(wanted) > len(self.values):
            return np.empty(0, np.int64)
        start = int(np.searchsorted(self.sorted, wanted[0], "left"))
        stop = int(np.searchsorted(self.sorted, wanted[0], "right"))
        candidates = np.sort(self.sorting[start:stop])
        candidates = candidates[candidates + len(wanted) <= len(self.values)]
        fits = [bool((self.values[at : at + len(wanted)] == wanted).all()) for at in candidates]
        found: np.ndarray[Any, np.dtype[np.int64]] = candidates[np.array(fits, bool)] + self.first
        return found
