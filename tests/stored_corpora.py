"""Ids written as other tools write them, each format spelled out; tests compare the bytes with those of the tools."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Documents = Sequence[Sequence[int]]


def write_megatron(path: Path, documents: Documents, dtype: str = "uint16", *, extra: bytes = b"") -> None:
    """A .bin and its .idx, every document one sequence. `extra`: what follows in the .idx."""
    codes = {"uint8": 1, "int32": 4, "int64": 5, "uint16": 8}
    ids = flat(documents, dtype)
    lengths = np.array([len(document) for document in documents], "<i4")
    pointers = (np.cumsum(lengths) - lengths).astype("<i8") * ids.itemsize
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, codes[dtype], len(lengths), len(lengths) + 1)
    borders = np.arange(len(lengths) + 1, dtype="<i8")
    path.write_bytes(ids.tobytes())
    path.with_suffix(".idx").write_bytes(head + lengths.tobytes() + pointers.tobytes() + borders.tobytes() + extra)


def write_datatrove(path: Path, documents: Documents, dtype: str = "uint16") -> None:
    """A .ds, its .ds.index and the .ds.metadata that only people read."""
    path.write_bytes(flat(documents, dtype).tobytes())
    ends = np.cumsum([len(document) for document in documents]).astype("<u8")
    Path(f"{path}.index").write_bytes(ends.tobytes())
    Path(f"{path}.metadata").write_text(f"gpt2|{np.dtype(dtype).itemsize}\n{ends[-1]}\n")


def write_llm_c(path: Path, documents: Documents, magic: int = 20240520, version: int = 1) -> None:
    """A .bin of llm.c: 256 int32, of which three say something, then uint16 (20240520) or uint32 (20240801)."""
    ids = flat(documents, "uint16" if magic == 20240520 else "uint32")
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids)
    path.write_bytes(header.tobytes() + ids.tobytes())


def flat(documents: Documents, dtype: str) -> np.ndarray[tuple[int], np.dtype[np.integer]]:  # type: ignore[type-arg]
    """All ids end to end."""
    return np.array([number for document in documents for number in document], dtype)
