"""A Trainer whose batches the callback cuts trains exactly as one that is given batches cut beforehand."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import SequentialSampler

pytest.importorskip("transformers", reason="the extra 'trainers' is not installed")

from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from curriculum.adapters.step_loss import StepLoss
from curriculum.adapters.transformers import SequenceLengthCallback
from curriculum.budget import Batch, Budget
from curriculum.errors import ConfigError, DataError, PlanError
from curriculum.functional import segment, seq_len_at, truncate
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import parse_phases

ROWS = 8
MAKE_PLAN: dict[str, Any] = {"warmup": None, "batch": Batch(rows=ROWS), "budget": Budget()}
PLAN = compile_plan(pacing=parse_phases("8:2,24:2,64:2"), mode="truncate", **MAKE_PLAN)
LENGTHS = [8, 8, 24, 24, 64, 64]
CUTS: dict[str, Callable[..., dict[str, Any]]] = {"truncate": truncate, "segment": segment}


def gpt2() -> nn.Module:
    """Not in transformers' table of losses: Trainer counts all labels of it, also the first of each row."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return GPT2LMHeadModel(config)


def llama() -> nn.Module:
    """In the table: Trainer leaves the first label of each row out of its count."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, max_position_embeddings=64, **shape))


def rows(*, padded: bool) -> list[dict[str, torch.Tensor]]:
    """Six steps of full rows, or of rows that end anywhere."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 50, (6 * ROWS, 64), generator=generator)
    ends = torch.randint(3, 64, (6 * ROWS, 1), generator=generator) if padded else torch.full((6 * ROWS, 1), 64)
    mask = (torch.arange(64) < ends).long()
    labels = ids.masked_fill(mask == 0, -100)
    columns = zip(ids * mask, labels, mask, strict=True)
    return [{"input_ids": one, "labels": two, "attention_mask": three} for one, two, three in columns]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class InOrder(Trainer):
    """No shuffling, so that two runs see equal batches."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return SequentialSampler(self.train_dataset)


class CutBeforehand(InOrder):
    """The reference, and what docs/trainers.md shows: Trainer counts the targets of batches that are cut already."""

    cut: Any

    def get_batch_samples(self, epoch_iterator: Iterator[Any], *args: Any) -> Any:
        short = ({k: v.contiguous() for k, v in self.cut(b, self.seq_len).items()} for b in epoch_iterator)
        return super().get_batch_samples(short, *args)

    @property
    def seq_len(self) -> int:
        return seq_len_at(PLAN, self.state.global_step)


class FailAt(TrainerCallback):
    """An exception in the middle of a run, as out-of-memory would be."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise RuntimeError("lost a GPU")


def trainer(kind: type[Trainer], folder: Path, model: nn.Module, *, padded: bool = False, **options: Any) -> Trainer:
    callbacks = options.pop("callbacks", [])
    accumulation = options.pop("gradient_accumulation_steps", 1)
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": ROWS // accumulation,
        "gradient_accumulation_steps": accumulation,
        "max_steps": 6,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **options,
    }
    data = rows(padded=padded)
    args = TrainingArguments(**values)
    return kind(model, args, train_dataset=data, eval_dataset=data[:2], callbacks=callbacks)


def losses(trained: Trainer) -> list[float]:
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def assert_same_run(found: Trainer, expected: Trainer) -> None:
    """Every logged loss and every weight."""
    assert len(losses(found)) == 6
    assert losses(found) == pytest.approx(losses(expected), abs=2e-6)
    for one, other in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=3e-5)


def watch(model: nn.Module) -> list[tuple[bool, tuple[int, ...]]]:
    """(training, shape of input_ids) of every call, as the layers see it."""
    seen: list[tuple[bool, tuple[int, ...]]] = []
    embedding = model.get_input_embeddings()
    embedding.register_forward_pre_hook(lambda module, args: seen.append((module.training, tuple(args[0].shape))))
    return seen


@pytest.mark.parametrize(
    ("make", "mode", "accumulation", "padded"),
    [
        (gpt2, "truncate", 1, True),
        (gpt2, "truncate", 2, True),
        (gpt2, "truncate", 2, False),
        (gpt2, "segment", 1, False),
        (gpt2, "segment", 2, True),
        (llama, "truncate", 2, True),
    ],
)
def test_the_run_is_that_of_batches_cut_beforehand(
    make: Callable[[], nn.Module], mode: str, accumulation: int, padded: bool, tmp_path: Path
) -> None:
    """Trainer divides by the targets of full rows; uncorrected, the loss at length 8 would be 8 times too small."""
    options: dict[str, Any] = {"gradient_accumulation_steps": accumulation, "padded": padded}
    expected = trainer(CutBeforehand, tmp_path, make(), **options)
    expected.cut = CUTS[mode]  # type: ignore[attr-defined]
    expected.train()
    found = trainer(InOrder, tmp_path, make(), callbacks=[SequenceLengthCallback(PLAN, mode=mode)], **options)
    seen = watch(found.model)
    found.train()
    pieces = [64 * ROWS // n if mode == "segment" else ROWS for n in LENGTHS]
    shapes = [(n // accumulation, length) for n, length in zip(pieces, LENGTHS, strict=True)]
    assert seen == [(True, shape) for shape in shapes for _ in range(accumulation)]
    assert_same_run(found, expected)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_continues_with_the_lengths_of_its_steps(accumulation: int, tmp_path: Path) -> None:
    """Stopped at step 3, in the middle of a phase; loaders prefetch, so a stateful collator would be a step off."""
    options: dict[str, Any] = {"gradient_accumulation_steps": accumulation, "padded": True}
    expected = trainer(CutBeforehand, tmp_path, gpt2(), **options)
    expected.cut = truncate  # type: ignore[attr-defined]
    expected.train()
    options |= {"save_strategy": "steps", "save_steps": 3}
    failing = trainer(InOrder, tmp_path, gpt2(), callbacks=[SequenceLengthCallback(PLAN), FailAt(5)], **options)
    with pytest.raises(RuntimeError, match="lost a GPU"):
        failing.train()
    resumed = trainer(InOrder, tmp_path, gpt2(), callbacks=[SequenceLengthCallback(PLAN)], **options)
    seen = watch(resumed.model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert [shape[1] for _, shape in seen[::accumulation]] == LENGTHS[3:]
    assert_same_run(resumed, expected)


def test_evaluation_sees_full_length_and_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    """A validation loss on 8 tokens cannot be compared with anything."""
    callback = SequenceLengthCallback(PLAN)
    run = trainer(InOrder, tmp_path, gpt2(), callbacks=[callback], eval_strategy="steps", eval_steps=1)
    hooks = (len(run.model._forward_pre_hooks), len(run.model._forward_hooks))
    seen = watch(run.model)
    run.train()
    assert [shape[1] for training, shape in seen if training] == LENGTHS
    assert {shape[1] for training, shape in seen if not training} == {64}
    assert callback.seq_len is None
    assert (len(run.model._forward_pre_hooks), len(run.model._forward_hooks)) == hooks


def test_after_an_exception_the_next_run_cuts_once(tmp_path: Path) -> None:
    """A notebook user fixes the error and trains the same model again, with a callback of another plan."""
    model = gpt2()
    failing = trainer(InOrder, tmp_path, model, callbacks=[SequenceLengthCallback(PLAN), FailAt(1)])
    with pytest.raises(RuntimeError, match="lost a GPU"):
        failing.train()
    other = compile_plan(pacing=parse_phases("40:6"), mode="truncate", **MAKE_PLAN)
    seen = watch(model)
    trainer(InOrder, tmp_path, model, callbacks=[SequenceLengthCallback(other)]).train()
    assert seen == [(True, (ROWS, 40))] * 6
    seen.clear()
    model.train()
    model(input_ids=torch.ones(1, 64, dtype=torch.long))
    assert seen == [(True, (1, 64))]


def test_the_end_of_a_sequence_is_preserved_on_request(tmp_path: Path) -> None:
    """The option reaches the batches, masks included."""
    model = gpt2()
    last: list[torch.Tensor] = []
    model.transformer.wte.register_forward_pre_hook(lambda module, args: last.append(args[0][:, -1]))
    callback = SequenceLengthCallback(PLAN, preserve_end_of_sequence=True)
    trainer(InOrder, tmp_path, model, callbacks=[callback], max_steps=1).train()
    assert torch.equal(last[0], torch.stack([row["input_ids"][-1] for row in rows(padded=False)[:ROWS]]))


def test_the_hook_works_inside_distributed_data_parallel(tmp_path: Path) -> None:
    """Trainer calls the wrapper, while the callback is given the model inside."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model = gpt2()
        run = trainer(InOrder, tmp_path, model, callbacks=[callback := SequenceLengthCallback(PLAN)])
        callback.on_train_begin(run.args, run.state, run.control, model=model)
        callback.on_step_begin(run.args, run.state, run.control)
        wrapped = nn.parallel.DistributedDataParallel(model)
        seen = watch(model)
        ids = torch.ones(2, 64, dtype=torch.long)
        wrapped(input_ids=ids, labels=ids)
        assert seen == [(True, (2, 8))]
    finally:
        torch.distributed.destroy_process_group()


def test_counts_are_added_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainer's N is that of all processes; here the other one holds as many targets as this one."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: counts.mul_(2))
    step = StepLoss(across_ranks=True)
    labels = torch.ones(4, 10)
    assert step.divisor(torch.tensor(80.0), {"labels": labels}, {"labels": labels[:, :5]}, nn.Linear(1, 1)) == 40
    step.require_all_seen(0)


def test_estimates_of_the_target_count_worked_by_hand() -> None:
    """The example of step_loss.py: 20 + 10 targets, of which 10 + 3 are left; and a Trainer that counts otherwise."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.grad = torch.tensor([[26.0]])
    full, short = torch.ones(2, 10), torch.full((2, 10), -100.0)
    short.view(-1)[[0, 1, 2, *range(5, 10), 15, 16]] = 1.0
    step = StepLoss()
    assert step.divisor(30, {"labels": full}, {"labels": full[:, :5]}, model) == 15
    assert step.reported(torch.tensor(2.6)) is None
    with pytest.raises(ConfigError, match="Step 7: Trainer counts 30 targets before the cut, the callback 20"):
        step.require_all_seen(7)
    assert step.divisor(30, {"labels": short}, {"labels": short[:, :5]}, model) == 13
    assert model.weight.grad.item() == pytest.approx(26 * 15 / 13)
    assert step.reported(torch.tensor(1.0)) == pytest.approx(1.0 + 2.6 * 15 / 13 - 2.6)
    step.require_all_seen(7)
    sharded = StepLoss(sharded=True)
    sharded.divisor(30, {"labels": full}, {"labels": full[:, :5]}, model)
    with pytest.raises(ConfigError, match=r"FSDP, DeepSpeed .*; use gradient_accumulation_steps=1, or batches without"):
        sharded.divisor(30, {"labels": short}, {"labels": short[:, :5]}, model)


def test_a_plan_comes_from_a_file_or_a_dataset(small_dataset: Path, tmp_path: Path) -> None:
    """What `curriculum plan --json` printed, or the dataset that was compiled from it."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(PLAN.to_json()), "utf-8")
    assert SequenceLengthCallback(file).plan == PLAN
    assert SequenceLengthCallback(str(file)).mode == "truncate"
    assert SequenceLengthCallback(small_dataset).mode == "segment"
    with pytest.raises(ConfigError, match=r"nowhere is neither a dataset folder nor a plan; write one with"):
        SequenceLengthCallback(tmp_path / "nowhere")
    file.write_text("{}", "utf-8")
    with pytest.raises(DataError):
        SequenceLengthCallback(file)


def test_modes_that_cannot_cut_batches_are_refused() -> None:
    """Document mode needs document borders, which a finished batch does not have."""
    document: Any = Plan.__new__(Plan)
    object.__setattr__(document, "mode", "document")
    with pytest.raises(ConfigError, match=r"mode is 'document', .*; give mode='truncate' or mode='segment', or train"):
        SequenceLengthCallback(document)
    assert SequenceLengthCallback(document, mode="segment").mode == "segment"
    with pytest.raises(ConfigError, match="preserve_end_of_sequence belongs to mode 'truncate'"):
        SequenceLengthCallback(PLAN, mode="segment", preserve_end_of_sequence=True)


def test_runs_that_do_not_fit_the_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """More steps than the plan has no length; fewer never reach the longest, which is said."""
    callback = SequenceLengthCallback(PLAN)
    message = r"set to run 7 steps, but the plan has 6; set max_steps=6, or make a plan of 7 steps\."
    with pytest.raises(PlanError, match=message):
        trainer(InOrder, tmp_path, gpt2(), callbacks=[callback], max_steps=7).train()
    with caplog.at_level(logging.WARNING):
        trainer(InOrder, tmp_path, gpt2(), callbacks=[callback], max_steps=1).train()
    assert "Trainer runs 1 of the plan's 6 steps; the later lengths are not reached." in caplog.text


def test_losses_outside_the_model_are_refused(tmp_path: Path) -> None:
    """There the labels stay full while the logits are cut: an error in the best case."""
    with pytest.raises(ConfigError, match=r"label_smoothing_factor is 0\.1: .*Trainer\.get_batch_samples"):
        trainer(InOrder, tmp_path, gpt2(), callbacks=[SequenceLengthCallback(PLAN)], label_smoothing_factor=0.1).train()
    run = trainer(InOrder, tmp_path, gpt2(), callbacks=[SequenceLengthCallback(PLAN)])
    run.compute_loss_func = lambda *_, **__: None
    with pytest.raises(ConfigError, match=r"inputs are attention_mask, input_ids, .*without labels"):
        run.train()


def test_threads_over_several_gpus_are_refused() -> None:
    """DataParallel splits a batch after the Trainer counted it, and runs the hook once a GPU at the same time."""
    args = SimpleNamespace(n_gpu=2, label_smoothing_factor=0.0)
    state: Any = SimpleNamespace(max_steps=6)
    with pytest.raises(ConfigError, match=r"split batches over 2 GPUs .*; start one process per GPU with torchrun\."):
        SequenceLengthCallback(PLAN).on_train_begin(args, state, None, model=gpt2())


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training image without the extra: the error says what to install."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "curriculum.adapters.transformers")
    with pytest.raises(ImportError, match=r"needs torch, .*: pip install 'seqlen-curriculum\[trainers\]'"):
        importlib.import_module("curriculum.adapters.transformers")
