"""Before ids are taken: documents from evenly spaced places, and what they say of tokenizer, dtype and EOS.

In:  the work units, how they are stored, and the tokenizer.   Out: nothing, a warning, or a refusal with figures.
Guarantee: what is read is bounded, whatever the size of the corpus: a few documents from 32 places, and of bare
arrays in which no EOS was met there, at most 64 Mi ids. The same corpus gives the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from curriculum.errors import BuildError
from pipeline.folders import printable
from pipeline.tokenized.check import check_tokenizer, require_tokenizer
from pipeline.tokenized.formats import FLAT, POSITION, Stored, id_array, read_stored
from pipeline.tokenized.id_array import BLOCK_TOKENS, IdBlock, Ids
from pipeline.tokenized.plain import plain_documents
from pipeline.tokenized.raw import wider_dtype
from pipeline.tokenizer import TokenizerInfo
from pipeline.units import Unit

PLACES = 32
PLACE_DOCUMENTS = 4
COLUMN_DOCUMENTS = 128
"""Row groups cannot be entered anywhere, so that a column may have few places: then more documents of each."""
PLACE_TOKENS = 4096
EOS_SEARCH_TOKENS = 64 << 20


def check_stored_corpus(
    units: Sequence[Unit],
    stored: Stored,
    tokenizer: TokenizerInfo,
    *,
    tokenizer_name: str,
    go_on: bool,
    say: Callable[[str], None],
) -> None:
    """Look whether the ids are of that tokenizer, dtype and EOS, and say the figures.

    Args:
        tokenizer_name: as the user gave it. go_on: only say what would end the build.

    Raises:
        BuildError: they are not.
    """
    if stored.format == "raw":
        _refuse_wider_ids(units, stored, tokenizer)
    documents = list(_sample(units, stored, tokenizer))
    check = check_tokenizer(tokenizer, documents)
    say(check.summary())
    for remark in check.remarks:
        say(f"Warning: {remark}")
    try:
        if stored.format == "raw":
            _require_eos(units, stored, tokenizer, documents)
        require_tokenizer(check, tokenizer_name)
    except BuildError as error:
        if not go_on:
            raise
        say(f"Warning: {error}")


def _sample(units: Sequence[Unit], stored: Stored, tokenizer: TokenizerInfo) -> Iterator[Ids]:
    """Documents as they are stored, from the first block of each place."""
    chosen = units[:: -(-len(units) // PLACES) or 1]
    each = PLACE_DOCUMENTS if stored.format in FLAT else max(PLACE_DOCUMENTS, COLUMN_DOCUMENTS // max(1, len(chosen)))
    for unit in chosen:
        for place in _places(unit, PLACES // len(chosen)):
            for block in _first_block(place, stored, tokenizer.eos_id):
                plain_documents(block, tokenizer, place.files[0].path, POSITION[stored.format])
                stops = np.cumsum(block.lengths)
                for document in range(0, len(stops), -(-len(stops) // each)):
                    yield block.ids[int(stops[document] - block.lengths[document]) : int(stops[document])]


def _places(unit: Unit, count: int) -> Iterator[Unit]:
    """The unit in `count` stretches, where it is as long."""
    count = max(1, min(count, unit.stop - unit.start))
    span = unit.stop - unit.start
    for index in range(count):
        start, stop = (unit.start + span * edge // count for edge in (index, index + 1))
        yield replace(unit, start=start, stop=stop)


def _first_block(place: Unit, stored: Stored, eos_id: int) -> Iterator[IdBlock]:
    blocks = read_stored(place.files[0], stored, eos_id, place.start, place.stop, PLACE_TOKENS)
    yield from islice((block for block in blocks if len(block.ids)), 1)


def _refuse_wider_ids(units: Sequence[Unit], stored: Stored, tokenizer: TokenizerInfo) -> None:
    """uint32 ids read as uint16 are in range, every other one 0: no id betrays them, but all of them together do."""
    for unit in units[:: -(-len(units) // PLACES) or 1]:
        array = id_array(unit.files[0], stored)
        wider = wider_dtype(array, unit.start, tokenizer.vocab_size)
        if wider is not None:
            raise BuildError(
                f"{printable(array.path)}: read as {np.dtype(array.dtype).name}, its ids from {unit.start:,} on "
                f"come in pairs that are ids of the tokenizer as {wider}, all of them: they are of that dtype. "
                f"Give --ids-dtype {wider}."
            )


def _require_eos(units: Sequence[Unit], stored: Stored, tokenizer: TokenizerInfo, documents: Sequence[Ids]) -> None:
    """An EOS that never occurs leaves a bare array without documents: it is another one."""
    if any(len(document) and document[-1] == tokenizer.eos_id for document in documents):
        return
    left = EOS_SEARCH_TOKENS
    for unit in units:
        array = id_array(unit.files[0], stored)
        stop = min(unit.stop, unit.start + left)
        for at in range(unit.start, stop, BLOCK_TOKENS):
            if (array.read(at, min(at + BLOCK_TOKENS, stop)) == tokenizer.eos_id).any():
                return
        left -= stop - unit.start
        if left <= 0:
            break
    if left == EOS_SEARCH_TOKENS:
        return  # no ids at all: whoever counts the documents of the corpus says so
    raise BuildError(
        f"The EOS id {tokenizer.eos_id} does not occur in the first {EOS_SEARCH_TOKENS - left:,} ids of the "
        f"corpus, and nothing else tells where documents of a bare array end. Name the token that ends them with "
        f"--eos, or, if each file is one document, go on with --tokenizer-check warn."
    )
