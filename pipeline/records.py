"""One text of the corpus, or the reason why a place in the corpus gives none.

In: what a reader found at one place of one file. Out: a `Record` (a text and where it stood) or a `BadRecord`
(file, place and a reason that a person can act on). Both are values: readers never raise for bad content, the
caller decides whether to stop or to count.

    Record(relative="a.jsonl", position=0, text="hello")         # the first line was {"text": "hello"}
    bad_record("/data/a.jsonl", "line 2 (byte 18)", 'has no key "text"; its keys are "id"')
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.folders import printable


@dataclass(slots=True, kw_only=True)
class Record:
    """One document. Not frozen: one is made per document, and a frozen one takes three times as long to make.

    `position` is the byte offset of the line for .jsonl (in the decompressed stream for .jsonl.gz and
    .jsonl.zst), the row number in the file for .parquet, .arrow, datasets folders and shards on the Hub, 0 for text
    files and the ordinal for topics. With `relative` it names the document for ever, whatever the size of the work
    units.
    """

    relative: str
    position: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """A place that gives no document; "{path}, {where}: {reason}" is a sentence and safe to print anywhere.

    `where` reads like "line 3 (byte 120)", "row 7" or "byte 17".
    """

    path: str
    where: str
    reason: str


def bad_record(path: str, where: str, reason: str) -> BadRecord:
    """Makes a BadRecord whose path any log can hold, undecodable bytes of the name included."""
    return BadRecord(path=printable(path), where=where, reason=reason)


def name_list(names: list[str]) -> str:
    """`"id", "content"`: names for a message, in their own order, long names and long lists cut."""
    shown = ", ".join(f'"{name[:60]}"' for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def utf8_reason(error: UnicodeDecodeError, *, start: int = 0) -> str:
    """Says which byte is wrong; `start` is where the decoded bytes begin."""
    byte = error.object[error.start]
    return (
        f"is not valid UTF-8: byte {start + error.start} is 0x{byte:02x} ({error.reason}); "
        f"convert it to UTF-8 or take it out"
    )
