"""The shapes that a run will have, told to torch before it meets them: to torch.compile, and to the memory.

In:  a share of a plan.   Out: how to compile; marks on tensors; one throwaway forward and backward, the largest.
Guarantee: batches, their order, gradients, buffers and torch's random numbers are as they would be without.

torch.compile keeps at most 8 graphs of a function and runs it uncompiled from then on, with no more than a warning
(torch 2.13: 12 lengths, `dynamic=False`: 8 compilations, 4 lengths uncompiled). Left alone it guesses at the second
length that more will follow. A plan knows: few shapes get a graph each, many share one.

    shapes = Shapes(dataset.share)                              # 8 lengths: {"dynamic": False}, a graph each
    model = torch.compile(model, **shapes.compile_options)      # 120 lengths: {"dynamic": None}, one graph
    for example in dataset:
        shapes.mark(example)                                    # nothing for few shapes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.widened import Example
from curriculum.errors import ConfigError
from curriculum.share import Share

GRAPHS = 8
"""How many torch keeps of one function (`torch._dynamo.config.recompile_limit`)."""


class Shapes:
    """The shapes of a rank's micro-batches."""

    def __init__(self, share: Share, *, limit: int = GRAPHS) -> None:
        """List them.

        Args:
            share: of a dataset, or of a plan alone.
            limit: so many shapes get a graph each; more share one. Evaluation in other shapes wants graphs too.
        """
        phases = range(len(share.plan.phases))
        fitting = (phase for phase in phases if share.num_micro(phase))
        found = [(share.rows(phase), share.plan.phases[phase].seq_len) for phase in fitting]
        self.all = tuple(dict.fromkeys(found))
        """(rows, seq_len), each once, in the order in which they first come"""
        self.limit = limit
        self._rows_vary, self._lengths_vary = (len({shape[dim] for shape in self.all}) > 1 for dim in (0, 1))
        self._rows_become_1 = any(rows == 1 for rows, _ in self.all)

    @property
    def dynamic(self) -> bool:
        """Whether all shapes share one graph."""
        return len(self.all) > self.limit

    @property
    def compile_options(self) -> dict[str, bool | None]:
        """Arguments of `torch.compile`: its `dynamic`, which would otherwise be guessed from the first two lengths."""
        return {"dynamic": None if self.dynamic else False}

    def mark(self, example: Example) -> None:
        """Say which sizes of an example's tensors change from batch to batch; does nothing for few shapes.

        To be called with each example before the compiled function sees it: marks are on tensors, not on functions.
        """
        if not self.dynamic:
            return
        for value in example.values():
            if not isinstance(value, torch.Tensor):
                continue
            if value.dim() == 1:  # cu_seqlens: as many as there are pieces
                torch._dynamo.maybe_mark_dynamic(value, 0)
                continue
            if self._lengths_vary:
                torch._dynamo.mark_dynamic(value, 1)
            if self._rows_vary:
                # Graphs for any number of rows do not hold for a single one: of those torch makes one more.
                mark = torch._dynamo.maybe_mark_dynamic if self._rows_become_1 else torch._dynamo.mark_dynamic
                mark(value, 0)


def largest_place(share: Share, step: int) -> tuple[int, int, int]:
    """`(step, rows, seq_len)` of the first micro-batch with most inputs from `step` on; of equal ones the longest.

    Raises:
        ConfigError: no step is left.
        CursorError: the share does not fit the rows of a remaining phase.
    """
    plan = share.plan
    share.require_fits(step, 0, "the plan")
    phases = plan.remaining_phases(step)
    if not phases:
        raise ConfigError(f"step {step} is the end of the plan: there is no micro-batch left to try.")
    largest = max(
        phases, key=lambda phase: (share.rows(phase) * plan.phases[phase].seq_len, plan.phases[phase].seq_len)
    )
    first = 0
    for phase, num_steps in plan.order:
        if phase == largest and first + num_steps > step:
            return max(first, step), share.rows(largest), plan.phases[largest].seq_len
        first += num_steps
    raise AssertionError("remaining_phases lists phases of the order")


def warm_up(
    forward_and_backward: Callable[[Example], Any], model: torch.nn.Module, dataset: CurriculumDataset
) -> tuple[int, int]:
    """Run the model once on the largest micro-batch that will come, and forget it: out of memory now, not in a week.

    The dataset stands where it stood. Gradients are None again, buffers and torch's random numbers as before. What the
    optimizer allocates at its first step is not there yet: leave room for it. All ranks must call it: a distributed
    model talks to the others in its backward pass.

    Args:
        forward_and_backward: does with an example what the loop does up to `loss.backward()`, without optimizer.
        model: whose gradients and buffers are put back.
        dataset: says which micro-batch is the largest that remains, and on which device.

    Returns:
        (rows, seq_len) of what was tried.

    Raises:
        ConfigError: there are gradients already, or no step is left.
    """
    if any(parameter.grad is not None for parameter in model.parameters()):
        raise ConfigError("warm_up found gradients: call it before the first step, or after optimizer.zero_grad().")
    step, rows, seq_len = largest_place(dataset.share, dataset.cursor.step)
    example = dataset.example(step)
    kept = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()  # with those that are None until a forward pass fills them
    ]
    on_gpu = [dataset.device] if dataset.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=on_gpu):
            forward_and_backward(example)
    except Exception as error:
        error.add_note(f"In warm_up, with the largest micro-batch of the plan: [{rows}, {seq_len}], as in step {step}.")
        raise
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for module, name, buffer, before in kept:
                if buffer is not None and before is not None:
                    buffer.copy_(before)
                module._buffers[name] = buffer
    return rows, seq_len
