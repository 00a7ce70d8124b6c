"""Whatever lies in a dataset's folder, reading it ends in right rows or in a sentence, never in a crash."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import pyarrow as pa
import pytest

import curriculum
from curriculum.errors import DataError
from curriculum.json_object import JsonObject
from curriculum.phase_entry import _plain_shards as plain_shards
from curriculum.phase_entry import _shard as careful_shard
from curriculum.reader import Reader
from forged_shards import last_shard, read_manifest, replace_last_shard, with_type, write_manifest
from many_shards import write_manifest_of

Manifest = dict[str, Any]


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(small_dataset, tmp_path / "dataset")


@pytest.mark.parametrize("change_bytes", [-1, 1, -5_000, None], ids=["1 less", "1 more", "5,000 less", "empty"])
def test_a_shard_of_another_size_is_refused_at_first_touch(dataset: Path, change_bytes: int | None) -> None:
    """Reading past the end of a truncated map kills the process with SIGBUS, hours into a run."""
    path = dataset / last_shard(read_manifest(dataset))["path"]
    whole = path.stat().st_size
    size = 0 if change_bytes is None else whole + change_bytes
    os.truncate(path, size)
    reader = curriculum.open(dataset)
    assert reader[0].tokens.shape == (8, 9), "the other shards serve their steps"
    with pytest.raises(DataError, match=f"{size:,} bytes on disk, the manifest says {whole:,}.*copy it again"):
        reader[-1]
    with pytest.raises(DataError, match=path.name):
        curriculum.open(dataset, check=True)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_shard_is_refused(dataset: Path, compression: str) -> None:
    """pyarrow decompresses silently: every shard would be copied into memory, and no remote reader could fetch rows."""
    path = replace_last_shard(dataset, lambda table: table, compression=compression)
    assert pa.ipc.open_file(path).read_all().num_rows > 0, "a good file for everybody else"
    with pytest.raises(DataError, match=r"shard-\d+.arrow' has [0-9]+ bytes, its rows need"):
        curriculum.open(dataset)
    # So much metadata that the file is long enough for uncompressed rows.
    metadata = {"padding": "x" * 20_000}
    replace_last_shard(dataset, lambda table: table.replace_schema_metadata(metadata), compression=compression)
    with pytest.raises(DataError, match=r"the shard is compressed.*Use the uncompressed shards"):
        curriculum.open(dataset)[-1]


SCHEMAS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "tokens as uint32": lambda table: with_type(table, "tokens", pa.list_(pa.uint32(), 65)),
    "tokens as int16": lambda table: with_type(table, "tokens", pa.list_(pa.int16(), 65)),
    "tokens as variable lists": lambda table: with_type(table, "tokens", pa.list_(pa.uint16())),
    "a nullable column": lambda table: with_type(table, "offset", pa.uint64(), nullable=True),
    "offset as int64": lambda table: with_type(table, "offset", pa.int64()),
    "large lists": lambda table: with_type(table, "doc_starts", pa.large_list(pa.uint32())),
    "another column": lambda table: table.append_column("extra", pa.array([0] * len(table))),
    "a column less": lambda table: table.drop_columns("document"),
    "another order": lambda table: table.select(["tokens", "offset", "doc_starts", "document"]),
    "rows of another length": lambda table: with_type(
        table.set_column(0, "tokens", pa.array([row[:33] for row in table["tokens"].to_pylist()])),
        "tokens",
        pa.list_(pa.field("item", pa.uint16(), nullable=False), 33),
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_shard_with_other_columns_is_refused(dataset: Path, name: str) -> None:
    """Its bytes would be reinterpreted as tokens: no error anywhere, only a model that does not learn."""
    replace_last_shard(dataset, SCHEMAS[name])
    with pytest.raises(DataError, match=r"its columns are .*, the manifest asks for|its rows need"):
        curriculum.open(dataset)[-1]


def test_a_shard_in_several_record_batches_is_refused(dataset: Path) -> None:
    """Rows beyond the first batch are not at data_offset + i * row bytes."""
    replace_last_shard(dataset, lambda table: table, pieces=2)
    with pytest.raises(DataError, match="2 record batches, a shard has exactly one"):
        curriculum.open(dataset)[-1]


def test_a_shard_with_other_rows_than_the_manifest_says_is_refused(dataset: Path) -> None:
    """An index beyond the rows would be a numpy error without a file name."""
    replace_last_shard(dataset, lambda table: pa.concat_tables([table, table.slice(0, 8)]).combine_chunks())
    with pytest.raises(DataError, match="rows on disk, the manifest says"):
        curriculum.open(dataset)[-1]


def test_flipped_bits_around_the_tokens_never_crash(dataset: Path) -> None:
    """Arrow has no checksum. 300 damaged headers, list offsets and footers, each refused or read within bounds."""
    entry = last_shard(read_manifest(dataset))
    path = dataset / entry["path"]
    data = path.read_bytes()
    tokens_end = entry["data_offset"] + entry["num_rows"] * 65 * 2
    around = [*range(entry["data_offset"]), *range(tokens_end, len(data))]
    choose = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in choose.choices(around, k=choose.choice((1, 2, 20))):
            damaged[position] ^= 1 << choose.randrange(8)
        path.unlink()
        path.write_bytes(damaged)
        try:
            batch = curriculum.open(dataset)[-1]
        except DataError:
            refused += 1
        else:
            positions, edges = batch.doc_starts
            assert batch.tokens.shape == (8, 65)
            assert 0 <= edges[0] <= edges[-1] <= len(positions)
            batch.offset.sum(), batch.document.sum(), positions.sum()
    assert 100 < refused < 300


Change = Callable[[Manifest], object]
HOSTILE: dict[str, tuple[Change, str]] = {
    "a path above the dataset": (lambda m: last_shard(m).update(path="../secret.arrow"), "relative path"),
    "a path through the dataset": (lambda m: last_shard(m).update(path="phases/../../x.arrow"), "relative path"),
    "an absolute path": (lambda m: last_shard(m).update(path="/etc/passwd"), "relative path"),
    "backslashes": (lambda m: last_shard(m).update(path="phases\\x.arrow"), "relative path"),
    "a drive": (lambda m: last_shard(m).update(path="C:x.arrow"), "relative path"),
    "a protocol": (lambda m: last_shard(m).update(path="http://x/y.arrow"), "relative path"),
    "a NUL": (lambda m: last_shard(m).update(path="phases/x\0.arrow"), "relative path"),
    "a dot": (lambda m: last_shard(m).update(path="./phases/x.arrow"), "relative path"),
    "an empty path": (lambda m: last_shard(m).update(path=""), "relative path"),
    "validation elsewhere": (lambda m: m["validation"]["shards"][0].update(path="../v.arrow"), "relative path"),
    "an unknown feature": (lambda m: m.update(requires=["padding"]), "requires 'padding', which this release"),
    "a feature that it does not use": (lambda m: m.update(requires=["packed"]), "'padding_tokens' is missing"),
    "padding in plain rows": (lambda m: m["accounting"].update(padding_tokens=0), "unknown key 'padding_tokens'"),
    "a later version": (lambda m: m.update(version=2), "format version 2, this release reads version 1"),
    "another format": (lambda m: m.update(format="curriculum-plan"), "another kind of file"),
    "an unknown key": (lambda m: m.update(hook="x"), "unknown key 'hook'"),
    "an unknown key of a shard": (lambda m: last_shard(m).update(url="x"), "unknown key 'url'"),
    "a key that is missing": (lambda m: m.pop("dtype"), "'dtype' is missing"),
    "true for 1": (lambda m: m.update(version=True), "version is True, expected an integer"),
    "true for a seed": (lambda m: m.update(seed=True), "seed is True, expected an integer"),
    "a float": (lambda m: last_shard(m).update(num_rows=8.0), "num_rows is 8.0, expected an integer"),
    "a string": (lambda m: last_shard(m).update(num_bytes="9"), "num_bytes is '9', expected an integer"),
    "a negative number": (lambda m: last_shard(m).update(data_offset=-1), "data_offset is -1, expected an integer"),
    "a huge number": (lambda m: last_shard(m).update(num_rows=10**30), "num_rows is 1000"),
    "no shards": (lambda m: m["phases"][0].update(shards=[]), "phase 0 lists 0 rows"),
    "a shard twice": (lambda m: m["phases"][-1]["shards"].append(last_shard(m)), "rows of 64 tokens, the plan has"),
    "more rows than bytes": (lambda m: last_shard(m).update(num_bytes=100), "has 100 bytes, its rows need"),
    "a phase less": (lambda m: m["phases"].pop(), "7 phases listed, the plan has 8"),
    "another length": (lambda m: m["phases"][0].update(seq_len=16), "rows of 16 tokens"),
    "another dtype": (lambda m: m.update(dtype="uint32"), "dtype uint32 does not fit vocab_size"),
    "an object dtype": (lambda m: m.update(dtype="object"), "expected 'uint16' or 'uint32'"),
    "an EOS that is no token": (lambda m: m["tokenizer"].update(eos_id=10**6), "not below vocab_size"),
    "a plan that does not add up": (lambda m: m["plan"].update(total_steps=7), "total_steps"),
    "a plan of another order": (lambda m: m["plan"]["order"].reverse(), "order"),
    "tokens from nowhere": (lambda m: m["accounting"].update(unused_tokens=0), "its parts sum to"),
    "a list for an object": (lambda m: m.update(accounting=[]), "expected a JSON object"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused_when_it_is_opened(dataset: Path, name: str) -> None:
    """Datasets are downloaded from strangers, who can compute a digest: with the id made to fit, the content itself
    is refused; without, the id at the latest."""
    change, message = HOSTILE[name]
    manifest = read_manifest(dataset)
    change(manifest)
    for fix_id in (False, True):
        write_manifest(dataset, manifest, fix_id=fix_id)
        with pytest.raises(DataError) as caught:
            curriculum.open(dataset)
        assert "manifest.json" in str(caught.value) or "plan" in str(caught.value)
    assert message in str(caught.value)


def test_an_edited_number_is_caught_by_the_id(dataset: Path) -> None:
    """The seed contradicts nothing else in the manifest: only the digest knows."""
    manifest = read_manifest(dataset)
    manifest["seed"] += 1
    write_manifest(dataset, manifest, fix_id=False)
    with pytest.raises(DataError, match=r"id is sha256:[0-9a-f]{64}, its content gives sha256:[0-9a-f]{64}. The mani"):
        curriculum.open(dataset)
    write_manifest(dataset, manifest, fix_id=True)
    assert curriculum.open(dataset).id == manifest["id"], "another dataset, and it says so"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'{"format": "curriculum-dataset"',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"version": ' + b"9" * 10_000 + b"}",
        b'{"version": NaN}',
        b'{"format": "\\ud800"}',
    ],
    ids=["empty", "list", "null", "cut", "not utf-8", "deep list", "deep object", "digits", "nan", "surrogate"],
)
def test_a_file_that_is_no_json_object_is_refused(dataset: Path, text: bytes) -> None:
    """A depth of 100,000 or a number of 10,000 digits must not end the process either."""
    (dataset / "manifest.json").write_bytes(text)
    with pytest.raises(DataError, match=r"manifest.json"):
        curriculum.open(dataset)


@pytest.mark.parametrize("key", ["requires", "num_rows", "path"])
def test_a_key_that_stands_twice_is_refused(dataset: Path, key: str) -> None:
    """Parsers disagree about which one counts: a checker could read one value and the reader the other."""
    text = (dataset / "manifest.json").read_text()
    start = text.index(f'"{key}"')
    (dataset / "manifest.json").write_text(f'{text[:start]}"{key}": 0, {text[start:]}')
    with pytest.raises(DataError, match="a key stands twice"):
        curriculum.open(dataset)


def test_a_folder_without_a_manifest_is_not_a_dataset(dataset: Path, tmp_path: Path) -> None:
    """An interrupted build has shards and no manifest; training on half of it must not start."""
    (dataset / "manifest.json").unlink()
    for path in (dataset, tmp_path / "nowhere", dataset / "README.md"):
        with pytest.raises(DataError, match=r"not a curriculum dataset, it has no manifest.json"):
            curriculum.open(path)


def test_check_is_silent_about_a_good_dataset(small_dataset: Path) -> None:
    """Else nobody would leave it on; it also looks at the held-out shards."""
    assert isinstance(curriculum.open(small_dataset, check=True), Reader)


def test_check_also_finds_damage_in_the_validation_rows(dataset: Path) -> None:
    """The first evaluation comes late: better to know at the start."""
    next((dataset / "validation").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match=r"validation/shard-\d+.arrow: the shard is missing"):
        curriculum.open(dataset, check=True)


@pytest.mark.parametrize("where", ["a value", "a key"])
def test_half_a_character_anywhere_in_the_manifest_is_a_sentence(dataset: Path, where: str) -> None:
    """JSON can spell a lone surrogate, UTF-8 cannot: hashing it must not end in a UnicodeEncodeError."""
    text = (dataset / "manifest.json").read_text()
    hostile = '"seed": "\\ud800"' if where == "a value" else '"\\ud800": 0, "seed": 0'
    (dataset / "manifest.json").write_text(text.replace('"seed": 0', hostile, 1))
    with pytest.raises(DataError, match=r"manifest.json: it holds half a character"):
        curriculum.open(dataset)


ODD: list[Any] = [
    *(None, True, -1, 0, 2**63 - 1, 2**63, 1.0, "7", [], {}),
    *(
        "",
        "a",
        "a/b.arrow",
        "a//b",
        "/a",
        "a/",
        "../a",
        "a/../b",
        "a/..b",
        ".a",
        "a\n",
        "a\\b",
        "c:a",
        "\u00e9",
        "\ud800",
    ),
]


@pytest.mark.parametrize("key", ["path", "num_rows", "num_bytes", "data_offset", "sha256", "another key", "no key"])
def test_many_shards_at_once_are_checked_like_one_by_one(key: str) -> None:
    """The fast way through a long list must accept nothing that the careful one refuses, and give the same entries."""
    good = {"path": "phases/x.arrow", "num_rows": 8, "num_bytes": 900, "data_offset": 448, "sha256": "0"}
    taken = 0
    for odd in ODD:
        shard = {name: value for name, value in good.items() if key != "no key" or name != "sha256"}
        shard |= {} if key == "no key" else {key: odd}
        values = [good, shard, good]
        fast = plain_shards(values)
        try:
            careful = tuple(careful_shard(JsonObject(value, "shard")) for value in values)
        except DataError:
            assert fast == (), f"{key} {odd!r} must be refused"
        else:
            assert fast in (careful, ()), "or left to the careful way"
            taken += fast != ()
    assert (taken > 0) == (key in good), "each good value is taken the fast way at least once"


def test_opening_ten_thousand_shards_takes_a_few_times_what_parsing_the_manifest_takes(tmp_path: Path) -> None:
    """About 75 ms of 11 ms; it was 160 when each value was checked alone. Every process of a run opens the dataset."""
    root = write_manifest_of(tmp_path, seq_lens=[8 * 2**i for i in range(8)], num_shards=10_000)
    text = (root / "manifest.json").read_bytes()
    opening, parsing = [], []
    for _ in range(5):
        began = process_time()
        json.loads(text)
        parsed = process_time()
        reader = curriculum.open(root)
        opening.append(process_time() - parsed)
        parsing.append(parsed - began)
    assert sum(len(phase.shards) for phase in reader.manifest.phases) == 10_000
    assert len(reader) == 40_000
    assert min(opening) < 11 * min(parsing)
