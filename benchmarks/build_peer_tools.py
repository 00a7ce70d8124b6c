"""The other tools, each as a function that tokenizes the whole corpus with its own writer; runs in their environments.

In:  a `Job`: the corpus, GPT-2's tokenizer, an empty folder for the result and one for what is in passing, the number
of workers.   Out: the tool's own files of token ids, every document followed by its EOS, in the order of the corpus.
Guarantee: as many worker processes as asked (the fast path of Megatron: threads), each with one thread; the tool's own
defaults elsewhere. A tool that shuffles unless told not to is told, so that ids can be compared; that costs it less.

Two of the tools only carry what a function returns: litdata and MDS get documents of uint16 ids from `tokenizers`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import runpy
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from peer_ranges import Range, batches, ranges

BATCH_DOCUMENTS = 1_000
"""Handed to `tokenizers` at once; the default batch of `datasets.map`."""
RANGES_PER_WORKER = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a tool is to do; see `build_inputs.Inputs` for the paths."""

    corpus: str
    parts: str
    tokenizer: str
    out: str
    scratch: str
    workers: int
    eos: str
    eos_id: int
    checkout: str | None
    """Megatron-LM"""


def megatron(script: str, *options: str) -> Callable[[Job], None]:
    """A script of the checkout as it is, with its own defaults."""

    def run(job: Job) -> None:
        arguments = ["--input", job.corpus, "--output-prefix", f"{job.out}/corpus", "--append-eod"]
        arguments += ["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(Path(job.tokenizer).parent)]
        arguments += [str(job.workers) if option == "WORKERS" else option for option in options]
        path = f"{job.checkout}/tools/{script}"
        sys.argv = [path, *arguments]
        runpy.run_path(path, run_name="__main__")

    return run


def import_megatron(job: Job) -> None:
    """Its modules want Python 3.12 for one decorator that does nothing when it runs."""
    if not hasattr(typing, "override"):
        typing.override = lambda function: function  # type: ignore[attr-defined]
    sys.path.insert(0, str(job.checkout))
    for name in ("core.tokenizers.utils.build_tokenizer", "training.arguments", "core.datasets.indexed_dataset"):
        importlib.import_module(f"megatron.{name}")


def datatrove(job: Job) -> None:
    """JsonlReader and DocumentTokenizer, one file per task: that is how it divides work."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    tokenizer = DocumentTokenizer(
        output_folder=job.out,
        tokenizer_name_or_path=job.tokenizer,
        eos_token=job.eos,
        shuffle_documents=False,
        batch_size=1_000,  # its 10,000 of these documents take 16 GB in each worker
    )
    LocalPipelineExecutor(
        pipeline=[JsonlReader(job.parts), tokenizer], tasks=job.workers, workers=job.workers, logging_dir=job.scratch
    ).run()


def litdata(job: Job) -> None:
    """`optimize` over ranges of the file."""
    from functools import partial

    from litdata import optimize
    from litdata.streaming.item_loader import TokensLoader

    optimize(
        fn=partial(tensors, tokenizer=job.tokenizer, eos_id=job.eos_id),
        inputs=ranges(job.corpus, RANGES_PER_WORKER * job.workers),
        output_dir=job.out,
        chunk_bytes="64MB",
        num_workers=job.workers,
        reorder_files=False,
        keep_data_ordered=True,
        item_loader=TokensLoader(),
    )


def tensors(of: Range, tokenizer: str, eos_id: int) -> Iterator[Any]:
    """What litdata stores: one tensor per document."""
    import torch

    for ids in documents(of, tokenizer, eos_id):
        yield torch.from_numpy(ids)


def mds(job: Job) -> None:
    """One MDSWriter per process over its part of the file, then the library's merge of the indexes."""
    from streaming_import import import_streaming

    import_streaming()
    from streaming.base.util import merge_index

    shares = [(each, job, number) for number, each in enumerate(ranges(job.corpus, job.workers))]
    with multiprocessing.get_context("spawn").Pool(job.workers) as pool:
        pool.starmap(write_mds, shares)
    merge_index(job.out)


def write_mds(of: Range, job: Job, number: int) -> None:
    """One process: neither compression nor hashes, which are the defaults."""
    from streaming_import import import_streaming

    writer = import_streaming().MDSWriter(out=f"{job.out}/{number:02d}", columns={"tokens": "ndarray:uint16"})
    with writer as out:
        for ids in documents(of, job.tokenizer, job.eos_id):
            out.write({"tokens": ids})


def datasets_map(job: Job) -> None:
    """`load_dataset("json")`, then `map`, which writes Arrow; the copy that `save_to_disk` would make is left out."""
    from functools import partial

    from datasets import Features, List, Value, load_dataset

    source = load_dataset("json", data_files=job.corpus, split="train", cache_dir=job.scratch)
    source.map(
        partial(columns, tokenizer=job.tokenizer, eos_id=job.eos_id),
        batched=True,
        num_proc=job.workers,
        remove_columns=source.column_names,
        features=Features({"input_ids": List(Value("uint16"))}),
        cache_file_name=f"{job.out}/tokens.arrow",
    )


def columns(batch: dict[str, list[str]], tokenizer: str, eos_id: int) -> dict[str, list[Any]]:
    """What `map` calls with a batch of documents."""
    return {"input_ids": encode(batch["text"], tokenizer, eos_id)}


def documents(of: Range, tokenizer: str, eos_id: int) -> Iterator[Any]:
    """uint16 ids of each document of a range."""
    for batch in batches(of, BATCH_DOCUMENTS):
        yield from encode(batch, tokenizer, eos_id)


def encode(texts: list[str], tokenizer: str, eos_id: int) -> list[Any]:
    """The fastest call of `tokenizers`; EOS behind each document."""
    import numpy as np

    found = _tokenizer(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    return [np.array([*each.ids, eos_id], np.uint16) for each in found]


@lru_cache(maxsize=1)
def _tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(path)


def import_all(*names: str) -> Callable[[Job], None]:
    """Import what a tool needs; importing is no part of the time in the tool."""

    def run(job: Job) -> None:
        for name in names:
            importlib.import_module(name)

    return run


def import_mds(job: Job) -> None:
    """`streaming`, with or without torchvision."""
    from streaming_import import import_streaming

    import_streaming()
