"""The other libraries' readers, each as a function that opens and yields int64 tensors; runs in their environment.

In:  the folder of one shape (`peer_formats.py` wrote it) and a step.   Out: an iterator over the batches from there on.
Guarantee: local files, no download, no worker processes (a worker costs more than it brings here: the batch crosses
processes), the library's own shuffle where it has one, and its own way to resume: state_dict, or samples consumed.

Everything ends in int64 tensors [rows, seq_len + 1]; Megatron gives inputs and labels, loss mask and positions beside.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from reader_data import read_shape
from streaming_import import import_streaming

Batches = Iterator[Any]


def mds(folder: Path, step: int) -> Batches:
    """MosaicML streaming: shuffle py1e, every other option at its default."""
    import torch
    from torch.utils.data import DataLoader

    streaming, shape = import_streaming(), read_shape(folder)
    streaming.base.util.clean_stale_shared_memory()
    source = streaming.StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=shape.rows)
    if step:
        # A state as its loader writes one in the first epoch; before the first batch the epoch would still be -1.
        source.load_state_dict(source.state_dict(step * shape.rows, from_beginning=True) | {"epoch": 0})

    def stack(samples: list[dict[str, Any]]) -> Any:
        return torch.from_numpy(np.stack([sample["tokens"] for sample in samples]).astype(np.int64))

    yield from DataLoader(source, batch_size=shape.rows, num_workers=0, collate_fn=stack)


def litdata(folder: Path, step: int) -> Batches:
    """litdata: StreamingDataset with TokensLoader, shuffled."""
    import torch
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.item_loader import TokensLoader

    shape = read_shape(folder)
    source = StreamingDataset(
        str(folder / "litdata"), item_loader=TokensLoader(block_size=shape.seq_len + 1), shuffle=True
    )

    def stack(samples: list[Any]) -> Any:
        return torch.stack(samples).to(torch.int64)

    loader = StreamingDataLoader(source, batch_size=shape.rows, num_workers=0, collate_fn=stack)
    if step:
        consumed = step * shape.rows
        state = {"dataset": source.state_dict(consumed, 0, shape.rows), "num_samples_yielded": consumed}
        loader.load_state_dict(state | {"current_epoch": 1, "latest_worker_idx": 0})
    yield from loader


def hf(format_name: str, *, shuffle: bool = False) -> Callable[[Path, int], Batches]:
    """HF datasets: slices of a map-style dataset that lies mapped on disk (load_from_disk), in one format."""

    def read(folder: Path, step: int) -> Batches:
        import torch
        from datasets import load_from_disk

        shape = read_shape(folder)
        source = load_from_disk(str(folder / "hf"))
        source = (source.shuffle(seed=0) if shuffle else source).with_format(format_name)
        for at in range(step * shape.rows, shape.steps * shape.rows, shape.rows):
            tokens = source[at : at + shape.rows]["tokens"]
            if format_name == "arrow":
                parts = [chunk.flatten().to_numpy() for chunk in tokens.chunks]
                whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
                yield torch.from_numpy(whole.reshape(shape.rows, -1).astype(np.int64))
            elif format_name == "numpy":
                yield torch.from_numpy(tokens.astype(np.int64))
            else:
                yield tokens.to(torch.int64)

    return read


def megatron(folder: Path, step: int) -> Batches:
    """GPTDataset over the indexed dataset, in a DataLoader with a batch sampler, as in Megatron's training loop."""
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.indexed_dataset import IndexedDataset
    from megatron.core.datasets.utils import Split
    from torch.utils.data import DataLoader

    shape = read_shape(folder)
    config = GPTDatasetConfig(
        random_seed=0,
        sequence_length=shape.seq_len,
        split="1",
        blend=([str(folder / "megatron")], None),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        path_to_cache=str(folder / "megatron-cache"),
        tokenizer=types.SimpleNamespace(vocab_size=50_257, eod=50_256, unique_identifiers={}),
    )
    index = IndexedDataset(str(folder / "megatron"), mmap=True)
    documents = np.arange(len(index.document_indices) - 1, dtype=np.int32)
    source = GPTDataset(index, str(folder / "megatron"), documents, None, Split.train, config)
    count = min(len(source), shape.steps * shape.rows)
    batches = [range(at, at + shape.rows) for at in range(step * shape.rows, count - shape.rows + 1, shape.rows)]
    for batch in DataLoader(source, batch_sampler=batches, num_workers=0):
        yield batch["tokens"], batch["labels"]


def array_record(folder: Path, step: int) -> Batches:
    """ArrayRecord: batches of records in random order, read by its own threads."""
    import torch
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    shape = read_shape(folder)
    source = ArrayRecordDataSource(str(folder / "rows.array_record"))
    order = np.random.default_rng(0).permutation(len(source))
    for at in range(step * shape.rows, len(order), shape.rows):
        records = source.__getitems__(order[at : at + shape.rows].tolist())
        flat = np.frombuffer(b"".join(records), np.uint16)
        yield torch.from_numpy(flat.reshape(shape.rows, -1).astype(np.int64))


def grain(folder: Path, step: int) -> Batches:
    """Grain over ArrayRecord: shuffle, map, batch. Without threads: of 0, 1, 2 and 16 (its default), on two CPUs, none
    is fastest, because every single record is a call of its own that costs 100 us and more."""
    import grain as library
    import torch
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    shape = read_shape(folder)

    def decode(record: bytes) -> np.ndarray[Any, Any]:
        return np.frombuffer(record, np.uint16)

    options = library.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    source = library.MapDataset.source(ArrayRecordDataSource(str(folder / "rows.array_record")))
    batches = iter(source.shuffle(seed=0).map(decode).batch(shape.rows).to_iter_dataset(options))
    if step:
        batches.set_state({"next_index": step})
    for batch in batches:
        yield torch.from_numpy(batch.astype(np.int64))


READERS = {
    "HF datasets, arrow": hf("arrow"),
    "HF datasets, arrow, shuffled": hf("arrow", shuffle=True),
    "HF datasets, numpy": hf("numpy"),
    "HF datasets, torch": hf("torch"),
    "litdata": litdata,
    "ArrayRecord": array_record,
    "Grain over ArrayRecord": grain,
    "Megatron GPTDataset": megatron,
    "MosaicML streaming (MDS)": mds,
}
LIBRARIES = {
    "HF": "datasets pandas",
    "litdata": "litdata",
    "ArrayRecord": "array_record.python.array_record_data_source",
    "Grain": "grain array_record.python.array_record_data_source",
    "Megatron": "megatron.core.datasets.gpt_dataset",
    "MosaicML": "streaming",
}
"""What each imports, by the first word of its name; importing is not part of the time to the first batch."""


def import_library(reader: str) -> None:
    """Import what a reader needs."""
    for module in LIBRARIES[reader.split()[0]].split():
        if module == "streaming":
            import_streaming()
        else:
            importlib.import_module(module)
