"""The reader hands out the right rows: for every world size, from every cursor, without copies, and lightly."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

import curriculum
from curriculum.batch import Batch
from curriculum.cursor import Cursor
from curriculum.errors import CursorError
from curriculum.reader import Reader
from curriculum.shard_format import open_shard
from curriculum.storage import MAX_OPEN_SHARDS
from pipeline.build import BuildResult

ROOT = Path(__file__).parents[2]
ROWS = 12
PAIRS = [(w, a) for w in range(1, ROWS + 1) for a in range(1, ROWS + 1) if ROWS % (w * a) == 0]
"""Every world size W and micro-batch count A whose product divides 12 rows: 18 of them."""

Build = Callable[..., BuildResult]


@pytest.fixture(scope="module")
def twelve(build_small: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 steps of 12 rows of 8, 16, 24 and 32 tokens."""
    out = tmp_path_factory.mktemp("reader") / "twelve"
    build_small(out, batch_rows=ROWS, max_length=32, steps=40)
    return out


@pytest.fixture(scope="module")
def uneven(build_small: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 512 tokens a step, so that every phase has other rows: 64, 32, 20, 16, 12, 8, 8, 8."""
    out = tmp_path_factory.mktemp("reader") / "uneven"
    build_small(out, batch_rows=None, batch_tokens=512, rows_multiple_of=4, steps=60)
    return out


def row_ids(batches: Iterator[Batch] | list[Batch]) -> list[tuple[int, int]]:
    """(step, stream position) of every row: enough to tell any two rows apart."""
    return [(batch.step, offset) for batch in batches for offset in batch.offset.tolist()]


def lockstep(reader: Reader, world_size: int, micro_batches: int, start: int | Cursor = 0) -> Iterator[Batch]:
    """What all ranks together read: micro-batch by micro-batch, rank by rank."""
    ranks = [reader.steps(start, rank, world_size, micro_batches) for rank in range(world_size)]
    for batches in zip(*ranks, strict=True):
        assert len({batch.cursor for batch in batches}) == 1, "the cursor is the same on every rank"
        yield from batches


def test_a_step_is_the_rows_that_the_plan_gives_it(twelve: Path) -> None:
    """Lengths grow as planned, and each step has new rows: nothing twice, nothing left out."""
    reader = curriculum.open(twelve)
    assert len(reader) == len(list(reader)) == 40
    lengths = [batch.seq_len for batch in reader]
    assert lengths == [8] * 3 + [16] * 4 + [24] * 4 + [32] * 29
    assert [batch.tokens.shape for batch in reader] == [(12, length + 1) for length in lengths]
    assert [(batch.step, batch.micro, len(batch)) for batch in reader] == [(step, 0, 12) for step in range(40)]
    rows = row_ids(list(reader))
    assert len(set(rows)) == 480
    stream = sorted((offset, lengths[step]) for step, offset in rows)
    assert all(a + length == b for (a, length), (b, _) in pairwise(stream))


def test_steps_can_be_addressed_as_in_any_sequence(twelve: Path) -> None:
    """Negative and numpy indices work; beyond the end is an IndexError, which also ends `for batch in reader`."""
    reader = curriculum.open(twelve)
    assert row_ids([reader[-1]]) == row_ids([reader[39]]) == row_ids([reader[np.int64(39)]])
    for step in (40, -41):
        with pytest.raises(IndexError, match=f"step {step} is out of range, the dataset has 40 steps"):
            reader[step]
    with pytest.raises(TypeError):
        reader[1.0]  # type: ignore[index]


@pytest.mark.parametrize(("world_size", "micro_batches"), PAIRS)
def test_ranks_together_read_every_prefix_of_every_global_batch(
    twelve: Path, world_size: int, micro_batches: int
) -> None:
    """One dataset, one run: the number of processes and of micro-batches must not change what is trained on, not
    even in the middle of a step."""
    reader = curriculum.open(twelve)
    whole = [row_ids([reader[step]]) for step in range(40)]
    rows = ROWS // (world_size * micro_batches)
    found: list[tuple[int, int]] = []
    for number, batch in enumerate(lockstep(reader, world_size, micro_batches)):
        step, in_step = divmod(number, world_size * micro_batches)
        found = found if in_step else []
        found += row_ids([batch])
        assert (batch.step, batch.micro, len(batch)) == (step, in_step // world_size, rows)
        assert found == whole[step][: len(found)]
    assert step == 39


def test_tokens_of_a_micro_batch_are_the_same_rows_of_the_step(twelve: Path) -> None:
    """All five arrays are cut alike: rows 8 to 12 of 12 for rank 1 of 2, micro-batch 1 of 2, from row (1*2+1)*3."""
    reader = curriculum.open(twelve)
    whole, part = reader[20], list(islice(reader.steps(20, 1, 2, 2), 2))[1]
    assert np.array_equal(part.tokens, whole.tokens[9:12])
    assert np.array_equal(part.inputs, whole.tokens[9:12, :-1])
    assert np.array_equal(part.targets, whole.tokens[9:12, 1:])
    assert np.array_equal(part.offset, whole.offset[9:12])
    assert np.array_equal(part.document, whole.document[9:12])
    positions, edges = whole.doc_starts
    part_positions, part_edges = part.doc_starts
    assert np.array_equal(part_positions, positions[edges[9] : edges[12]])
    assert np.array_equal(part_edges, edges[9:13] - edges[9])


@pytest.mark.parametrize(("world_size", "micro_batches"), PAIRS)
def test_every_cursor_resumes_on_every_world_size(twelve: Path, world_size: int, micro_batches: int) -> None:
    """The rows after any cursor are the rows that were left, on any number of ranks; where a cursor inside a step
    falls into a micro-batch, that is refused, not rounded."""
    reader = curriculum.open(twelve)
    everything = row_ids(list(reader))
    refused = 0
    for cursor in dict.fromkeys(batch.cursor for batch in lockstep(reader, world_size, micro_batches)):
        left = everything[cursor.step * ROWS + cursor.row :]
        for other_world, other_micro in PAIRS:
            if cursor.row % (ROWS // other_micro):
                with pytest.raises(CursorError, match=f"stands at row {cursor.row} of step {cursor.step}"):
                    reader.steps(cursor, 0, other_world, other_micro)
                refused += 1
                continue
            resumed = islice(lockstep(reader, other_world, other_micro, cursor), 2 * other_world)
            found = row_ids(list(resumed))
            assert found == left[: len(found)]
            assert found or cursor.step == 40
    assert (refused > 0) == (micro_batches > 1)


def test_a_cursor_after_the_last_batch_is_the_end(twelve: Path) -> None:
    """A finished run that is restarted trains on nothing, and does not fail."""
    reader = curriculum.open(twelve)
    *_, last = reader.steps(38)
    assert last.cursor == Cursor(reader.id, 40, 0)
    assert list(reader.steps(last.cursor)) == list(reader.steps(40)) == []
    assert reader[39].cursor == last.cursor


@pytest.mark.parametrize(
    ("step", "row", "message"),
    [
        (41, 0, "cannot start at step 41, row 0: there are 40 steps"),
        (40, 4, "cannot start at step 40, row 4: there are 40 steps"),
        (-1, 0, "cannot start at step -1, row 0"),
        (3, 12, "with 1 micro-batches of 12 rows it can stand at multiples of 12 below 12"),
        (3, 5, "the cursor stands at row 5 of step 3"),
        (3, -12, "cannot start at step 3, row -12"),
    ],
)
def test_a_cursor_outside_the_dataset_is_refused(twelve: Path, step: int, row: int, message: str) -> None:
    """Arithmetic would happily compute a row for it."""
    reader = curriculum.open(twelve)
    with pytest.raises(CursorError, match=message):
        reader.steps(Cursor(reader.id, step, row))


def test_the_cursor_of_another_dataset_is_refused(twelve: Path, uneven: Path) -> None:
    """The message names both, so that the right one can be found."""
    reader, other = curriculum.open(twelve), curriculum.open(uneven)
    with pytest.raises(CursorError, match="Resume with the dataset that the run was started on") as caught:
        reader.steps(other[3].cursor)
    assert reader.id in str(caught.value)
    assert other.id in str(caught.value)


def test_a_world_size_that_fails_later_is_refused_now(uneven: Path) -> None:
    """8 ranks divide the first 64 rows and not the 20 of phase 2: `steps` itself refuses, before any batch."""
    reader = curriculum.open(uneven)
    assert [phase.rows_per_step for phase in reader.plan.phases] == [64, 32, 20, 16, 12, 8, 8, 8]
    with pytest.raises(CursorError) as caught:
        reader.steps(0, 0, 8)
    assert str(caught.value) == (
        f"{uneven}: world_size 8 x micro_batches 1 = 8 does not divide the 20 rows per step of phase 2. "
        f"Products that divide every remaining phase: 1, 2, 4."
    )
    first_of_eight = next(batch.step for batch in reader if len(batch) == 8)
    assert len(next(reader.steps(first_of_eight, 7, 8))) == 1


@pytest.mark.parametrize(("rank", "world_size", "micro_batches"), [(2, 2, 1), (-1, 2, 1), (0, 0, 1), (0, 1, 0)])
def test_ranks_and_counts_out_of_range_are_refused(
    twelve: Path, rank: int, world_size: int, micro_batches: int
) -> None:
    """Rank 2 of 2 would read another rank's rows of the next micro-batch."""
    with pytest.raises(CursorError, match=r"ranks run from 0 to world_size - 1|micro_batches is 0; it starts at 1"):
        curriculum.open(twelve).steps(0, rank, world_size, micro_batches)


def test_document_starts_and_ordinals_agree_with_the_eos_in_the_tokens(small_dataset: Path) -> None:
    """With `bytes`, 256 is the EOS and nothing else is, so positions and ordinals can be checked from tokens alone."""
    reader = curriculum.open(small_dataset)
    rows: list[tuple[int, int, int]] = []
    for batch in reader.steps(0, 1, 2, 2):
        positions, edges = batch.doc_starts
        assert (positions.dtype, edges.dtype, edges[0], edges[-1]) == (np.uint32, np.int64, 0, len(positions))
        for i, tokens in enumerate(batch.tokens):
            expected = np.flatnonzero(tokens[:-1] == 256) + 1
            assert np.array_equal(positions[edges[i] : edges[i + 1]], expected)
    for batch in reader:
        ends = (batch.inputs == 256).sum(axis=1)
        rows += zip(batch.offset.tolist(), batch.document.tolist(), ends.tolist(), strict=True)
    rows.sort()
    assert all(document + ends == after for (_, document, ends), (_, after, _) in pairwise(rows))


def test_batches_are_views_of_one_map_and_cannot_be_written(small_dataset: Path) -> None:
    """No copy, so no cost; read-only, so a training loop cannot change the dataset it trains on."""
    reader = curriculum.open(small_dataset)
    batch, again = reader[400], reader[400]
    assert np.shares_memory(batch.tokens, again.tokens)
    assert np.shares_memory(batch.inputs, batch.targets)
    for array in (batch.tokens, batch.inputs, batch.targets, batch.offset, batch.document, batch.doc_starts[0]):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_reading_allocates_no_memory_for_tokens(small_dataset: Path) -> None:
    """200 batches of 1 kB each, all kept: only the small objects around the views are new."""
    reader = curriculum.open(small_dataset)
    reader[400], reader[401]
    tracemalloc.start()
    try:
        kept = [reader[400 + i % 2].tokens for i in range(200)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept[0].nbytes == 8 * 65 * 2
    assert size < 200 * 500


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux lists them")
def test_the_first_touch_of_a_shard_takes_few_calls(small_dataset: Path) -> None:
    """A step of a dataset of small shards is mostly that: each call is some 0.1 us. 117 are needed (Python 3.11)."""
    manifest = curriculum.open(small_dataset).manifest
    phase, calls = manifest.phases[0], 0
    shard = phase.shards[0]

    def touch() -> None:
        open_shard(
            small_dataset / shard.path,
            seq_len=phase.seq_len,
            dtype=manifest.dtype,
            num_rows=shard.num_rows,
            num_bytes=shard.num_bytes,
            data_offset=shard.data_offset,
        )

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    touch()  # the schema of a phase is made once
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        touch()
    finally:
        sys.setprofile(before)
    assert 40 < calls < 135


def test_open_files_and_maps_are_bounded_however_many_shards_there_are(build_small: Build, tmp_path: Path) -> None:
    """A long run touches tens of thousands of shards; systems allow 1,024 open files and 65,530 maps."""
    build_small(tmp_path / "many", shard_bytes=2_000)
    reader = curriculum.open(tmp_path / "many")
    shards = sum(len(phase.shards) for phase in reader.manifest.phases)
    assert shards > 3 * MAX_OPEN_SHARDS

    def count() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text().count(str(tmp_path))
        return len(os.listdir("/proc/self/fd")), maps  # noqa: PTH208 - the listing itself opens one

    files_before, maps_before = count()
    first = reader[0]
    expected = first.tokens.copy()
    counts = [count() for _ in reader]
    assert max(files for files, _ in counts) <= files_before + 1, "a map needs no open file"
    most_maps = max(maps for _, maps in counts)
    assert maps_before + 2 <= most_maps <= maps_before + MAX_OPEN_SHARDS + 1
    assert np.array_equal(first.tokens, expected), "a batch keeps its own map alive"


def test_a_reader_pickles_as_its_path(small_dataset: Path) -> None:
    """Trainers send it to their processes: no open file, no map, no manifest travels along."""
    reader = curriculum.open(small_dataset)
    reader[0]
    data = pickle.dumps(reader)
    assert len(data) < 400
    again = pickle.loads(data)
    assert again.id == reader.id
    assert np.array_equal(again[5].tokens, reader[5].tokens)


def test_validation_rows_tile_the_held_out_documents(small_dataset: Path) -> None:
    """Every held-out row exactly once at the maximum length, whatever the batch size, and none for no hold-out."""
    validation = curriculum.open(small_dataset).validation
    assert validation is not None
    assert validation.seq_len == 64
    assert len(validation) > 90
    for rows in (1, 7, 1000):
        batches = list(validation.batches(rows))
        assert all(1 <= len(batch) <= rows for batch in batches)
        offsets = np.concatenate([batch.offset for batch in batches])
        assert np.array_equal(offsets, np.arange(len(validation)) * 64)
        tokens = np.concatenate([batch.tokens for batch in batches])
        assert np.array_equal(tokens[1:, 0], tokens[:-1, -1])
    with pytest.raises(CursorError, match="at least one"):
        next(validation.batches(0))


def test_without_a_hold_out_there_is_no_validation(twelve: Path) -> None:
    """None, so that `if reader.validation:` skips evaluation instead of averaging over nothing."""
    assert curriculum.open(twelve).validation is None


def test_importing_and_reading_stay_light(small_dataset: Path) -> None:
    """The machine with the GPU needs numpy and pyarrow to read, and nothing at all to import the package."""
    code = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        before = set(sys.modules)

        def added():
            names = {name.split(".")[0] for name in set(sys.modules) - before}
            return sorted(names - sys.stdlib_module_names)

        import curriculum
        print(*added())
        reader = curriculum.open(sys.argv[2], check=True)
        for batch in reader.steps(reader[1].cursor, 1, 2, 2):
            batch.inputs, batch.targets, batch.doc_starts, batch.offset, batch.document, batch.cursor
            batch.labels, batch.has_target, batch.num_tokens, batch.piece_offset, batch.piece_document
        print(*[name for name in added() if not name.lstrip("_").startswith("cython")])
    """
    command = [sys.executable, "-I", "-W", "error", "-c", code, str(ROOT), str(small_dataset)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["curriculum", "curriculum numpy pyarrow"]
