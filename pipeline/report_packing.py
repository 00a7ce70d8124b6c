"""What packing did, in one sentence for people.

In:  a manifest, and the ratios in its build log.   Out: nothing for rows that are not packed, else a line.

    "0.3 % of 6,598,656 slots have no target; 1.71 documents a row, 20 % split, 0 % although a row would have held them"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curriculum.manifest import Manifest
from pipeline.recommendation import percent


def packing_lines(manifest: Manifest, packing: Mapping[str, Any] | None) -> Iterator[str]:
    """The share of slots without a target; where the log tells, how documents lie in rows."""
    tokens = manifest.accounting
    if tokens.padding_tokens is None:
        return
    slots = manifest.plan.total_tokens
    line = f"{percent(tokens.padding_tokens / slots)} of {slots:,} slots have no target"
    if packing is not None:
        line += f"; {packing['concatenation_ratio']:.2f} pieces of documents a row"
        if manifest.plan.mode == "best-fit":
            documents = max(1, packing["documents"])
            line += (
                f", {percent(packing['documents_split'] / documents)} of documents split, "
                f"{percent(packing['truncation_ratio'])} although a row would have held them"
            )
    if tokens.truncated_tokens:
        line += f"; {tokens.truncated_tokens:,} tokens found no place"
    yield line
