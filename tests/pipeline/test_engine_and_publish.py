"""Workers end with their parent, a dying worker is a sentence, and a full disk loses nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from curriculum.errors import BadRecordError, BuildError
from pipeline.build import BuildResult
from pipeline.engines.local import local_workers
from pipeline.files.disk import DiskFiles
from pipeline.layout import write_object
from pipeline.publish import Aside

ROOT = Path(__file__).parents[2]


def square(number: int) -> int:
    """A task."""
    return number * number


def die(number: int) -> int:
    """A task that the kernel kills, as it does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    """A task that finds a bad record."""
    raise BadRecordError(f"file {number}, line 3: not JSON.")


def test_results_carry_the_number_of_their_task() -> None:
    """They come in the order of completion."""
    for num_workers in (1, 2):
        with local_workers(num_workers) as workers:
            found = dict(workers.run(square, (), [(n,) for n in range(20)]))
        assert found == {n: n * n for n in range(20)}


def multiply(numbers: bytes, number: int) -> int:
    """A task with a large shared argument."""
    return numbers[0] * number


def test_what_tasks_share_reaches_every_worker_and_every_run() -> None:
    """A worker that was told for one stage must not use it in the next."""
    with local_workers(3) as workers:
        for factor in (2, 3, 5):
            shared = (bytes([factor]) * (1 << 20),)
            found = dict(workers.run(multiply, shared, [(n,) for n in range(50)]))
            assert found == {n: factor * n for n in range(50)}


def test_a_killed_worker_is_one_sentence() -> None:
    """Out of memory is the usual reason; the message says what needs less."""
    with local_workers(2) as workers, pytest.raises(BuildError, match=r"worker process died.*--shuffle-window"):
        list(workers.run(die, (), [(1,), (2,)]))


def test_a_worker_killed_before_its_first_task_is_the_same_sentence() -> None:
    """While a tokenizer is trained the workers wait, and memory is scarcest."""
    with local_workers(2) as workers:
        workers.prepare(die, 1)
        time.sleep(1)
        workers.prepare(square, 1)
        with pytest.raises(BuildError, match="worker process died"):
            list(workers.run(square, (), [(1,), (2,)]))


def test_the_error_of_a_task_is_raised_as_it_was() -> None:
    """File and line must not drown in a traceback of a pool."""
    with local_workers(2) as workers, pytest.raises(BadRecordError, match=r"line 3: not JSON\.$"):
        list(workers.run(refuse, (), [(1,), (2,)]))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """An orphan would go on writing beside the next build."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from pipeline.engines.local import local_workers\n"
        "def work(folder):\n"
        "    Path(folder, str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    with local_workers(2) as workers:\n"
        "        list(workers.run(work, (), [(sys.argv[1],), (sys.argv[1],)]))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    pids = tmp_path / "pids"
    pids.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(pids)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert _soon(lambda: len(list(pids.iterdir())) == 2)
    parent.kill()
    parent.wait()
    assert _soon(lambda: not any(_alive(int(path.name)) for path in pids.iterdir()))


def test_a_file_is_there_completely_or_not_at_all(tmp_path: Path) -> None:
    """An error inside the block leaves neither the file nor its half."""
    with pytest.raises(TypeError), Aside(tmp_path / "aside", tmp_path / "a") as file:
        file.write(b"x" * (3 << 20)) + None  # type: ignore[operator]
    assert [path.name for path in tmp_path.rglob("*")] == ["aside"]
    with Aside(tmp_path / "aside", tmp_path / "a") as file:
        for piece in (b"ab", b"c" * (2 << 20), b"d"):
            file.write(piece)
    assert (tmp_path / "a").read_bytes() == b"ab" + b"c" * (2 << 20) + b"d"
    assert file.num_bytes == 3 + (2 << 20)


def test_a_full_disk_is_one_sentence_and_leaves_no_rubbish(tmp_path: Path) -> None:
    """The limit on file size stands in for a disk that ends in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_object(DiskFiles(folder=str(tmp_path), aside="aside"), "kept.json", {"a": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(BuildError, match=r"cannot be written: .*continues where it stopped"):  # noqa: SIM117
            with Aside(tmp_path / "aside", tmp_path / "kept.json") as file:
                file.write(b"x" * (4 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "kept.json").read_bytes() == b'{\n  "a": 1\n}\n'
    assert list((tmp_path / "aside").iterdir()) == []


def test_a_build_on_a_full_disk_continues_when_there_is_space(
    build_small: Callable[..., BuildResult], small_dataset: Path, tmp_path: Path
) -> None:
    """Nothing is lost: the same command goes on, and the bytes are the same."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        with pytest.raises(BuildError, match="Free space"):
            build_small(tmp_path / "out", validation_tokens=6_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    build_small(tmp_path / "out", validation_tokens=6_000)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (small_dataset / "manifest.json").read_bytes()


def test_a_disk_too_small_is_noticed_before_cutting(
    build_small: Callable[..., BuildResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better now than at 97 %."""
    free = type("Usage", (), {"free": 1_000})
    monkeypatch.setattr("pipeline.files.disk.shutil.disk_usage", lambda path: free)
    with pytest.raises(BuildError, match=r"the disk has 0\.0 MB left"):
        build_small(tmp_path / "out")
    assert not (tmp_path / "out" / "phases").exists()


def _soon(condition: Callable[[], bool]) -> bool:
    """Whether something comes true within 20 seconds."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
