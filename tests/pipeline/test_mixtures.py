"""Builds of several sources: every row is where the book puts it, whatever the workers, and the tokens add up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curriculum.errors import BuildError, PlanError
from curriculum.reader import Reader
from pipeline.build import BuildResult
from pipeline.order import permutation
from pipeline.rows import cat_rows
from small_corpus import dataset_files
from small_mixture import build_mixture, model_rows, source_at, texts_of, write_sources

NAMES = ("web", "code", "wiki")
EVEN = ("web=0.5", "code=0.3", "wiki=0.2")
BY_LENGTH = ("web=8:0.9,24:0.25", "code=8:0.1,16:0.3,24:0.25", "wiki=8:0,24:0.5")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """web, code and wiki as files."""
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        pytest.param({"weight": EVEN}, [[5, 3, 2]] * 3, id="segment"),
        pytest.param({"weight": EVEN, "mode": "truncate", "epochs": 2}, [[5, 3, 2]] * 3, id="truncate"),
        pytest.param(
            {"weight": BY_LENGTH, "epochs": 3, "source_epochs": ("wiki=5",)},
            [[9, 1, 0], [3, 1, 0], [1, 1, 2]],
            id="by length, repeated",
        ),
        pytest.param(
            {"weight": BY_LENGTH, "epochs": 6, "shuffle_window": 1 << 20},
            [[9, 1, 0], [3, 1, 0], [1, 1, 2]],
            id="epochs of one window, which holds documents twice and clipped",
        ),
        pytest.param(
            {
                "phases": "8:60,24:80,24:18,8:10",
                "weight": ("web=1,1,0,0", "code=0.5", "wiki=0,0.5,1,3"),
                "start_length": None,
                "max_length": None,
                "epochs": 5,
            },
            [[2, 1, 0], [2, 1, 1], [0, 1, 2], [0, 1, 6]],
            id="by phase, an anneal at equal length",
        ),
    ],
)
def test_every_row_is_where_the_book_puts_it(
    options: dict[str, Any], weights: list[list[int]], sources: tuple[str, ...], tmp_path: Path
) -> None:
    """Tokens, document starts, offset and document of every row, against a slow model that shares no code with us."""
    build_mixture(tmp_path / "out", sources, **options)
    reader = Reader(tmp_path / "out")
    manifest = reader.manifest
    assert manifest.requires == ("mixture",)
    assert manifest.build.mixture is not None
    assert [list(of_phase) for of_phase in manifest.build.mixture.weights] == weights
    expected = model_rows(manifest, NAMES, weights)
    num_rows = 0
    for step in range(len(reader)):
        batch = reader[step]
        _, first = reader.plan.locate(step)
        positions, edges = batch.doc_starts
        for i in range(len(batch)):
            assert {
                "tokens": batch.tokens[i].tolist(),
                "starts": positions[edges[i] : edges[i + 1]].tolist(),
                "offset": int(batch.offset[i]),
                "document": int(batch.document[i]),
            } == expected[batch.phase][first + i]
            num_rows += 1
    assert num_rows == sum(map(len, expected.values()))
    rows = Counter(source_at(manifest, row["offset"]) for of_phase in expected.values() for row in of_phase)
    for source in manifest.sources:  # a row up or down in each phase
        assert abs(source.weight * num_rows - rows[source.name]) <= len(weights), (
            f"{source.name} weighs {source.weight}"
        )
    assert sum(len(phase.shards) for phase in manifest.phases) > 8, "several shards and windows, or little was tested"


@pytest.fixture(scope="module")
def mixed(sources: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """Validation documents, weights by length, repeats; treat it as read-only."""
    out = tmp_path_factory.mktemp("mixed") / "dataset"
    return build_mixture(out, sources, weight=BY_LENGTH, epochs=3, validation_tokens=300)


@pytest.mark.parametrize("options", [{"workers": 2}, {"unit_bytes": 700}, {"unit_bytes": 1 << 30, "workers": 2}])
def test_workers_and_units_change_no_byte(
    options: dict[str, Any], mixed: BuildResult, sources: tuple[str, ...], tmp_path: Path
) -> None:
    """A dataset that depends on the machine could not be checked on another one."""
    build_mixture(tmp_path / "out", sources, weight=BY_LENGTH, epochs=3, validation_tokens=300, **options)
    names = dataset_files(mixed.path)
    assert names == dataset_files(tmp_path / "out")
    assert all((mixed.path / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in names)


def test_the_same_command_again_has_nothing_to_do(mixed: BuildResult, sources: tuple[str, ...]) -> None:
    """And another weight is another dataset, which is not replaced by accident."""
    options: dict[str, Any] = {"epochs": 3, "validation_tokens": 300}
    assert build_mixture(mixed.path, sources, weight=BY_LENGTH, **options).already_finished
    equal = ("web=8:0.90,24:.25", *BY_LENGTH[1:])
    assert build_mixture(mixed.path, sources, weight=equal, **options).already_finished, "the same number, written so"
    with pytest.raises(BuildError, match="sources"):
        build_mixture(mixed.path, sources, weight=EVEN, **options)
    with pytest.raises(BuildError, match="sources"):
        build_mixture(mixed.path, sources, weight=BY_LENGTH, source_epochs=("web=2",), **options)


def test_the_object_of_a_build_says_what_it_took_of_each_source(mixed: BuildResult) -> None:
    """As the text does, and as `inspect` does by the same key."""
    found = mixed.to_json()["mixture"]
    assert [source["name"] for source in found] == list(NAMES)
    assert sum(source["trained_tokens"] for source in found) == mixed.manifest.accounting.trained_tokens
    assert all(source["epochs"] == source["consumed_tokens"] / source["training_tokens"] > 0 for source in found)


def test_held_out_texts_are_held_out_of_every_source(mixed: BuildResult) -> None:
    """One threshold over all texts: a text that two sources share is trained on in neither, or in both."""
    manifest = mixed.manifest
    held_out = [source.validation_tokens or 0 for source in manifest.sources]
    assert sum(held_out) == manifest.accounting.validation_tokens >= 300
    assert sum(count > 0 for count in held_out) > 1
    reader = Reader(mixed.path)
    assert reader.validation is not None
    kept = b"".join(
        bytes(t for t in batch.tokens.ravel().tolist() if t < 256) for batch in reader.validation.batches(8)
    )
    shared = b"the same text everywhere"
    trained = b"".join(
        bytes(token for token in row.tolist() if token < 256)
        for step in range(len(reader))
        for row in reader[step].tokens
    )
    assert (shared in kept) + (shared in trained) <= 1


def test_tokens_add_up_by_hand(sources: tuple[str, ...], tmp_path: Path) -> None:
    """120 steps of 6 rows of 8 at 1 : 1 : 4 are 120, 120 and 480 rows: 960, 960 and 3,840 tokens."""
    result = build_mixture(
        tmp_path / "out",
        sources,
        weight=("web=1", "code=1", "wiki=4"),
        phases="8:120",
        batch_rows=6,
        start_length=None,
        max_length=None,
        source_epochs=("wiki=9",),
    )
    sizes = {name: sum(len(text.encode()) + 1 for text in texts_of(name)) for name in NAMES}
    accounting, places = result.manifest.accounting, result.manifest.sources
    assert {source.name: source.tokens for source in places} == sizes
    assert accounting.corpus_tokens == sum(sizes.values())
    assert accounting.trained_tokens == 960 + 960 + 3_840
    assert accounting.repeated_tokens == 3_840 - sizes["wiki"] > 0
    assert accounting.unused_tokens == (sizes["web"] - 960) + (sizes["code"] - 960)
    assert accounting.context_tokens == 2, "the first token of web and of code; wiki's is a target in its second epoch"
    assert [source.weight for source in places] == [1 / 6, 1 / 6, 4 / 6]
    assert [source.offset for source in places] == [0, sizes["web"], sizes["web"] + sizes["code"]]
    assert [source.first_document for source in places] == [0, 121, 121 + 71]
    reader = Reader(tmp_path / "out")
    offsets = [int(offset) for step in range(120) for offset in reader[step].offset]
    assert Counter(source_at(reader.manifest, offset) for offset in offsets) == {"web": 120, "code": 120, "wiki": 480}


def test_without_weights_one_pass_uses_every_source_up(sources: tuple[str, ...], tmp_path: Path) -> None:
    """In proportion to tokens: none of them ends long before the others."""
    result = build_mixture(tmp_path / "out", sources)
    accounting = result.manifest.accounting
    assert accounting.repeated_tokens == 0
    assert accounting.context_tokens == 3
    # What is left is less than a step of the longest rows, and three rows for each source's rounding.
    assert accounting.unused_tokens < 4 * 24 + 3 * (8 + 16 + 24)
    assert len({source.fingerprint for source in result.manifest.sources}) == 3


def test_repeats_come_in_another_order(sources: tuple[str, ...], tmp_path: Path) -> None:
    """An epoch that repeats the order of the one before would show a model the same neighbours again."""
    build_mixture(tmp_path / "out", sources, weight=("web=0", "code=0", "wiki=1"), epochs=2)
    reader = Reader(tmp_path / "out")
    rows = sorted(
        (int(offset), tokens.tolist())
        for step in range(len(reader))
        for offset, tokens in zip(reader[step].offset, reader[step].tokens, strict=True)
    )
    stream = [token for _, tokens in rows for token in tokens[:-1]]
    texts = texts_of("wiki")
    size = sum(len(text.encode()) + 1 for text in texts)
    assert sorted(stream[:size]) == sorted([*"".join(texts).encode(), *[256] * len(texts)])
    assert stream[:size] != stream[size : 2 * size]
    assert [source.offset for source in reader.manifest.sources] == [0, 0, 0], "two streams of no epoch before it"


def test_cat_names_source_and_file(mixed: BuildResult) -> None:
    """Which text was in step 3? Of several sources, also which source."""
    rows = cat_rows(mixed.path, phase=2, limit=40)
    assert {row.source for row in rows} == set(NAMES)
    for row in rows:
        assert row.file == f"{row.source}.jsonl"
        text = row.texts[0].removesuffix("<|endoftext|>")
        assert any(text in document for document in texts_of(str(row.source)))


def test_the_largest_plan_is_one_that_no_longer_one_is(sources: tuple[str, ...], tmp_path: Path) -> None:
    """One step more is refused, and the refusal names the source and the epochs that suffice."""
    steps = build_mixture(tmp_path / "out", sources, weight=BY_LENGTH).manifest.plan.total_steps
    build_mixture(tmp_path / "same", sources, weight=BY_LENGTH, steps=steps)
    with pytest.raises(
        PlanError, match=r"steps takes [\d,]+ tokens of source 'wiki', .*--source-epochs wiki=2\."
    ) as caught:
        build_mixture(tmp_path / "more", sources, weight=BY_LENGTH, steps=steps + 2)
    assert "1 epoch of its" in str(caught.value)
    build_mixture(tmp_path / "more", sources, weight=BY_LENGTH, steps=steps + 2, source_epochs=("wiki=2",))


@pytest.mark.parametrize("weights", [(), ("web=1", "code=1", "wiki=1", "none=0")], ids=["by tokens", "weight 0"])
def test_a_source_without_any_unit_gives_nothing_and_takes_nothing(
    sources: tuple[str, ...], weights: tuple[str, ...], tmp_path: Path
) -> None:
    """No bytes, no rows, no parts: the part that has some is cut as if the empty source were not named."""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.jsonl").touch()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none" / "b.parquet")
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    with_none = build_mixture(tmp_path / "with" / "d", (*sources, f"none={tmp_path / 'none'}"), weight=weights)
    without = build_mixture(tmp_path / "without" / "d", sources, weight=weights[:3])
    assert with_none.manifest.phases == without.manifest.phases
    assert with_none.manifest.sources[3].tokens == 0


def test_the_name_of_a_lone_source_is_in_the_order_of_its_documents_alone(
    sources: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/format.md says: other readers of the format have to find the same permutations."""
    purposes: set[str] = set()

    def noted(size: int, *, seed: int, purpose: str, index: tuple[int, ...]) -> Any:
        purposes.add(purpose)
        return permutation(size, seed=seed, purpose=purpose, index=index)

    for module in ("stream", "segment", "mixed_dealing"):
        monkeypatch.setattr(f"pipeline.{module}.permutation", noted)
    build_mixture(tmp_path / "out", sources[:1])
    assert purposes == {"partitions:web", "documents:web", "cut", "deal"}
