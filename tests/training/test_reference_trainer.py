"""The reference trainer: it learns what the plan says, validates at full length, and continues as if it never stopped.

All runs but one are in this process, on one thread, with a model of one layer.
"""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
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
from curriculum.errors import ConfigError, CurriculumError, CursorError, DataError, PlanError
from curriculum.learning_rate import lr_factor
from curriculum.stability_log import read_log
from curriculum.training import Outcome, Settings, train
from curriculum.training.run_folder import run_folder
from pipeline.build import build
from pipeline.cli import main
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from ready_python import ready_python

STEPS = 24
LENGTHS = [8] * 3 + [16] * 4 + [24] * 4 + [32] * 13
"""8 to 32 in multiples of 8, over half of the steps."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(out: Path, corpus: Path, **options: Any) -> Path:
    """A dataset of bytes with some held-out documents."""
    values = {
        "out": str(out),
        "corpus": (str(corpus),),
        "tokenizer": "bytes",
        "keep_store": False,
        "workers": 1,
        "max_length": 32,
        "batch_rows": 8,
        "steps": STEPS,
        "frac": "0.5",
        "validation_tokens": 3_000,
        **options,
    }
    build(load_options(None, values), Silent())
    return out


@pytest.fixture(scope="module")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 steps of 8 rows."""
    return built(tmp_path_factory.mktemp("trained") / "data", corpus)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    """A model of one layer, validated every 10 steps and saved every 7."""
    sizes = {"layers": 1, "width": 16, "heads": 2, "validate_every": 10, "save_every": 7, "validation_rows": 4}
    return Settings(dataset=str(dataset), out=str(tmp_path / "run"), lr=1e-2, lr_warmup_steps=3, **sizes)  # type: ignore[arg-type]


def weights(settings: Settings) -> dict[str, torch.Tensor]:
    """Of the checkpoint."""
    saved: dict[str, dict[str, torch.Tensor]] = torch.load(settings.checkpoint_path, weights_only=True)
    return saved["model"]


def log_of(settings: Settings) -> list[dict[str, Any]]:
    """Its lines, without the time."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(settings.log_path)]


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


def test_a_run_that_stopped_continues_as_if_it_had_not(settings: Settings, tmp_path: Path) -> None:
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
    assert train(settings).loss is None  # nothing is left


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
    """One process, small micro-batches, and two processes that go on from the checkpoint of one."""
    train(settings)
    small = replace(settings, out=str(tmp_path / "small"), micro_tokens=64)
    train(small)
    shared = replace(settings, out=str(tmp_path / "shared"), micro_tokens=64)
    train(replace(shared, steps=7))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    flags = "--layers 1 --width 16 --heads 2 --lr 0.01 --lr-warmup-steps 3 --validate-every 10 --micro-tokens 64"
    command = [*launch, "-m", "pipeline.cli", "train", shared.dataset, "--out", shared.out, *flags.split(), "--json"]
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


@pytest.mark.parametrize("num_lengths", ["four", "many"])
def test_few_lengths_are_compiled_a_graph_each(
    num_lengths: str, settings: Settings, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many share one: torch would give up after eight graphs. Compiling itself is slow and not done here."""
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **options: asked.append(options))
    if num_lengths == "many":
        many = built(tmp_path / "many", corpus, max_length=80, multiple_of=8, validation_tokens=None)
        settings = replace(settings, dataset=str(many))
    train(replace(settings, compile=True, steps=1))
    assert asked == [{"dynamic": False if num_lengths == "four" else None}]


def test_bfloat16_keeps_weights_and_moments_in_float32(settings: Settings) -> None:
    """Only forward and backward are narrow: the losses are near, the state is not narrowed."""
    train(replace(settings, steps=7))
    narrow = replace(settings, out=settings.out + "-bf16", bf16=True, steps=7)
    train(narrow)
    assert {value.dtype for value in weights(narrow).values()} == {torch.float32}
    losses = [[line["loss"] for line in log_of(run)] for run in (settings, narrow)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": 0}, "layers is 0; give at least 1."),
        ({"heads": 3}, "width 16 is no multiple of the 3 heads; change one of them."),
        ({"lr": 0.0}, "lr is 0.0; give a number above 0."),
        ({"lr": math.nan}, "lr is nan; give a number above 0."),
        ({"beta2": 1.0}, "beta2 is 1.0; give a number between 0 and 1, such as 0.95 or 0.999."),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; give 0 or more."),
        ({"device": "tpu"}, "device is 'tpu'; choose one of auto, cpu, cuda."),
        ({"lr_schedule": "step"}, "learning rate: schedule is 'step'; choose one of cosine, linear, wsd."),
        ({"lr_warmup_steps": 24}, "warmup_steps is 24; the plan has 24 steps, so give 0 to 23."),
        ({"out": "s3://bucket/run"}, "out is s3://bucket/run: a run is written to a disk; give a local path."),
        ({"seed": 1 << 65}, f"seed is {1 << 65}; give an integer from 0 to 2^63 - 1."),
        ({"steps": 25}, "steps is 25; the dataset has 24, so give at most that."),
        ({"lr": 2e-2}, "was trained with lr 0.01, and 0.02 is asked for; give the same, or another --out"),
        ({"seed": 1}, "was trained with seed 0, and 1 is asked for"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], sentence: str, settings: Settings) -> None:
    """In one sentence, and what was trained stays."""
    if "was trained" in sentence:
        train(replace(settings, steps=1))
    with pytest.raises((ConfigError, PlanError)) as refused:
        train(replace(settings, **change))
    assert sentence in str(refused.value)


def test_a_checkpoint_of_another_dataset_is_refused(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    """Its cursor would point at other rows."""
    train(replace(settings, steps=1))
    other = built(tmp_path / "other", corpus, seed=1, max_length=40)  # another size of the model, too
    with pytest.raises(CursorError, match=r"\.pt: .*belongs to dataset sha256:.* another --out to begin anew"):
        train(replace(settings, dataset=str(other)))


def test_what_is_no_checkpoint_is_refused(settings: Settings) -> None:
    """Neither half a file nor a pickle is loaded."""
    train(replace(settings, steps=1))
    content = settings.checkpoint_path.read_bytes()
    whole = torch.load(settings.checkpoint_path, weights_only=True)
    wrong = [{"settings": "x"}, {**whole, "optimizer": None}, {**whole, "optimizer": {"param_groups": [], "state": {}}}]
    wrong.append({**whole, "model": {name: value[:1] for name, value in whole["model"].items()}})
    for damaged in (content[: len(content) // 2], b"", b"cos\nsystem\n(S'touch /tmp/owned'\ntR.", *wrong):
        if isinstance(damaged, bytes):
            settings.checkpoint_path.write_bytes(damaged)
        else:
            torch.save(damaged, settings.checkpoint_path)
        with pytest.raises(DataError, match=r"not a checkpoint of `curriculum train`, or damaged .* another --out\."):
            train(settings)


def test_the_command_says_what_it_trained(settings: Settings, tmp_path: Path) -> None:
    """For people, and for programs; a second time it says that nothing was left."""
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


def test_weights_that_an_update_broke_are_not_saved(settings: Settings) -> None:
    """The loss before the update was fine: only the weights tell, and the checkpoint before has better ones."""
    train(replace(settings, steps=7))
    saved = torch.load(settings.checkpoint_path, weights_only=True)
    saved["optimizer"]["state"][0]["exp_avg"][0, 0] = math.inf
    torch.save(saved, settings.checkpoint_path)
    outcome = train(replace(settings, save_every=1))
    assert outcome.diverged
    assert outcome.steps == 8
    assert all(bool(value.isfinite().all()) for value in weights(settings).values())
    assert not Path(settings.out, "model").exists()


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


def test_a_run_keeps_to_its_folder(settings: Settings, dataset: Path, tmp_path: Path) -> None:
    """It is made before the first step, held by one run, and is no folder of something else."""
    apart = replace(settings, out=str(tmp_path / "a" / "b"), log=str(tmp_path / "logs" / "c.jsonl"), steps=1)
    train(apart)
    assert apart.checkpoint_path.exists()
    with run_folder(Path(apart.out)), pytest.raises(CurriculumError, match="another run is writing there"):
        train(apart)
    for folder, sentence in ((dataset, "holds a dataset"), (tmp_path / "other", "has a model/ and no checkpoint.pt")):
        (tmp_path / "other" / "model").mkdir(parents=True, exist_ok=True)
        with pytest.raises(ConfigError, match=sentence):
            train(replace(settings, out=str(folder)))
    (tmp_path / "file").touch()
    with pytest.raises(CurriculumError, match=r"cannot be written \(File exists\); give another --out\."):
        train(replace(settings, out=str(tmp_path / "file")))
    precious = tmp_path / "precious.json"
    for content, sentence in (
        ('{"my": "precious"}', r"precious\.json, line 1: there is no step in it"),
        ('{"my": "pre', "ends with what no log ends with"),
    ):
        precious.write_text(content)
        with pytest.raises(DataError, match=sentence):
            train(replace(settings, log=str(precious)))
        assert precious.read_text() == content


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
