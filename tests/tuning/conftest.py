"""What tests of probes and tunes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.progress import Silent
from pipeline.tuning import Prober
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.result import TuneResult
from pipeline.tuning.run_training import Trained, train
from pipeline.tuning.train_command import Training
from tune_world import Tune, tuned_with


@pytest.fixture
def probe(tmp_path: Path) -> Callable[..., Trained]:
    """Train ten steps."""

    def run(
        training: Training, stop_now: Callable[[Evaluation], bool] = lambda evaluation: False, **limits: float
    ) -> Trained:
        log, output = tmp_path / "log.jsonl", tmp_path / "output.txt"
        values = {"dataset": tmp_path, "steps": 10, "log": log, "decay_tokens": 6_400}
        own = Limits(**limits)
        return train(
            training, values, num_steps=10, log=log, output=output, limits=own, stop_now=stop_now, progress=Silent()
        )

    return run


@pytest.fixture(scope="session")
def options(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a build of the small corpus, with starts 8, 16, 32 and 400 steps."""
    store = tmp_path_factory.mktemp("tune") / "store"
    own = {"tokenizer": "bytes", "max_length": 64, "batch_rows": 8, "steps": 400, "validation_tokens": 6_000}
    return {"corpus": (str(corpus),), "store": str(store), "workers": 1, **own}


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture takes half a second."""
    monkeypatch.setattr("pipeline.tuning.draw_tune.draw_tune", lambda result: "<svg/>")


@pytest.fixture
def run(options: dict[str, Any], tmp_path: Path, quick_pictures: None) -> Tune:
    """A tune of `options` into one folder."""

    def tuned(prober: Prober, **settings: Any) -> TuneResult:
        return tuned_with(options, prober, tmp_path / "tune", **settings)

    return tuned
