"""Choices of the builder that change the bytes and are not part of the plan, as the manifest says them.

In:  the object `build` of `manifest.json`, possibly damaged or hostile, and the plan.   Out: `BuildEntry`.
Guarantee: every value has its type and range, and there are as many of each as the plan has phases.

    {"algorithm": 1, "window_tokens": 33554432, "shard_bytes": 268435456, "bos": "none"}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from curriculum.budget import FULL
from curriculum.errors import DataError
from curriculum.extension import Extension, read_extensions
from curriculum.json_object import JsonObject
from curriculum.mixture import Mixture
from curriculum.mixture_entry import read_mixture
from curriculum.plan import Plan

OPTIONAL = ("fill", "mixture", "extensions")
"""Keys of `build` that are there only where they say something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildEntry:
    """Choices of the builder that change the bytes and are not part of the plan."""

    algorithm: int
    window_tokens: int
    shard_bytes: int
    bos: str
    """"none" or "document" """
    fill: tuple[int, ...] = ()
    """best-fit mode: parts per million of the slots of each phase that the stream was to fill; () and no key else"""
    mixture: Mixture | None = None
    """of several sources: the weight of each in every phase; None, and no key, of a single one"""
    extensions: tuple[Extension, ...] = ()
    """one for each time that the dataset was extended, the first one first; () and no key if it never was"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        values = asdict(self) | {
            "mixture": self.mixture.weights if self.mixture else (),
            "extensions": tuple(entry.to_json() for entry in self.extensions),
        }
        return {name: value for name, value in values.items() if value or name not in OPTIONAL}


def read_build(o: JsonObject, plan: Plan) -> BuildEntry:
    """Types, ranges and keys, and whether they fit the plan.

    Raises:
        DataError: names the first value that is not allowed.
    """
    entry = BuildEntry(
        algorithm=o.integer("algorithm"),
        window_tokens=o.integer("window_tokens", least=1),
        shard_bytes=o.integer("shard_bytes", least=1),
        bos=o.one_of("bos", ("none", "document")),
        fill=tuple(o.integers("fill", least=1, most=FULL)) if plan.mode == "best-fit" and "fill" in o.raw else (),
        mixture=read_mixture(o, len(plan.phases)) if "mixture" in o.raw else None,
        extensions=read_extensions(o.objects("extensions") if "extensions" in o.raw else (), plan, o.where),
    )
    o.no_others()
    if entry.fill and len(entry.fill) != len(plan.phases):
        raise DataError(f"{o.where}: fill has {len(entry.fill)} entries, the plan {len(plan.phases)} phases.")
    return entry
