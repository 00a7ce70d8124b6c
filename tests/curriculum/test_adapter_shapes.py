"""torch.compile compiles as often as the plan has shapes, or once; the largest shape is tried without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.shapes import Shapes, largest_place, warm_up
from curriculum.budget import Batch, Budget
from curriculum.errors import ConfigError
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import parse_phases
from curriculum.share import Share

Example = dict[str, Any]


def plan_of(phases: str, **batch: int) -> Plan:
    """A plan of explicit phases."""
    return compile_plan(pacing=parse_phases(phases), warmup=None, batch=Batch(**batch), budget=Budget())


def compilations(shapes: Shapes) -> list[int]:
    """How often a function was compiled after each shape of a run: a backend that counts and runs as it is."""
    count = 0

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        nonlocal count
        count += 1
        return graph.forward

    def loss_of(input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (input_ids.float().sin() * labels).sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss_of, backend=backend, fullgraph=True, **shapes.compile_options)
    counts = []
    for shape in shapes.all:
        example = {"input_ids": torch.zeros(shape, dtype=torch.int64), "labels": torch.ones(shape, dtype=torch.int64)}
        shapes.mark(example)
        compiled(**example)
        counts.append(count)
    return counts


def test_few_shapes_get_a_graph_each_and_many_share_one() -> None:
    """Eight is where torch gives up; `fullgraph=True` makes giving up an error here, elsewhere it is a slow run."""
    eight = ",".join(f"{8 * n}:1" for n in range(1, 9))
    assert compilations(Shapes(Share(plan=plan_of(eight, rows=4)))) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert compilations(Shapes(Share(plan=plan_of(eight + ",72:1", rows=4)))) == [1] * 9
    assert compilations(Shapes(Share(plan=plan_of(eight, rows=4)), limit=3)) == [1] * 8


def test_rows_that_change_with_the_length_share_the_graph_too() -> None:
    """micro_tokens: 64 rows of 8, 8 of 64; a single row needs a second graph, as torch treats 1 as a constant."""
    plan = plan_of("8:1,16:1,32:1,64:1", rows=64)
    shapes = Shapes(Share(plan=plan, micro_tokens=512), limit=2)
    assert shapes.all == ((64, 8), (32, 16), (16, 32), (8, 64))
    assert compilations(shapes) == [1] * 4
    down_to_1 = Shapes(Share(plan=plan, micro_tokens=64), limit=2)
    assert down_to_1.all == ((8, 8), (4, 16), (2, 32), (1, 64))
    assert compilations(down_to_1) == [1, 1, 1, 2]


def test_the_number_of_shapes_is_counted_not_that_of_phases() -> None:
    """A cyclic curriculum visits its few shapes again and again."""
    shapes = Shapes(Share(plan=plan_of("8:1,16:1,8:1,16:1,8:1", rows=4), micro_batches=2))
    assert shapes.all == ((2, 8), (2, 16))
    assert shapes.compile_options == {"dynamic": False}


def test_the_largest_micro_batch_that_remains() -> None:
    """Not the longest rows, if few of them fit; and after a restart nothing that is over already."""
    share = Share(plan=plan_of("8:3,64:2,16:4", rows=8))
    assert largest_place(share, 0) == (3, 8, 64)
    assert largest_place(share, 4) == (4, 8, 64)
    assert largest_place(share, 5) == (5, 8, 16)
    with pytest.raises(ConfigError, match="step 9 is the end of the plan"):
        largest_place(share, 9)
    constant_tokens = Share(plan=plan_of("8:1,48:1,64:1", tokens=256, rows_multiple_of=1))
    assert [constant_tokens.rows(phase) for phase in range(3)] == [32, 5, 4]
    assert largest_place(constant_tokens, 0) == (2, 4, 64), "of 256, 240 and 256 inputs the longer rows"


class Noisy(nn.Module):
    """Everything that a throwaway pass could leave behind: gradients, running statistics, random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 8)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(input_ids.shape))
        x = self.norm(self.embedding(input_ids).transpose(1, 2)).transpose(1, 2)
        out: torch.Tensor = self.dropout(x) @ self.embedding.weight.T
        return out


def train(small_dataset: Path, *, warmed: bool, num_steps: int = 6) -> tuple[list[float], Noisy, CurriculumDataset]:
    """Losses of the first steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Noisy()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        dataset = CurriculumDataset(small_dataset, micro_batches=2)

        def forward_and_backward(example: Example) -> torch.Tensor:
            loss = F.cross_entropy(model(example["input_ids"]).flatten(0, 1), example["labels"].flatten())
            loss.backward()
            return loss

        if warmed:
            assert warm_up(forward_and_backward, model, dataset) == (4, 64)
        losses = []
        for _, example in zip(range(num_steps), dataset, strict=False):
            losses.append(forward_and_backward(example).item())
            optimizer.step()
            optimizer.zero_grad()
        return losses, model, dataset


def test_a_run_after_a_warm_up_is_the_run_without(small_dataset: Path) -> None:
    """Same losses to the last bit, same batches, same statistics: only the first call of the model is another."""
    plain, plain_model, plain_dataset = train(small_dataset, warmed=False)
    warmed, warmed_model, warmed_dataset = train(small_dataset, warmed=True)
    assert warmed == plain
    assert warmed_model.shapes == [(4, 64), *plain_model.shapes]
    assert warmed_dataset.cursor == plain_dataset.cursor
    for one, other in zip(warmed_model.state_dict().values(), plain_model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_out_of_memory_says_for_which_shape(small_dataset: Path) -> None:
    """The message of an allocator names bytes; what to change is rows or length. Nothing stays behind."""
    dataset = CurriculumDataset(small_dataset)
    model = Noisy()

    def fails(example: Example) -> None:
        model(example["input_ids"]).sum().backward()
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError) as caught:
        warm_up(fails, model, dataset)
    assert "largest micro-batch of the plan: [8, 64]" in caught.value.__notes__[0]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert int(model.norm.num_batches_tracked) == 0
    assert dataset.cursor.step == 0


def test_gradients_that_are_there_are_not_thrown_away(small_dataset: Path) -> None:
    """Called in the middle of a step it would drop what was accumulated."""
    model = Noisy()
    model.embedding.weight.sum().backward()
    with pytest.raises(ConfigError, match="warm_up found gradients"):
        warm_up(lambda example: None, model, CurriculumDataset(small_dataset))
    assert model.embedding.weight.grad is not None
