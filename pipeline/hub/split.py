"""One split of a dataset on the Hub, at a commit, as `datasets` streams it.

In:  a `HubName` with a commit.   Out: `Split`: its shards, and the tables of one of them.
Guarantee: opened by name in every process that reads it, nothing of it is sent anywhere. Only files of the repository
itself at that commit are read: a data set whose card points elsewhere (a path of this machine, another server) is
refused, and so is one that needs code of its own. Each shard is streamed alone, so that its rows do not depend on which
shards are read together.

    open_split(hf:org/books@1f2e...:en/train).shards      (Shard("en/train-00000-of-00002.parquet", 3_102_554), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from curriculum.errors import BuildError, ConfigError
from pipeline.hub.access import Resolved, client
from pipeline.hub.library import NOT_READ, open_builder, raise_in_place, without_torch
from pipeline.hub.names import DEFAULT_SPLIT, HubName
from pipeline.records import name_list

PATHS_OF_A_REQUEST = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """What is streamed at a time: a file of the repository."""

    name: str
    """its path in the repository; if a file is not a shard, its number"""
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """A split that is there; `name` says everything, configuration and split included."""

    name: HubName
    shards: tuple[Shard, ...]
    builder: Any = field(repr=False)
    stream: Any = field(repr=False)
    """of all columns"""

    @property
    def columns(self) -> Any | None:
        """The schema, if it is known before a row is read."""
        features = self.stream.features
        return None if features is None else features.arrow_schema

    @property
    def is_of_lines(self) -> bool:
        """Whether `datasets` would read the shards as JSON, one object a line, as files of lines are read here."""
        config = self.builder.config
        return (
            type(self.builder).__module__ == "datasets.packaged_modules.json.json"
            and getattr(config, "field", None) is None
            and getattr(config, "encoding", "utf-8") == "utf-8"
        )

    def tables(self, shard: int, key: str, num_rows: int) -> Iterator[Any]:
        """Tables of up to so many rows of one shard, with at least the column `key`, which is among `columns`."""
        with without_torch():
            one = _one_column(self, key).shard(num_shards=len(self.shards), index=shard, contiguous=True)
            rows = one.with_format("arrow")
        yield from rows.iter(batch_size=num_rows)


@lru_cache(maxsize=8)
def _one_column(split: Split, key: str) -> Any:
    """The stream without the other columns, where that is possible."""
    if split.columns is None:  # nothing is known of them before the rows are read
        return split.stream
    if not hasattr(split.builder.config, "columns"):
        return split.stream.select_columns([key])
    split.builder.config.columns = [key]  # Parquet: the others are not even fetched
    return split.builder.as_streaming_dataset()[split.name.split]


def find_split(found: Resolved, config: str | None, split: str | None) -> HubName:
    """The name of a split with nothing left open.

    Raises:
        ConfigError: it needs code, or there is no such configuration or split.
        BuildError: the Hub cannot be asked, or `datasets` cannot read it.
    """
    script = f"{found.name.repository.rpartition('/')[2]}.py"
    if script in found.files:
        raise ConfigError(
            f"{found.name}: it is loaded by code of its own ({script}), and code of the Hub is never run: {NOT_READ}."
        )
    builder = open_builder(replace(found.name, config=config))
    splits = [str(name) for name in builder.config.data_files or {}]
    wanted = split or DEFAULT_SPLIT
    if splits and wanted not in splits:
        raise ConfigError(
            f"{replace(found.name, config=builder.config.name, split=wanted)}: there is no split {wanted!r}; it has "
            f"{name_list(splits)}. Write hf:{found.name.repository}:{builder.config.name}/{splits[0]}."
        )
    return replace(found.name, config=str(builder.config.name), split=wanted)


@lru_cache(maxsize=8)
def open_split(name: HubName) -> Split:
    """Look a split up; kept, since opening asks the Hub several times, and since nothing changes under a commit.

    Raises:
        BuildError, ConfigError: as `find_split`.
    """
    builder = open_builder(name)
    root = f"hf://datasets/{name.repository}@{name.commit}/"
    files = [str(file) for file in (builder.config.data_files or {}).get(name.split) or ()]
    every = [str(file) for of_split in (builder.config.data_files or {}).values() for file in of_split]
    foreign = [file for file in every if not file.startswith(root)]
    if foreign or not files:
        where = f"its card names {foreign[0][:200]!r}" if foreign else "`datasets` names none of its files"
        raise ConfigError(
            f"{name}: {where}, and only files of the repository itself at that commit are read: {NOT_READ}."
        )
    try:
        with without_torch():
            stream = builder.as_streaming_dataset()[name.split]
        num_shards = int(stream.num_shards)
        sizes = _sizes(name, [file.removeprefix(root) for file in files])
    except Exception as error:
        raise_in_place(error, name)
    return Split(name=name, shards=_shards(sizes, num_shards), builder=builder, stream=stream)


def _shards(sizes: Mapping[str, int], num_shards: int) -> tuple[Shard, ...]:
    """Files and shards are the same for all formats of today; where they are not, sizes are shared out evenly."""
    if len(sizes) == num_shards:
        return tuple(Shard(name=path, num_bytes=size) for path, size in sizes.items())
    total = sum(sizes.values())
    edges = [total * number // num_shards for number in range(num_shards + 1)]
    return tuple(
        Shard(name=f"{number:05d}-of-{num_shards:05d}", num_bytes=edges[number + 1] - edges[number])
        for number in range(num_shards)
    )


def _sizes(name: HubName, paths: Sequence[str]) -> dict[str, int]:
    """Bytes of files of the repository, in their order."""
    api = client().HfApi()
    sizes: dict[str, int] = {}
    for start in range(0, len(paths), PATHS_OF_A_REQUEST):
        asked = list(paths[start : start + PATHS_OF_A_REQUEST])
        sizes |= {
            file.path: int(file.size)
            for file in api.get_paths_info(name.repository, asked, repo_type="dataset", revision=name.commit)
        }
    missing = [path for path in paths if path not in sizes]
    if missing:
        raise BuildError(f"{name}: the Hub does not know the size of {missing[0]!r}. Run the same command again.")
    return {path: sizes[path] for path in paths}
