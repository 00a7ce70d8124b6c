"""Losses, weights, memory and disks that fail while the reference trainer runs: the checkpoint before is kept."""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[train]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[train]'")
import torch
from transformers import GPT2LMHeadModel

import curriculum
from curriculum.errors import CurriculumError
from curriculum.training import Settings, train
from pipeline.cli import main
from pipeline.train import outcome_text
from tiny_run import built, log_of, weights


def test_a_run_that_diverges_ends_there_and_keeps_its_checkpoint(settings: Settings) -> None:
    """The log ends with the step whose loss was not finite, which is in no checkpoint."""
    train(replace(settings, steps=7))
    before = weights(settings)
    saved = torch.load(settings.checkpoint_path, weights_only=True)
    saved["model"]["transformer.wte.weight"][:] = math.inf  # a bit that flipped, a batch that blew up
    torch.save(saved, settings.checkpoint_path)
    outcome = train(settings)
    assert outcome.diverged
    assert outcome.steps == 8
    assert [line["step"] for line in log_of(settings)] == list(range(8))
    assert math.isnan(log_of(settings)[-1]["loss"])
    assert '"loss": "NaN"' in settings.log_path.read_text().splitlines()[-1]
    assert outcome.to_json()["loss"] is None
    assert weights(settings).keys() == before.keys()
    flags = "--layers 1 --width 16 --heads 2 --lr 0.01 --lr-warmup-steps 3"
    result = CliRunner().invoke(main, ["train", settings.dataset, "--out", settings.out, *flags.split()])
    assert result.exit_code == 1
    assert "Loss, gradients or weights of step 7 are not finite: the run diverged." in result.stderr


def test_weights_that_an_update_broke_are_not_saved(settings: Settings) -> None:
    """The loss before the update was fine: only the weights tell, and the checkpoint before has better ones."""
    train(replace(settings, steps=7))
    saved = torch.load(settings.checkpoint_path, weights_only=True)
    saved["optimizer"]["state"][0]["exp_avg"][0, 0] = math.inf
    torch.save(saved, settings.checkpoint_path)
    outcome = train(replace(settings, save_every=1))
    assert outcome.diverged
    assert outcome.steps == 8
    last = log_of(settings)[-1]
    assert (math.isfinite(last["loss"]), math.isnan(last["validation_loss"])) == (True, True)
    assert all(bool(value.isfinite().all()) for value in weights(settings).values())
    assert not Path(settings.out, "model").exists()


@pytest.mark.parametrize("held_out", [True, False])
def test_a_gradient_that_is_not_finite_is_a_divergence_in_the_log(
    held_out: bool, settings: Settings, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of its step is finite: a tune took the run for a crash, and the same candidate failed for ever."""
    if not held_out:
        settings = replace(settings, dataset=str(built(tmp_path / "all", corpus, validation_tokens=None)))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, clip: torch.tensor(math.inf))
    outcome = train(settings)
    assert (outcome.diverged, outcome.steps, outcome.to_json()["validation_loss"]) == (True, 1, None)
    assert "held-out" not in outcome_text(outcome), "nothing was validated"
    (line,) = log_of(settings)
    assert (line["grad_norm"], math.isfinite(line["loss"])) == (math.inf, True)
    assert math.isnan(line["validation_loss"])


def test_validation_and_memory_come_before_the_first_step(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest rows come last in a curriculum: memory that does not suffice for them is known at once."""
    shapes = []

    def too_large(self: Any, input_ids: torch.Tensor) -> None:
        shapes.append(tuple(input_ids.shape))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(GPT2LMHeadModel, "forward", too_large)
    with pytest.raises(CurriculumError, match=r"^out of memory \(CUDA out of memory.*--micro-tokens N.*continues\.$"):
        train(settings)
    assert shapes == [(8, 32)]
    assert (
        replace(settings, micro_tokens=64, validation_rows=None)
        .resolved(curriculum.open(settings.dataset).plan, {})
        .validation_rows
        == 2
    )


def test_a_full_disk_leaves_the_checkpoint_before(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing half written beside it."""
    train(replace(settings, steps=7))
    before = settings.checkpoint_path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CurriculumError, match=r"cannot be written \(No space left on device\).*continues from there\."):
        train(settings)
    assert settings.checkpoint_path.read_bytes() == before
    assert {path.name for path in Path(settings.out).iterdir()} == {"checkpoint.pt", "stability.jsonl"}


def test_a_model_that_cannot_be_written_is_said(settings: Settings) -> None:
    """The run is whole but for the folder of its model, which the same command makes up for."""
    train(settings)
    model = Path(settings.out, "model")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, limit[1]))  # its configuration fits, its weights do not
    try:
        with pytest.raises(CurriculumError, match=r"model: cannot be written \(.*File too large.* same command again"):
            train(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    shutil.rmtree(model)
    model.touch()
    with pytest.raises(CurriculumError, match=r"model: cannot be written \(.*File exists"):
        train(settings)
    model.unlink()
    train(settings)
    assert GPT2LMHeadModel.from_pretrained(model).lm_head.weight.shape == (257, 16)
