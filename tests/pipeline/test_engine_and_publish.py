"""Workers end with their parent, a dying worker is a sentence, and a full disk loses nothing."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from curriculum.errors import BadRecordError, BuildError
from pipeline.build import BuildResult
from pipeline.corpus_tokenizer import sample_unit
from pipeline.cut import cut_window
from pipeline.document_rows import count_rows
from pipeline.engines.choice import what_to_lower
from pipeline.engines.deaths import count_oom_kills, why
from pipeline.engines.local import local_workers
from pipeline.files.disk import DiskFiles
from pipeline.layout import write_object
from pipeline.option_sources import load_options
from pipeline.publish import Aside
from pipeline.tokenize_stage import ensure_parts

ROOT = Path(__file__).parents[2]


def square(number: int) -> int:
    """A task."""
    return number * number


def die(number: int) -> int:
    """A task whose process a signal ends, as the kernel does for want of memory."""
    os.kill(os.getpid(), number)
    time.sleep(60)
    return number


def starve(number: int) -> int:
    """A task that may not have more memory than its process has already."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    return len(bytes(4 << 30)) + number


def overdraw(limit: str | None) -> int:
    """A task that takes more memory than its control group may have; without such a group, killed at its peak."""
    if limit is not None:
        (Path(limit) / "cgroup.procs").write_text(str(os.getpid()))
    taken = [b"x" * (1 << 20) * (number + 100) for number in range(4)]
    os.kill(os.getpid(), signal.SIGKILL)
    return len(taken)


@pytest.fixture
def small_control_group() -> Iterator[str | None]:
    """A control group with 100 MB of memory; None where the system gives none."""
    for root, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        folder = Path(root) / f"curriculum-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text("100000000")
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            continue
        yield str(folder)
        folder.rmdir()
        return
    yield None


def cut_short(folder: str) -> int:
    """A task that reads a mapped file whose end is gone, as on a disk that fails: SIGBUS, no exception."""
    path = Path(folder, str(os.getpid()))
    path.write_bytes(bytes(1 << 20))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        file.truncate(0)
        return mapped[1 << 19]


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


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGKILL, r"was killed \(SIGKILL\).*Run the same command again to continue; fewer --workers need less"),
        (signal.SIGSEGV, r"crashed \(SIGSEGV\) in native code.*--backend tokenizers"),
        (signal.SIGTERM, r"was ended by SIGTERM, by a person or a job manager"),
        (signal.SIGXCPU, r"was ended by SIGXCPU"),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_dead_worker_is_one_sentence(number: int, sentence: str) -> None:
    """What ended it decides what helps, and the others must not go on."""
    with local_workers(2) as workers, pytest.raises(BuildError, match=sentence):
        list(workers.run(die, (), [(int(number),), (int(number),)]))
    assert not multiprocessing.active_children()


def test_the_kernel_kills_a_worker_for_want_of_memory(small_control_group: str | None) -> None:
    """For real where a control group can be made; the sentence gives the kernel's own count as evidence."""
    before = count_oom_kills()
    killed = pytest.raises(BuildError, match=r"was killed \(SIGKILL\), .*; LOWER\.$")
    with local_workers(2, lambda stage: "LOWER") as workers, killed as caught:
        list(workers.run(overdraw, (), [(small_control_group,)] * 2))
    if before is not None and count_oom_kills() != before:
        assert "by the kernel for want of memory (kills it counted since this began: " in str(caught.value)


def test_memory_and_maps_that_fail_in_a_worker_are_sentences(tmp_path: Path) -> None:
    """Limits of memory that the process itself meets (ulimit -v, prlimit) end in a MemoryError, a mapped file that
    cannot be read in SIGBUS."""
    with local_workers(2, lambda stage: f"for {stage} take less") as workers:
        with pytest.raises(BuildError, match=r"Out of memory\. .*; for \S*test_engine_and_publish take less\.$"):
            list(workers.run(starve, (), [(1,), (2,)]))
        with pytest.raises(BuildError, match=r"died of SIGBUS: a file that it had mapped"):
            list(workers.run(cut_short, (), [(str(tmp_path),)] * 2))


def test_a_worker_killed_before_its_first_task_is_the_same_sentence() -> None:
    """While a tokenizer is trained the workers wait, and memory is scarcest."""
    with local_workers(2) as workers:
        workers.prepare(die, 9)
        time.sleep(1)
        workers.prepare(square, 1)
        with pytest.raises(BuildError, match="worker process was killed"):
            list(workers.run(square, (), [(1,), (2,)]))


def test_who_killed_a_worker_is_said_as_far_as_the_system_tells(tmp_path: Path) -> None:
    """The kernel counts what it kills for want of memory: in the cgroup, or on the machine, or nobody may know."""
    assert count_oom_kills(tmp_path) is None
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 17\noom_kill 3\n")
    assert count_oom_kills(tmp_path) == 3
    (tmp_path / "proc" / "self" / "cgroup").write_text("4:memory:/v1\n0::/job.slice/7\n")
    (tmp_path / "sys" / "fs" / "cgroup" / "job.slice" / "7").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup" / "job.slice" / "7" / "memory.events").write_text("oom 2\noom_kill 1\n")
    assert count_oom_kills(tmp_path) == 1
    now = count_oom_kills()
    told = why(-9, oom_kills_before=now, lower="x")
    assert "counts no kill" in told if now is not None else "most likely by the kernel" in told
    assert "most likely by the kernel" in why(-9, oom_kills_before=None, lower="x")
    if now is not None:
        assert "by the kernel for want of memory (kills it counted since this began: 1)" in why(
            -9, oom_kills_before=now - 1, lower="x"
        )


def test_what_to_lower_is_named_with_its_value() -> None:
    """Someone whose build was killed at night wants the option and the number that it had."""
    options = load_options(None, {"corpus": ("a",), "workers": 7, "shuffle_window": 50_000_000})
    assert what_to_lower(options, cut_window.__module__) == (
        "fewer --workers (now 7) or a smaller --shuffle-window (now 50,000,000) need less"
    )
    for task in (ensure_parts, sample_unit):  # where they are defined is how an engine knows the stage
        assert what_to_lower(options, task.__module__) == (
            "fewer --workers (now 7) or a smaller --unit-bytes (now up to 134,217,728) need less"
        )
    assert what_to_lower(options, count_rows.__module__) == "fewer --workers (now 7) need less"


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
