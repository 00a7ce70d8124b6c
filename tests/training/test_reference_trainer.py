"""The reference trainer: it learns what the plan says, validates at full length, goes on as if it never stopped."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[train]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[train]'")
import torch
from transformers import GPT2LMHeadModel

import curriculum
from curriculum.learning_rate import lr_factor
from curriculum.training import Outcome, Settings, train
from pipeline.cli import main
from ready_python import ready_python
from tiny_run import LENGTHS, STEPS, built, log_of, weights


def test_a_run_trains_the_plan_and_learns(settings: Settings) -> None:
    """Lengths, tokens and learning rates of the log are the plan's; the loss falls; the model can be opened."""
    outcome = train(settings)
    lines = log_of(settings)
    plan = curriculum.open(settings.dataset).plan
    assert [line["seq_len"] for line in lines] == LENGTHS
    assert [line["tokens"] for line in lines] == [plan.tokens_at(step + 1) for step in range(STEPS)]
    expected = [1e-2 * lr_factor(plan, step, warmup_steps=3) for step in range(STEPS)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(expected)
    assert [line["step"] for line in lines if "validation_loss" in line] == [9, 19, 23]
    assert lines[0]["loss"] == pytest.approx(math.log(257), rel=0.02)  # knows nothing
    assert outcome == Outcome(
        steps=STEPS,
        tokens=plan.total_tokens,
        loss=lines[-1]["loss"],
        validation_loss=lines[-1]["validation_loss"],
        diverged=False,
        parameters=sum(
            value.numel() for value in GPT2LMHeadModel.from_pretrained(settings.out + "/model").parameters()
        ),
        log=str(settings.log_path),
    )
    assert outcome.loss is not None
    assert outcome.loss < 4.5 < lines[0]["loss"]


def test_a_run_that_stopped_continues_as_if_it_had_not(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same weights, bit for bit, and the same log, also after steps that no checkpoint knew of."""
    whole = replace(settings, out=str(tmp_path / "whole"))
    train(whole)
    train(replace(settings, steps=11))
    with open(settings.log_path, "ab") as log:  # killed later than it last saved, in the middle of a line
        log.write(b'{"step": 11, "loss": 0.01, "loss_ratio": 0.5}\n{"step": 12, "lo')
    train(settings)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(settings).items())
    stop = {"validation_loss": log_of(settings)[10]["validation_loss"]}  # the end of a call is validated, too
    lines = log_of(whole)
    assert log_of(settings) == [*lines[:10], lines[10] | stop, *lines[11:]]
    assert not caplog.messages
    for cut, first in ((1, 23), (3, 20)):
        kept = settings.log_path.read_bytes().splitlines(keepends=True)[:-cut]
        settings.log_path.write_bytes(b"".join(kept))  # as a power cut may leave it
        assert train(settings).loss is None  # nothing is left
        assert f"has no lines of steps {first} to 23, which the checkpoint has trained; loss ratios" in caplog.text


def test_validation_is_the_mean_over_all_held_out_targets(settings: Settings) -> None:
    """At full length, however the rows are divided into batches: rows of a batch do not matter."""
    outcome = train(replace(settings, steps=5, validation_rows=7))
    model = GPT2LMHeadModel(
        GPT2LMHeadModel.config_class(
            vocab_size=257,
            n_positions=32,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    model.load_state_dict(weights(settings))
    model.eval()
    held_out = curriculum.open(settings.dataset).validation
    assert held_out is not None
    losses = []
    for batch in held_out.batches(1):
        tokens = torch.from_numpy(batch.tokens.astype("int64"))
        assert tokens.shape == (1, 33)
        log_probability = model(tokens[:, :-1]).logits.log_softmax(-1)
        losses += (-log_probability.gather(-1, tokens[:, 1:, None])).flatten().tolist()
    assert outcome.validation_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_micro_batches_and_processes_do_not_change_the_run(settings: Settings, tmp_path: Path) -> None:
    """One process, small micro-batches, two processes that go on from the checkpoint of one; what these refuse."""
    train(settings)
    small = replace(settings, out=str(tmp_path / "small"), micro_tokens=64)
    train(small)
    shared = replace(settings, out=str(tmp_path / "shared"), micro_tokens=64)
    train(replace(shared, steps=7))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    flags = "--layers 1 --width 16 --heads 2 --lr 0.01 --lr-warmup-steps 3 --validate-every 10 --micro-tokens 64"
    train(replace(settings, out=str(tmp_path / "machine-0"), steps=7))
    script = [str(Path(__file__).with_name("two_processes.py")), str(tmp_path), shared.dataset]
    command = [*launch, *script, "train", shared.dataset, "--out", shared.out, *flags.split(), "--json"]
    alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    with ready_python(sys.executable, "train_hf") as python:  # it imports what this trainer does
        done = subprocess.run(
            [str(python), *command],
            env=alone | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHON_EXEC": str(python)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == STEPS  # one process speaks, once
    first, second = (json.loads((tmp_path / f"heard-{rank}.json").read_text()) for rank in range(2))
    assert first[:2] == second[:2]
    assert re.match(r"The processes do not begin at one place: process 0 at step 7 .*, process 1 at step 0", first[0])
    assert "holds a dataset; give another folder" in first[1]
    assert "stability.jsonl: cannot be written (File too large)" in first[2]
    assert re.match(r"the connection to the other processes broke \(.*says why in a message of its own", second[2])
    for other in (small, shared):
        for mine, line in zip(log_of(other), log_of(settings), strict=True):
            assert mine["loss"] == pytest.approx(line["loss"], rel=1e-4)
            assert mine["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-3)
        assert log_of(other)[-1]["validation_loss"] == pytest.approx(log_of(settings)[-1]["validation_loss"], rel=1e-4)


def test_packed_rows_are_divided_by_their_targets(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    """Rows of pieces have inputs without a target: micro-batches with few of these must not weigh as much."""
    packed = built(tmp_path / "packed", corpus, mode="best-fit", steps=6)
    whole = replace(settings, dataset=str(packed))
    small = replace(whole, out=str(tmp_path / "small"), micro_tokens=32)
    train(whole)
    train(small)
    losses = [[line["loss"] for line in log_of(run)] for run in (whole, small)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bfloat16_keeps_weights_and_moments_in_float32(settings: Settings) -> None:
    """Only forward and backward are narrow: the losses are near, the state is not narrowed."""
    train(replace(settings, steps=7))
    narrow = replace(settings, out=settings.out + "-bf16", bf16=True, steps=7)
    train(narrow)
    assert {value.dtype for value in weights(narrow).values()} == {torch.float32}
    losses = [[line["loss"] for line in log_of(run)] for run in (settings, narrow)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_command_says_what_it_trained(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people, and for programs; a second time it says that nothing was left."""
    monkeypatch.setenv("RANK", "1")  # by a cluster, without torchrun: this process is the only one, so it speaks
    flags = "--layers 1 --width 16 --heads 2 --lr-warmup-steps 3 --validation-rows 4 --steps 3 --device cpu"
    command = ["train", settings.dataset, "--out", str(tmp_path / "run"), *flags.split()]
    first, second = CliRunner().invoke(main, command), CliRunner().invoke(main, [*command, "--json"])
    assert first.stdout.startswith("trained  3 steps, 192 tokens, ")
    assert "on held-out rows of full length" in first.stdout
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert json.loads(second.stdout) | {"parameters": 0, "log": ""} == {
        "steps": 3,
        "tokens": 192,
        "loss": None,
        "validation_loss": None,
        "diverged": False,
        "parameters": 0,
        "log": "",
    }


def test_an_extended_dataset_does_not_bend_the_learning_rate(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    """The decay has ended where the dataset had; a decay that begins anew would jump to near the peak."""
    grown = built(tmp_path / "grown", corpus, keep_store=True)
    run = replace(settings, dataset=str(grown), lr_warmup_steps=None)
    train(run)
    assert CliRunner().invoke(main, ["extend", str(grown), "--steps", "3"]).exit_code == 0
    train(run)
    rates = [line["learning_rate"] for line in log_of(run)]
    assert rates[:2] == [1e-2, pytest.approx(1e-2, rel=0.01)]
    assert rates[STEPS - 1] < 1.2e-3
    assert rates[STEPS:] == [pytest.approx(1e-3)] * 3
