"""Writes the rows of one shape in the formats of the other readers; runs in their environment.

    python peer_formats.py FOLDER        FOLDER as `reader_data.prepare` made it

In:  ordered.bin, stream.bin, documents.npy.   Out: mds/, litdata/, hf/, megatron.bin + .idx, rows.array_record.
Guarantee: each holds the tokens of ordered.bin (Megatron: of stream.bin, as documents), uint16 where the format has it.
A library that is missing or fails is named on stderr and left out; the others are written all the same.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from reader_data import read_shape


def rows_in_order(folder: Path) -> np.ndarray[Any, Any]:
    """uint16 [rows, seq_len + 1], in stream order."""
    return np.fromfile(folder / "ordered.bin", np.uint16).reshape(-1, read_shape(folder).seq_len + 1)


def write_mds(folder: Path) -> None:
    from peer_readers import import_streaming

    streaming = import_streaming()
    rows = rows_in_order(folder)
    columns = {"tokens": f"ndarray:uint16:{rows.shape[1]}"}
    with streaming.MDSWriter(out=str(folder / "mds"), columns=columns) as out:  # no compression, no hashes
        for row in rows:
            out.write({"tokens": row})


def write_litdata(folder: Path) -> None:
    import litdata
    from litdata.streaming.item_loader import TokensLoader

    litdata.optimize(
        fn=read_blocks,
        inputs=[str(folder)],
        output_dir=str(folder / "litdata"),
        chunk_bytes="64MB",
        item_loader=TokensLoader(block_size=read_shape(folder).seq_len + 1),
        num_workers=1,
        start_method="spawn",
    )


def read_blocks(folder: str) -> Iterator[Any]:
    """litdata wants a function that it can import in another process."""
    import torch

    for row in rows_in_order(Path(folder)):
        yield torch.from_numpy(row)


def write_hf(folder: Path) -> None:
    import pyarrow as pa
    from datasets import Dataset

    rows = rows_in_order(folder)
    tokens = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    Dataset(pa.table({"tokens": tokens})).save_to_disk(str(folder / "hf"))


def write_megatron(folder: Path) -> None:
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    stream = np.fromfile(folder / "stream.bin", np.uint16)
    builder = IndexedDatasetBuilder(str(folder / "megatron.bin"), dtype=np.uint16)
    at = 0
    for length in np.load(folder / "documents.npy").tolist():
        builder.add_document(torch.from_numpy(stream[at : at + length].astype(np.int32)), [length])
        at += length
    builder.finalize(str(folder / "megatron.idx"))


def write_array_record(folder: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    out = ArrayRecordWriter(str(folder / "rows.array_record"), "group_size:1,uncompressed")
    for row in rows_in_order(folder):
        out.write(row.tobytes())
    out.close()


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mosaicml-streaming": ("mds", write_mds),
    "litdata": ("litdata", write_litdata),
    "datasets": ("hf", write_hf),
    "megatron-core": ("megatron.idx", write_megatron),
    "array-record": ("rows.array_record", write_array_record),
}


def main() -> None:
    folder = Path(sys.argv[1])
    for library, (name, write) in WRITERS.items():
        if (folder / name).exists():
            continue
        began = time.perf_counter()
        try:
            write(folder)
        except Exception as error:  # whatever a library raises, the others are measured
            print(f"{library}: {type(error).__name__}: {error}", file=sys.stderr)
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
        else:
            print(f"{library}: {time.perf_counter() - began:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
