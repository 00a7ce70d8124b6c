"""Which tokenizer backend a corpus is encoded with, seen on a sample of just this corpus.

In:  the options, what units are encoded with, and the units.   Out: the backend's name.
Guarantee: workers compare the sample where they encode, on whatever machine that is; the sample is a file of the store,
no argument of theirs. One that was found equal before, by the same versions, is not compared again.

    --backend auto, ids of 16 beginnings equal      "fastokens"
    --backend auto, one id differs                  "tokenizers", and a line that says where
    ids that exist (--tokenized)                    "stored"
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import orjson

from pipeline.backends import open_encoder
from pipeline.documents import Record, read_unit
from pipeline.encode import EncodeJob, part_name
from pipeline.engines.workers import Workers
from pipeline.files.contract import Files
from pipeline.layout import write_bytes
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.sample_files import keep_sample, read_sample
from pipeline.store_names import CORPORA
from pipeline.tokenized.formats import Stored
from pipeline.tokenized.sample import check_stored_corpus
from pipeline.tokenized.take import STORED
from pipeline.tokenizer import TokenizerInfo
from pipeline.trust import Expected, choose_backend, circumstances, sample_difference
from pipeline.units import Unit

SAMPLED_UNITS = 16
SAMPLED_CHARS = 16 << 10
"""The backend check reads that much of each of 16 units: 256 kB cost the slow reference about 0.1 s."""


def corpus_backend(
    options: Options, job: EncodeJob, units: tuple[Unit, ...], workers: Workers, progress: Progress
) -> str:
    """The backend to encode with. Workers load it, and compare the sample, before they encode.

    Where the sample of just these units was found equal before, by the same versions, nothing is loaded: to cut a store
    anew takes no encoder.
    """
    wanted = None if options.backend == "auto" else options.backend
    what = [circumstances(job.tokenizer), [part_name(job, unit) for unit in units]]
    checked = f"{CORPORA}/{hashlib.sha256(orjson.dumps(what)).hexdigest()[:32]}.checked"
    if wanted != "tokenizers" and job.store.facts(checked) is not None:
        return "fastokens"
    workers.prepare(len(units), open_encoder, job.tokenizer.path, wanted or "fastokens")

    def compare(path: str, sample: list[Expected]) -> str | None:
        name = keep_sample(job.store, [[each.named, each.ids.tolist(), each.lengths.tolist()] for each in sample])
        tasks = [(number,) for number in range(len(sample))]
        found = dict(workers.run(sample_difference_at, (job.store, job.tokenizer_name, name), tasks))
        job.store.remove(name)
        return next((found[number] for number in sorted(found) if found[number] is not None), None)

    sample = _sample(units, options.text_key)
    backend = choose_backend(
        job.tokenizer, sample, warn=progress.say, wanted=wanted, compare=compare, called=options.tokenizer
    )
    if backend == "fastokens":
        write_bytes(job.store, checked, b"")
    return backend


def check_stored(
    options: Options, stored: Stored, tokenizer: TokenizerInfo, units: tuple[Unit, ...], progress: Progress
) -> str:
    """Refuse ids that are of another tokenizer, dtype or EOS; what then stands for the encoder."""
    check_stored_corpus(
        units,
        stored,
        tokenizer,
        tokenizer_name=options.tokenizer,
        go_on=options.tokenizer_check == "warn",
        say=progress.say,
    )
    return STORED


def sample_difference_at(store: Files, tokenizer_name: str, sample_name: str, number: int) -> str | None:
    """`sample_difference` with the tokenizer of a store and one of the samples in a file there.

    Raises:
        BuildError: the file is gone.
    """
    named, ids, lengths = read_sample(store, sample_name)[number]
    expected = Expected(named=tuple(map(tuple, named)), ids=np.array(ids, "<u4"), lengths=np.array(lengths, np.int64))
    return sample_difference(str(store.local(tokenizer_name)), expected)


def _sample(units: Sequence[Unit], text_key: str) -> Iterator[str]:
    """The beginning of evenly spaced units, for the backend check."""
    for unit in units[:: -(-len(units) // SAMPLED_UNITS) or 1]:
        left = SAMPLED_CHARS
        for record in islice(read_unit(unit, text_key), 1000):
            if isinstance(record, Record):
                yield record.text[:left]
                left -= len(record.text)
                if left <= 0:
                    break
