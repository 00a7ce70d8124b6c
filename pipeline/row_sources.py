"""From a document's ordinal in the stream to the file that it came from, while the token store is there.

In:  the manifest, the build log of the same build (store, parts, validation options, epochs), ordinals.
Out: for each ordinal the file of the corpus and the position in it; or None for all if the store is gone.
Guarantee: the same arithmetic as the build's (`pipeline.stream`), so "which text was in step 180,000?" has an answer
without a second index; memory is that of one partition. The store's counts must add up to the manifest's.

    document_sources(root, manifest, [0, 17], store=None)
    {0: Source(name="corpus", file="a.jsonl", position=7312), 17: ...}

`position` is a byte offset in .jsonl (decompressed), a row in .parquet and .arrow, 0 for files that are one document;
in ids of other tools a document's number, or its first token where only EOS ids tell documents apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curriculum.errors import ConfigError, CurriculumError
from curriculum.manifest import Manifest
from pipeline.built_streams import built_stream, require_same_tokens
from pipeline.files.contract import Files
from pipeline.layout import read_build_log
from pipeline.part_index import read_part
from pipeline.stream import (
    StreamPiece,
    StreamSpec,
    lay_out_stream,
    partition_totals,
    piece_documents,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a document stood in the corpus."""

    name: str
    """of the source that it belongs to"""
    file: str
    """path relative to the CORPUS argument of the build, or to the path of the source"""
    position: int


def document_sources(
    root: Files, manifest: Manifest, ordinals: Iterable[int], *, store: Files | None
) -> dict[int, Source]:
    """The source of each document.

    Args:
        root: place of the dataset.
        manifest: its manifest.
        ordinals: documents of the training stream, as in the column `document`.
        store: the token store, if it is not where the build log says.

    Returns:
        an empty dictionary if `store` is not given and the build's own store (or its log) is gone, or is not to be
        believed (`built_streams.own_store`).

    Raises:
        ConfigError: `store` is given and does not hold the parts of this dataset.
    """
    log = read_build_log(root, manifest.id)
    try:
        if log is None:
            raise ConfigError(
                f"{root.where}: there is no build-log.json of this dataset, which names the parts of the store."
            )
        wanted: dict[int, list[int]] = defaultdict(list)
        for ordinal in sorted(set(ordinals)):
            wanted[source_of_document(manifest, ordinal)].append(ordinal)
        found: dict[int, Source] = {}
        for number, of_source in wanted.items():
            first = manifest.sources[number].first_document or 0
            spec = built_stream(root, manifest, number, log, store)
            local = [ordinal - first for ordinal in of_source]
            pieces = lay_out_stream(spec, _stop(spec, manifest, number, local))
            found |= {first + ordinal: source for ordinal, source in _look_up(spec, pieces, local).items()}
        return found
    except (CurriculumError, OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if store is None:
            return {}  # the sources of rows are extra: without the store, rows are shown without them
        raise ConfigError(
            f"{store.where}: does not tell where the rows of {root.where} come from: {error} "
            f"Give the store that it was built with."
        ) from error


def source_of_document(manifest: Manifest, ordinal: int) -> int:
    """Index of the source that a document of the common numbering belongs to."""
    firsts = [source.first_document or 0 for source in manifest.sources]
    return bisect_right(firsts, ordinal) - 1  # of equal firsts, only the last source has rows


def _stop(spec: StreamSpec, manifest: Manifest, number: int, ordinals: Sequence[int]) -> int:
    """Stream position at the end of the epoch that holds the last of these documents.

    Raises:
        ConfigError: the store was changed since the build and would name other files.
    """
    documents, tokens = (int(counts.sum()) for counts in partition_totals(spec))
    require_same_tokens(tokens, manifest, number)
    return (max(ordinals, default=0) // documents + 1) * tokens


def _look_up(spec: StreamSpec, pieces: Sequence[StreamPiece], ordinals: Sequence[int]) -> dict[int, Source]:
    firsts = [piece.first_document for piece in pieces]
    of_piece: dict[int, list[int]] = defaultdict(list)
    for ordinal in ordinals:
        # An empty partition begins at the same ordinal as the next one: bisect_right takes the last of them.
        of_piece[bisect_right(firsts, ordinal) - 1].append(ordinal)
    files: dict[str, tuple[str, ...]] = {}
    sources = {}
    for number, wanted in of_piece.items():
        documents = piece_documents(spec, pieces[number])
        for ordinal in wanted:
            at = ordinal - pieces[number].first_document
            part = spec.parts[int(documents.part[at])]
            if part not in files:
                files[part] = read_part(spec.store, part)[0].files
            file = files[part][int(documents.index.file[at])]
            sources[ordinal] = Source(name=spec.source, file=file, position=int(documents.index.position[at]))
    return sources
