"""Hugging Face `Trainer`: everything for it, to import from here; and a plan's sequence lengths at run time.

`trainer_arguments`, `trainer_inputs` and `CurriculumCallback` train on a compiled dataset: see
`curriculum.adapters.trainer_data`. `StabilityCallback` logs how stable a run is: see `trainer_stability`. The rest of
this module is `SequenceLengthCallback`, for full-length batches that exist already.

In:  a plan (or the path of a dataset, or of a file that `curriculum plan --json` wrote), and a way to cut.
Out: a `TrainerCallback`: in step s the model sees batches cut to the length of the plan's step s.
Guarantees: losses and gradients are those of a run on batches that were cut beforehand, up to rounding, also with
gradient accumulation, padding and several data-parallel processes; a run that continues from a checkpoint needs nothing
saved; evaluation sees full length. What would break the first of these is refused.

    trainer = Trainer(model, args, train_dataset=full_length, callbacks=[SequenceLengthCallback("plan.json")])
    plan 8:100, 16:100      step 99: input_ids [rows, 8]      step 100: input_ids [rows, 16]

**A compiled dataset is the better way** (`trainer_inputs`). At run time full-length rows are still tokenized, loaded
and moved to the device; `truncate` throws the rest of each row away, and no manifest says how much that was
(`curriculum.functional.num_dropped_tokens` does, batch by batch); Trainer's own counters (num_input_tokens_seen,
total_flos) count full rows. Only the plan's *lengths* are used: rows per step are the Trainer's, so the plan's token
counts hold only if both agree. Models shift labels inside: a row of 8 tokens trains 7 targets.

Why a hook on the model: a callback sees no batch, and a collator cannot know the step, because loaders prefetch and
Trainer fetches all micro-batches of a step before `on_step_begin`. Steps are `state.global_step`, which also advances
when fp16 loss scaling skips an update, as DeepSpeed's does.
"""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import curriculum
from curriculum.errors import ConfigError, PlanError
from curriculum.functional import segment, seq_len_at, truncate
from curriculum.json_object import JsonObject
from curriculum.plan import Plan

try:  # types are checked with transformers installed and without: hence `unused-ignore`
    import torch
    from transformers import (  # type: ignore[import-not-found, unused-ignore]
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )

    from curriculum.adapters.step_loss import StepLoss
    from curriculum.adapters.trainer_data import CurriculumCallback, one_micro_batch, trainer_arguments, trainer_inputs
    from curriculum.adapters.trainer_stability import StabilityCallback
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.transformers needs torch, transformers and accelerate ({error}); "
        f"install them with: pip install 'seqlen-curriculum[trainers]'"
    ) from error

__all__ = [
    "CurriculumCallback",
    "SequenceLengthCallback",
    "StabilityCallback",
    "one_micro_batch",
    "trainer_arguments",
    "trainer_inputs",
]

_log = logging.getLogger(__name__)
_COUNT = "num_items_in_batch"
"""Trainer's name of what a loss is divided by: the targets of all micro-batches, on all processes."""
_LABELS_OUTSIDE = (
    "the loss is then computed outside the model, where a callback cannot cut the labels. Cut the batches in "
    "Trainer.get_batch_samples with curriculum.functional instead, as docs/trainers.md shows."
)
_hooked: WeakKeyDictionary[torch.nn.Module, SequenceLengthCallback] = WeakKeyDictionary()
"""Who cuts for a model: after an exception there is no on_train_end, and the next run must not cut a second time."""


class SequenceLengthCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Cuts every training batch to the plan's length for `state.global_step`; see the module."""

    def __init__(
        self,
        plan: Plan | str | PathLike[str],
        *,
        mode: str | None = None,
        preserve_end_of_sequence: bool = False,
    ) -> None:
        """Read the plan.

        Args:
            plan: a plan, the folder of a dataset, or a file with the object that `curriculum plan --json` prints.
            mode: "truncate" keeps the first tokens of each row, "segment" makes more, shorter rows of all of them
                (`curriculum.functional` says exactly how). None takes the plan's mode, if it is one of the two.
            preserve_end_of_sequence: of truncate: keep the last attended token of a row as its last kept one.

        Raises:
            ConfigError: a mode that cannot cut batches, or no file at that path.
            DataError: the file holds no plan.
        """
        self.plan = _read_plan(plan)
        self.mode = self.plan.mode if mode is None else mode
        if self.mode not in ("truncate", "segment"):
            raise ConfigError(
                f"mode is {self.mode!r}, which needs documents and cannot cut finished batches; give mode='truncate' "
                f"or mode='segment', or train on the compiled dataset."
            )
        if preserve_end_of_sequence and self.mode != "truncate":
            raise ConfigError(
                f"preserve_end_of_sequence belongs to mode 'truncate', and mode is {self.mode!r}; drop it."
            )
        self._preserve_end_of_sequence = preserve_end_of_sequence
        self._handles: list[Any] = []
        self._seq_len: int | None = None
        self._loss = StepLoss()

    @property
    def seq_len(self) -> int | None:
        """Length of the step that is being trained; None outside training."""
        return self._seq_len

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hook the model that trains, once.

        Raises:
            PlanError: Trainer is set to run more steps than the plan has.
            ConfigError: settings under which gradients would not be those of batches cut beforehand.
        """
        self._check(args, state.max_steps)
        model = kwargs["model"]
        before = _hooked.get(model)
        if before is not None:
            before.detach()
        self.detach()
        self._loss = StepLoss.of(args, model)
        self._handles = [
            model.register_forward_pre_hook(self._cut_inputs, with_kwargs=True),
            model.register_forward_hook(self._correct_loss),
        ]
        _hooked[model] = self

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The length is a function of the step alone: that is all there is to resuming."""
        self._seq_len = seq_len_at(self.plan, state.global_step)
        self._loss.begin()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The loss was divided by the number of targets after the cut; make sure of it before the weights move."""
        self._loss.require_all_seen(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the model as it was."""
        self.detach()

    def detach(self) -> None:
        """Stop cutting. Call it after an exception in `train()` if the model goes on without a Trainer."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._seq_len = None
        for model in [model for model, owner in _hooked.items() if owner is self]:
            del _hooked[model]

    def _check(self, args: TrainingArguments, max_steps: int) -> None:
        steps = self.plan.total_steps
        if max_steps > steps:
            raise PlanError(
                f"Trainer is set to run {max_steps} steps, but the plan has {steps}; set max_steps={steps}, or make a "
                f"plan of {max_steps} steps."
            )
        if max_steps < steps:
            _log.warning("Trainer runs %d of the plan's %d steps; the later lengths are not reached.", max_steps, steps)
        if args.n_gpu > 1:
            raise ConfigError(
                f"Trainer would split batches over {args.n_gpu} GPUs in threads (DataParallel), where lengths and loss "
                f"cannot be kept together; start one process per GPU with torchrun."
            )
        if args.label_smoothing_factor:
            raise ConfigError(f"label_smoothing_factor is {args.label_smoothing_factor}: {_LABELS_OUTSIDE}")

    def _cut(self, batch: dict[str, Any], seq_len: int) -> dict[str, Any]:
        if self.mode == "segment":
            return segment(batch, seq_len)
        return truncate(batch, seq_len, preserve_end_of_sequence=self._preserve_end_of_sequence)

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def _cut_inputs(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward pre-hook: shorter inputs, and the count of targets that belongs to them."""
        if not model.training or self._seq_len is None:
            return None
        if args:
            raise ConfigError(
                "The model was called with unnamed inputs; name them, model(input_ids=...), to have them cut."
            )
        batch = {name: value for name, value in kwargs.items() if getattr(value, "shape", ()) != () and name != _COUNT}
        if "labels" not in batch:
            raise ConfigError(f"The model's inputs are {', '.join(sorted(kwargs))}, without labels: {_LABELS_OUTSIDE}")
        cut = {name: value.contiguous() for name, value in self._cut(batch, self._seq_len).items()}
        if kwargs.get(_COUNT) is not None:
            cut[_COUNT] = self._loss.divisor(kwargs[_COUNT], batch, cut, model)
        return args, {**kwargs, **cut}

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def _correct_loss(self, model: torch.nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Forward hook: the loss as Trainer adds it up and reports it; gradients are not touched here."""
        if not model.training or self._seq_len is None:
            return None
        is_dict = isinstance(output, dict)
        loss = self._loss.reported(output["loss"] if is_dict else output[0])
        if loss is None:
            return None
        if not is_dict:
            return (loss, *output[1:])
        output["loss"] = loss
        return output


def _read_plan(plan: Plan | str | PathLike[str]) -> Plan:
    if isinstance(plan, Plan):
        return plan
    path = Path(plan)
    if path.is_dir():
        return curriculum.open(path).plan
    if not path.is_file():
        raise ConfigError(
            f"{path} is neither a dataset folder nor a plan; write one with: curriculum plan --json > FILE"
        )
    written = JsonObject.parse(path.read_bytes(), str(path)).raw
    return Plan.from_json({key: value for key, value in written.items() if key != "analysis"})  # beside the plan
