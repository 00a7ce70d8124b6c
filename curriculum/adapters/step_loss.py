"""What the loss of one Trainer step is divided by when its micro-batches are cut after the Trainer counted them.

In:  each micro-batch before and after the cut, and N, the Trainer's count of targets before it (`num_items_in_batch`).
Out: the divisor for this micro-batch; earlier gradients and the reported loss brought in line with it.
Guarantee: at the end of the step gradients and reported loss are those of batches that were cut before they were
counted, up to rounding; or there was an error.

A model divides a micro-batch's summed loss by N, the targets of all micro-batches on all processes. What is left of
them after the cut is known only when the last micro-batch has been seen. Until then it is estimated: targets seen,
after the cut, plus those to come, shortened as the tensors are. Without padding the estimate is right from the first
micro-batch on, and nothing is touched. Where a later one corrects it, gradients accumulated so far are multiplied by
old / new estimate.

    N = 30 in two micro-batches of 20 and 10 targets, cut from 10 to 5 columns: 10 and 3 targets are left
    after the first    10 + 10 * 5 // 10 = 15        after the second    10 + 3 = 13, gradients so far * 15 / 13

A part of the loss that ignores N (router losses of mixtures of experts) is exact without padding only.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import unwrap
from math import isclose
from typing import Any

import torch

from curriculum.errors import ConfigError


class StepLoss:
    """Counts, divisor and reported loss of one step; see the module. One micro-batch: `divisor`, then `reported`."""

    def __init__(self, *, shifted: bool = False, across_ranks: bool = False, sharded: bool = False) -> None:
        self._shifted = shifted
        self._across_ranks = across_ranks
        self._sharded = sharded
        self.begin()

    @classmethod
    def of(cls, args: Any, model: torch.nn.Module) -> StepLoss:
        """For the way in which a Trainer with these `TrainingArguments` counts targets and holds gradients."""
        # Types are checked with the trainers installed and without: hence `unused-ignore`, here and below.
        from accelerate.state import AcceleratorState  # type: ignore[import-not-found, import-untyped, unused-ignore]

        kind = AcceleratorState().distributed_type.name
        plain = kind == "NO" or kind.startswith("MULTI_")  # else FSDP, DeepSpeed ...: gradients are not in p.grad
        return cls(
            shifted=_counts_shifted_labels(model),
            across_ranks=args.world_size > 1 and bool(getattr(args, "average_tokens_across_devices", False)),
            sharded=not plain or any(hasattr(parameter, "device_mesh") for parameter in model.parameters()),
        )

    def begin(self) -> None:
        """A new step: no gradients, no loss."""
        self._expected: float | None = None
        self._seen = self._kept = 0  # targets before and after the cut
        self._divisor = 0
        self._factor = 1.0
        self._total: Any = 0.0  # loss reported in this step

    def divisor(self, expected: Any, batch: dict[str, Any], cut: dict[str, Any], model: torch.nn.Module) -> Any:
        """The best estimate after this micro-batch, in the form of `expected`; brings earlier gradients in line."""
        before, after = self._targets(batch), self._targets(cut)
        counts = torch.stack([before.ne(-100).sum(), after.ne(-100).sum()])
        if self._across_ranks:
            torch.distributed.all_reduce(counts)
        seen, kept = counts.tolist()
        self._seen += seen
        self._kept += kept
        self._expected = float(expected)
        to_come = max(0, round(self._expected) - self._seen)
        divisor = max(1, self._kept + to_come * after.numel() // max(1, before.numel()))
        self._factor = self._divisor / divisor if self._divisor else 1.0
        self._divisor = divisor
        if self._factor != 1.0:
            self._rescale_gradients(model)
        return torch.full_like(expected, divisor) if torch.is_tensor(expected) else divisor

    def reported(self, loss: torch.Tensor) -> torch.Tensor | None:
        """The loss to report so that the step's sum is right; None if this one is."""
        if self._expected is None:
            return None
        earlier = self._total
        self._total = self._factor * earlier + loss.detach()
        return None if self._factor == 1.0 else loss + (self._factor - 1.0) * earlier

    def require_all_seen(self, step: int) -> None:
        """The targets counted here, before the cut, are those that the Trainer counted (in float32, hence roughly)."""
        if self._expected is not None and not isclose(self._expected, self._seen, rel_tol=1e-6):
            raise ConfigError(
                f"Step {step}: Trainer counts {self._expected:.0f} targets before the cut, the callback {self._seen}, "
                f"so the loss cannot be normalized (tensor or context parallelism, or a Trainer that counts in its own "
                f"way). Cut the batches in Trainer.get_batch_samples instead, as docs/trainers.md shows."
            )

    def _targets(self, batch: dict[str, Any]) -> torch.Tensor:
        """The labels that the Trainer counts."""
        if "shift_labels" in batch:
            labels = batch["shift_labels"]
        else:
            labels = batch["labels"][..., 1:] if self._shifted else batch["labels"]
        assert isinstance(labels, torch.Tensor)
        return labels

    def _rescale_gradients(self, model: torch.nn.Module) -> None:
        if self._sharded:
            raise ConfigError(
                "Padding makes the number of targets after the cut known only with the last micro-batch, and FSDP, "
                "DeepSpeed and the like keep earlier gradients to themselves; use gradient_accumulation_steps=1, "
                "or batches without padding."
            )
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self._factor)


def _counts_shifted_labels(model: torch.nn.Module) -> bool:
    """Whether this version of Trainer leaves the first label of each row out of its count for this model.

    Before it learned to, it counted all labels, also of models that never train on the first.
    """
    from transformers import Trainer  # type: ignore[import-not-found, unused-ignore]

    if "_loss_shifts_labels" not in unwrap(Trainer.__init__).__code__.co_names:
        return False
    from transformers.loss.loss_utils import (  # type: ignore[import-not-found, unused-ignore]
        LOSS_MAPPING,
        ForCausalLMLoss,
    )

    losses: Mapping[Any, object] = LOSS_MAPPING
    shifts = losses.get(getattr(model, "loss_type", None)) is ForCausalLMLoss
    return shifts and not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
