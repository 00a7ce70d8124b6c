"""A Trainer small enough for tests, on a compiled dataset: models, arguments, and what reached the model.

In:  a reader.   Out: `Trainer` objects on the CPU with plain SGD, so that a loop of four lines can check their weights.
Guarantee: no dropout, no clipping, a constant learning rate of 0.1, one log entry per step.

    make(reader, tmp_path, llama(), stop_after=2).train()      two steps and a checkpoint
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from curriculum.adapters.transformers import trainer_arguments, trainer_inputs
from curriculum.reader import Reader


def gpt2() -> nn.Module:
    """Not in transformers' table of losses."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=257, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    return GPT2LMHeadModel(config)


def llama() -> nn.Module:
    """In transformers' table of losses."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=257, max_position_embeddings=64, **shape))


class StopAt(TrainerCallback):
    """A job that runs out of time after some steps, with a checkpoint."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            control.should_training_stop = control.should_save = True


def arguments(reader: Reader, folder: Path, **options: Any) -> TrainingArguments:
    values = {
        "output_dir": str(folder),
        "use_cpu": True,
        "optim": "sgd",
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**{**values, **trainer_arguments(reader), **options})


def make(
    reader: Reader,
    folder: Path,
    model: nn.Module,
    *,
    stop_after: int | None = None,
    attention: Any = None,
    **options: Any,
) -> Trainer:
    args = arguments(reader, folder, **options)
    trainer = Trainer(model, args, **trainer_inputs(reader, args, attention=attention))
    trainer.add_callback(StopAt(stop_after))
    return trainer


def watch(model: nn.Module) -> list[np.ndarray]:
    """Inputs of every forward call in training, as the model got them."""
    seen: list[np.ndarray] = []

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if module.training:
            seen.append(kwargs["input_ids"].numpy().copy())

    model.register_forward_pre_hook(hook, with_kwargs=True)
    return seen


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
