"""A corpus that is completely in the token store: its sources, their parts, and exact counts.

In:  what tokenizing came to.   Out: counts and fingerprints of all of it.
Guarantee: values only, nothing is read. A fingerprint depends on the documents and their places, not on the division
into parts.

    parts of 3 and 4 documents, contents (1, 2) and (5, 6)      7 documents, content (6, 8)
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.part_index import PartSummary
from pipeline.tokenizer import TokenizerInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedSource:
    """One source that is completely in the store."""

    name: str
    parts: tuple[PartSummary, ...]
    """in the order of the units, without their files and examples: some hundred bytes each"""

    @property
    def tokens(self) -> int:
        """All tokens, EOS (and BOS) included."""
        return sum(part.tokens for part in self.parts)

    @property
    def documents(self) -> int:
        """Documents that are not empty."""
        return sum(part.documents for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """Of the set of documents and their places, whatever the division into parts."""
        lanes = [sum(part.content[lane] for part in self.parts) % 2**64 for lane in (0, 1)]
        return f"{lanes[0]:016x}{lanes[1]:016x}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedCorpus:
    """A corpus that is completely in the store."""

    tokenizer: TokenizerInfo
    backend: str
    sources: tuple[TokenizedSource, ...]
    skipped_examples: tuple[str, ...] = ()
    """sentences about the first skipped records"""

    @property
    def parts(self) -> tuple[PartSummary, ...]:
        """The parts of all sources, one source after the other."""
        return tuple(part for source in self.sources for part in source.parts)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the units."""
        return tuple(part.name for part in self.parts)

    @property
    def tokens(self) -> int:
        """All tokens, EOS (and BOS) included."""
        return sum(part.tokens for part in self.parts)

    @property
    def documents(self) -> int:
        """Documents that are not empty."""
        return sum(part.documents for part in self.parts)
