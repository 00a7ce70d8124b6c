"""The rules of the Ray engine that need no cluster: losses, addresses, orphans, what nodes must share."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum.errors import BadRecordError, BuildError, ConfigError
from environments import free_port
from new_text import grow
from pipeline.build_identity import build_identity
from pipeline.engines.choice import open_workers
from pipeline.engines.fence import Fence, behind, put_up, wait_for_orphans
from pipeline.engines.node_checks import NodeCheck, SharedFolder, installed_versions
from pipeline.engines.ray_cluster import Places
from pipeline.engines.ray_connection import connected
from pipeline.engines.ray_losses import Losses
from pipeline.files.disk import DiskFiles
from pipeline.option_sources import load_options
from ray_nodes import environment


class _Lost(Exception):
    """Stands for an error of Ray; the rules ask for its type only."""


def errors_of_ray() -> dict[str, type[Exception]]:
    """A type of each name that the rules know."""
    names = (
        "RayError",
        "RayTaskError",
        "NodeDiedError",
        "TaskUnschedulableError",
        "ObjectLostError",
        "OutOfMemoryError",
        "WorkerCrashedError",
    )
    return {name: type(name, (_Lost,), {}) for name in names}


@pytest.mark.parametrize(
    ("name", "times", "sentence"),
    [
        ("NodeDiedError", 100, "was on 101 nodes that died"),
        (
            "OutOfMemoryError",
            4,
            r"killed by Ray for want of memory 5 times\. Smaller --unit-bytes and --shuffle-window",
        ),
        ("WorkerCrashedError", 4, "ended with its process, most likely for want of memory, 5 times"),
    ],
)
def test_a_task_is_lost_so_often_before_the_build_ends(name: str, times: int, sentence: str) -> None:
    """A flaky machine costs time; a task that never fits must not hold a cluster for ever."""
    errors = errors_of_ray()
    lines: list[str] = []
    losses = Losses(ray=SimpleNamespace(exceptions=SimpleNamespace(**errors)), say=lines.append)
    error = errors[name]("... Node IP: 10.0.0.7, node ID: 3f9c0c12aa, ...")
    for _ in range(times):
        losses.count(7, error)
        losses.count(8, error)
    with pytest.raises(BuildError, match=sentence):
        losses.count(7, error)
    died = ["Ray: the node 10.0.0.7 (3f9c0c12) died; its tasks run again on others."]
    assert lines == (died if name == "NodeDiedError" else []), "one line per node, however many tasks it had"


def test_the_cause_of_a_task_error_is_what_is_raised() -> None:
    """The command line knows our errors and prints one sentence."""
    errors = errors_of_ray()
    losses = Losses(ray=SimpleNamespace(exceptions=SimpleNamespace(**errors)), say=print)
    error: Any = errors["RayTaskError"]("a traceback of 40 lines")
    error.cause = BadRecordError("a.jsonl, line 2: not JSON.")
    with pytest.raises(BadRecordError, match=r"^a\.jsonl, line 2: not JSON\.$"):
        losses.count(0, error)
    error.cause = None
    with pytest.raises(BuildError, match="A task on the Ray cluster failed: a traceback of 40 lines"):
        losses.count(0, error)


def store(folder: Path) -> DiskFiles:
    """A token store."""
    return DiskFiles(folder=str(folder), aside="aside")


def test_a_task_ends_with_its_build_even_if_ray_does_not_end_it(tmp_path: Path) -> None:
    """The head of the cluster may be gone, or the network: the file in the store is what both sides see."""
    fence = Fence(store=store(tmp_path), token="ab", poll_seconds=0.1)
    (tmp_path / "cluster").mkdir()
    (tmp_path / fence.name).write_text("{}")
    code = (
        "import sys, time\n"
        "from pipeline.engines.fence import Fence, behind\n"
        "from pipeline.files.disk import DiskFiles\n"
        "store = DiskFiles(folder=sys.argv[1], aside='aside')\n"
        "with behind(Fence(store=store, token='ab', poll_seconds=0.1)):\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(60)\n"
    )
    task = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment(), stdout=subprocess.PIPE)
    assert task.stdout is not None
    assert task.stdout.readline() == b"at work\n"
    time.sleep(0.3)
    assert task.poll() is None
    fence.take_down()
    assert task.wait(10) == 1
    task.stdout.close()
    with pytest.raises(BuildError, match="another build has taken over this store"), behind(fence):
        raise AssertionError("a task began after its build had ended")


def test_the_next_build_waits_as_long_as_tasks_need_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the interval of the slowest; a clean end leaves nothing to wait for."""
    waited: list[float] = []
    monkeypatch.setattr("pipeline.engines.fence.time", SimpleNamespace(sleep=waited.append))
    lines: list[str] = []
    wait_for_orphans(lines.append, store=store(tmp_path))
    assert put_up(store(tmp_path), num_tasks=4).poll_seconds == 2.0
    large = put_up(store(tmp_path), num_tasks=16_000)
    assert large.poll_seconds == 80.0
    wait_for_orphans(lines.append, store=store(tmp_path))
    assert not large.stands()
    put_up(store(tmp_path), num_tasks=4).take_down()
    wait_for_orphans(lines.append, store=store(tmp_path))
    assert waited == [160.0]
    assert lines == ["A build on a cluster was killed here: waiting 160 s until its last tasks have ended."]


class Killed(Exception):
    """What ends a wait."""


@pytest.mark.parametrize("where", ["store", "out", "out, whose store is another"])
def test_a_wait_that_was_killed_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Tasks of the first run live on as long as before: the second wait must not be skipped, a third is."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 1:
            raise Killed

    monkeypatch.setattr("pipeline.engines.fence.time", SimpleNamespace(sleep=sleep))
    out = store(tmp_path / "out") if "out" in where else None
    own = store(tmp_path / ("another" if "another" in where else "one"))
    fence = put_up(store(tmp_path / "one"), num_tasks=4_000, out=out)
    used = None if where == "out" else own
    with pytest.raises(Killed):
        wait_for_orphans(print, store=used, out=out)
    assert not fence.stands()
    for _ in range(2):
        wait_for_orphans(print, store=used, out=out)
    assert waited == [40.0, 40.0]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [('{"poll_seconds": "abc"}', 4), ('{"poll_seconds": 1e9}', 600), ("{}", 4), ("", 4), ("[1]", 4)],
)
@pytest.mark.parametrize("name", ["cluster/0a.json", "cluster/0a.ended", ".build/fence.json"])
def test_a_damaged_file_is_waited_for_within_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str, seconds: float
) -> None:
    """It says at least that there was a run; no traceback, and nobody waits for years."""
    waited: list[float] = []
    monkeypatch.setattr("pipeline.engines.fence.time", SimpleNamespace(sleep=waited.append))
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(told)
    for _ in range(2):
        wait_for_orphans(print, store=store(tmp_path), out=store(tmp_path))
    assert waited == [seconds]


def test_a_store_that_does_not_answer_is_named_with_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows `cluster/0a...json`; without the sentence every later command would end there."""
    out = store(tmp_path / "out")
    put_up(store(tmp_path / "one"), num_tasks=1, out=out)

    def closed(address: str, options: Any) -> Any:
        raise BuildError(
            f"{address}/cluster/0a.json: cannot be removed: the store refuses access (NoCredentialsError)."
        )

    monkeypatch.setattr("pipeline.engines.fence.store_files", closed)
    with pytest.raises(BuildError) as refused:
        wait_for_orphans(print, store=store(tmp_path / "two"), out=out)
    file = tmp_path / "out" / ".build" / "fence.json"
    assert str(refused.value).startswith(f"{file}: says that a run on a cluster was killed here which used the token ")
    assert (
        f"--storage-option if its client needs any; or, when no task of that run is left, remove {file}. Then"
        in str(refused.value)
    )


def test_the_output_knows_the_run_whose_tasks_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_small: Callable[..., Any]
) -> None:
    """The next run there may use another store, or find that it has nothing to do."""
    waited: list[float] = []
    monkeypatch.setattr("pipeline.engines.fence.time", SimpleNamespace(sleep=waited.append))
    out = DiskFiles(folder=str(tmp_path / "out"), aside=".build/aside")
    build_small(tmp_path / "out", steps=10)
    for more in ({}, {"store": str(tmp_path / "another")}, {"store": str(tmp_path / "another"), "overwrite": True}):
        killed = put_up(store(tmp_path / "one"), num_tasks=4, out=out)
        build_small(tmp_path / "out", steps=10, **more)
        assert not killed.stands()
        assert not (tmp_path / "out" / ".build").exists()
    assert waited == [4.0, 4.0, 4.0]
    killed = put_up(store(tmp_path / "one"), num_tasks=4, out=out)
    assert grow(tmp_path / "out", total_steps=10).already_finished
    assert not killed.stands()
    put_up(store(tmp_path / "one"), num_tasks=4, out=out).take_down()
    grow(tmp_path / "out", steps=1)
    assert waited == [4.0] * 4


@pytest.mark.parametrize(
    ("what", "shared"),
    [({}, []), ({"encodes": True}, ["store"]), ({"cuts": True}, ["store", "out"])],
    ids=["reads only", "encodes", "cuts only, as an extension does"],
)
def test_tasks_that_write_are_known_in_the_store_and_every_node_must_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: dict[str, bool], shared: list[str]
) -> None:
    """A fence in a dataset would be a file of it, and the next extension does not look for one there."""
    given: list[Places] = []

    @contextmanager
    def workers(*, places: Places, **_: Any) -> Iterator[None]:
        given.append(places)
        yield None

    monkeypatch.setattr("pipeline.engines.ray_cluster.ray_workers", workers)
    own = {"out": str(tmp_path / "out"), "store": str(tmp_path / "store"), "engine": "ray"}
    with open_workers(load_options(None, own), print, **what):
        pass
    (places,) = given
    assert (places.out is not None) == ("cuts" in what)
    assert [Path(place.files.where).name for place in places.shared] == shared
    assert (places.fence_in and Path(places.fence_in.where).name) == (shared[0] if shared else None)


def check(folder: Path, **changes: Any) -> NodeCheck:
    """What a node must have in common with the driver."""
    files = store(folder)
    values: dict[str, Any] = {
        "versions": installed_versions(),
        "fence": put_up(files, num_tasks=1),
        "writes": (SharedFolder(files=files, aside="aside"),),
        "reads": ((__file__, Path(__file__).stat().st_size),),
        "patience_seconds": 0.0,
    }
    return NodeCheck(**{**values, **changes})


def test_a_fit_node_has_no_complaint_and_leaves_nothing(tmp_path: Path) -> None:
    """What it wrote to be seen is removed again."""
    fit = check(tmp_path)
    assert fit.complaint("Node a") is None
    assert fit.leave_traces("Node a", "ab") is None
    assert fit.find_traces("Node a", "ab") is None
    assert list((tmp_path / "aside").iterdir()) == []


@pytest.mark.parametrize("name", ["Python", "seqlen-curriculum", "tokenizers", "fastokens", "numpy", "source files"])
def test_what_decides_the_bytes_must_be_the_same_on_every_node(tmp_path: Path, name: str) -> None:
    """A checkout has one release number for months, so the source files count too."""
    other = check(tmp_path, versions={**installed_versions(), name: "9.9"})
    assert (other.complaint("Node a (b)") or "").startswith(f"Node a (b): has {name} {installed_versions()[name]}, ")


def test_a_node_with_a_disk_of_its_own_is_found(tmp_path: Path) -> None:
    """The same names on every machine, but not the same files: the usual mistake."""
    driver = check(tmp_path / "one")
    other = store(tmp_path / "two")
    assert driver.fence is not None
    there = Fence(store=other, token=driver.fence.token, poll_seconds=2.0)
    unseen = check(tmp_path / "one", fence=there).complaint("Node a")
    assert (unseen or "").startswith(f"Node a: does not see {tmp_path / 'two'}/cluster/")
    assert (unseen or "").endswith("on a file system that all nodes share, or in an object store.")
    elsewhere = check(tmp_path / "one", fence=driver.fence, writes=(SharedFolder(files=other, aside="aside"),))
    assert elsewhere.leave_traces("Node a", "ab") is None
    assert "what it writes to" in (driver.find_traces("Node a", "ab") or "")


@pytest.mark.parametrize(
    ("path", "sees"), [("/no/such/file", "does not see /no/such/file"), (__file__, "instead of 1 ")]
)
def test_a_node_without_the_corpus_is_found(tmp_path: Path, path: str, sees: str) -> None:
    """Before a hundred others have begun."""
    assert sees in (check(tmp_path, reads=((path, 1),)).complaint("Node a") or "")


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("ray://head:10001", ConfigError, r"not HOST:PORT of a running cluster.*RayJob"),
        ("http://head:8265", ConfigError, "ray job submit"),
        ("local", ConfigError, "not HOST:PORT of a running cluster"),
        ("head", ConfigError, "not HOST:PORT, such as"),
        ("head:port", ConfigError, "not HOST:PORT, such as"),
        (None, BuildError, r"No Ray cluster answers at 127\.0\.0\.1:\d+ \(Connection refused\)\. Start one"),
    ],
)
def test_an_address_without_a_cluster_is_one_sentence_and_soon(
    address: str | None, error: type[Exception], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself tries for a minute and then prints forty lines."""
    module = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr("pipeline.engines.ray_connection.import_ray", lambda: module)
    began = time.monotonic()
    with pytest.raises(error, match=sentence), connected(address or f"127.0.0.1:{free_port()}"):
        raise AssertionError("connected")
    assert time.monotonic() - began < 5


def test_the_port_of_another_service_is_one_sentence_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard's is the one that people have in mind; Ray would try for ever."""
    module = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr("pipeline.engines.ray_connection.import_ray", lambda: module)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    monkeypatch.setattr(BaseHTTPRequestHandler, "log_message", lambda *_: None)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with (
        pytest.raises(BuildError, match="is not the head of a Ray cluster"),
        connected(f"127.0.0.1:{server.server_port}"),
    ):
        raise AssertionError("connected")
    thread.join()
    server.server_close()


def test_options_of_ray_beside_the_local_engine_are_refused() -> None:
    """An address that is silently not used would keep one machine busy for a week."""
    with pytest.raises(ConfigError, match="ray_address is given and engine is 'local'; give --engine ray"):
        load_options(None, {"ray_address": "head:6379"})
    options = load_options(None, {"ray_address": "head:6379", "engine": "ray"})
    assert build_identity(options) == build_identity(load_options(None, {}))


def test_without_ray_the_sentence_is_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_small: Callable[..., Any]
) -> None:
    """Before anything is touched: an --overwrite must not drop a dataset first."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqlen-curriculum\[ray\]'"):
        build_small(tmp_path / "out", engine="ray")
    assert list(tmp_path.iterdir()) == []
