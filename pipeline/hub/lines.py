"""Files of JSON lines of a dataset on the Hub, read line by line: `datasets` would want them to agree.

In:  a split at a commit, and one of its shards.   Out: records by row, if it is such a file.
Guarantee: the same names and rows as `datasets` gives, but a line is by itself: one that is damaged, or has a number
for its text, is one bad record, and what the other keys hold is not looked at. `datasets` takes the columns of the
first file for those of all, and drops a file that has others.

    a.jsonl {"text": "x"}     b.jsonl {"text": "y", "meta": {}}     ->  "x" at row 0 of a, "y" at row 0 of b
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline.endings import TEXTS
from pipeline.folders import InputFile
from pipeline.hub.split import Split
from pipeline.jsonl import read_compressed_lines, read_lines
from pipeline.records import BadRecord, Record, bad_record

KINDS = ("jsonl", "jsonl.gz", "jsonl.zst")


def file_of_lines(split: Split, number: int, shard: InputFile) -> InputFile | None:
    """The file behind a shard by its address at the commit; None if it is read by `datasets`."""
    name, num_bytes = split.shards[number].name, split.shards[number].num_bytes
    kind = TEXTS.kind_of(name)
    if not split.is_of_lines or kind not in KINDS or "@" in name:
        return None
    address = f"hf://datasets/{split.name.repository}@{split.name.commit}/{name}"
    return replace(shard, path=address, size=num_bytes, kind=kind)


def rows_of_lines(lines: InputFile, path: str, text_key: str) -> Iterator[Record | BadRecord]:
    """Its records by row: lines that are not blank.

    Args:
        lines: the file.
        path: how messages call it.
        text_key: of the text in each object.
    """
    plain = lines.kind == "jsonl"
    found = read_lines(lines, 0, lines.size, text_key) if plain else read_compressed_lines(lines, text_key)
    for row, item in enumerate(found):
        if isinstance(item, BadRecord):
            yield bad_record(path, f"row {row}, {item.where}", item.reason)
        else:
            item.position = row
            yield item
