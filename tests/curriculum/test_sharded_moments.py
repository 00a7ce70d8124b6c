"""Adam's variance of a sharded model is that of the model: nothing is counted twice, nothing is left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROBE = Path(__file__).parents[1] / "sharded_moments_probe.py"


@pytest.fixture(scope="module")
def found() -> dict[str, list[dict[str, float]]]:
    """One launch of two processes, for all ways."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(PROBE)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(PROBE.parents[1])
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    ways: dict[str, list[dict[str, float]]] = json.loads(line)
    return ways


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
@pytest.mark.parametrize(
    "way",
    [
        "ddp",
        "zero",
        "fsdp 2",
        "hsdp, two replicas",
        "hsdp, two shards",
        "mixture",
        "plain shards",
        "fsdp 1",
        "fsdp 1, the last layer ignored",
        "fsdp 1, no shards",
    ],
)
def test_sharded_equals_unsharded_on_every_process(found: dict[str, list[dict[str, float]]], way: str) -> None:
    alone = found["alone"][0]
    assert alone["variance_l1"] > alone["variance_max"] > 0
    assert alone["grad_norm"] > 0
    for of_process in found[way]:
        assert of_process == pytest.approx(alone, rel=1e-5)
    assert found[way][0] == found[way][1], "to the bit: whoever writes the log writes the same"


def test_numbers_of_a_part_are_not_given_on_any_process(found: dict[str, list[dict[str, float]]]) -> None:
    """Shards of FSDP 1 look whole; and where one process lacks moments, the others once waited for it for ever."""
    for way in ("fsdp 1, no group", "one process lacks a moment"):
        assert [of_process.keys() for of_process in found[way]] == [{"grad_norm"}] * 2


def test_replicas_are_not_added(found: dict[str, list[dict[str, float]]]) -> None:
    """All processes for `group`, as is right for most, made the variance of FSDP 1 without shards twice as large."""
    assert [of_process.keys() for of_process in found["fsdp 1, no shards, too large a group"]] == [{"grad_norm"}] * 2
    assert found["plain shards of zeros"][0]["variance_l1"] == 0, "shards of zeros are alike, and no replicas"


def test_an_expert_without_a_token_does_not_stop_the_run(found: dict[str, list[dict[str, float]]]) -> None:
    """Its state is there on one process alone, or came later than others: each waited in another exchange, for ever.

    Elements of a gradient of 1 have 0.25 after one step and 0.4375 after two; of 16 elements 4 had one.
    """
    assert found["an expert without a token"][0] == found["an expert without a token"][1]
    numbers = found["an expert without a token"][0]
    assert (numbers["variance_l1"], numbers["variance_max"]) == (12 * 0.4375 + 4 * 0.25, 0.4375)


def test_a_process_outside_the_group_is_told(found: dict[str, list[dict[str, float]]]) -> None:
    of_first, of_second = found["group of the first"]
    assert "variance_l1" in of_first
    assert next(iter(of_second)).startswith("group is one that this process is not in")
