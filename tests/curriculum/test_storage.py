"""Files that change under a running training: an exception that names the shard, where reading on would be SIGBUS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import curriculum
from curriculum.errors import DataError
from curriculum.reader import Reader


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_dataset, tmp_path / "dataset"))


def shard_of(reader: Reader, step: int) -> Path:
    """The file that holds a step."""
    phase, row = reader.plan.locate(step)
    for shard in reader.manifest.phases[phase].shards:
        if row < shard.num_rows:
            return Path(reader.where) / shard.path
        row -= shard.num_rows
    raise AssertionError(step)


def test_a_shard_that_shrinks_under_its_map_is_an_error_that_names_it(dataset: Path) -> None:
    """`rsync --inplace` or a full disk truncates a file while it is mapped: reading on would kill the process."""
    reader = curriculum.open(dataset)
    kept = reader[0].tokens.copy()
    path = shard_of(reader, 0)
    size = path.stat().st_size
    os.truncate(path, 4096)
    with pytest.raises(DataError, match="shrank while it was open") as caught:
        reader[0]
    assert f"{path}: the shard shrank while it was open, from {size:,} to 4,096 bytes" in str(caught.value)
    assert kept.shape == (8, 9)


def test_reading_it_without_the_check_would_be_sigbus(dataset: Path) -> None:
    """The check is there for a reason: this is what the kernel does to a process that reads on."""
    path = shard_of(curriculum.open(dataset), len(curriculum.open(dataset)) - 1)
    code = """if True:
        import os, sys, curriculum
        reader = curriculum.open(sys.argv[1])
        batch = reader[-1]
        os.truncate(sys.argv[2], 100)
        print(batch.tokens.sum())
    """
    result = subprocess.run([sys.executable, "-c", code, str(dataset), str(path)], capture_output=True, check=False)
    assert result.returncode == -7
    assert result.stdout == b""


def test_a_shard_that_vanishes_is_an_error_that_names_it(dataset: Path) -> None:
    """Whether it was open already or not; and the step after it is put back reads on."""
    reader = curriculum.open(dataset)
    first, last = shard_of(reader, 0), shard_of(reader, len(reader) - 1)
    expected = reader[0].tokens.copy()
    first.rename(first.with_suffix(".aside"))
    last.unlink()
    with pytest.raises(DataError, match="vanished while it was open") as caught:
        reader[0]
    assert str(first) in str(caught.value)
    with pytest.raises(DataError, match="the shard is missing") as caught:
        reader[-1]
    assert str(last) in str(caught.value)
    first.with_suffix(".aside").rename(first)
    assert np.array_equal(reader[0].tokens, expected)


def test_iteration_notices_at_the_step_that_reads_the_shard(dataset: Path) -> None:
    """Not only random access."""
    reader = curriculum.open(dataset)
    batches = reader.steps(0)
    next(batches)
    os.truncate(shard_of(reader, 1), 0)
    with pytest.raises(DataError, match="shrank"):
        next(batches)


def test_a_reader_goes_on_in_a_forked_child(dataset: Path) -> None:
    """A trainer that forks after opening: maps of files are inherited, there is no thread and no lock to lose."""
    code = """if True:
        import os, sys, curriculum
        reader = curriculum.open(sys.argv[1])
        batches = reader.steps(0)
        first = next(batches).tokens.sum()
        pid = os.fork()
        if pid == 0:
            second = int(next(batches).tokens.sum())
            os._exit(0 if (second == int(reader[1].tokens.sum()) and first == reader[0].tokens.sum()) else 3)
        assert os.waitpid(pid, 0)[1] == 0
        assert int(next(batches).tokens.sum()) == int(reader[1].tokens.sum())
        print("ok")
    """
    result = subprocess.run(
        [sys.executable, "-c", code, str(dataset)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stdout, result.returncode) == ("ok\n", 0), result.stderr


def test_a_shard_that_shrank_and_was_copied_again_is_mapped_anew(dataset: Path) -> None:
    """The advice of the message must work in the process that got it, and the old map must not be touched again."""
    reader = curriculum.open(dataset)
    path = shard_of(reader, 0)
    right = path.read_bytes()
    expected = reader[1].tokens.copy()
    batches = reader.steps(0)
    next(batches)
    os.truncate(path, 100)
    path.with_suffix(".new").write_bytes(right)
    path.with_suffix(".new").rename(path)
    with pytest.raises(DataError, match=r"shrank while it was open, from [\d,]+ to 100 bytes"):
        next(batches)
    assert np.array_equal(next(reader.steps(1)).tokens, expected)
    assert np.array_equal(reader[1].tokens, expected)
