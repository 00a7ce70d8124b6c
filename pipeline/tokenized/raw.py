"""Bare arrays of ids: .npy and .bin, of which only the EOS ids tell where documents end.

In:  a path, the dtype (where the file does not say it) and the EOS id.   Out: the documents that begin in a stretch
of tokens.
Guarantee: a document begins at token 0 and after every EOS; stretches that tile the file give every document once,
whole. The last one is complete at the end of the file. Three kinds are told apart by their first bytes:

    93 'NUMPY'                numpy's .npy with a header, which names the dtype
    88 d8 34 01 / a1 d9 34 01 llm.c and modded-nanogpt: 256 int32, of which the third counts the ids; uint16 / uint32
    anything else             no header (nanoGPT's .bin, the .npy of OLMo and dolma): the dtype has to be given

    5 6 0 7 8 0 9, EOS 0   ->   [5 6 0] at 0, [7 8 0] at 3, [9] at 6
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from curriculum.errors import BuildError, ConfigError
from pipeline.folders import printable
from pipeline.tokenized.id_array import BLOCK_TOKENS, IdArray, IdBlock, read_bytes, source_bytes

ID_DTYPES = {"uint8": "<u1", "uint16": "<u2", "int32": "<i4", "uint32": "<u4", "int64": "<i8"}
"""What `--ids-dtype` may say."""
LLM_C_HEADER_BYTES = 1024
LLM_C_DTYPES = {(20240520, 1): "<u2", (20240801, 7): "<u4"}
LLM_C_MAGICS = {magic for magic, _ in LLM_C_DTYPES}
NPY_HEADER_BYTES = 4096
MAX_DOCUMENT_TOKENS = 16 << 20
"""A longer one means that the EOS id is not the one that this file was written with."""
READ_ON_TOKENS = 64 << 10
MIN_PAIRED_IDS = 32
"""Fewer ids say too little: two small ids after each other may well be one of twice the width."""


def open_raw(path: str, dtype: str | None) -> IdArray:
    """Where the ids of a file are and what they look like.

    Args:
        dtype: what the user says, one of `ID_DTYPES`, or None.

    Raises:
        BuildError: the header is damaged, or the size is no multiple of an id's.
        ConfigError: the dtype is missing or contradicts the header.
    """
    head = read_bytes(path, 0, NPY_HEADER_BYTES)
    num_bytes = source_bytes(path)
    if head.startswith(b"\x93NUMPY"):
        found, first_byte, num_tokens = _npy(path, head)
    elif len(head) >= LLM_C_HEADER_BYTES and int(np.frombuffer(head, "<i4", 1)[0]) in LLM_C_MAGICS:
        found, first_byte, num_tokens = _llm_c(path, head)
    else:
        if dtype is None:
            raise ConfigError(
                f"{printable(path)}: does not say what its ids look like; give --ids-dtype ({', '.join(ID_DTYPES)})."
            )
        found, first_byte, num_tokens = ID_DTYPES[dtype], 0, None
    if dtype is not None and np.dtype(found) != np.dtype(ID_DTYPES[dtype]):
        raise ConfigError(
            f"{printable(path)}: its header says that ids are {np.dtype(found).name}, and --ids-dtype {dtype} is "
            f"given; leave that out."
        )
    itemsize = np.dtype(found).itemsize
    if (num_bytes - first_byte) % itemsize:
        raise BuildError(
            f"{printable(path)}: has {num_bytes - first_byte:,} bytes of ids, no multiple of the {itemsize} of "
            f"{np.dtype(found).name}: it was cut off, or --ids-dtype is another."
        )
    there = (num_bytes - first_byte) // itemsize
    if num_tokens not in (None, there):
        raise BuildError(
            f"{printable(path)}: its header counts {num_tokens:,} ids, and there are {there:,}: it was cut off or "
            f"appended to. Copy it again."
        )
    return IdArray(path=path, dtype=found, first_byte=first_byte, num_tokens=there)


def read_raw(array: IdArray, eos_id: int, start: int, stop: int, block_tokens: int = BLOCK_TOKENS) -> Iterator[IdBlock]:
    """The documents that begin at a token `start <= t < stop`, each with its EOS; positions are these tokens.

    Raises:
        BuildError: one of them does not end, or too late.
    """
    stop = min(stop, array.num_tokens)
    begin = 0 if start == 0 else _after_eos(array, eos_id, start, stop)
    at, pending = begin, np.empty(0, array.dtype)
    while begin < stop:
        wanted = max(min(block_tokens, stop - at), min(block_tokens, READ_ON_TOKENS), len(pending))
        ids = array.read(at, min(at + wanted, array.num_tokens))
        ends = at + np.flatnonzero(ids == eos_id) + 1
        at += len(ids)
        pending = np.concatenate((pending, ids)) if len(pending) else ids
        if at == array.num_tokens and (len(ends) == 0 or ends[-1] < at):
            ends = np.append(ends, at)
        starts = np.concatenate(([begin], ends))[:-1]
        starts = starts[starts < stop]
        ends = ends[: len(starts)]
        if len(ends):
            longest = int(np.argmax(ends - starts))
            _check_length(array, eos_id, int(starts[longest]), int(ends[longest] - starts[longest]))
            size = int(ends[-1]) - begin
            yield IdBlock(ids=pending[:size], lengths=ends - starts, positions=starts)
            pending, begin = pending[size:], int(ends[-1])
        if begin < stop:
            _check_length(array, eos_id, begin, len(pending))


def _check_length(array: IdArray, eos_id: int, begin: int, num_tokens: int) -> None:
    """Whether a document ends or not may not depend on how it was read."""
    if num_tokens > MAX_DOCUMENT_TOKENS:
        raise BuildError(
            f"{printable(array.path)}: no document ends within {num_tokens:,} tokens from token {begin:,} on, by the "
            f"EOS id {eos_id}, and one has at most {MAX_DOCUMENT_TOKENS:,}. Name the token that ends documents in this "
            f"file with --eos."
        )


def _after_eos(array: IdArray, eos_id: int, start: int, stop: int) -> int:
    """The first token of the first document that begins in the stretch; `stop` if none does."""
    for at in range(start - 1, stop - 1, BLOCK_TOKENS):
        found = np.flatnonzero(array.read(at, min(at + BLOCK_TOKENS, stop - 1)) == eos_id)
        if len(found):
            return at + int(found[0]) + 1
    return stop


def _npy(path: str, head: bytes) -> tuple[str, int, int]:
    """(dtype, first byte, ids) by the header of a .npy."""
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except ValueError as error:
        raise BuildError(f"{printable(path)}: its .npy header cannot be read ({error}). Copy it again.") from None
    if len(shape) != 1 or dtype.kind not in "iu":
        raise BuildError(
            f"{printable(path)}: holds {dtype} of shape {shape}, and ids are integers in one row. Save it as such, "
            f"with documents separated by EOS ids."
        )
    return dtype.str, stream.tell(), int(shape[0])


def _llm_c(path: str, head: bytes) -> tuple[str, int, int]:
    """(dtype, first byte, ids) by the header that llm.c defined."""
    magic, version, num_tokens = (int(number) for number in np.frombuffer(head, "<i4", 3))
    if (magic, version) not in LLM_C_DTYPES:
        known = ", ".join(f"{magic} version {version}" for magic, version in LLM_C_DTYPES)
        raise BuildError(
            f"{printable(path)}: begins with the header of llm.c, magic {magic} version {version}; read are "
            f"{known}. Write it anew, or without the header and with --ids-dtype."
        )
    return LLM_C_DTYPES[magic, version], LLM_C_HEADER_BYTES, num_tokens


def wider_dtype(array: IdArray, start: int, vocab_size: int) -> str | None:
    """The name of a dtype of twice the width by which all of some ids would be below `vocab_size`, if there is one.

    Args:
        start: first of the up to 4,096 ids that are looked at.
    """
    wider = {"<u2": "uint32", "<i4": "int64", "<u4": "int64"}.get(array.dtype)
    start -= start % 2
    count = min(4096, array.num_tokens - start) // 2 * 2
    if wider is None or count < MIN_PAIRED_IDS:
        return None
    pairs = array.read(start, start + count).view(ID_DTYPES[wider])
    return wider if int(pairs.min()) >= 0 and int(pairs.max()) < vocab_size else None
