"""Which pieces of the stream a window of document mode reads."""

from __future__ import annotations

import numpy as np

from pipeline.document_rows import DocumentRows
from pipeline.stream import StreamPiece


def rows_of(counts: list[list[int]]) -> DocumentRows:
    """Rows of each bucket in each piece."""
    pieces = tuple(
        StreamPiece(epoch=0, partition=i, offset=100 * i, num_tokens=100, first_document=i) for i in range(len(counts))
    )
    before = np.concatenate((np.zeros((1, len(counts[0])), np.int64), np.cumsum(counts, axis=0)))
    return DocumentRows(buckets=(8, 16), pieces=pieces, rows_before=before)


def test_a_window_reads_what_it_owns_and_not_what_lies_between() -> None:
    """Short rows run ahead of long ones in a cycle: reading all pieces between them made cutting quadratic."""
    rows = rows_of([[4, 1]] * 100)
    assert rows.rows_by_length == {8: 400, 16: 100}
    assert rows.overlapping([(320, 328), (0, 2)]) == [0, 1, 80, 81]
    assert rows.overlapping([(321, 323), (5, 5)]) == [80]
    assert rows.overlapping([(0, 400), (0, 0)]) == list(range(100))
    assert rows.overlapping([(3, 3), (7, 7)]) == []


def test_pieces_without_a_row_of_the_bucket_are_passed_over() -> None:
    """An empty piece begins at the row at which the next one begins."""
    rows = rows_of([[0, 2], [0, 0], [3, 0], [0, 1]])
    assert rows.overlapping([(0, 1), (0, 0)]) == [2]
    assert rows.overlapping([(0, 0), (2, 3)]) == [3]
