"""Runs that end inside an imported curriculum, and the old DeepSpeed, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import main


def config(folder: Path, *, least: int, steps: int) -> str:
    """A ds_config.json of a linear curriculum to 1,024."""
    path = folder / "ds_config.json"
    schedule = {"total_curriculum_step": steps, "difficulty_step": 8}
    ends = {"min_difficulty": least, "max_difficulty": 1024}
    section = {"enabled": True, "curriculum_type": "seqlen", "schedule_type": "fixed_linear", **ends}
    path.write_text(
        json.dumps({"train_batch_size": 4, "curriculum_learning": {**section, "schedule_config": schedule}})
    )
    return str(path)


def lengths(*arguments: str) -> list[int]:
    """Of every step that `plan` gives."""
    result = CliRunner().invoke(main, ["plan", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    plan: dict[str, Any] = json.loads(result.stdout)
    return [plan["phases"][phase]["seq_len"] for phase, steps in plan["order"] for _ in range(steps)]


@pytest.mark.parametrize("steps", [1, 7, 8, 500, 999, 1000, 1001])
def test_a_run_may_end_inside_the_curriculum(steps: int, tmp_path: Path) -> None:
    """DeepSpeed trains such a run; it has the first lengths of the longer one."""
    path = config(tmp_path, least=8, steps=1000)
    assert (
        lengths("--from-deepspeed", path, "--steps", str(steps))
        == (lengths("--from-deepspeed", path, "--steps", "1200")[:steps])
    )


def test_a_window_schedule_may_end_early_too(tmp_path: Path) -> None:
    """SkyLadder dm8 grows by one token every 8 steps; a run of 20 has three of its 8,161 lengths."""
    assert lengths("--from-skyladder", "dm8", "--steps", "20", "--batch-rows", "8") == [32] * 8 + [33] * 8 + [34] * 4


def test_releases_of_deepspeed_before_the_clamp_can_be_reproduced(tmp_path: Path) -> None:
    """A run started with 0.19.6 goes on with the lengths that it began with: 8, below its minimum of 10."""
    path = config(tmp_path, least=10, steps=1000)
    assert lengths("--from-deepspeed-unclamped", path, "--steps", "1100")[:6] == [8] * 5 + [16]
    assert lengths("--from-deepspeed", path, "--steps", "1100")[:6] == [16] * 6


def test_a_run_may_end_inside_the_first_length_of_phases(tmp_path: Path) -> None:
    """Explicit phases that are cut to one length are that length, not a contradiction."""
    schedule = {"difficulty": [8, 64, 1024], "max_step": [10, 20]}
    section = {"enabled": True, "curriculum_type": "seqlen", "schedule_type": "fixed_discrete"}
    section |= {"min_difficulty": 8, "max_difficulty": 1024, "schedule_config": schedule}
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({"train_batch_size": 4, "curriculum_learning": section}))
    assert lengths("--from-deepspeed", str(path), "--steps", "5") == [8] * 5
    assert lengths("--from-deepspeed", str(path), "--steps", "12") == [8] * 10 + [64] * 2
    assert lengths("--from-skyladder", "dm8", "--steps", "8", "--batch-rows", "8") == [32] * 8


@pytest.mark.parametrize("flags", [("--mode", "document"), ("--mode", "document", "--max-length", "128")])
def test_an_import_makes_no_room_for_a_schedule_that_nobody_named(flags: tuple[str, ...], tmp_path: Path) -> None:
    """`--mode document` beside a DeepSpeed schedule would plan grow-p2, and say that it is equal at every step."""
    path = config(tmp_path, least=8, steps=100)
    result = CliRunner().invoke(main, ["plan", "--from-deepspeed", path, "--steps", "200", *flags])
    assert (result.exit_code, "has no use for: leave mode out" in result.stderr) == (2, True)


def test_lengths_that_were_changed_are_not_called_equal(tmp_path: Path) -> None:
    """A shorter maximum, or another warmup, on top of an import is fine; it is no longer the original."""
    path = config(tmp_path, least=8, steps=100)
    result = CliRunner().invoke(main, ["plan", "--from-deepspeed", path, "--steps", "200", "--max-length", "512"])
    assert "Its lengths are changed by your own options. Replaced: max_length." in result.stderr
    assert "Equal" not in result.stderr
