"""What `curriculum train` says while it trains, and what it refuses to overlook."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[train]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[train]'")
import curriculum.training
from curriculum.training import Settings
from curriculum.training.checkpoint import Checkpoint
from pipeline import progress
from pipeline.cli import main
from pipeline.train import train_model
from tiny_run import built


def test_a_dataset_without_held_out_rows_is_not_validated_in_silence(corpus: Path, tmp_path: Path) -> None:
    """Who expects a validation learns of it before the run, and not from what is missing in its log."""
    dataset = str(built(tmp_path / "data", corpus, validation_tokens=None))
    flags = "--layers 1 --width 16 --heads 2 --lr-warmup-steps 1 --steps 2 --device cpu"
    command = ["train", dataset, "--out", str(tmp_path / "run"), *flags.split()]
    for option in ("--validate-every", "--validation-rows"):
        refused = CliRunner().invoke(main, [*command, option, "2"])
        assert refused.exit_code == 2
        assert f"{option}: {dataset} has no held-out rows to validate on; build it with" in refused.stderr
    trained = CliRunner().invoke(main, command)
    assert trained.exit_code == 0
    assert f"{dataset}: no held-out rows, so nothing is validated; build with --validation-tokens" in trained.stderr


def test_who_interrupts_a_run_is_told_whether_it_continues(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first checkpoint is saved everything is lost, in the first step after it nothing but that step."""
    measure = curriculum.training.loop.measure

    def interrupted_in(step: int) -> str:
        left = step

        def signalled(*args: Any, **scalars: Any) -> dict[str, float]:
            nonlocal left
            if left == 0:
                signal.raise_signal(signal.SIGTERM)
            left -= 1
            return measure(*args, **scalars)

        monkeypatch.setattr(curriculum.training.loop, "measure", signalled)
        flags = "--layers 1 --width 16 --heads 2 --lr-warmup-steps 1 --steps 7 --save-every 5 --validation-rows 4"
        return CliRunner().invoke(main, ["train", settings.dataset, "--out", settings.out, *flags.split()]).stderr

    anew = "interrupted by SIGTERM. Nothing is saved before step 5 (--save-every), so the same command begins anew."
    assert anew in interrupted_in(4)
    with monkeypatch.context() as until_saved:
        until_saved.setattr(Checkpoint, "save", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert anew in interrupted_in(9)
    again = interrupted_in(5)
    assert "interrupted by SIGTERM. Run the same command again to continue." in again
    assert "goes on" not in again
    assert f"{settings.checkpoint_path}: goes on at step 5." in interrupted_in(9)


@pytest.mark.parametrize(
    ("rank", "sentence"),
    [
        (0, "Nothing is saved before step 3 (--save-every), so the same command begins anew."),
        (1, "The first process says how it continues."),
    ],
)
def test_the_end_of_a_run_saves_too_and_other_processes_know_nothing_of_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, rank: int, sentence: str
) -> None:
    """A run of 3 steps has no step 1,000; all processes of torchrun are interrupted, and one of them must be right."""
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(curriculum.training, "train", lambda *_: signal.raise_signal(signal.SIGTERM))
    interrupted = CliRunner().invoke(main, ["train", settings.dataset, "--out", settings.out, "--steps", "3"])
    assert f"interrupted by SIGTERM. {sentence}\n" in interrupted.stderr


def test_neither_loading_nor_earlier_steps_are_a_rate(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 9,000 after 60 s of loading, then one step a second: 30 s later 969 s are left, not three."""
    now = 0.0
    heard: list[str] = []

    class Log(progress.Silent):
        def stage(self, name: str, *, total: int, unit: str) -> Any:
            return progress.lines(heard.append, name, total, unit, lambda: now)

    def train(settings: Settings, watch: Any) -> None:
        nonlocal now
        now += 60
        for step in range(9_000, 9_031):
            watch({"step": step})
            now += 1

    monkeypatch.setattr(curriculum.training, "train", train)
    train_model({"dataset": settings.dataset, "out": settings.out, "steps": 10_000}, Log())
    assert heard == ["train 9.0 of 10.0 ksteps, 1 steps/s, 0:16:09 left"]
