"""What a dataset is, at a glance: `curriculum inspect`.

In:  the folder of a dataset; shards may be missing (a dataset pulled in part).
Out: `Summary`: plain values for people and for `--json`.
Guarantee: reads the manifest, the build log and the sizes of files, never a token.

    summarize(Path("my-dataset")).to_json()["bytes_per_token"]     2.04
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME, Manifest, load_manifest, parse_manifest
from pipeline.files.address import dataset_files, is_url
from pipeline.files.object_store import ObjectFiles
from pipeline.files.retries import FIRST_CONTACT
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.layout import read_build_log
from pipeline.manifest_checks import all_shards
from pipeline.source_use import MixtureUse, use_of

BUILD_FACTS = (
    "finished",
    "seconds",
    "mb_per_second",
    "tokens_per_second",
    "text_bytes",
    "backend",
    "workers",
    "host",
    "python",
    "versions",
    "corpus",
    "store",
    "packing",
)
"""What the build log tells about how the dataset came to be."""
PACKING = ("concatenation_ratio", "documents", "documents_split", "truncation_ratio")
"""Of `packing`, what is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A dataset, summarized."""

    path: str
    manifest: Manifest
    num_shards: int
    missing_shards: int
    bytes_on_disk: int
    """of all files in the folder"""
    shard_bytes: int
    """of all shards, as the manifest says"""
    build: dict[str, Any] | None
    """facts of the build log; None if it is not there or of another build"""
    use: MixtureUse | None
    """what the plan takes of several sources; None for one"""

    @property
    def bytes_per_token(self) -> float:
        """Bytes of all shards of the phases per trained token."""
        entries = (shard for phase in self.manifest.phases for shard in phase.shards)
        return sum(shard.num_bytes for shard in entries) / max(1, self.manifest.accounting.trained_tokens)

    @property
    def percentages(self) -> dict[str, float]:
        """Each token count of the accounting as a percentage of the corpus."""
        counts = self.manifest.accounting.to_json()
        corpus = max(1, counts["corpus_tokens"])
        return {name: 100 * count / corpus for name, count in counts.items() if name.endswith("_tokens")}

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        manifest, plan = self.manifest, self.manifest.plan
        return {
            "dataset": self.path,
            "id": manifest.id,
            "mode": plan.mode,
            "seed": manifest.seed,
            "total_steps": plan.total_steps,
            "total_tokens": plan.total_tokens,
            "max_seq_len": plan.max_seq_len,
            "num_shapes": plan.num_shapes,
            "schedule": dict(plan.schedule),
            "phases": [
                {**phase.to_json(), "shards": len(entry.shards)}
                for phase, entry in zip(plan.phases, manifest.phases, strict=True)
            ],
            "validation_rows": manifest.validation.num_rows if manifest.validation else 0,
            "dtype": manifest.dtype,
            "tokenizer": manifest.tokenizer.to_json(),
            "about": manifest.about.to_json(),
            "settings": manifest.build.to_json(),
            "sources": [source.to_json() for source in manifest.sources],
            "mixture": None if self.use is None else self.use.to_json(),
            "accounting": manifest.accounting.to_json(),
            "accounting_percent": self.percentages,
            "world_sizes": list(plan.world_sizes),
            "shards": self.num_shards,
            "missing_shards": self.missing_shards,
            "bytes_on_disk": self.bytes_on_disk,
            "shard_bytes": self.shard_bytes,
            "bytes_per_token": self.bytes_per_token,
            "build": self.build,
        }


def summarize(root: Path | str, options: StorageOptions = NO_OPTIONS) -> Summary:
    """Summarize the dataset at `root`, a folder or the address of one in a store.

    Raises:
        DataError: there is none, or its manifest is damaged.
        BuildError: the store cannot be read.
    """
    if is_url(root):
        return _summarize_remote(ObjectFiles(url=str(root).rstrip("/"), aside="", options=options))
    root = Path(root)
    manifest = load_manifest(root)
    places = list(all_shards(manifest))
    log = read_build_log(dataset_files(root), manifest.id)
    return Summary(
        path=str(root),
        manifest=manifest,
        num_shards=len(places),
        missing_shards=sum(not (root / place.entry.path).is_file() for place in places),
        bytes_on_disk=_bytes_below(root),
        shard_bytes=sum(place.entry.num_bytes for place in places),
        build=_facts(log),
        use=use_of(manifest),
    )


def _summarize_remote(files: ObjectFiles) -> Summary:
    """The same by one listing."""
    text = files.read(FILE_NAME, FIRST_CONTACT)
    if text is None:
        raise DataError(f"{files.where}: not a curriculum dataset, it has no {FILE_NAME}; that is written last.")
    manifest = parse_manifest(text, files.address(FILE_NAME))
    places, sizes = list(all_shards(manifest)), files.sizes()
    log = read_build_log(files, manifest.id)
    return Summary(
        path=files.where,
        manifest=manifest,
        num_shards=len(places),
        missing_shards=sum(place.entry.path not in sizes for place in places),
        bytes_on_disk=sum(sizes.values()),
        shard_bytes=sum(place.entry.num_bytes for place in places),
        build=_facts(log),
        use=use_of(manifest),
    )


def _facts(log: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of a log that somebody else may have written: numbers that are to be shown as such are numbers."""
    if log is None:
        return None
    facts = {name: log[name] for name in BUILD_FACTS if name in log}
    packing = facts.get("packing")
    if packing is not None and not (isinstance(packing, dict) and all(_is_number(packing.get(k)) for k in PACKING)):
        del facts["packing"]
    return facts


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63


def _bytes_below(folder: Path) -> int:
    """Bytes of all files; links are not followed."""
    total, folders = 0, [str(folder)]
    while folders:  # not by recursion: folders may be nested by the thousand
        for entry in os.scandir(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total
