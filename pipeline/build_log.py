"""The build log: everything about a build that may differ between two equal ones.

In:  the stages as they run.   Out: the object of build-log.json: request, times, host, versions, backend, rates.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from curriculum.manifest import Manifest
from pipeline.corpus import Corpus
from pipeline.options import Options
from pipeline.tokenized_corpus import TokenizedCorpus

PACKAGES = (
    "seqlen-curriculum",
    "numpy",
    "pyarrow",
    "tokenizers",
    "fastokens",
    "xxhash",
    "orjson",
    "zstandard",
)


class BuildLog:
    """Collects what happened."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self._started = datetime.now(UTC)
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        began = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - began, 3)

    def to_json(
        self,
        manifest: Manifest,
        tokenized: TokenizedCorpus,
        corpus: Corpus,
        options: Options,
        held_out_below: int,
        packing: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Everything known at the end of a build."""
        text_bytes = sum(part.text_bytes for part in tokenized.parts)
        seconds = sum(self._seconds.values())
        return {
            "request": self.request,
            "id": manifest.id,
            "started": self._started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": self._seconds,
            "text_bytes": text_bytes,
            "mb_per_second": round(text_bytes / 1e6 / max(seconds, 1e-9), 2),
            "tokens_per_second": round(tokenized.tokens / max(seconds, 1e-9)),
            "backend": tokenized.backend,
            "engine": options.engine,
            "workers": options.num_workers() if options.engine == "local" else options.workers,
            "host": platform.node(),
            "python": platform.python_version(),
            "versions": package_versions(),
            "corpus": corpus.name,
            "store": options.store_address(),
            "parts": list(tokenized.part_names),
            "source_parts": {one.name: [part.name for part in one.parts] for one in tokenized.sources},
            "held_out_below": held_out_below,
            "skipped_examples": list(tokenized.skipped_examples),
            "packing": packing,
        }


@cache
def package_versions() -> dict[str, str | None]:
    """Versions of what decides how a build runs; None for a package that is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
