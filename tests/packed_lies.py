"""Lies about packed rows, told with digests that fit: what is changed in which row, and what `verify` must say.

In:  a shard's columns and a row, or a dataset in which to find one.
Out: `LIES`, each with the row that tells it and the sentences of best-fit and of document mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from curriculum.manifest import load_manifest
from forged_shards import Columns, columns_of

Change = Callable[[Columns, int], None]
EOS = 256


@contextmanager
def undone(root: Path, *paths: str) -> Iterator[None]:
    """Put the manifest and these shards back afterwards."""
    before = {name: (root / name).read_bytes() for name in ("manifest.json", *paths)}
    try:
        yield
    finally:
        for name, content in before.items():
            (root / name).unlink()  # a new file: an open map of the old one stays whole
            (root / name).write_bytes(content)


Wanted = Callable[[Columns, int, bool], bool]
"""(columns, row, whether its first piece continues a document)"""


def shared(columns: Columns, row: int, continues: bool) -> bool:
    """A row that begins with two pieces of three tokens or more, the first of which continues a document."""
    sizes = np.diff([0, *columns.starts[row], columns.num_tokens[row]])
    return continues and len(sizes) >= 2 and min(sizes[:2]) >= 3


def padded(columns: Columns, row: int, continues: bool) -> bool:
    """A row with padding."""
    return bool(4 < columns.num_tokens[row] < columns.tokens.shape[1])


def full(columns: Columns, row: int, continues: bool) -> bool:
    """A row that one piece fills, from the middle of its document."""
    return continues and not columns.starts[row] and EOS not in columns.tokens[row]


def find_row(root: Path, wanted: Wanted) -> tuple[str, int]:
    """The first such row that is neither the first nor the last of its shard."""
    shards = {
        shard.path: columns_of(root, shard.path) for phase in load_manifest(root).phases for shard in phase.shards
    }
    ends = {end for columns in shards.values() for end in _ends(columns)}
    for path, columns in shards.items():
        for row in range(1, len(columns.starts) - 1):
            if wanted(columns, row, int(columns.offset[row]) in ends):
                return path, row
    raise AssertionError("no such row")


def _ends(columns: Columns) -> Iterator[int]:
    """Stream position of the last token of each piece."""
    assert columns.piece_offset is not None
    for row, starts in enumerate(columns.starts):
        sizes = np.diff([0, *starts, columns.num_tokens[row]]).tolist()
        offsets = [int(columns.offset[row]), *columns.piece_offset[row]]
        yield from (offset + size - 1 for offset, size in zip(offsets, sizes, strict=True))


def first_piece_later(c: Columns, row: int) -> None:
    c.offset[row] += 1


def first_piece_earlier(c: Columns, row: int) -> None:
    c.offset[row] -= 1


def second_piece_earlier(c: Columns, row: int) -> None:
    c.piece_offset[row][0] -= 1


def second_piece_later(c: Columns, row: int) -> None:
    c.piece_offset[row][0] += 1


def row_twice(c: Columns, row: int) -> None:
    for column in (c.tokens, c.starts, c.offset, c.document, c.num_tokens, c.piece_offset, c.piece_document):
        column[row + 1] = column[row]


def piece_twice(c: Columns, row: int) -> None:
    """The second piece of a row is the first once more."""
    size = min(c.starts[row][0], int(np.diff([*c.starts[row], c.num_tokens[row]])[0]))
    start = c.starts[row][0]
    c.tokens[row, start : start + size] = c.tokens[row, :size]
    c.piece_offset[row][0], c.piece_document[row][0] = int(c.offset[row]), int(c.document[row])


def later_document(c: Columns, row: int) -> None:
    c.document[row] += 1


def earlier_document(c: Columns, row: int) -> None:
    c.document[row] -= 1


def later_document_of_piece(c: Columns, row: int) -> None:
    c.piece_document[row][0] += 1


def impossible_document(c: Columns, row: int) -> None:
    c.document[row] = c.offset[row] + 1


def padding_of_text(c: Columns, row: int) -> None:
    c.tokens[row, -1] = 7


def one_token_more(c: Columns, row: int) -> None:
    c.num_tokens[row] += 1


def one_token_less(c: Columns, row: int) -> None:
    c.num_tokens[row] -= 1
    c.tokens[row, c.num_tokens[row]] = EOS


def boundary_later(c: Columns, row: int) -> None:
    c.starts[row][0] += 1


def boundary_earlier(c: Columns, row: int) -> None:
    c.starts[row][0] -= 1


def boundary_twice(c: Columns, row: int) -> None:
    for column in (c.starts, c.piece_offset, c.piece_document):
        column[row].append(column[row][-1])


def boundary_in_the_padding(c: Columns, row: int) -> None:
    c.starts[row].append(int(c.num_tokens[row]))
    c.piece_offset[row].append(int(c.offset[row]))
    c.piece_document[row].append(int(c.document[row]))


def eos_inside(c: Columns, row: int) -> None:
    c.tokens[row, 2] = EOS


def another_token_at_the_seam(c: Columns, row: int) -> None:
    c.tokens[row, 0] = (c.tokens[row, 0] + 1) % EOS


def id_beyond(c: Columns, row: int) -> None:
    c.tokens[row, 1] = 300


def cut_in_two(c: Columns, row: int) -> None:
    """A token in the middle is no longer a target."""
    c.starts[row], c.piece_offset[row], c.piece_document[row] = [3], [int(c.offset[row]) + 3], [int(c.document[row])]


def at_2_63(c: Columns, row: int) -> None:
    c.offset[row] = 2**63


def at_2_63_minus_1(c: Columns, row: int) -> None:
    c.offset[row] = 2**63 - 1


def piece_at_2_64_minus_1(c: Columns, row: int) -> None:
    c.piece_offset[row][0] = 2**64 - 1


def document_2_63(c: Columns, row: int) -> None:
    c.document[row] = 2**63


def document_of_piece_2_64_minus_1(c: Columns, row: int) -> None:
    c.piece_document[row][0] = 2**64 - 1


TWICE = r"has a piece at \d+ of the stream, and phases/\S+ row \d+ holds that token as a target too"
FEWER = r"has a piece of document \d+, [01] tokens after the end of phases/\S+ row \d+, which is of \d+: fewer tokens"
FALLING = r"has a piece of document \d+, but phases/\S+ row \d+, before it in the stream, is of \d+"
SEAM = (
    r"has a piece at \d+ of the stream that begins with \d+, but phases/\S+ row \d+, which it continues, ends with \d+"
)
INSIDE = r"has the EOS 256 at position \d+, inside a piece: a document ends with its EOS"
NO_END = r"has a piece of \d+ tokens that ends with \d+: what does not fill a row ends with the EOS 256"
EMPTY = r"has a piece of 0 tokens at position \d+, expected 2 or more"
LEFT_OUT = r"manifest.json: accounting: truncated_tokens is 0, the shards give 1\."
BEYOND = r"of document \d+: at most as many documents as tokens come before it"
LIES: list[tuple[Change, Wanted, str, str]] = [
    # The lie, the row that tells it, and what is said in best-fit and in document mode.
    (first_piece_later, shared, FEWER, FEWER),
    (first_piece_later, full, TWICE, TWICE),
    (first_piece_earlier, shared, TWICE, TWICE),
    (second_piece_earlier, shared, TWICE, TWICE),
    (second_piece_later, shared, FEWER, FEWER),
    (row_twice, shared, TWICE, TWICE),
    (row_twice, full, TWICE, TWICE),
    (piece_twice, shared, INSIDE, NO_END),
    (later_document, full, FALLING, FALLING),
    (earlier_document, shared, FALLING, FALLING),
    (later_document_of_piece, shared, FEWER, FEWER),
    (impossible_document, full, BEYOND, BEYOND),
    (padding_of_text, padded, r"holds 7 at position \d+, in its padding, expected the EOS 256", r"in its padding"),
    (one_token_more, padded, INSIDE, INSIDE),
    (one_token_less, padded, LEFT_OUT, NO_END),
    (boundary_later, shared, INSIDE, NO_END),
    (boundary_earlier, shared, INSIDE, NO_END),
    (boundary_twice, shared, EMPTY, EMPTY),
    (boundary_in_the_padding, padded, EMPTY, EMPTY),
    (eos_inside, full, INSIDE, INSIDE),
    (another_token_at_the_seam, shared, SEAM, SEAM),
    (id_beyond, full, r"position 1 holds the id 300, expected one below the vocab_size 257", r"holds the id 300"),
    (cut_in_two, full, LEFT_OUT, NO_END),
    (at_2_63, full, r"has a piece at 9223372036854775808 of the stream, expected at most \d+", r"expected at most"),
    (at_2_63_minus_1, padded, r"has a piece at 9223372036854775807 of the stream", r"expected at most"),
    (piece_at_2_64_minus_1, shared, r"has a piece at 18446744073709551615 of the stream", r"expected at most"),
    (document_2_63, full, BEYOND, BEYOND),
    (document_of_piece_2_64_minus_1, shared, BEYOND, BEYOND),
]


def swap(c: Columns, one: int, other: int) -> None:
    """Two rows in each other's place."""
    for column in (c.tokens, c.offset, c.document, c.num_tokens):
        column[[one, other]] = column[[other, one]]
    for lists in (c.starts, c.piece_offset, c.piece_document):
        lists[one], lists[other] = lists[other], lists[one]


def swap_pieces(c: Columns, row: int) -> None:
    """The first two pieces of a row in each other's place."""
    start, stop = [*c.starts[row], int(c.num_tokens[row])][:2]
    c.tokens[row, :stop] = np.concatenate((c.tokens[row, start:stop], c.tokens[row, :start]))
    first = int(c.offset[row]), int(c.document[row])
    c.offset[row], c.document[row] = c.piece_offset[row][0], c.piece_document[row][0]
    c.starts[row][0], c.piece_offset[row][0], c.piece_document[row][0] = stop - start, *first
