"""Megatron's indexed dataset: NAME.bin with the ids, NAME.idx with the documents.

In:  the path of a .bin.   Out: its header, checked; the documents that begin in a stretch of tokens.
Guarantee: no more of the .idx is read than the stretch needs (20 bytes a document), found by bisection; every pointer
that is used is compared with the lengths before it, so stretches that tile the file prove that .idx and .bin agree.

    NAME.idx = 4d 4d 49 44 49 44 58 00 00   magic "MMIDIDX"
               01 00 00 00 00 00 00 00      version 1
               08                           dtype of the ids: 8 is uint16
               02 .. (u64)  03 .. (u64)     2 sequences, 3 borders of documents
               03 .. 01 ..                  lengths of the sequences, int32
               00 .. 06 ..                  where each begins in the .bin, bytes, int64
               00 .. 01 .. 02 ..            document i is sequences border[i] <= s < border[i + 1], int64
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curriculum.errors import BuildError
from pipeline.folders import companion_path, printable
from pipeline.tokenized.id_array import (
    BLOCK_TOKENS,
    IdArray,
    IdBlock,
    IntArray,
    document_blocks,
    read_bytes,
    read_numbers,
    source_bytes,
)

MAGIC = b"MMIDIDX\x00\x00"
OLD_MAGIC = b"TNTIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
VERSION = 1
DTYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
NOT_IDS = {6: "float64 in Megatron, uint16 in DeepSpeed's copy of it", 7: "float32 in Megatron, uint32 in DeepSpeed's"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MegatronFile:
    """A pair of .bin and .idx whose headers and sizes agree."""

    ids: IdArray
    index_path: str
    num_sequences: int
    num_documents: int

    def lengths(self, start: int, stop: int) -> IntArray:
        """Tokens of sequences `start <= s < stop`."""
        numbers = read_numbers(self.index_path, "<i4", HEADER.size + 4 * start, stop - start)
        return numbers.astype(np.int64)

    def pointers(self, start: int, stop: int) -> IntArray:
        """Bytes of the .bin at which sequences begin."""
        base = HEADER.size + 4 * self.num_sequences
        return read_numbers(self.index_path, "<i8", base + 8 * start, stop - start).astype(np.int64, copy=False)

    def document_borders(self, start: int, stop: int) -> IntArray:
        """First sequence of documents `start <= d < stop`; that of document `num_documents` is `num_sequences`."""
        base = HEADER.size + 12 * self.num_sequences
        return read_numbers(self.index_path, "<i8", base + 8 * start, stop - start).astype(np.int64, copy=False)


def open_megatron(path: str) -> MegatronFile:
    """Read and check the header of the .idx, and the sizes of both files.

    Raises:
        BuildError: they are no such pair, or contradict each other.
    """
    index = companion_path(path, "megatron")
    num_sequences, num_borders, dtype = _header(index)
    _check_index_size(index, num_sequences, num_borders)
    itemsize = np.dtype(dtype).itemsize
    num_bytes = source_bytes(path)
    file = MegatronFile(
        ids=IdArray(path=path, dtype=dtype, first_byte=0, num_tokens=num_bytes // itemsize),
        index_path=index,
        num_sequences=num_sequences,
        num_documents=num_borders - 1,
    )
    ends = (int(file.document_borders(0, 1)[0]), int(file.document_borders(num_borders - 1, num_borders)[0]))
    if ends != (0, num_sequences):
        raise _contradiction(
            index,
            f"its documents are made of sequences {ends[0]:,} to {ends[1]:,}, and it lists {num_sequences:,} from 0 on",
        )
    expected = 0
    if num_sequences:
        last = num_sequences - 1
        expected = int(file.pointers(last, num_sequences)[0]) + itemsize * int(file.lengths(last, num_sequences)[0])
    if expected != num_bytes:
        raise _contradiction(index, f"by it {printable(path)} has {expected:,} bytes, and the file has {num_bytes:,}")
    return file


def read_megatron(file: MegatronFile, start: int, stop: int, block_tokens: int = BLOCK_TOKENS) -> Iterator[IdBlock]:
    """The documents that begin at a token `start <= t < stop`; positions are their numbers.

    Raises:
        BuildError: the .idx contradicts itself there.
    """
    first = _first_document(file, start)
    last = file.num_documents if stop >= file.ids.num_tokens else _first_document(file, stop)
    if last <= first:
        return
    documents = file.document_borders(first, last + 1)
    low, high = int(documents[0]), int(documents[-1])
    if not 0 <= low <= high <= file.num_sequences or (np.diff(documents) < 0).any():
        raise _contradiction(file.index_path, f"the sequences of documents {first:,} to {last - 1:,} are not in order")
    lengths, begin = file.lengths(low, high), _token_border(file, low)
    negative = np.flatnonzero(lengths < 0)
    if len(negative):
        at = int(negative[0])
        raise _contradiction(file.index_path, f"sequence {low + at:,} has the length {int(lengths[at]):,}")
    borders = begin + np.concatenate(([0], np.cumsum(lengths)))
    pointers = np.append(file.pointers(low, high), _token_border(file, high) * file.ids.itemsize)
    wrong = np.flatnonzero(pointers != borders * file.ids.itemsize)
    if len(wrong):
        at = int(wrong[0])
        raise _contradiction(
            file.index_path,
            f"sequence {low + at:,} begins at byte {int(pointers[at]):,}, and by the lengths before it at byte "
            f"{int(borders[at]) * file.ids.itemsize:,}",
        )
    yield from document_blocks(file.ids, first, borders[documents - low], block_tokens)


def _header(index: str) -> tuple[int, int, str]:
    """(sequences, borders of documents, dtype) of an .idx."""
    head = read_bytes(index, 0, HEADER.size)
    if head.startswith(OLD_MAGIC):
        raise BuildError(
            f"{printable(index)}: is an index of the old TNTIDX format, which Megatron wrote before mapped files. "
            f"Convert it to an MMIDIDX pair with the Megatron that wrote it."
        )
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise BuildError(f"{printable(index)}: is no index of Megatron: it does not begin with MMIDIDX. Copy it again.")
    _, version, code, num_sequences, num_borders = HEADER.unpack(head)
    if version != VERSION:
        raise BuildError(
            f"{printable(index)}: has version {version}; version {VERSION} is read. Write it anew with Megatron."
        )
    if code not in DTYPES:
        kind = NOT_IDS.get(code, "unknown")
        allowed = ", ".join(f"{known} ({np.dtype(name).name})" for known, name in DTYPES.items())
        raise BuildError(
            f"{printable(index)}: its ids have the dtype code {code} ({kind}); read are {allowed}. Write the "
            f"corpus anew, or give the .bin alone as --tokenized raw with --ids-dtype."
        )
    return num_sequences, num_borders, DTYPES[code]


def _check_index_size(index: str, num_sequences: int, num_borders: int) -> None:
    num_bytes = source_bytes(index)
    expected = HEADER.size + 12 * num_sequences + 8 * num_borders
    if num_sequences and num_bytes == expected + num_sequences:
        raise BuildError(
            f"{printable(index)}: is multimodal (a mode is stored for each of its {num_sequences:,} sequences), "
            f"and only text is read. Write the text into a pair of its own."
        )
    if num_bytes != expected or num_borders < 1:
        raise _contradiction(
            index,
            f"with {num_sequences:,} sequences and {num_borders:,} borders of documents it has {expected:,} bytes, and "
            f"the file has {num_bytes:,}",
        )


def _first_document(file: MegatronFile, token: int) -> int:
    """The first document that begins at `token` or later."""
    low, high = 0, file.num_documents
    while low < high:
        middle = (low + high) // 2
        sequence = int(file.document_borders(middle, middle + 1)[0])
        if _token_border(file, sequence) < token:
            low = middle + 1
        else:
            high = middle
    return low


def _token_border(file: MegatronFile, sequence: int) -> int:
    """The token at which a sequence begins; that of the sequence after the last is the end of the .bin."""
    if sequence == file.num_sequences:
        return file.ids.num_tokens
    if not 0 <= sequence < file.num_sequences:
        raise _contradiction(file.index_path, f"a document begins with sequence {sequence:,} of {file.num_sequences:,}")
    pointer = int(file.pointers(sequence, sequence + 1)[0])
    if not 0 <= pointer <= file.ids.num_tokens * file.ids.itemsize or pointer % file.ids.itemsize:
        raise _contradiction(
            file.index_path, f"sequence {sequence:,} begins at byte {pointer:,}, which is no border of ids of the .bin"
        )
    return pointer // file.ids.itemsize


def _contradiction(index: str, what: str) -> BuildError:
    return BuildError(
        f"{printable(index)}: contradicts itself or its .bin: {what}. One of the two was cut off or belongs to "
        f"another run: copy both again."
    )
