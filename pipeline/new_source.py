"""New text for a finished dataset: by which tokenizer it gets its ids, and which place it is given.

In:  a dataset, and a source that it does not have, in the token store.
Out: the source as a stream behind all others, and the manifest with its entry; the tokenizer that made its ids.
Guarantee: nothing that is there changes its place: the new source's stream begins where that of the last one ends, in
whole epochs. Ids are those of the dataset's tokenizer.json and EOS. What its held-out documents were chosen by, a hash
of their text, holds here too: no text of the validation rows is trained on by way of the new source.

    streams at 0 (1,000 tokens, 900 used up) -> the new one at 1,000, its documents numbered from those of the first on
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from curriculum.errors import DataError, PlanError
from curriculum.manifest import Manifest, SourceEntry
from curriculum.mixture import Mixture
from pipeline.backends import load_reference
from pipeline.built_streams import training_tokens
from pipeline.files.contract import Files
from pipeline.holdout import HeldOut
from pipeline.mixed_windows import epochs_begun
from pipeline.source_use import use_of
from pipeline.stored_documents import PartFiles
from pipeline.stream import NumberedStream, StreamSpec, count_partitions
from pipeline.tokenized_corpus import TokenizedSource
from pipeline.tokenizer import TokenizerInfo, load_tokenizer
from pipeline.windows import consumed_tokens

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewSource:
    """A source that is about to be added."""

    manifest: Manifest
    """of the dataset with this source as the last one, without a row"""
    stream: NumberedStream


def add_source(
    manifest: Manifest, source: TokenizedSource, *, store: Files, held_out: HeldOut, merged: PartFiles | None
) -> NewSource:
    """Place a source behind the others.

    Args:
        manifest: of the dataset.
        source: completely in the store.
        store: the token store.
        held_out: what the dataset's rule holds out of the source.
        merged: larger parts to read in place of its own.

    Raises:
        PlanError: nothing is left to train on.
    """
    size = source.tokens - held_out.tokens
    if not size:
        raise PlanError(
            f"Source {source.name!r} holds nothing but texts that the dataset has held out. Give more text."
        )
    offset, document = _end_of_streams(manifest)
    spec = StreamSpec(
        store=store,
        parts=tuple(part.name for part in source.parts),
        dtype=manifest.dtype,
        seed=manifest.seed,
        held_out_below=held_out.below,
        num_partitions=count_partitions(size),
        merged=merged,
        source=source.name,
    )
    entry = SourceEntry(
        name=source.name,
        documents=source.documents,
        tokens=source.tokens,
        offset=offset,
        weight=0.0,
        fingerprint=source.fingerprint,
        validation_tokens=held_out.tokens,
        first_document=document,
    )
    return NewSource(
        manifest=_with_source(manifest, entry, source),
        stream=NumberedStream(spec=spec, offset=offset, first_document=document),
    )


def _with_source(manifest: Manifest, entry: SourceEntry, tokenized: TokenizedSource) -> Manifest:
    """The dataset with one source more that no step uses."""
    accounting, sources = manifest.accounting, manifest.sources
    if len(sources) == 1:
        sources = (replace(sources[0], validation_tokens=accounting.validation_tokens, first_document=0),)
    weights = manifest.build.mixture.weights if manifest.build.mixture else ((1,),) * len(manifest.phases)
    held_out = entry.validation_tokens or 0
    return replace(
        manifest,
        sources=(*sources, entry),
        build=replace(manifest.build, mixture=Mixture(weights=tuple((*of_phase, 0) for of_phase in weights))),
        accounting=replace(
            accounting,
            corpus_tokens=accounting.corpus_tokens + entry.tokens,
            validation_tokens=accounting.validation_tokens + held_out,
            unused_tokens=accounting.unused_tokens + entry.tokens - held_out,
            documents=accounting.documents + entry.documents,
            empty_documents=accounting.empty_documents + sum(part.empty_documents for part in tokenized.parts),
            skipped_records=accounting.skipped_records + sum(part.skipped_records for part in tokenized.parts),
        ),
    )


def built_tokenizer(root: Files, manifest: Manifest) -> TokenizerInfo:
    """The tokenizer of a dataset, with the EOS and BOS that its rows have.

    Raises:
        DataError: its tokenizer.json is missing or another one.
    """
    entry, content = manifest.tokenizer, root.read(TOKENIZER)
    if content is None or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DataError(
            f"{root.address(TOKENIZER)}: {'missing' if content is None else 'not the tokenizer of this dataset'}, so "
            f"new text cannot get the ids that its rows have. Copy it again from where the dataset came."
        )
    path = str(root.local(TOKENIZER))
    # By its text: an id such as 0 may be the text of another token.
    info = load_tokenizer(path, eos=load_reference(path).id_to_token(entry.eos_id), bos="none")
    return replace(info, bos_id=entry.bos_id)


def _end_of_streams(manifest: Manifest) -> tuple[int, int]:
    """(position, document) behind the streams of all sources; held-out documents have numbers too, so that no token
    store is needed to know it."""
    last, use = len(manifest.sources) - 1, use_of(manifest)
    used = consumed_tokens(manifest.plan, manifest.build.fill) if use is None else use.consumed[last]
    source, size = manifest.sources[last], training_tokens(manifest, last)
    epochs = epochs_begun(used, size)
    return source.offset + epochs * size, (source.first_document or 0) + epochs * source.documents
