"""Exports, read back by the libraries they are meant for: every token and label, in order, is that of the reader.

parquet by `datasets`, duckdb and polars; .npy by numpy; MDS by mosaicml-streaming and .bin/.idx by megatron-core, in
environments of their own: one holds numpy and transformers below the versions that this project is developed with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import polars
import pytest
from numpy.typing import NDArray

import curriculum
from curriculum.reader import Reader
from dataset_rows import Row, held_out_rows, rows_of_phase
from environments import environment
from export_probe import first_row_by_readme
from pipeline.build import BuildResult
from pipeline.export import Export, export_dataset
from pipeline.progress import Silent
from pipeline.tokenizer import byte_tokenizer

ROOT = Path(__file__).parents[2]
IGNORED = -100


def _sees() -> tuple[str, ...]:
    """The packages of this environment, of which torch is the large one."""
    return tuple(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))


def mds_python() -> Path:
    """mosaicml-streaming without clouds and images; it asks for numpy<2.2, and works with what is here."""
    needed = ("mosaicml-streaming==0.13.0", "python-snappy", "cramjam", "Brotli", "zstd", "pillow", "catalogue")
    return environment("mds", "--no-deps", *needed, "tqdm", "filelock", "requests", sees=_sees()) / "python"


def megatron_python() -> Path:
    """megatron-core, of which only the indexed dataset is used."""
    return environment("megatron", "--no-deps", "megatron-core==0.16.1", "packaging", sees=_sees()) / "python"


def installed() -> None:
    """Both environments."""
    mds_python()
    megatron_python()


INSTALLS = installed


FEW: dict[str, Any] = {"validation_tokens": 2_000, "max_shapes": 3, "steps": 120, "shard_bytes": 20_000}
"""Three phases of up to three shards: these libraries take their time over many files."""


@pytest.fixture(scope="module")
def plain_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus, with held-out rows."""
    out = tmp_path_factory.mktemp("plain") / "dataset"
    build_small(out, **FEW)
    return out


@pytest.fixture(scope="module")
def packed_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, packed: its held-out rows are plain."""
    out = tmp_path_factory.mktemp("packed") / "dataset"
    build_small(out, **FEW, mode="best-fit")
    return out


@pytest.fixture(scope="module")
def wide_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ids of 32 bits: those of the bytes begin at 70,000."""
    folder = tmp_path_factory.mktemp("wide")
    tokenizer = json.loads(byte_tokenizer())
    tokenizer["model"]["vocab"] = {name: 70_000 + number for name, number in tokenizer["model"]["vocab"].items()}
    tokenizer["added_tokens"][0]["id"] = 70_256
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    build_small(folder / "dataset", tokenizer=str(folder / "tokenizer.json"), backend="tokenizers", **FEW)
    return folder / "dataset"


def export(dataset: Path, out: Path, to: str, **asked: Any) -> Path:
    export_dataset(str(dataset), str(out), Export(to=to, **asked), workers=1, progress=Silent())
    return out


def expected(dataset: Path) -> dict[str, list[Row]]:
    """By folder of the export: all rows; where they are packed, with the labels that Hugging Face models take."""
    reader = curriculum.open(dataset)
    plan = reader.plan
    rows = {f"phase-{i:05d}-len{p.seq_len:07d}": rows_of_phase(reader, i) for i, p in enumerate(plan.phases)}
    if reader.manifest.packed:
        for i, name in enumerate(rows):
            for row, labels in zip(rows[name], labels_of_phase(reader, i), strict=True):
                row["labels"] = labels
    return {**rows, "validation": held_out_rows(reader)} if reader.validation else rows


def labels_of_phase(reader: Reader, phase: int) -> Iterator[list[int]]:
    """What the reader gives trainers, shifted back by one: a label stands where its token does."""
    for step in range(len(reader)):
        batch = reader[step]
        if batch.phase == phase:
            for labels in batch.labels.tolist():
                yield [IGNORED, *labels]


@pytest.fixture(scope="module", params=["plain", "packed"])
def dataset(request: pytest.FixtureRequest) -> Path:
    """A finished dataset."""
    found: Path = request.getfixturevalue(f"{request.param}_dataset")
    return found


def _named(rows: list[Row]) -> list[Row]:
    return [{"input_ids" if name == "tokens" else name: value for name, value in row.items()} for row in rows]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
def test_parquet_by_datasets(dataset: Path, streaming: bool, tmp_path: Path) -> None:
    """Every column of every row of every phase, by the names of the README."""
    out = export(dataset, tmp_path / "out", "parquet")
    rows = expected(dataset)
    assert datasets.get_dataset_config_names(str(out)) == list(rows)
    for name in rows:
        split = "validation" if name == "validation" else "train"
        found: Any = datasets.load_dataset(
            str(out), name, split=split, streaming=streaming, cache_dir=str(tmp_path / "cache")
        )
        assert list(found) == _named(rows[name]) != []


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("to", ["parquet", "npy"])
def test_the_readme_shows_how_rows_are_read(dataset: Path, to: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Its lines give inputs and targets, where rows are packed with -100; they are run as they are."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    out = export(dataset, tmp_path / "out", to)
    assert first_row_by_readme(out) == first_row(dataset)


def first_row(dataset: Path) -> list[list[int]]:
    """Inputs and targets of the first row of the first phase, as the reader gives them."""
    batch = curriculum.open(dataset)[0]
    assert batch.phase == 0
    return [batch.inputs[0].tolist(), batch.labels[0].tolist()]


def test_parquet_by_duckdb_and_polars(dataset: Path, tmp_path: Path) -> None:
    """Both read the folder of a phase; duckdb knows no arrays of one size in parquet, but lists."""
    out = export(dataset, tmp_path / "out", "parquet")
    for name, rows in expected(dataset).items():
        assert polars.read_parquet(out / name).to_dicts() == _named(rows)
        found = duckdb.read_parquet(f"{out / name}/*.parquet")
        lists = [[list(value) if isinstance(value, tuple) else value for value in row] for row in found.fetchall()]
        assert [dict(zip(found.columns, row, strict=True)) for row in lists] == _named(rows)


def test_arrays_by_numpy(dataset: Path, tmp_path: Path) -> None:
    """Mapped, without pickles, with lists found by their offsets."""
    out = export(dataset, tmp_path / "out", "npy")
    for name, rows in expected(dataset).items():
        arrays: dict[str, NDArray[Any]] = {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in (out / name).iterdir()
        }
        edges = arrays.pop("doc_offsets")
        assert edges.dtype == np.int64
        lists = [each for each in ("doc_starts", "piece_offset", "piece_document") if each in arrays]
        values = {
            column: [array[a:b].tolist() for a, b in pairwise(edges)] if column in lists else array.tolist()
            for column, array in arrays.items()
        }
        found = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        assert found == rows


def test_mds_by_streaming(plain_dataset: Path, packed_dataset: Path, tmp_path: Path) -> None:
    """In order; the bytes are those that its own writer makes; and batches of several ranks are the steps."""
    wanted = {}
    for dataset in (plain_dataset, packed_dataset):
        out = export(dataset, tmp_path / dataset.parent.name, "mds")
        wanted |= {out / name: [_sample(row) for row in rows] for name, rows in expected(dataset).items()}
    found = probe(mds_python(), "mds", list(wanted))
    assert found["batches_are_steps"]
    assert not found["batches_of_3_ranks_are_steps"], "8 rows of a step, 2 for each rank"
    assert found["refuses_3_ranks"] == [True, True], "plain and packed"
    assert found["by_readme"] == {
        str(tmp_path / dataset.parent.name): first_row(dataset) for dataset in (plain_dataset, packed_dataset)
    }
    for folder, samples in wanted.items():
        assert found["rows"][str(folder)] == samples != []
        again = Path(f"{folder}-again") / "shard.00000.mds"
        assert again.read_bytes() == (folder / "shard.000000.0000.mds").read_bytes()


def _sample(row: Row) -> Row:
    """Where pieces come from has no place there."""
    return {name: value for name, value in row.items() if not name.startswith("piece_")}


def test_bin_and_idx_by_megatron(plain_dataset: Path, wide_dataset: Path, tmp_path: Path) -> None:
    """`IndexedDataset`, of 16-bit ids and of ids that Megatron has as int32."""
    wanted = {}
    for dataset in (plain_dataset, wide_dataset):
        out = export(dataset, tmp_path / dataset.parent.name, "megatron")
        wanted |= {str(out / name): [row["tokens"] for row in rows] for name, rows in expected(dataset).items()}
    assert max(token for rows in wanted.values() for row in rows for token in row) > 65_535
    found = probe(megatron_python(), "megatron", [Path(folder) for folder in wanted])
    assert found["rows"] == wanted
    assert found["by_readme"] == {
        str(tmp_path / dataset.parent.name): first_row(dataset) for dataset in (plain_dataset, wide_dataset)
    }


def probe(python: Path, kind: str, folders: list[Path]) -> dict[str, Any]:
    """What the libraries of another environment find."""
    done = subprocess.run(
        [str(python), "-W", "ignore", str(ROOT / "tests" / "export_probe.py"), kind, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
