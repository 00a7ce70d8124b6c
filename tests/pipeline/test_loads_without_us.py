"""A phase of a finished dataset opens with libraries that know nothing of us: every column of every row, in order.

Each `load_*` is what a stranger would type; nothing of this project is imported to read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pytest

import curriculum
from dataset_rows import Row, held_out_rows, rows_of_phase
from pipeline.build import BuildResult

Load = Callable[[Path], list[Row]]


@pytest.fixture(scope="module")
def packed_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus packed: three columns more, plain held-out rows."""
    out = tmp_path_factory.mktemp("packed") / "dataset"
    build_small(out, mode="best-fit", validation_tokens=6_000)
    return out


@pytest.fixture(scope="module", params=["plain", "packed"])
def dataset(request: pytest.FixtureRequest) -> Path:
    """A finished dataset: of plain rows, and of packed ones."""
    found: Path = request.getfixturevalue("small_dataset" if request.param == "plain" else "packed_dataset")
    return found


def load_with_pyarrow_dataset(folder: Path) -> list[Row]:
    return pyarrow.dataset.dataset(folder, format="arrow").to_table().to_pylist()


def load_with_pyarrow_ipc(folder: Path) -> list[Row]:
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(folder.rglob("*.arrow"))]
    return pa.concat_tables(tables).to_pylist()


def load_with_polars(folder: Path) -> list[Row]:
    return polars.read_ipc(folder).to_dicts()


def load_with_polars_lazily(folder: Path) -> list[Row]:
    return polars.scan_ipc(folder).collect().to_dicts()


def load_with_duckdb(folder: Path) -> list[Row]:
    found = duckdb.from_arrow(pyarrow.dataset.dataset(folder, format="arrow"))
    return [dict(zip(found.columns, _lists(row), strict=True)) for row in found.fetchall()]


def load_with_pandas(folder: Path) -> list[Row]:
    frames = [pandas.read_feather(path) for path in sorted(folder.rglob("*.arrow"))]
    return [
        {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
        for row in pandas.concat(frames).to_dict("records")
    ]


LOADS = [
    load_with_pyarrow_dataset,
    load_with_pyarrow_ipc,
    load_with_polars,
    load_with_polars_lazily,
    load_with_duckdb,
    load_with_pandas,
]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_a_phase_opens_row_by_row(dataset: Path, load: Load) -> None:
    """Of the longest phase: many shards, whose order is that of their names."""
    reader = curriculum.open(dataset)
    index = len(reader.plan.phases) - 1
    folder = dataset / "phases" / f"{index:05d}-len{reader.plan.max_seq_len:07d}"
    assert len(list(folder.iterdir())) > 10
    assert load(folder) == rows_of_phase(reader, index)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_held_out_rows_open(dataset: Path, load: Load) -> None:
    """They are plain where those of the phases are packed."""
    assert load(dataset / "validation") == held_out_rows(curriculum.open(dataset)) != []


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_a_phase_of_more_than_a_thousand_shards_opens(small_dataset: Path, load: Load, tmp_path: Path) -> None:
    """Its shards lie in numbered sub-folders; cut here after three instead of a thousand."""
    whole = sorted((small_dataset / "phases" / "00007-len0000064").iterdir())
    for number, shard in enumerate(whole):
        target = tmp_path / "phase" / f"{number // 3:05d}" / shard.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shard, target)
    assert load(tmp_path / "phase") == rows_of_phase(curriculum.open(small_dataset), 7)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
def test_load_dataset_opens_every_config_of_the_card(dataset: Path, streaming: bool, tmp_path: Path) -> None:
    """`load_dataset(DATASET, "phase-00000-len0000008")`: the first and the last phase, and the held-out rows."""
    reader = curriculum.open(dataset)
    names = [f"phase-{i:05d}-len{phase.seq_len:07d}" for i, phase in enumerate(reader.plan.phases)]
    assert datasets.get_dataset_config_names(str(dataset)) == [*names, "validation"]

    def load(name: str, split: str) -> list[Row]:
        found: Any = datasets.load_dataset(
            str(dataset), name, split=split, streaming=streaming, cache_dir=str(tmp_path)
        )
        return list(found)

    assert load(names[0], "train") == rows_of_phase(reader, 0)
    assert load(names[-1], "train") == rows_of_phase(reader, len(names) - 1)
    assert load("validation", "validation") == held_out_rows(reader)


def test_types_are_those_of_the_format(small_dataset: Path) -> None:
    """Nobody has to guess: 16-bit ids in lists of one size, without nulls."""
    folder = small_dataset / "phases" / "00000-len0000008"
    assert polars.scan_ipc(folder).collect_schema() == {
        "tokens": polars.Array(polars.UInt16, 9),
        "doc_starts": polars.List(polars.UInt32),
        "offset": polars.UInt64,
        "document": polars.UInt64,
    }
    phase = pyarrow.dataset.dataset(folder, format="arrow")
    assert [str(type_) for type_ in duckdb.from_arrow(phase).types] == [
        "USMALLINT[9]",
        "UINTEGER[]",
        "UBIGINT",
        "UBIGINT",
    ]
    assert len(phase.schema) == 4


def _lists(row: tuple[Any, ...]) -> list[Any]:
    """duckdb gives arrays of one size as tuples."""
    return [list(value) if isinstance(value, tuple) else value for value in row]
