"""Which files of a corpus are read, by their endings: texts, or ids of one of the formats of `--tokenized`.

In:  the name of a file.   Out: the kind by which it is read, or None.
Guarantee: the case of an ending does not matter; what only accompanies another file is passed over without being
counted.

    TEXTS.kind_of("a.JSONL.gz") == "jsonl.gz"      TOKENIZED["megatron"].kind_of("a.idx") is None, a companion
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Endings:
    """What is read of a folder."""

    kinds: Mapping[str, str]
    """ending -> kind"""
    datasets: bool = False
    """whether folders written by datasets.save_to_disk are read, too"""
    companions: tuple[str, ...] = ()
    """endings of files that belong to others"""

    def kind_of(self, name: str) -> str | None:
        """The kind that a file's ending stands for, whatever its case; None when it is not read."""
        lower = name.lower()
        return next((kind for ending, kind in self.kinds.items() if lower.endswith(ending)), None)

    def is_companion(self, name: str) -> bool:
        """Whether the file is read with another one, or says nothing that is needed."""
        return name.lower().endswith(self.companions)

    @property
    def what_is_read(self) -> str:
        """For messages."""
        read = " ".join(self.kinds) + (" and folders written by datasets.save_to_disk" if self.datasets else "")
        return f"{read} (ids of other tools with --tokenized)" if self is TEXTS else read


TEXTS = Endings(
    kinds={
        ".txt": "text",
        ".md": "text",
        ".py": "text",
        ".jsonl": "jsonl",
        ".jsonl.gz": "jsonl.gz",
        ".jsonl.zst": "jsonl.zst",
        ".parquet": "parquet",
        ".arrow": "arrow",
    },
    datasets=True,
)
TOKENIZED = {
    "megatron": Endings(kinds={".bin": "megatron"}, companions=(".idx",)),
    "raw": Endings(kinds={".npy": "raw", ".bin": "raw"}, companions=(".csv.gz",)),  # documents of dolma, by EOS too
    "datatrove": Endings(kinds={".ds": "datatrove"}, companions=(".ds.index", ".ds.metadata", ".ds.loss")),
    "input_ids": Endings(kinds={".parquet": "parquet", ".arrow": "arrow"}, datasets=True),
}
"""Formats of `--tokenized`."""


def endings(tokenized: str | None) -> Endings:
    """What is read of a corpus in that format, or of texts."""
    return TEXTS if tokenized is None else TOKENIZED[tokenized]
