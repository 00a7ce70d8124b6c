"""The records of one work unit, whatever format its files have.

In: a `Unit` and the key or column that holds the text. Out: an iterator of `Record` and `BadRecord`, in the
order of the file. Guaranteed: a document is the same whatever the size of the units; bad content never
raises (the caller decides whether to stop), files that change or vanish while they are read always do;
nothing is held but the current record and a buffer.

    for item in read_unit(unit):
        if isinstance(item, BadRecord): ...
        else: item.relative, item.position, item.text
"""

from __future__ import annotations

from collections.abc import Iterator

from curriculum.errors import BuildError
from pipeline.folders import HUB, InputFile, printable
from pipeline.input_bytes import open_input, require_unchanged
from pipeline.records import BadRecord, Record, bad_record, utf8_reason
from pipeline.units import Unit

__all__ = ["BadRecord", "Record", "read_unit"]


def read_unit(unit: Unit, text_key: str = "text") -> Iterator[Record | BadRecord]:
    """Yields what the files of a unit hold; text files have no keys and ignore `text_key`."""
    for file in unit.files:
        require_unchanged(file)
        try:
            for item in _read_file(file, unit.start, unit.stop, text_key):
                # A file that is being rewritten looks damaged: say what is really the matter.
                if isinstance(item, BadRecord):
                    require_unchanged(file)
                yield item
        except OSError as error:
            raise BuildError(
                f"{printable(file.path)} cannot be read ({error.strerror or error}); make it readable and "
                f"run the same command again."
            ) from error
        require_unchanged(file)


def _read_file(file: InputFile, start: int, stop: int, text_key: str) -> Iterator[Record | BadRecord]:
    if file.kind == "jsonl":
        from pipeline.jsonl import read_lines

        return read_lines(file, start, stop, text_key)
    if file.kind in ("jsonl.gz", "jsonl.zst"):
        from pipeline.jsonl import read_compressed_lines

        return read_compressed_lines(file, text_key)
    if file.kind in ("parquet", "arrow", "datasets"):
        from pipeline.columnar import read_column

        return read_column(file, start, stop, text_key)
    if file.kind == HUB:
        from pipeline.hub.corpus import read_shards

        return read_shards(file, start, stop, text_key)
    if file.kind in ("python", "topics"):
        from pipeline.standard_library import read_source, read_topics

        return read_topics(file) if file.kind == "topics" else read_source(file)
    return _read_text(file)


def _read_text(file: InputFile) -> Iterator[Record | BadRecord]:
    """The file is the document, byte for byte: no newline is translated, a byte order mark stays."""
    try:
        with open_input(file) as stream:
            text = stream.read().decode()
    except UnicodeDecodeError as error:
        yield bad_record(file.path, f"byte {error.start}", utf8_reason(error))
    else:
        yield Record(relative=file.relative, position=0, text=text)
