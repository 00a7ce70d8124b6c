"""Take one work unit of a corpus that was tokenized elsewhere: what `encode` does with texts, without an encoder.

In:  a unit, how its files are stored, and the tokenizer they were made with.   Out: the unit's documents for
`write_part`.
Guarantee: as for texts, a pure task: the same documents on any worker, any number of times. A document's key is made
of its file and its number, row or first token, so that it is the same whatever the size of the units.

    a.bin = 5 6 0 7 8 0, EOS 0    ->    ids 5 6 | 7 8, positions 0 3
"""

from __future__ import annotations

from collections.abc import Iterator

from curriculum.errors import BuildError
from pipeline.folders import InputFile, printable
from pipeline.input_bytes import require_unchanged
from pipeline.part import PART_BYTES, UnitDocuments, document_keys
from pipeline.tokenized.formats import POSITION, Stored, read_stored
from pipeline.tokenized.id_array import IdBlock
from pipeline.tokenized.plain import PlainDocuments, plain_documents
from pipeline.tokenizer import TokenizerInfo
from pipeline.units import Unit

STORED = "stored"
STORED_IDS = f"{STORED} 1"
"""Stands where a part names the encoder that made it."""


def take_unit(unit: Unit, stored: Stored, tokenizer: TokenizerInfo, source: str) -> Iterator[UnitDocuments]:
    """The documents of each part of a unit.

    Raises:
        BuildError: a file is damaged or changed while it was read, or holds ids that the tokenizer does not have.
    """
    documents = UnitDocuments()
    for file in unit.files:
        for block in read_checked(file, stored, tokenizer.eos_id, unit):
            plain = plain_documents(block, tokenizer, file.path, POSITION[stored.format])
            if len(plain.lengths) and (documents.is_full or sum(ids.nbytes for ids in documents.ids) >= PART_BYTES):
                documents.continues = True
                yield documents
                documents = UnitDocuments()
            _note(documents, plain, source, file)
    yield documents


def read_checked(file: InputFile, stored: Stored, eos_id: int, unit: Unit) -> Iterator[IdBlock]:
    """The blocks of a file of the unit; a file that is being rewritten looks damaged, so say what is really the
    matter."""
    require_unchanged(file)
    try:
        yield from read_stored(file, stored, eos_id, unit.start, unit.stop)
    except BuildError:
        require_unchanged(file)
        raise
    require_unchanged(file)


def _note(documents: UnitDocuments, plain: PlainDocuments, source: str, file: InputFile) -> None:
    documents.empty_documents += plain.empty_documents
    if len(plain.lengths) == 0:
        return
    positions = plain.positions.tolist()
    number = documents.files.setdefault(printable(file.relative), len(documents.files))
    documents.ids.append(plain.ids)
    documents.lengths.append(plain.lengths)
    documents.keys += document_keys(source, file.relative, positions)
    documents.text_hashes += plain.hashes
    documents.file_numbers += [number] * len(positions)
    documents.positions += positions
