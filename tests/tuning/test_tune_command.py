"""`curriculum tune` as it is typed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
from math import inf
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.commands.tune import tune
from pipeline.report_tune import tune_report
from pipeline.tuning.train_command import training_command
from tune_world import Tune, World

TRAINER = """
import json, sys
import curriculum

data, log = sys.argv[1], sys.argv[3]
steps, warmup, decay, every = map(int, (sys.argv[2], *sys.argv[4:]))
assert warmup == 10 and decay > 50_000
reader = curriculum.open(data)
lengths = [reader[step].seq_len for step in range(steps)]
with open(log, "w") as file:
    for step in range(every - 1, steps, every):
        loss = 5 - step / 50
        loss += (lengths[0] < 16 and step == 5) or (lengths[-1] < 32 and step == 25)
        print(json.dumps({"step": step, "validation_loss": loss}), file=file, flush=True)
"""
"""Fluctuates from a start of 8, and where step 29 is shorter than 32 tokens."""


def test_the_command_tunes_with_a_train_command(options: dict[str, Any], tmp_path: Path) -> None:
    """From the corpus to the TOML, with datasets cut for each probe: the answer follows from their lengths."""
    (tmp_path / "train.py").write_text(TRAINER)
    placeholders = "{dataset} {steps} {log} {lr_warmup_steps} {decay_tokens} {validate_every}"
    train = f"{shlex.quote(sys.executable)} {tmp_path}/train.py {placeholders}"
    flags = [
        word
        for name in ("tokenizer", "max_length", "batch_rows", "steps", "validation_tokens", "store", "workers")
        for word in (f"--{name.replace('_', '-')}", str(options[name]))
    ]
    tuning = ["--train-cmd", train, "--lr-warmup-steps", "10", "--out", str(tmp_path / "tune")]
    tuning += ["--resolution-steps", "30", "--most-length-warmup-steps", "120", "--validations", "5"]
    result = CliRunner().invoke(main, ["tune", *options["corpus"], *flags, *tuning, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["start_length"], found["length_warmup_steps"], found["fluctuates_with"]) == (16, 90, 120)
    assert "at most 5 probes of 30 steps, validated at least every 2." in result.stderr
    assert "With --steps 400 a longer warmup is a shorter training: from a start of 8," in result.stderr
    assert 0 < found["cost_share"] < 0.5
    assert found["config"] == str(tmp_path / "tune" / "tuned.toml")
    assert not list((tmp_path / "tune").rglob("*.arrow")), "datasets of probes are gone"


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("page", "num_shown"), [("README.md", 1), ("docs/tuning.md", 2)])
def test_the_commands_of_the_documentation_can_be_pasted(page: str, num_shown: int) -> None:
    """They take hours, so that no other test runs them; a shell must read each as one command, with all it needs."""
    blocks = re.findall(r"^    curriculum tune .*\n(?:    .*\n)*", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert len(blocks) == num_shown
    for block in blocks:
        shell = f'curriculum() {{ printf "%s\\0" "$@"; }}\n{textwrap.dedent(block)}'
        read = subprocess.run(["bash", "-ec", shell], capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")
        words = read.stdout.split("\0")[1:-1]
        words = words[: words.index("build")] if "build" in words else words  # the command after it
        training_command(tune.make_context("tune", words).params["train_cmd"].replace("curriculum", sys.executable, 1))


def test_the_command_exits_with_1_where_nothing_works(
    run: Tune, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For scripts; people get the table and the sentence all the same."""
    nothing = run(World(999, inf))
    monkeypatch.setattr("pipeline.tuning.tuner.run_tune", lambda request, progress: nothing)
    train = f"{shlex.quote(sys.executable)} x.py {{dataset}} {{steps}} {{log}}"
    words = ["tune", *options["corpus"], "--train-cmd", train, "--lr-warmup-steps", "10", "--out", str(tmp_path / "t")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert result.stdout == tune_report(nothing) + "\n"
