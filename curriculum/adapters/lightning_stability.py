"""Lightning: a log of how stable the run is, a line for each optimizer step.

In:  where the log goes, and what the module calls its loss.   Out: a `Callback`; lines of `curriculum.stability_log`.
Guarantees: numbers of one step alone, also with accumulated gradients; a run that continues from a checkpoint continues
its log. Process 0 writes; every process measures, as shards of Adam's moments are exchanged.

    Trainer(callbacks=[StabilityCallback("run/stability.jsonl", loss="loss", validation_loss="val_loss")])

The gradient norm is taken before clipping, and before the module's own `on_before_optimizer_step`: a module that
divides its gradients there (docs/trainers.md has one) logs the norm itself and says its name here. Under DeepSpeed and
FSDP version 1, which keep gradients to themselves, there is none otherwise.
"""

from __future__ import annotations

import logging
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback  # type: ignore[import-not-found, unused-ignore]

from curriculum.adapters.adam_moments import measure
from curriculum.errors import ConfigError
from curriculum.plan import Plan
from curriculum.reader import Reader
from curriculum.stability_log import StabilityLog

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_log = logging.getLogger(__name__)
_KEEP_GRADIENTS = ("DeepSpeedStrategy", "FSDPStrategy")


class StabilityCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Writes the log; see the module."""

    def __init__(
        self,
        log: str | PathLike[str],
        *,
        loss: str | None = None,
        grad_norm: str | None = None,
        validation_loss: str = "val_loss",
        group: ProcessGroup | None = None,
    ) -> None:
        """Nothing is opened before training begins.

        Args:
            log: the file; a run from step 0 and those that continue it have one.
            loss: name under which the module logs the loss of the whole step. None: the mean of what `training_step`
                returned, over micro-batches and processes: right if that is a mean over equally many targets.
            grad_norm: name under which the module logs it. None: measured; see the module.
            validation_loss: name under which the module logs it in validation.
            group: of `curriculum.adapters.adam_moments.measure`; needed with FSDP version 1 alone.
        """
        self._path, self._loss, self._grad_norm, self._validation = log, loss, grad_norm, validation_loss
        self._group = group
        self._plan: Plan | None = None
        self._log: StabilityLog | None = None
        self._is_written = False
        self._step = 0
        self._returned: list[torch.Tensor] = []
        self._before: dict[str, Any] = {}
        self._is_told = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the log at the step with which training goes on.

        Raises:
            ConfigError: there is more than one optimizer.
            DataError: the file that is there is no such log.
        """
        if len(trainer.optimizers) != 1:
            raise ConfigError(
                f"The module has {len(trainer.optimizers)} optimizers, and a step of the log is one of one optimizer. "
                f"Use curriculum.stability_log in the module instead, as docs/stability.md shows."
            )
        reader = getattr(trainer.datamodule, "reader", None)
        self._plan = reader.plan if isinstance(reader, Reader) else None
        self._step, self._is_written, self._returned = trainer.global_step, False, []
        if trainer.is_global_zero:
            self._log = StabilityLog(self._path, start_step=self._step)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Gradients are all there and not clipped yet; a scheduler has not moved the learning rate on yet."""
        self._before = {"learning_rate": optimizer.param_groups[0]["lr"]}
        if self._grad_norm is None and type(trainer.strategy).__name__ not in _KEEP_GRADIENTS:
            found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self._before["grad_norm"] = torch.nn.utils.get_total_norm(found)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the micro-batch; after the last one of a step write its line.

        Raises:
            ConfigError: the module logs nothing under a name that was given.
        """
        returned = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if self._loss is None and returned is not None:
            # Lightning has divided it already, so that gradients add up to a mean.
            self._returned.append(returned.detach().float() * trainer.accumulate_grad_batches)
        if trainer.global_step == self._step:
            return
        values = dict(self._before)
        if self._loss is not None:
            values["loss"] = _logged(trainer, self._loss)
        elif self._returned:
            values["loss"] = trainer.strategy.reduce(torch.stack(self._returned).mean(), reduce_op="mean")
        if self._grad_norm is not None:
            values["grad_norm"] = _logged(trainer, self._grad_norm)
        numbers = measure(trainer.optimizers[0], group=self._group, **values)
        if self._log is not None:
            self._log.write(self._step, **self._planned(self._step), **numbers)
            self._is_written = True
        self._step, self._returned = trainer.global_step, []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Add the validation to the line of the step that it followed; say once that there is none of that name."""
        if self._log is None or not self._is_written:
            return
        if self._validation in trainer.callback_metrics:
            self._log.add(validation_loss=trainer.callback_metrics[self._validation])
        elif not self._is_told:
            self._is_told = True
            _log.warning(
                "The module logs no %s, so that %s has no validation; it logs %s. Give the name of its validation "
                "loss: StabilityCallback(..., validation_loss=...).",
                *(self._validation, self._path, _names(trainer)),
            )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the log."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the log; its lines are in the file."""
        self._close()

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _planned(self, step: int) -> dict[str, int]:
        if self._plan is None:
            return {}
        phase, _ = self._plan.locate(step)
        return {"seq_len": self._plan.phases[phase].seq_len, "tokens": self._plan.tokens_at(step + 1)}


def _logged(trainer: Any, name: str) -> Any:
    if name not in trainer.callback_metrics:
        raise ConfigError(
            f"The module logs no {name!r} (it logs {_names(trainer)}); call self.log({name!r}, ...) in each step."
        )
    return trainer.callback_metrics[name]


def _names(trainer: Any) -> str:
    return ", ".join(sorted(trainer.callback_metrics)) or "nothing"
