"""`verify` of packed datasets: lies behind fitting digests, sizes and ids are found, named and located.

A forger who knows the format rewrites a shard and lets the manifest fit. What cannot be found is tested too, so that it
is known: `packed_proof` says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer

import pipeline.packed_proof
import pipeline.stream
from curriculum.errors import DataError
from curriculum.manifest import Manifest, load_manifest
from forged_shards import (
    Columns,
    columns_of,
    forge_manifest,
    forge_shard,
    read_manifest,
    rewrite_shard,
    verify,
    write_manifest,
)
from packed_lies import (
    LEFT_OUT,
    LIES,
    SEAM,
    TWICE,
    Change,
    another_token_at_the_seam,
    find_row,
    one_token_less,
    padded,
    shared,
    swap,
    swap_pieces,
    undone,
)
from packed_model import windows_of, write_short_documents
from pipeline.build import BuildResult
from pipeline.tokenizer import byte_tokenizer

Build = Callable[..., BuildResult]


@pytest.fixture(scope="module", autouse=True)
def several_partitions_and_stretches(small_dataset: Path) -> Iterator[None]:
    """Documents of the corpus lie in twelve partitions; the stream of document mode is proven in many stretches."""
    # `small_dataset` is shared by all modules: it has to be built before.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.stream, "PARTITION_TOKENS", 20_000)
        patch.setattr(pipeline.packed_proof, "STRETCH_PIECES", 500)
        yield


@pytest.fixture(scope="module")
def datasets(build_small: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset of each mode; treat them as read-only."""
    folder = tmp_path_factory.mktemp("packed")
    corpus = write_short_documents(folder / "corpus")
    for mode in ("best-fit", "document"):
        build_small(
            folder / mode,
            corpus=(str(corpus),),
            mode=mode,
            validation_tokens=2_000,
            shuffle_window=1,
            shard_bytes=20_000,
        )
    return {mode: folder / mode for mode in ("best-fit", "document")}


@pytest.fixture(scope="module")
def copies(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies that a test may damage inside of `undone`."""
    folder = tmp_path_factory.mktemp("copies")
    return {mode: shutil.copytree(root, folder / mode) for mode, root in datasets.items()}


# What a build wrote passes


@pytest.mark.parametrize("mode", ["best-fit", "document"])
def test_what_a_build_wrote_passes(build_small: Build, tmp_path: Path, mode: str) -> None:
    """A verify that cries wolf would be switched off. Here with a BOS of its own, and with an EOS that is text too, one
    step per shard; more kinds are in test_packed_build."""
    tokenizer = Tokenizer.from_str(byte_tokenizer())
    tokenizer.add_special_tokens(["<s>"])
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    build_small(tmp_path / "bos", mode=mode, tokenizer=str(tmp_path / "tokenizer.json"), bos="document", steps=90)
    build_small(tmp_path / "eos", mode=mode, eos="e", shard_bytes=1, steps=40)
    for quick in (True, False):
        assert verify(tmp_path / "bos", quick=quick).extra_files == ()
        assert verify(tmp_path / "eos", quick=quick).extra_files == ()


@pytest.mark.parametrize("mode", ["best-fit", "document"])
def test_workers_and_stretches_change_nothing(
    datasets: dict[str, Path], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is the same however the work is divided."""
    report = verify(datasets[mode])
    assert verify(datasets[mode], workers=2) == report
    monkeypatch.setattr(pipeline.packed_proof, "STRETCH_PIECES", 1 << 20)
    assert verify(datasets[mode]) == report


# Lies in a shard


@pytest.mark.parametrize("mode", ["best-fit", "document"])
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{lie[0].__name__}-{lie[1].__name__}")
def test_a_lie_about_a_piece_is_found(copies: dict[str, Path], mode: str, lie: Any) -> None:
    """A buggy or malicious builder writes digests that fit: only recomputing the meaning finds it."""
    change, wanted, *messages = lie
    root = copies[mode]
    path, row = find_row(root, wanted)
    with undone(root, path):
        forge_shard(root, path, lambda columns: change(columns, row))
        with pytest.raises(DataError, match=messages[mode == "document"]) as caught:
            verify(root)
    message = str(caught.value)
    assert path in message or messages[0] is LEFT_OUT
    assert message.startswith(str(root))
    assert message.endswith((".", "`."))


ELSEWHERE = r"row \d+ has \d+ tokens from \d+ of the stream at position \d+, which is not where the seed 0 deals them"


@pytest.mark.parametrize(
    "change", [lambda c, row: swap(c, row, row + 1), swap_pieces], ids=["two rows", "two pieces of a row"]
)
def test_pieces_in_another_place_than_the_seed_deals(copies: dict[str, Path], change: Change) -> None:
    """They still are the stream, each token once: but not in the batches that the same command gives elsewhere. Packing
    is repeated from the lengths of the documents in best-fit mode. In document mode it cannot: rows that fill no step
    are not stored, nor how long the documents are that they belong to."""
    path, row = find_row(copies["best-fit"], shared)
    with undone(copies["best-fit"], path):
        forge_shard(copies["best-fit"], path, lambda columns: change(columns, row))
        with pytest.raises(DataError, match=rf"{path}: {ELSEWHERE}"):
            verify(copies["best-fit"])
        forge_manifest(copies["best-fit"], build=replace(load_manifest(copies["best-fit"]).build, algorithm=99))
        verify(copies["best-fit"])  # a later builder may deal in another way
    path, row = find_row(copies["document"], shared)
    with undone(copies["document"], path):
        forge_shard(copies["document"], path, lambda columns: change(columns, row))
        verify(copies["document"])


def test_a_dropped_token_that_is_counted_cannot_be_told(copies: dict[str, Path]) -> None:
    """Best-fit mode may leave targets out if it says so. Nothing stored proves that it had to."""
    root = copies["best-fit"]
    path, row = find_row(root, padded)
    with undone(root, path):
        forge_shard(root, path, lambda columns: one_token_less(columns, row))
        found = load_manifest(root).accounting
        assert found.padding_tokens is not None
        forge_manifest(
            root,
            accounting=replace(
                found,
                trained_tokens=found.trained_tokens - 1,
                padding_tokens=found.padding_tokens + 1,
                truncated_tokens=1,
            ),
        )
        verify(root)


def test_a_row_of_another_window(copies: dict[str, Path]) -> None:
    """Best-fit windows own an interval of the stream; in document mode the whole stream is looked at."""
    for mode, message in (
        ("best-fit", r"has a piece from \d+ to \d+ of the stream, its window has"),
        ("document", TWICE),
    ):
        root = copies[mode]
        first, *_, last = [phase.shards for phase in load_manifest(root).phases if len(phase.shards) > 3][-1]
        donor = columns_of(root, first.path)

        def replace_row(c: Columns, donor: Columns = donor) -> None:
            for mine, other in ((c.tokens, donor.tokens), (c.offset, donor.offset), (c.document, donor.document)):
                mine[3] = other[5]
            c.num_tokens[3] = donor.num_tokens[5]
            for lists, others in (
                (c.starts, donor.starts),
                (c.piece_offset, donor.piece_offset),
                (c.piece_document, donor.piece_document),
            ):
                lists[3] = others[5]

        with undone(root, last.path):
            forge_shard(root, last.path, replace_row)
            with pytest.raises(DataError, match=message):
                verify(root)


def test_a_document_that_changes_at_the_border_of_windows(copies: dict[str, Path]) -> None:
    """Each window is right in itself: only both together show that the second goes on with another token."""
    root = copies["best-fit"]
    manifest = load_manifest(root)
    borders = {window.offset for window in windows_of(manifest)[1:]}
    path, row = find_row(root, lambda columns, row, continues: continues and int(columns.offset[row]) in borders)
    with undone(root, path):
        forge_shard(root, path, lambda columns: another_token_at_the_seam(columns, row))
        with pytest.raises(DataError, match=SEAM):
            verify(root)


# Lies in the manifest


def forged_accounting(manifest: Manifest, **changes: int) -> dict[str, Any]:
    numbers = {name: getattr(manifest.accounting, name) + change for name, change in changes.items()}
    return {"accounting": replace(manifest.accounting, **numbers)}


@pytest.mark.parametrize("mode", ["best-fit", "document"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_tokens": -1000}, r"context_tokens is \d+, the shards give \d+"),
        ({"context_tokens": 2000}, r"context_tokens is \d+, the shards give \d+"),
        ({"truncated_tokens": 1, "unused_tokens": -1}, r"truncated_tokens is 1, the shards give 0\."),
        (
            {"padding_tokens": 1, "trained_tokens": -1, "unused_tokens": 1},
            r"padding_tokens is \d+, the shards have \d+",
        ),
        ({"padding_tokens": 1}, r"accounting has \d+ trained and \d+ padding tokens, the plan \d+ slots"),
        ({"truncated_tokens": 1}, r"accounting has \d+ corpus tokens but its parts sum to \d+"),
        ({"unused_tokens": 1, "repeated_tokens": 1}, r"unused_tokens is \d+, plan and sources give \d+"),
        ({"documents": 1}, r"documents is 2401, plan and sources give 2400"),
    ],
)
def test_accounting_that_is_not_that_of_the_shards(
    copies: dict[str, Path], mode: str, changes: dict[str, int], message: str
) -> None:
    """The manifest is signed by its own id only."""
    root = copies[mode]
    with undone(root):
        forge_manifest(root, **forged_accounting(load_manifest(root), **changes))
        with pytest.raises(DataError, match=rf"manifest.json: accounting.*{message}|manifest.json: {message}"):
            verify(root)


def test_context_is_exact_where_nothing_is_left_out(copies: dict[str, Path]) -> None:
    """One first token too few: in best-fit mode without truncation each document that begins is seen."""
    with undone(copies["best-fit"]):
        forge_manifest(copies["best-fit"], **forged_accounting(load_manifest(copies["best-fit"]), context_tokens=-1))
        with pytest.raises(DataError, match=r"context_tokens is (\d+), the shards give \d+\."):
            verify(copies["best-fit"])


def test_another_seed(copies: dict[str, Path]) -> None:
    """The seed decides the batches: one that did not make these is refused."""
    for mode, message in (("best-fit", "is not where the seed 1 deals them"), ("document", "seed 1 give")):
        with undone(copies[mode]):
            forge_manifest(copies[mode], seed=1)
            with pytest.raises(DataError, match=message):
                verify(copies[mode])


@pytest.mark.parametrize("mode", ["best-fit", "document"])
def test_requires_is_neither_dropped_nor_added(
    copies: dict[str, Path], small_dataset: Path, tmp_path: Path, mode: str
) -> None:
    """A reader that does not know of padding would train on it."""
    root = copies[mode]
    with undone(root):
        for requires in ([], ["packed", "packed"]):
            write_manifest(root, read_manifest(root) | {"requires": requires}, fix_id=True)
            with pytest.raises(
                DataError, match=r"requires is .*, but a dataset of mode .* requires \['packed'\]|accounting"
            ):
                verify(root)
    plain = tmp_path / "plain"
    shutil.copytree(small_dataset, plain)
    write_manifest(plain, read_manifest(plain) | {"requires": ["packed"]}, fix_id=True)
    with pytest.raises(DataError, match="padding_tokens"):
        verify(plain)


@pytest.mark.parametrize("mode", ["best-fit", "document"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.select(["tokens", "doc_starts", "offset", "document"]),
            "its columns are .* the manifest asks for",
        ),
        (
            lambda t: t.set_column(
                6,
                t.schema.field(6),
                pa.array([list_[:-1] for list_ in t["piece_document"].to_pylist()], t.schema.types[6]),
            ),
            "the lists of piece_document and doc_starts have different lengths",
        ),
    ],
    ids=["a plain shard", "shorter lists"],
)
def test_a_shard_without_its_pieces(
    copies: dict[str, Path], mode: str, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    """Refused when it is opened, also by `--quick`."""
    root = copies[mode]
    manifest = read_manifest(root)
    index, number = next(
        (i, n)
        for i, phase in enumerate(manifest["phases"])
        for n, shard in enumerate(phase["shards"])
        if any(columns_of(root, shard["path"]).starts)
    )
    path = manifest["phases"][index]["shards"][number]["path"]
    with undone(root, path):
        rewrite_shard(root, path, change)
        for quick in (True, False):
            with pytest.raises(DataError, match=rf"{path}: {message}"):
                verify(root, quick=quick)
