"""Builds and tasks on one real Ray cluster: the bytes of a local build, whatever happens to nodes, tasks and people."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from new_text import copy_of, grow, new_texts, write_texts
from pipeline.build import BuildResult
from ray_nodes import ROOT, RayNodes, ray_python, soon
from small_corpus import dataset_files

INSTALLS = ray_python
DRIVER = str(ROOT / "tests" / "ray_driver.py")
PROBE = str(ROOT / "tests" / "ray_probe.py")
OPTIONS: dict[str, Any] = {
    "tokenizer": "train:300",
    "unit_bytes": 40_000,
    "shuffle_window": 40_000,
    "batch_rows": 16,
    "validation_tokens": 3_000,
}
"""Six units and four windows: two rounds of each stage on three nodes."""
STAGES = ("sample", "encode", "cut")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    """Three nodes; tests leave as many."""
    nodes = RayNodes()
    yield nodes
    nodes.close()


@pytest.fixture(scope="module")
def local(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same dataset, built by the local engine."""
    out = tmp_path_factory.mktemp("local") / "dataset"
    build_small(out, **OPTIONS)
    return out


@pytest.fixture(scope="module")
def probe(cluster: RayNodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the engine did with tasks that fail."""
    folder = tmp_path_factory.mktemp("probe")
    program = cluster.start(PROBE, cluster.address, str(folder))
    _, err = program.communicate(timeout=180)
    assert program.returncode == 0, err
    found: dict[str, Any] = json.loads((folder / "found.json").read_bytes())
    return found


def command(cluster: RayNodes, corpus: Path, out: Path) -> list[str]:
    """`curriculum build` of the small corpus on the cluster; what is not said here is as in conftest.SMALL."""
    flags = ["--start-length", "8", "--max-length", "64", "--shard-bytes", "8000"]
    for name, value in OPTIONS.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    return ["build", str(corpus), "--out", str(out), "--engine", "ray", "--ray-address", cluster.address, *flags]


def start(
    cluster: RayNodes, corpus: Path, out: Path, *more: str, waits_in: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a build; the tasks of some stages wait for `go_on`."""
    marks = out.parent / "marks"
    marks.mkdir(exist_ok=True)
    for stage in set(STAGES) - set(waits_in):
        go_on(out, stage)
    return cluster.start(DRIVER, *command(cluster, corpus, out), *more, MARKS=str(marks))


def start_extension(cluster: RayNodes, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start an extension, whose tasks wait as those of a build do."""
    marks = out.parent / "marks"
    marks.mkdir(exist_ok=True)
    engine = ["--engine", "ray", "--ray-address", cluster.address]
    return cluster.start(DRIVER, "extend", str(out), *engine, *more, MARKS=str(marks))


def go_on(out: Path, stage: str) -> None:
    """Let the tasks of a stage work."""
    (out.parent / "marks" / f"go-{stage}").touch()


def finish(build: subprocess.Popen[str]) -> tuple[str, str]:
    """What a build that must succeed printed."""
    out, err = build.communicate(timeout=120)
    assert build.returncode == 0, err
    return out, err


def at_work(out: Path, stage: str, nodes: list[str]) -> list[str]:
    """Marks of tasks of a stage that have begun on these nodes and have not ended."""
    return [
        path.name
        for path in (out.parent / "marks").iterdir()
        if path.name.startswith(f"{stage}-") and path.name.split("-")[1] in nodes
    ]


def same(one: Path, other: Path) -> bool:
    """Byte for byte, but for the build log; and nothing else is there."""
    names = dataset_files(one)
    return names == dataset_files(other) and all((one / n).read_bytes() == (other / n).read_bytes() for n in names)


def test_a_node_that_dies_in_each_stage_changes_no_byte(
    cluster: RayNodes, corpus: Path, local: Path, tmp_path: Path
) -> None:
    """Machines of a large cluster die every day. Stdout stays what a program reads, and a new node is put to work."""
    out = tmp_path / "dataset"
    build = start(cluster, corpus, out, "--json", waits_in=STAGES)
    for stage in STAGES:
        names = soon(lambda stage=stage: at_work(out, stage, cluster.nodes[1:]))
        assert names, f"{stage}: no task has begun"
        cluster.kill(names[0].split("-")[1])
        assert (tmp_path / "marks" / names[0]).exists(), f"{stage}: the task had ended already"
        cluster.add()
        go_on(out, stage)
    stdout, stderr = finish(build)
    assert json.loads(stdout)["already_finished"] is False
    assert stderr.count("died; its tasks run again on others") == 3
    assert same(out, local)
    assert json.loads((out / "build-log.json").read_bytes())["engine"] == "ray"
    sent = json.loads((tmp_path / "marks" / "sizes.json").read_bytes())
    assert set(sent) == {"sample_unit", "sample_difference_at", "ensure_parts", "cut_window", "cut_validation"}
    assert max(sent.values()) < 8_000, f"more than names and numbers was sent: {sent}"


def test_the_next_build_is_not_disturbed_by_one_that_was_killed(
    cluster: RayNodes, corpus: Path, local: Path, tmp_path: Path
) -> None:
    """kill -9 of the one who asked: its tasks are on other machines, and must not write beside the next build."""
    out = tmp_path / "dataset"
    build = start(cluster, corpus, out, waits_in=STAGES)
    names = soon(lambda: len(found := at_work(out, "sample", cluster.nodes)) == 3 and found)
    assert names
    build.kill()
    build.communicate()
    _, stderr = finish(start(cluster, corpus, out))
    assert "A build on a cluster was killed here" in stderr
    assert not any(alive(int(name.split("-")[2])) for name in names)
    assert same(out, local)
    assert not (out.parent / "dataset.store" / "cluster").exists()


def test_an_interrupted_build_leaves_no_task_behind(
    cluster: RayNodes, corpus: Path, local: Path, tmp_path: Path
) -> None:
    """Ctrl-C, then the same command: there is nothing to wait for, and what was done is not done again."""
    out = tmp_path / "dataset"
    build = start(cluster, corpus, out, waits_in=("encode",))
    assert soon(lambda: at_work(out, "encode", cluster.nodes))
    build.send_signal(signal.SIGINT)
    _, stderr = build.communicate(timeout=60)
    assert build.returncode == 130
    assert stderr.endswith("curriculum: interrupted by SIGINT. Run the same command again to continue.\n")
    left = at_work(out, "encode", cluster.nodes)
    go_on(out, "encode")
    time.sleep(0.5)
    assert at_work(out, "encode", cluster.nodes) == left, "a task went on after the build had ended"
    _, stderr = finish(start(cluster, corpus, out))
    assert "was killed" not in stderr
    assert same(out, local)


def test_a_bad_record_is_the_sentence_of_a_local_build(cluster: RayNodes, corpus: Path, tmp_path: Path) -> None:
    """File and line, no traceback of another machine; relative paths mean the folder of the command."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jsonl").write_text('{"text": "fine"}\n{broken\n')
    for number in range(8):
        (tmp_path / "bad" / f"{number}.jsonl").write_text('{"text": "fine too"}\n')
    command = ["-m", "pipeline.cli", "build", "bad", "--out", "out", "--store", "store", "--tokenizer", "bytes"]
    said = []
    for engine in (["--engine", "ray", "--ray-address", cluster.address], ["--workers", "1"]):
        build = cluster.start(*command, *engine, cwd=tmp_path)
        _, stderr = build.communicate(timeout=60)
        assert build.returncode == 1
        said.append(stderr.splitlines()[-1])
    assert said[0] == said[1]
    assert "a.jsonl, line 2" in said[0]


def test_a_node_with_another_release_is_named_and_does_nothing(cluster: RayNodes, corpus: Path, tmp_path: Path) -> None:
    """Another fastokens may give other ids: one node of 256 would spoil a dataset, and nobody would see it."""
    other = tmp_path / "other" / "fastokens-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: fastokens\nVersion: 0.0.1\n")
    path = os.pathsep.join(map(str, (tmp_path / "other", ROOT, ROOT / "tests")))
    node = cluster.add(PYTHONPATH=path)
    out = tmp_path / "dataset"
    build = start(cluster, corpus, out)
    _, stderr = build.communicate(timeout=60)
    cluster.kill(node)
    assert build.returncode == 1
    assert f"({node[:8]}): has fastokens 0.0.1, this build uses " in stderr
    assert list((tmp_path / "dataset.store" / "parts").rglob("*.arrow")) == []
    assert not any(at_work(out, stage, cluster.nodes) for stage in STAGES)


def test_every_task_has_its_result_and_every_run_its_own_shared_values(probe: dict[str, Any]) -> None:
    """A process that was told for one stage must not use it in the next."""
    assert probe["results"] is True
    assert probe["the next run has its own"] is True


def test_the_error_of_a_task_is_raised_as_it_was_and_ends_the_others(probe: dict[str, Any]) -> None:
    """When the sentence is on the screen nothing writes any more: another build may begin."""
    assert probe["refuse"] == ["BadRecordError", "file 0, line 3: not JSON."]
    assert probe["ended later"] == probe["ended after the error"]


def test_a_process_that_dies_is_tried_again_and_then_one_sentence(probe: dict[str, Any]) -> None:
    """Ray alone would go on for ever; the sentence says what needs less memory."""
    kind, sentence = probe["die"]
    assert kind == "BuildError"
    assert sentence.startswith("A task ended with its process, most likely for want of memory, 5 times. Smaller ")
    assert probe["die once"] is True


def test_a_panic_of_a_library_is_an_error_and_no_dead_process(probe: dict[str, Any]) -> None:
    """It would be tried five times and reported as want of memory."""
    kind, sentence = probe["panic"]
    assert kind == "RuntimeError"
    assert sentence in ("Panic: index 0 out of range", "Panic: index 1 out of range")  # two at once


def test_a_task_has_one_thread_and_workers_bounds_the_tasks_at_once(probe: dict[str, Any]) -> None:
    """64 tasks of 64 threads each would bring a node to a halt."""
    assert probe["threads"] == "1"
    assert 1 <= probe["at work at once"] <= 2


def test_a_connection_of_somebody_else_is_left_as_it_was(probe: dict[str, Any]) -> None:
    """A notebook that is connected to Ray stays connected after a build."""
    assert probe["connected still"] is True


def test_an_extension_by_new_text_is_encoded_and_cut_on_the_cluster(
    cluster: RayNodes, local: Path, tmp_path: Path
) -> None:
    """The same bytes as on one machine; the token store of the new text lies where all nodes reach it."""
    new = write_texts(tmp_path / "n.jsonl", new_texts())
    one, other = (copy_of(local, tmp_path / name) for name in ("one", "other"))
    command = ["-m", "pipeline.cli", "extend", str(other), "--source", f"new={new}", "--unit-bytes", "8000"]
    engine = ["--engine", "ray", "--ray-address", cluster.address, "--store", str(tmp_path / "store")]
    finish(cluster.start(*command, *engine, cwd=tmp_path))
    grow(one, f"new={new}", store=tmp_path / "another")
    assert same(one, other)


def test_another_extension_is_not_disturbed_by_one_that_was_killed(
    cluster: RayNodes, local: Path, tmp_path: Path
) -> None:
    """It writes other bytes to the same paths. Its tasks only read the token store, but that is what knows of them."""
    one, other = (copy_of(local, tmp_path / name) for name in ("one", "other"))
    killed = start_extension(cluster, other, "--epochs", "3", "--steps", "100")
    names = soon(lambda: at_work(other, "cut", cluster.nodes))
    assert names
    killed.kill()
    killed.communicate()
    go_on(other, "cut")
    _, stderr = finish(start_extension(cluster, other, "--epochs", "3", "--steps", "120"))
    assert "A build on a cluster was killed here" in stderr
    assert not any(alive(int(name.split("-")[2])) for name in names)
    grow(one, epochs=3, steps=120)
    assert same(one, other)
    assert not (local.parent / "dataset.store" / "cluster").exists()


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
