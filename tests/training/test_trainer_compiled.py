"""The reference trainer under torch.compile: real graphs, by a backend that needs no compiler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[train]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[train]'")
import torch

from curriculum.errors import CurriculumError
from curriculum.training import Settings, train
from tiny_run import built, log_of

COMPILE = torch.nn.Module.compile


def test_few_lengths_are_compiled_a_graph_each(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths 8 and 16, the longest before the first step, two shapes of validation: five graphs, the same losses."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: COMPILE(self, backend=backend, **options))
    torch._dynamo.reset()
    plain = replace(settings, steps=5)
    compiled = replace(plain, compile=True, out=settings.out + "-compiled")
    outcomes = [train(plain), train(compiled)]
    assert len(graphs) == 5
    losses = [[line["loss"] for line in log_of(run)] for run in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert outcomes[0].validation_loss == pytest.approx(outcomes[1].validation_loss, rel=1e-5)


def test_many_lengths_share_a_graph(
    settings: Settings, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch would give up after eight. Compiling for any length is slow and not done here."""
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **options: asked.append(options))
    many = built(tmp_path / "many", corpus, max_length=80, multiple_of=8, validation_tokens=None)
    train(replace(settings, dataset=str(many), compile=True, steps=1))
    assert asked == [{"dynamic": None}]


def test_a_machine_without_a_compiler_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim containers have none; torch ends with pages of its own files."""

    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: COMPILE(self, backend=backend, **options))
    torch._dynamo.reset()
    with pytest.raises(
        CurriculumError, match=r"^torch\.compile failed \(RuntimeError: No working C\+\+ compiler found\)"
    ):
        train(replace(settings, compile=True))
