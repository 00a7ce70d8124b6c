"""What `verify` and readers find in datasets whose new text was damaged or lied about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from forged_shards import columns_of, forge_manifest, read_manifest, verify, write_columns, write_manifest
from new_text import (
    copy_of,
    grow,
)


@pytest.fixture(scope="module")
def longer(cases: dict[str, Path], new: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extended by new text, then from the corpus; treat it as read-only."""
    dataset = copy_of(cases["segment"], tmp_path_factory.mktemp("longer") / "dataset")
    grow(dataset, f"new={new}", steps=20)
    grow(dataset, steps=5)
    return dataset


def last_shard(dataset: Path, phase_from_end: int) -> str:
    return load_manifest(dataset).phases[-phase_from_end].shards[0].path


def test_a_flipped_bit_of_the_new_text_is_found(longer: Path, tmp_path: Path) -> None:
    dataset = copy_of(longer, tmp_path / "copy")
    path = dataset / last_shard(dataset, 2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name}: .*sha256"):
        verify(dataset)


LIES = {
    "swapped": r"row 0 has the stream offset \d+, expected \d+",
    "shifted": r"row 0 has the stream offset \d+, expected \d+",
    "of the corpus": r"row 0 has the stream offset \d+, expected \d+",
    "token": r"row \d+ begins with the token \d+, but the row before it in the stream .* ends with \d+",
    "document": r"begins source 'new' in document \d+, the manifest says \d+",
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_new_rows_are_found(longer: Path, tmp_path: Path, lie: str) -> None:
    """Digests are made to fit: the rows themselves contradict the seed, the stream or the sources."""
    dataset = copy_of(longer, tmp_path / "copy")
    for number, shard in enumerate(load_manifest(dataset).phases[-2].shards):
        columns = columns_of(dataset, shard.path)
        if lie == "document":
            columns.document = columns.document + np.uint64(1)
        elif number:
            break
        elif lie == "swapped":
            columns.tokens[[0, 1]], columns.offset[[0, 1]] = columns.tokens[[1, 0]], columns.offset[[1, 0]]
        elif lie == "shifted":
            columns.offset = columns.offset + np.uint64(64)
        elif lie == "of the corpus":
            columns.offset[0] -= np.uint64(load_manifest(dataset).sources[-1].offset)
        else:
            row = next(i for i, starts in enumerate(columns.starts) if 1 not in starts)
            columns.tokens[row, 0] = 65 if columns.tokens[row, 0] != 65 else 66
        write_columns(dataset, shard.path, columns)
    with pytest.raises(DataError, match=LIES[lie]):
        verify(dataset)


def test_documents_of_packed_new_text_are_counted_from_their_first(copy: Callable[[str], Path], new: Path) -> None:
    """Where rows are packed no window shows it alone; the gaps of the source's stream do."""
    dataset = copy("best-fit")
    grow(dataset, f"new={new}", steps=8)
    for shard in load_manifest(dataset).phases[-1].shards:
        columns = columns_of(dataset, shard.path)
        columns.document = columns.document + np.uint64(1)
        columns.piece_document = [[one + 1 for one in row] for row in columns.piece_document or []]
        write_columns(dataset, shard.path, columns)
    with pytest.raises(DataError, match=r"accounting: (truncated|context)_tokens is \d+, the shards give"):
        verify(dataset)


def test_borders_between_windows_of_a_source_are_compared_across_others(longer: Path, tmp_path: Path) -> None:
    """The corpus goes on after the new text: what lies between them is of another stream."""
    dataset = copy_of(longer, tmp_path / "copy")
    path = last_shard(dataset, 1)
    columns = columns_of(dataset, path)
    row = int(np.argmin(columns.offset))
    columns.tokens[row, 0] = 65 if columns.tokens[row, 0] != 65 else 66
    columns.starts[row] = [start for start in columns.starts[row] if start != 1]
    write_columns(dataset, path, columns)
    with pytest.raises(DataError, match=r"begins with the token 6[56], the window before it ends with"):
        verify(dataset)


def set_in(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        if to is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("requires", to=["extended", "mixture"]), r"requires is .*, but .* requires \['added-sources',"),
        (set_in("requires", to=["added-sources", "extended", "later", "mixture"]), r"'later', which this release does"),
        (set_in("build", "extensions", 0, "source", to=None), r"requires is"),
        (set_in("build", "extensions", 0, "source", to="other"), r"extensions added \['other'\], expected as the last"),
        (set_in("build", "extensions", 1, "source", to="new"), r"mixture of phase \d+ is \[1, 0\], but .* 'new' alone"),
        (set_in("build", "mixture", 0, to=[1, 1]), r"mixture of phase 0 is \[1, 1\], but .* source 'corpus' alone"),
        (set_in("build", "extensions", 0, "source", to=3), r"source is 3"),
        (set_in("sources", 0, "name", to="a\n<b>"), r"a source is named 'a\\n<b>', expected up to 64 letters"),
        (set_in("sources", 0, "name", to="a|\x1b[31m"), r"a source is named 'a\|\\x1b\[31m', expected"),
        (
            set_in("build", "extensions", 1, "parent", to="`<script>"),
            r"parent of extension 1 is '`<script>', expected the",
        ),
        (set_in("tokenizer", "sha256", to="`<script>"), r"sha256 is '`<script>', expected 64 digits"),
    ],
)
def test_a_reader_refuses_a_manifest_that_contradicts_itself(
    longer: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Before any shard is opened; a release that does not know the feature refuses by its name."""
    dataset = copy_of(longer, tmp_path / "copy")
    manifest = read_manifest(dataset)
    assert manifest["requires"] == ["added-sources", "extended", "mixture"]
    change(manifest)
    write_manifest(dataset, manifest, fix_id=True)
    with pytest.raises(DataError, match=message):
        load_manifest(dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 64}, r"source 'new' has the offset \d+ .* plan and mixture give"),
        (
            {"first_document": 1},
            r"source 'new' begins with document \d+, expected \d+: .* documents 1 times",
        ),
        ({"validation_tokens": 7}, r"validation_tokens is \d+, the sources give \d+"),
    ],
)
def test_a_forged_place_of_the_new_source_is_found(
    longer: Path, tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    dataset = copy_of(longer, tmp_path / "copy")
    first, last = load_manifest(dataset).sources
    moved = {name: getattr(last, name) + by for name, by in changes.items()}
    forge_manifest(dataset, sources=(first, replace(last, **moved)))
    with pytest.raises(DataError, match=message):
        verify(dataset)


def test_fewer_documents_before_the_new_source_are_found(longer: Path, tmp_path: Path) -> None:
    """Rows of the corpus show some ordinals only; the place of the source after it tells how many there are."""
    dataset = copy_of(longer, tmp_path / "copy")
    manifest = load_manifest(dataset)
    first, last = manifest.sources
    accounting = replace(manifest.accounting, documents=manifest.accounting.documents - 7)
    forge_manifest(dataset, sources=(replace(first, documents=first.documents - 7), last), accounting=accounting)
    with pytest.raises(DataError, match=r"source 'new' begins with document \d+, expected \d+: .* documents 1 times"):
        verify(dataset)
