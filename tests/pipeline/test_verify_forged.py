"""`verify` recomputes the meaning: damage behind fitting digests is found, named and located."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import DataError
from curriculum.manifest import Manifest, load_manifest
from curriculum.shard_format import open_shard
from forged_shards import (
    Columns,
    forge_manifest,
    forge_shard,
    open_shard_of,
    row_with_start,
    shard_with_starts,
    verify,
)
from pipeline.build import BuildResult
from pipeline.files.address import dataset_files
from pipeline.segment import Rows
from pipeline.shard import write_shard
from pipeline.tokenizer import byte_tokenizer
from pipeline.windows import split_windows

Build = Callable[..., BuildResult]
BOS_ID = 257
SHARD = "phases/00002-len0000024/shard-000000.arrow"
"""The damaged one: shards before and after it are good."""


@pytest.fixture(scope="module")
def bos_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Bytes, an EOS and another token as BOS."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(byte_tokenizer())
    tokenizer.add_special_tokens(["<s>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer.to_str(), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def bos_dataset(build_small: Build, bos_tokenizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truncate mode, two epochs, a BOS before each document; treat it as read-only."""
    out = tmp_path_factory.mktemp("bos") / "dataset"
    build_small(out, mode="truncate", epochs=2, bos="document", tokenizer=bos_tokenizer, validation_tokens=4_000)
    return out


@pytest.fixture
def damaged(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset, to be damaged."""
    shutil.copytree(small_dataset, tmp_path / "copy")
    return tmp_path / "copy"


def id_beyond(columns: Columns) -> None:
    columns.tokens[3, 2] = 300


def wrong_offset(columns: Columns) -> None:
    columns.offset[5] += 1


def huge_offset(columns: Columns) -> None:
    columns.offset[5] = 2**64 - 1


def duplicated_row(columns: Columns) -> None:
    for column in (columns.tokens, columns.starts, columns.offset, columns.document):
        column[1] = column[0]


def swapped_rows(columns: Columns) -> None:
    """They still tile the stream: only the seed's own order shows that these are not the batches asked for."""
    for column in (columns.tokens, columns.offset, columns.document):
        column[[0, 1]] = column[[1, 0]]
    columns.starts[:2] = columns.starts[1::-1]


def start_off_by_one(columns: Columns) -> None:
    columns.starts[row_with_start(columns)][0] += 1


def start_missing(columns: Columns) -> None:
    columns.starts[row_with_start(columns)].clear()


def start_twice(columns: Columns) -> None:
    row = columns.starts[row_with_start(columns)]
    row.append(row[-1])


def wrong_document(columns: Columns) -> None:
    columns.document[int(np.argmax(columns.offset))] += 1


def impossible_document(columns: Columns) -> None:
    columns.document[4] = columns.offset[4] + 1


def wrong_first_token(columns: Columns) -> None:
    row = next(i for i, tokens in enumerate(columns.tokens) if tokens[0] != 256 and i)
    columns.tokens[row, 0] = (columns.tokens[row, 0] + 1) % 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (id_beyond, r"row 3, position 2 holds the id 300, expected one below the vocab_size 257"),
        (wrong_offset, r"row 5 has the stream offset (\d+), expected \d+"),
        (huge_offset, r"row 5 has the stream offset 18446744073709551615, expected \d+"),
        (duplicated_row, r"row 1 has the stream offset \d+, expected \d+"),
        (swapped_rows, r"row 0 has the stream offset \d+, expected \d+"),
        (start_off_by_one, r"row \d+ lists a document start at position \d+, .* is \d+, expected the EOS 256"),
        (start_missing, r"row \d+ has the EOS 256 at position \d+, but its doc_starts do not list position \d+"),
        (start_twice, r"row \d+ lists document start (\d+) after \1, expected ascending positions"),
        (wrong_document, r"row \d+ begins in document \d+, expected \d+: the row before it in the stream \(phases/"),
        (impossible_document, r"row 4 at stream offset \d+ is said to begin in document \d+"),
        (wrong_first_token, r"begins with the token \d+, but the row before it in the stream .* ends with \d+"),
    ],
)
def test_wrong_content_with_fitting_digests_is_found(
    damaged: Path, change: Callable[[Columns], None], message: str
) -> None:
    """A buggy or malicious builder writes digests that fit: only recomputing the meaning finds it."""
    path = shard_with_starts(damaged)
    forge_shard(damaged, path, change)
    with pytest.raises(DataError, match=message) as caught:
        verify(damaged)
    assert str(caught.value).startswith(f"{damaged}/phases/")
    if change is not wrong_document:  # the row after it in the stream may be the one that does not fit
        assert str(caught.value).startswith(f"{damaged / path}: ")


def test_a_document_start_without_its_bos_is_found(bos_dataset: Path, tmp_path: Path) -> None:
    """With --bos document, a mask that opens a document one token late would leave the BOS to the previous one."""
    shutil.copytree(bos_dataset, tmp_path / "copy")
    path = shard_with_starts(tmp_path / "copy")

    def drop_bos(columns: Columns) -> None:
        row = row_with_start(columns)
        assert columns.tokens[row, columns.starts[row][0]] == BOS_ID
        columns.tokens[row, columns.starts[row][0]] = 65

    forge_shard(tmp_path / "copy", path, drop_bos)
    with pytest.raises(DataError, match=r"but the token at it is 65, expected the BOS 257"):
        verify(tmp_path / "copy")


def test_windows_are_compared_at_their_borders(damaged: Path) -> None:
    """Each window tiles its own interval; that they continue one another needs a look across."""
    manifest = load_manifest(damaged)
    border = split_windows(manifest.plan, manifest.build.window_tokens)[1].offset
    shards = [shard.path for phase in manifest.phases for shard in phase.shards]
    path = next(path for path in shards if border in open_shard_of(damaged, path).offset)

    def other_first_token(columns: Columns) -> None:
        row = columns.offset.tolist().index(border)
        assert columns.tokens[row, 0] not in (65, 256)
        columns.tokens[row, 0] = 65

    forge_shard(damaged, path, other_first_token)
    with pytest.raises(DataError, match=r"begins with the token 65, the window before it ends with \d+") as caught:
        verify(damaged)
    assert str(caught.value).startswith(f"{damaged / path}: ")


def test_rows_of_an_unknown_algorithm_still_have_to_tile(damaged: Path) -> None:
    """A later builder may deal rows differently: the proof needs nothing but the offsets on disk."""
    build = replace(load_manifest(damaged).build, algorithm=99)
    forge_manifest(damaged, build=build)
    verify(damaged)
    forge_shard(damaged, SHARD, swapped_rows)
    verify(damaged)
    forge_shard(damaged, SHARD, duplicated_row)
    with pytest.raises(DataError, match=rf"row 1 has the stream offset (\d+), and so has {SHARD}, row 0"):
        verify(damaged)
    forge_shard(damaged, SHARD, huge_offset)
    with pytest.raises(DataError, match=r"row 5 has the stream offset 18446744073709551615, expected one from \d+ to"):
        verify(damaged)


def reorder_shards(manifest: Manifest) -> dict[str, Any]:
    *before, last = manifest.phases
    return {"phases": (*before, replace(last, shards=last.shards[::-1]))}


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (reorder_shards, r"phase 7: shard 0 is 'phases/.*' with .* window size give 'phases/.*-000000.arrow'"),
        (lambda m: {"build": replace(m.build, window_tokens=40_000)}, r"plan and window size give"),
        (lambda m: {"build": replace(m.build, window_tokens=1)}, r"windows of 1 tokens cannot have written \d+ shards"),
        (lambda m: {"build": replace(m.build, bos="document")}, r"bos is 'document', but bos_id is None"),
        (lambda m: {"seed": 1}, r"row 0 has the stream offset \d+, expected \d+"),
        (lambda m: {"validation": None}, r"validation: rows and \d+ validation_tokens contradict each other"),
        (
            lambda m: {"accounting": replace(m.accounting, context_tokens=0)},
            r"accounting: context_tokens is 0, plan and sources give 1",
        ),
        (
            lambda m: {"accounting": replace(m.accounting, documents=5)},
            r"accounting: documents is 5, plan and sources give 121",
        ),
        (
            lambda m: {"tokenizer": replace(m.tokenizer, vocab_size=500)},
            r"vocab_size is 500, tokenizer.json has ids up to 256",
        ),
    ],
)
def test_a_forged_manifest_contradicts_arithmetic(
    damaged: Path, forge: Callable[[Manifest], dict[str, Any]], message: str
) -> None:
    """The manifest is signed by its own id only: what follows from the plan is computed again."""
    forge_manifest(damaged, **forge(load_manifest(damaged)))
    with pytest.raises(DataError, match=message):
        verify(damaged)


def test_validation_rows_must_tile_too(damaged: Path) -> None:
    """A held-out set in another order, or with a row twice, measures something else."""
    manifest = load_manifest(damaged)
    assert manifest.validation is not None
    first, *others = manifest.validation.shards
    assert others
    shard = open_shard(
        damaged / first.path, seq_len=64, dtype="uint16", num_rows=first.num_rows, num_bytes=first.num_bytes
    )
    chosen = [1, *range(1, first.num_rows)]
    counts = np.diff(shard.doc_offsets)[chosen]
    positions = [shard.doc_positions[shard.doc_offsets[row] : shard.doc_offsets[row + 1]] for row in chosen]
    rows = Rows(
        tokens=shard.tokens[chosen],
        doc_positions=np.concatenate(positions),
        doc_offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        offset=shard.offset[chosen],
        document=shard.document[chosen],
    )
    entry = write_shard(dataset_files(damaged).write, first.path, rows)
    forge_manifest(damaged, validation=replace(manifest.validation, shards=(entry, *others)))
    with pytest.raises(DataError, match=r"validation/shard-000000.arrow: row 0 has the stream offset 64, expected 0"):
        verify(damaged)
