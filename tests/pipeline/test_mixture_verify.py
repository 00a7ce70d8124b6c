"""`verify` proves a mixture: a row of another source, a swapped pair, a wrong share and a forged manifest are found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import DataError
from curriculum.manifest import Manifest, SourceEntry, load_manifest
from curriculum.mixture import Mixture
from forged_shards import (
    Columns,
    columns_of,
    forge_manifest,
    forge_shard,
    open_shard_of,
    read_manifest,
    verify,
    write_columns,
    write_manifest,
)
from pipeline.manifest_checks import window_shards
from small_mixture import build_mixture, source_at, write_sources

SHARD = "phases/00001-len0000016/shard-000001.arrow"
BY_LENGTH = ("web=8:0.9,24:0.25", "code=8:0.1,16:0.3,24:0.25", "wiki=8:0,24:0.5")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """web, code and wiki as files."""
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def good(sources: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repeats, held-out documents, weights by length; treat it as read-only."""
    out = tmp_path_factory.mktemp("good") / "dataset"
    build_mixture(out, sources, weight=BY_LENGTH, epochs=3, validation_tokens=300)
    return out


@pytest.fixture
def damaged(good: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    shutil.copytree(good, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"mode": "truncate", "weight": BY_LENGTH, "epochs": 2}, id="truncate"),
        pytest.param({"bos": "document"}, id="by tokens, one token is EOS and BOS"),
        pytest.param({"weight": ("web=0", "code=1", "wiki=0"), "source_epochs": ("code=3",)}, id="two unused"),
        pytest.param(
            {"phases": "8:30,24:9,24:5", "weight": ("web=1,1,0", "code=2", "wiki=0,0,1"), "start_length": None}
            | {"max_length": None, "epochs": 4},
            id="by phase",
        ),
    ],
)
def test_what_a_build_wrote_passes(options: dict[str, Any], sources: tuple[str, ...], tmp_path: Path) -> None:
    """On any number of workers, quick or not."""
    build_mixture(tmp_path / "out", sources, **options)
    assert verify(tmp_path / "out").extra_files == ()
    assert verify(tmp_path / "out", quick=True).documents is None


def test_a_good_mixture_passes_and_counts_documents(good: Path) -> None:
    """Its batches are compared with random rows of the same shares."""
    report = verify(good, workers=2)
    assert report == verify(good)
    assert report.num_windows > 2
    assert report.documents is not None
    assert 0.9 < report.documents.ratio < 1.1


def names_of(root: Path, columns: Columns) -> list[str]:
    return [source_at(load_manifest(root), int(offset)) for offset in columns.offset]


def copy_row(to: Columns, row: int, of: Columns, other: int) -> None:
    to.tokens[row], to.starts[row] = of.tokens[other], of.starts[other]
    to.offset[row], to.document[row] = of.offset[other], of.document[other]


def test_a_row_of_another_source_is_found(damaged: Path) -> None:
    """One row of code less and one of web more: the batch is no longer the mixture."""
    columns = columns_of(damaged, SHARD)
    names = names_of(damaged, columns)
    copy_row(columns, names.index("code"), columns, names.index("web"))
    write_columns(damaged, SHARD, columns)
    wrong = rf"{SHARD}: {names.count('web') + 1} rows of source 'web', the mixture gives it {names.count('web')}"
    with pytest.raises(DataError, match=wrong):
        verify(damaged)


def test_a_swapped_pair_is_found(damaged: Path) -> None:
    """Counts and tiling fit: only the seed's own interleaving shows it."""
    columns, before = columns_of(damaged, SHARD), columns_of(damaged, SHARD)
    names = names_of(damaged, columns)
    one, other = names.index("code"), names.index("web")
    copy_row(columns, one, before, other)
    copy_row(columns, other, before, one)
    write_columns(damaged, SHARD, columns)
    with pytest.raises(
        DataError, match=rf"row {min(one, other)} has the stream offset \d+, of source '(web|code)'; exp"
    ):
        verify(damaged)
    build = replace(load_manifest(damaged).build, algorithm=99)
    forge_manifest(damaged, build=build)
    verify(damaged)  # another algorithm may deal them so: counts and tiling hold


def test_rows_of_another_algorithm_have_to_tile_each_stream(damaged: Path) -> None:
    """The same row twice is a token trained twice, and another never."""
    forge_manifest(damaged, build=replace(load_manifest(damaged).build, algorithm=99))
    columns = columns_of(damaged, SHARD)
    names = names_of(damaged, columns)
    one, other = [row for row, name in enumerate(names) if name == "web"][:2]
    copy_row(columns, one, columns, other)
    write_columns(damaged, SHARD, columns)
    with pytest.raises(DataError, match=rf"row {max(one, other)} has the stream offset \d+, and so has {SHARD}, row"):
        verify(damaged)


def test_two_shards_that_exchange_rows_of_a_source_are_found(damaged: Path) -> None:
    """Every shard has its counts, and every source its tokens, but a window holds another's rows."""
    manifest = load_manifest(damaged)
    windows = window_shards(manifest, damaged)
    paths = [window.places[0].entry.path for window in (windows[0], windows[-1]) if window.places[0].seq_len]
    shards = [shard.path for shard in manifest.phases[2].shards]
    assert paths[0] not in shards
    first, last = columns_of(damaged, shards[0]), columns_of(damaged, shards[-1])
    one, other = names_of(damaged, first).index("web"), names_of(damaged, last).index("web")
    kept = columns_of(damaged, shards[0])
    copy_row(first, one, last, other)
    copy_row(last, other, kept, one)
    write_columns(damaged, shards[0], first)
    write_columns(damaged, shards[-1], last)
    forge_manifest(damaged, build=replace(load_manifest(damaged).build, algorithm=99))
    with pytest.raises(DataError, match=r"has the stream offset \d+, expected \d+: sorted by offset, rows overlap or"):
        verify(damaged)


def test_windows_of_a_source_are_compared_at_their_borders(damaged: Path) -> None:
    """Each window tiles its own intervals; that they continue one another needs a look across, source by source."""
    manifest = load_manifest(damaged)
    window = window_shards(manifest, damaged)[1]
    assert window.mixed is not None
    border = manifest.sources[1].offset + window.mixed.offsets[1]
    shards = [shard.path for phase in manifest.phases for shard in phase.shards]
    path = next(path for path in shards if border in open_shard_of(damaged, path).offset)

    def other_first_token(columns: Columns) -> None:
        row = columns.offset.tolist().index(border)
        columns.tokens[row, 0] = 65
        columns.starts[row] = [start for start in columns.starts[row] if start > 1]

    forge_shard(damaged, path, other_first_token)
    with pytest.raises(DataError, match=r"begins with the token 65, the window before it ends with \d+|row \d+"):
        verify(damaged)


def shift_documents(root: Path, by: int) -> None:
    """All rows of the last source, in every shard, as if it began with another document."""
    manifest = load_manifest(root)
    for shard in [shard.path for phase in manifest.phases for shard in phase.shards]:
        columns = columns_of(root, shard)
        columns.document = columns.document + np.where(columns.offset >= manifest.sources[2].offset, by, 0).astype("u8")
        write_columns(root, shard, columns)


def test_documents_of_a_source_are_counted_from_its_first(damaged: Path) -> None:
    """By the ordinal, `cat` finds the text of a row."""
    shift_documents(damaged, 1)
    with pytest.raises(DataError, match=r"begins source 'wiki' in document (\d+), the manifest says"):
        verify(damaged)
    forge_source(damaged, 2, first_document=(load_manifest(damaged).sources[2].first_document or 0) + 1)
    verify(damaged)  # a hole in the numbering, which nothing on disk can rule out


def forge_source(root: Path, number: int, **changes: Any) -> None:
    sources = list(load_manifest(root).sources)
    sources[number] = replace(sources[number], **changes)
    forge_manifest(root, sources=tuple(sources))


def with_source(number: int, change: Callable[[SourceEntry], dict[str, Any]]) -> Callable[[Manifest], dict[str, Any]]:
    def forge(manifest: Manifest) -> dict[str, Any]:
        sources = list(manifest.sources)
        sources[number] = replace(sources[number], **change(sources[number]))
        return {"sources": tuple(sources)}

    return forge


def other_weights(manifest: Manifest) -> dict[str, Any]:
    assert manifest.build.mixture is not None
    first, *others = manifest.build.mixture.weights
    return {"build": replace(manifest.build, mixture=Mixture(weights=((8, 2 - 1, 0), *others)))} if first else {}


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (other_weights, r"source 'web' has the offset 0 and the weight 0.417\d+, plan and mixture give 0 and 0.416"),
        (with_source(1, lambda s: {"offset": s.offset + 1}), r"source 'code' has the offset \d+ and the weight 0.228"),
        (with_source(1, lambda s: {"weight": 0.2}), r"source 'code' has the offset \d+ and the weight 0.2, plan and"),
        (
            with_source(0, lambda s: {"validation_tokens": (s.validation_tokens or 0) + 1}),
            r"validation_tokens is \d+, the sources give \d+",
        ),
        (
            with_source(2, lambda s: {"validation_tokens": s.tokens}),
            r"source 'wiki' has \d+ tokens, \d+ of them held out, and the plan takes \d+ of the rest",
        ),
        (
            lambda m: {"accounting": replace(m.accounting, context_tokens=2 - m.accounting.context_tokens)},
            r"accounting: context_tokens is \d, plan and sources give \d",
        ),
        (lambda m: {"seed": 1}, r"row \d+ has the stream offset \d+, of source '\w+'; expected \d+, of source"),
    ],
)
def test_a_forged_manifest_contradicts_arithmetic(
    forge: Callable[[Manifest], dict[str, Any]], message: str, damaged: Path
) -> None:
    """Weights decide offsets, accounting and every row: none of them can be changed alone."""
    forge_manifest(damaged, **forge(load_manifest(damaged)))
    with pytest.raises(DataError, match=message):
        verify(damaged)


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
        (set_in("requires", to=[]), r"requires is \[\], but .* of several sources requires \['mixture'\]"),
        (set_in("requires", to=["mixture", "later"]), r"requires 'later', which this release does not know"),
        (
            set_in("build", "mixture", to=None),
            r"requires is \['mixture'\], but a dataset of mode 'segment' requires \[\]",
        ),
        (set_in("build", "mixture", to=[[1, 1, 1]]), r"mixture has 1 entries, the plan 3 phases"),
        (set_in("build", "mixture", to=[[2, 2, 2]] * 3), r"without a common divisor"),
        (set_in("build", "mixture", to=[[0, 0, 0]] * 3), r"one of them above 0"),
        (set_in("build", "mixture", to=[[1, 1]] * 3), r"does not have one weight for each of 3 sources"),
        (set_in("build", "mixture", to=[[1, -1, 1]] * 3), r"expected an integer from 0"),
        (set_in("sources", 1, "name", to="web"), r"two sources have the same name"),
        (set_in("sources", 1, "first_document", to=None), r"those of a mixture have both"),
        (set_in("sources", 1, "offset", to=10**9), r"source 'wiki' begins before source 'code'"),
    ],
)
def test_a_reader_refuses_a_manifest_that_contradicts_itself(
    change: Callable[[dict[str, Any]], None], message: str, damaged: Path
) -> None:
    """Before any shard is opened, in one sentence."""
    manifest = read_manifest(damaged)
    change(manifest)
    write_manifest(damaged, manifest, fix_id=True)
    with pytest.raises(DataError, match=message):
        load_manifest(damaged)
