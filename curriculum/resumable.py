"""One rank's micro-batches as an iterable whose whole state is a cursor: what every loader of an adapter is.

In:  a reader and a share.   Out: whatever the adapter makes of each batch; `state_dict`, `load_state_dict`, `len`.
Guarantee: the state is that after the batch that was handed out last, however far an adapter reads ahead; it is the
same on every rank and fits every world size. Every `iter` begins at the state that was loaded last, or at step 0; a
pass that reached the end makes the next one begin at step 0.

    class Loader(Resumable[Arrays]):
        def _examples(self, batches):
            return ((batch.cursor, convert(batch)) for batch in batches)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from curriculum.batch import Batch
from curriculum.cursor import Cursor
from curriculum.reader import Reader
from curriculum.share import Share

Example = TypeVar("Example")


class Resumable(Generic[Example]):
    """See the module. A subclass defines `_examples`."""

    def __init__(self, reader: Reader, share: Share) -> None:
        """Stand at step 0; nothing is read yet."""
        self.reader = reader
        self.share = share
        self._start = self._cursor = Cursor(reader.id, 0)

    def __iter__(self) -> Iterator[Example]:
        """What remains.

        Raises:
            CursorError: at once, if the share does not fit every remaining step.
        """
        batches = self._batches(self._start)
        self._cursor = self._start
        return self._handed_out(batches)

    def __len__(self) -> int:
        """Micro-batches of one whole pass over the dataset, whatever was loaded.

        Trainers compare it with a count that includes the batches before a restart (Lightning), or compute epochs from
        it (Hugging Face); a number that shrank after a restart would end training early.
        """
        return len(self.share)

    @property
    def cursor(self) -> Cursor:
        """The state after the last batch that was handed out; a step is complete when its `row` is 0."""
        return self._cursor

    def state_dict(self) -> dict[str, Any]:
        """The cursor as plain values: save it on any one rank, load it on all, on any number of them."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; takes effect at the next `iter`.

        Raises:
            CursorError: at once: the state is of another dataset, or the share does not fit it.
        """
        cursor = Cursor.from_state_dict(state)
        self._batches(cursor)
        self._start = self._cursor = cursor

    def _batches(self, start: Cursor) -> Iterator[Batch]:
        return self.reader.stream(start, self.share)

    def _handed_out(self, batches: Iterator[Batch]) -> Iterator[Example]:
        for cursor, example in self._examples(batches):
            self._cursor = cursor
            yield example
        self._start = Cursor(self.reader.id, 0)

    def _examples(self, batches: Iterator[Batch]) -> Iterator[tuple[Cursor, Example]]:
        """Each batch as the trainer wants it, and the cursor after it."""
        raise NotImplementedError
