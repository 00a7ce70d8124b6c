"""What can be said to the trainer, its defaults, and what makes two runs the same run.

In:  values by name.   Out: a frozen `Settings`, checked.
Guarantee: what has no meaning is refused before the dataset is opened; standard library only.

    Settings(dataset="curriculum-data", out="run", lr=6e-4).of_model()     layers=4, width=256, heads=4, lr=0.0006, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.plan import Plan
from curriculum.training.run_folder import CHECKPOINT, LOG

DEVICES = ("auto", "cpu", "cuda")
MOST_THREADS = 1024
"""With very many, torch is ended by the system, without a word."""
_COUNTS = (
    *("layers", "width", "heads", "steps", "validate_every", "validation_rows", "save_every"),
    *("micro_tokens", "decay_tokens", "threads"),
)
_FREE = (
    *("dataset", "out", "steps", "validate_every", "validation_rows", "save_every", "micro_tokens"),
    *("log", "device", "compile", "threads"),
)
"""What a run may continue with other values of; the dataset is compared by its id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One training run. The model's defaults train on a laptop; GPT-2 117M has 12 layers, width 768, 12 heads."""

    dataset: str
    out: str
    layers: int = 4
    width: int = 256
    heads: int = 4
    lr: float = 1e-3
    """peak learning rate of AdamW"""
    lr_warmup_steps: int | None = None
    """None: 1 % of the dataset's steps, of those it had when the run began"""
    lr_schedule: str = "cosine"
    lr_final: float = 0.1
    """fraction of the peak at which the decay ends"""
    decay_tokens: int | None = None
    """trained tokens at which the decay ends; None: all of the dataset's, of those it had when the run began"""
    beta2: float = 0.95
    weight_decay: float = 0.1
    """of matrices and embeddings; none for biases and norms"""
    clip: float = 1.0
    """most L2 norm of the gradients"""
    seed: int = 0
    """of the initial weights; there is no dropout"""
    bf16: bool = False
    """forward and backward by autocast in bfloat16; weights and Adam's moments stay float32"""
    steps: int | None = None
    """stop after so many steps; None: all of the dataset's"""
    validate_every: int = 100
    """steps; the last step is followed by a validation too"""
    validation_rows: int | None = None
    """rows in a batch of validation; None: 16, or as many as hold at most `micro_tokens` inputs"""
    save_every: int = 1000
    """steps; the end is saved too"""
    micro_tokens: int | None = None
    """inputs in a micro-batch at most; None: a process takes its rows of a step at once"""
    log: str | None = None
    """None: stability.jsonl in `out`"""
    device: str = "auto"
    compile: bool = False
    threads: int | None = None
    """of a process on the CPU; None: torch's default"""

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: names the value and what is allowed.
        """
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; give at least 1.")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise ConfigError(f"threads is {self.threads}; give at most {MOST_THREADS}, best the number of cores.")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} is no multiple of the {self.heads} heads; change one of them.")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a number above 0.")
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed is {self.seed}; give an integer from 0 to 2^63 - 1.")
        for name in ("out", "log"):
            if "://" in (getattr(self, name) or ""):
                raise ConfigError(f"{name} is {getattr(self, name)}: a run is written to a disk; give a local path.")
        if not 0 < self.beta2 < 1:
            raise ConfigError(f"beta2 is {self.beta2}; give a number between 0 and 1, such as 0.95 or 0.999.")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay is {self.weight_decay}; give 0 or more.")
        if self.device not in DEVICES:
            raise ConfigError(f"device is {self.device!r}; choose one of {', '.join(DEVICES)}.")

    @property
    def log_path(self) -> Path:
        """Where the stability log is."""
        return Path(self.out) / LOG if self.log is None else Path(self.log)

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint is."""
        return Path(self.out) / CHECKPOINT

    def resolved(self, plan: Plan, before: Mapping[str, Any]) -> Settings:
        """With numbers for what is left to the plan: a dataset that was extended does not bend the curve of a run.

        Args:
            plan: of the dataset.
            before: `of_model` of the checkpoint that the run continues from; empty if it begins.
        """
        warmup, decay = before.get("lr_warmup_steps"), before.get("decay_tokens")
        if self.lr_warmup_steps is not None or warmup is None:
            warmup = plan.total_steps // 100 if self.lr_warmup_steps is None else self.lr_warmup_steps
        if self.decay_tokens is not None or decay is None:
            decay = plan.total_tokens if self.decay_tokens is None else self.decay_tokens
        rows = self.validation_rows or max(1, min(16, (self.micro_tokens or 1 << 62) // plan.max_seq_len))
        return replace(self, lr_warmup_steps=warmup, decay_tokens=decay, validation_rows=rows)

    def of_model(self) -> dict[str, Any]:
        """What the weights depend on: a run continues with the same values of these, and any of the others."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _FREE}
