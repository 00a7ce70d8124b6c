"""A packed dataset that was damaged or forged is refused in one sentence, before it gives wrong labels."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import curriculum
from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from curriculum.shard_format import open_shard
from forged_shards import forge_shard, last_shard, read_manifest, replace_last_shard, with_type, write_manifest
from packed_dataset import GOLDEN, LAST_STEP_OF_16, write_and_open, write_packed_dataset
from pipeline.files.address import dataset_files
from pipeline.shard import write_shard


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed dataset; treat it as read-only."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return root


@pytest.fixture
def dataset(packed: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(packed, tmp_path / "dataset")


def with_lists(name: str, lists: list[list[int]]) -> Callable[[pa.Table], pa.Table]:
    """Replace one list column of the last shard, 4 rows with 1, 1, 3 and 1 further pieces or as given."""

    def change(table: pa.Table) -> pa.Table:
        i = table.schema.get_field_index(name)
        return table.set_column(i, table.schema.field(i), pa.chunked_array([pa.array(lists, table.schema.types[i])]))

    return change


def longer_list(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: with_lists(name, [[1, *table[name][0].as_py()], *table[name].to_pylist()[1:]])(table)


def moved_item(name: str) -> Callable[[pa.Table], pa.Table]:
    """As many items in all, in other rows."""

    def change(table: pa.Table) -> pa.Table:
        lists = table[name].to_pylist()
        source = next(i for i, items in enumerate(lists) if items)
        lists[source - 1] = [*lists[source - 1], lists[source].pop()]
        return with_lists(name, lists)(table)

    return change


def with_numbers(change: Callable[[list[int]], object]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        numbers = table["num_tokens"].to_pylist()
        change(numbers)
        i = table.schema.get_field_index("num_tokens")
        return table.set_column(i, table.schema.field(i), pa.array(numbers, pa.uint32()))

    return changed


OTHER_COLUMNS = "its columns are .*, the manifest asks for .*num_tokens: uint32"
HOSTILE_SHARDS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "no num_tokens": (lambda t: t.drop_columns("num_tokens"), OTHER_COLUMNS),
    "a plain shard": (lambda t: t.select(["tokens", "doc_starts", "offset", "document"]), OTHER_COLUMNS),
    "num_tokens nullable": (lambda t: with_type(t, "num_tokens", pa.uint32(), nullable=True), OTHER_COLUMNS),
    "num_tokens as uint64": (lambda t: with_type(t, "num_tokens", pa.uint64()), OTHER_COLUMNS),
    "piece_offset as uint32": (lambda t: with_type(t, "piece_offset", pa.list_(pa.uint32())), OTHER_COLUMNS),
    "another order": (lambda t: t.select([*t.column_names[:5], "piece_document", "piece_offset"]), OTHER_COLUMNS),
    "one piece_offset more": (longer_list("piece_offset"), "lists of piece_offset and doc_starts have different le"),
    "one document more": (longer_list("piece_document"), "lists of piece_document and doc_starts have different le"),
    "a piece_offset in another row": (moved_item("piece_offset"), "lists of piece_offset and doc_starts have diff"),
    "no pieces": (lambda t: with_lists("piece_document", [[]] * len(t))(t), "lists of piece_document and doc_starts"),
    "num_tokens 0": (with_numbers(lambda n: n.__setitem__(2, 0)), r"row 2 has num_tokens 0, expected 2 to 17 in rows"),
    "num_tokens 1": (with_numbers(lambda n: n.__setitem__(0, 1)), "row 0 has num_tokens 1, expected 2 to 17"),
    "beyond the row": (with_numbers(lambda n: n.__setitem__(3, 18)), "row 3 has num_tokens 18, expected 2 to 17"),
    "a start at 0": (
        lambda t: with_lists("doc_starts", [[p * 0 for p in row] for row in t["doc_starts"].to_pylist()])(t),
        "doc_starts holds the position 0, expected 1 to 16",
    ),
    "a start beyond the row": (
        lambda t: with_lists("doc_starts", [[p + 16 for p in row] for row in t["doc_starts"].to_pylist()])(t),
        "doc_starts holds the position [0-9]+, expected 1 to 16",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_SHARDS)
def test_a_packed_shard_that_would_give_wrong_labels_is_refused(dataset: Path, name: str) -> None:
    """At the first touch and with the name of the file: not an index error of numpy in step 180,000, and never the
    labels of another row."""
    change, message = HOSTILE_SHARDS[name]
    path = replace_last_shard(dataset, change)
    reader = curriculum.open(dataset)
    assert reader[0].labels.shape == (4, 8), "the other shards serve their steps"
    with pytest.raises(DataError, match=message) as caught:
        reader[LAST_STEP_OF_16]
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=path.name):
        curriculum.open(dataset, check=True)


def write_column(root: Path, column: str, change: Callable[[pa.Array], pa.Array]) -> Path:
    """The golden shard with one column exchanged behind the schema's back."""
    write_and_open(root, GOLDEN)
    path = root / "shard.arrow"
    batch = pa.ipc.open_file(path).get_batch(0)
    arrays = [change(array) if name == column else array for name, array in zip(batch.schema.names, batch, strict=True)]
    path.unlink()
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=batch.schema))
    return path


def with_null(array: pa.Array) -> pa.Array:
    """The same array, its second entry null."""
    children = [array.values] if pa.types.is_list(array.type) else None
    buffers = [pa.py_buffer(b"\xfd"), *array.buffers()[1:2]]
    return pa.Array.from_buffers(array.type, len(array), buffers, children=children)


def with_items(array: pa.Array, items: pa.Array) -> pa.Array:
    return pa.Array.from_buffers(array.type, len(array), array.buffers()[:2], children=[items])


COLUMN_CHANGES: dict[str, tuple[str, Callable[[pa.Array], pa.Array], str]] = {
    "num_tokens null": ("num_tokens", with_null, "a column holds nulls"),
    "a list null": ("piece_offset", with_null, "a column holds nulls"),
    "an item null": ("piece_offset", lambda a: with_items(a, with_null(a.values)), "a column holds nulls"),
    "a document null": ("piece_document", lambda a: with_items(a, with_null(a.values)), "a column holds nulls"),
}


@pytest.mark.parametrize("name", COLUMN_CHANGES)
def test_values_that_the_schema_denies_are_refused(tmp_path: Path, name: str) -> None:
    """Behind a null lies whatever is in the file."""
    path = write_column(tmp_path, *COLUMN_CHANGES[name][:2])
    with pytest.raises(DataError, match=COLUMN_CHANGES[name][2]):
        open_shard(path, seq_len=7, dtype="uint16", num_rows=4, num_bytes=path.stat().st_size, packed=True)


def test_items_that_no_row_owns_are_refused(tmp_path: Path) -> None:
    """Offsets that agree over values that do not: what stands beside doc_starts would be of another piece."""
    longer = pa.array([[1], [], [], [10, 11, 12, 13]], pa.list_(pa.field("item", pa.uint64(), nullable=False)))
    path = write_column(tmp_path, "piece_document", lambda array: longer)
    data = path.read_bytes()
    offsets = np.array([0, 1, 1, 1, 5], np.int32).tobytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, np.array([0, 1, 1, 1, 4], np.int32).tobytes()))
    assert pa.ipc.open_file(path).get_batch(0).column("piece_document").to_pylist()[3] == [10, 11, 12]
    with pytest.raises(DataError, match="lists of piece_document and doc_starts have different lengths"):
        open_shard(path, seq_len=7, dtype="uint16", num_rows=4, num_bytes=len(data), packed=True)


def test_a_truncated_packed_shard_is_refused(dataset: Path) -> None:
    """The pieces lie at the end of the file: a cut there leaves all tokens readable, and the process dead of SIGBUS."""
    path = dataset / last_shard(read_manifest(dataset))["path"]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="bytes on disk, the manifest says"):
        curriculum.open(dataset)[LAST_STEP_OF_16]


def test_flipped_bits_around_the_tokens_never_crash(dataset: Path) -> None:
    """Arrow has no checksum: 300 damaged headers, pieces and footers, each refused or labelled within bounds."""
    entry = last_shard(read_manifest(dataset))
    path = dataset / entry["path"]
    data = path.read_bytes()
    around = [*range(entry["data_offset"]), *range(entry["data_offset"] + entry["num_rows"] * 17 * 2, len(data))]
    choose = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in choose.choices(around, k=choose.choice((1, 2, 20))):
            damaged[position] ^= 1 << choose.randrange(8)
        path.unlink()
        path.write_bytes(damaged)
        try:
            batch = curriculum.open(dataset)[LAST_STEP_OF_16]
        except DataError:
            refused += 1
        else:
            assert batch.labels.shape == batch.has_target.shape == (4, 16)
            assert batch.piece_offset is not None
            assert len(batch.piece_offset) == len(batch.doc_starts[0])
    assert 100 < refused < 300


@pytest.mark.parametrize("column", ["piece_offset", "piece_document", "num_tokens"])
def test_the_writer_publishes_no_rows_whose_columns_do_not_fit(tmp_path: Path, column: str) -> None:
    """A bug in the packing shows when the shard is written, not when it is trained on."""
    short: Any = getattr(GOLDEN, column)[:-1].copy()
    with pytest.raises((DataError, ValueError), match=r"larger than values array|not all the same length"):
        write_shard(dataset_files(tmp_path).write, "shard.arrow", replace(GOLDEN, **{column: short}))
    assert not (tmp_path / "shard.arrow").exists()


def test_a_forged_shard_keeps_its_pieces(dataset: Path) -> None:
    """The tool of other tests: a change of one column leaves the others as they were."""
    path = last_shard(read_manifest(dataset))["path"]
    before = curriculum.open(dataset)[LAST_STEP_OF_16]
    forge_shard(dataset, path, lambda columns: columns.document.__iadd__(1))
    after = curriculum.open(dataset)[LAST_STEP_OF_16]
    assert np.array_equal(after.document, before.document + 1)
    assert np.array_equal(after.labels, before.labels)
    assert after.piece_document is not None
    assert np.array_equal(after.piece_document, before.piece_document)


def test_an_older_release_refuses_a_packed_dataset_in_one_sentence(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Release 0.1 knows no feature; it would otherwise train on padding and across boundaries."""
    monkeypatch.setattr("curriculum.manifest.KNOWN_FEATURES", frozenset())
    with pytest.raises(DataError) as caught:
        curriculum.open(packed)
    assert str(caught.value) == (
        f"{packed}/manifest.json: the dataset requires 'packed', which this release does not know. "
        f"Install a newer seqlen-curriculum."
    )


Change = Callable[[dict[str, Any]], object]
HOSTILE_MANIFESTS: dict[str, tuple[Change, str]] = {
    "requires forgotten": (lambda m: m.update(requires=[]), "unknown key 'padding_tokens'"),
    "requires and padding forgotten": (
        lambda m: (m.update(requires=[]), m["accounting"].pop("padding_tokens")),
        "requires is [], but a dataset of mode 'best-fit' requires ['packed']",
    ),
    "required twice": (lambda m: m.update(requires=["packed"] * 2), "requires is ['packed', 'packed'], but"),
    "a later feature": (lambda m: m.update(requires=["packed", "zipped"]), "requires 'zipped', which this release"),
    "no padding_tokens": (lambda m: m["accounting"].pop("padding_tokens"), "'padding_tokens' is missing"),
    "padding null": (lambda m: m["accounting"].update(padding_tokens=None), "padding_tokens is None, expected an int"),
    "padding negative": (lambda m: m["accounting"].update(padding_tokens=-1), "padding_tokens is -1, expected"),
    "padding that hides targets": (
        lambda m: m["accounting"].update(padding_tokens=m["accounting"]["padding_tokens"] + 1),
        "accounting has 282 trained and 71 padding tokens, the plan 352 slots",
    ),
    "trained on padding": (
        lambda m: m["accounting"].update(trained_tokens=352, unused_tokens=208),
        "accounting has 352 trained and 70 padding tokens, the plan 352 slots",
    ),
    "tokens from nowhere": (lambda m: m["accounting"].update(truncated_tokens=1), "its parts sum to 610"),
}


@pytest.mark.parametrize("name", HOSTILE_MANIFESTS)
def test_a_packed_manifest_that_contradicts_itself_is_refused(dataset: Path, name: str) -> None:
    """Above all a packed dataset that claims to be a plain one: every reader would train on its padding."""
    change, message = HOSTILE_MANIFESTS[name]
    manifest = read_manifest(dataset)
    change(manifest)
    write_manifest(dataset, manifest, fix_id=True)
    with pytest.raises(DataError, match=r"manifest\.json") as caught:
        curriculum.open(dataset)
    assert message in str(caught.value)


def test_a_plain_dataset_must_not_claim_to_be_packed(small_dataset: Path, tmp_path: Path) -> None:
    """Its shards have no num_tokens; the manifest says so before one is touched."""
    manifest = read_manifest(small_dataset)
    manifest["requires"] = ["packed"]
    for padding, message in ((False, "'padding_tokens' is missing"), (True, "mode 'segment' requires []")):
        if padding:
            manifest["accounting"]["padding_tokens"] = 0
        write_manifest(tmp_path, manifest, fix_id=True)
        with pytest.raises(DataError) as caught:
            load_manifest(tmp_path)
        assert message in str(caught.value)
