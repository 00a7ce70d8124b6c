"""What the reference trainer refuses, in a sentence; what was trained stays."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[train]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[train]'")
import torch

from curriculum.errors import ConfigError, CurriculumError, CursorError, DataError, PlanError
from curriculum.training import Settings, train
from curriculum.training.run_folder import run_folder
from tiny_run import built


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": 0}, "layers is 0; give at least 1."),
        ({"threads": 100_000}, "threads is 100000; give at most 1024, best the number of cores."),
        ({"heads": 3}, "width 16 is no multiple of the 3 heads; change one of them."),
        ({"lr": 0.0}, "lr is 0.0; give a number above 0."),
        ({"lr": math.nan}, "lr is nan; give a number above 0."),
        ({"beta2": 1.0}, "beta2 is 1.0; give a number between 0 and 1, such as 0.95 or 0.999."),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; give 0 or more."),
        ({"device": "tpu"}, "device is 'tpu'; choose one of auto, cpu, cuda."),
        ({"lr_schedule": "step"}, "learning rate: schedule is 'step'; choose one of cosine, linear, wsd."),
        ({"lr_warmup_steps": 24}, "warmup_steps is 24; the plan has 24 steps, so give 0 to 23."),
        ({"out": "s3://bucket/run"}, "out is s3://bucket/run: a run is written to a disk; give a local path."),
        ({"seed": 1 << 65}, f"seed is {1 << 65}; give an integer from 0 to 2^63 - 1."),
        ({"steps": 25}, "steps is 25; the dataset has 24, so give at most that."),
        ({"lr": 2e-2}, "was trained with lr 0.01, and 0.02 is asked for; give the same, or another --out"),
        ({"seed": 1}, "was trained with seed 0, and 1 is asked for"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], sentence: str, settings: Settings) -> None:
    """In one sentence, and what was trained stays."""
    if "was trained" in sentence:
        train(replace(settings, steps=1))
    with pytest.raises((ConfigError, PlanError)) as refused:
        train(replace(settings, **change))
    assert sentence in str(refused.value)


def test_a_checkpoint_of_another_dataset_is_refused(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    """Its cursor would point at other rows; that is said first, and not what else does not fit a shorter dataset."""
    train(replace(settings, lr_warmup_steps=12, steps=1))
    other = built(tmp_path / "other", corpus, seed=1, max_length=40, steps=10)  # another size of the model, too
    for steps in (None, 20):
        with pytest.raises(CursorError, match=r"\.pt: .*belongs to dataset sha256:.* another --out to begin anew"):
            train(replace(settings, dataset=str(other), lr_warmup_steps=None, steps=steps))


def test_what_is_no_checkpoint_is_refused(settings: Settings) -> None:
    """Neither half a file nor a pickle is loaded, nor weights of which a bit has changed: the run went on with them."""
    train(replace(settings, steps=1))
    content = settings.checkpoint_path.read_bytes()
    whole = torch.load(settings.checkpoint_path, weights_only=True)
    wrong = [{"settings": "x"}, {**whole, "optimizer": None}, {**whole, "optimizer": {"param_groups": [], "state": {}}}]
    wrong.append({**whole, "model": {name: value[:1] for name, value in whole["model"].items()}})
    weight = content.index(whole["model"]["transformer.wte.weight"].numpy().tobytes())
    flipped = content[:weight] + bytes([content[weight] ^ 4]) + content[weight + 1 :]
    attributes = content.rindex(b"archive/data/0") - 8  # of the first weight in the zip's directory
    folder = content[:attributes] + bytes([content[attributes] ^ 0x10]) + content[attributes + 1 :]  # torch reads zeros
    pickle = b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
    for damaged in (content[: len(content) // 2], b"", pickle, flipped, folder, *wrong):
        if isinstance(damaged, bytes):
            settings.checkpoint_path.write_bytes(damaged)
        else:
            torch.save(damaged, settings.checkpoint_path)
        with pytest.raises(DataError, match=r"not a checkpoint of `curriculum train`, or damaged .* another --out\."):
            train(settings)
    settings.checkpoint_path.write_bytes(content)
    assert train(replace(settings, steps=1)).steps == 1


def test_processes_that_cannot_share_a_step_are_no_fault_of_the_checkpoint(settings: Settings) -> None:
    """Another --out, which was advised, does not help."""
    train(replace(settings, steps=1))
    for steps in (1, 2):
        with pytest.raises(CursorError, match=r"data: micro_tokens is 1, less than one row .* give at least 32\.$"):
            train(replace(settings, steps=steps, micro_tokens=1))


def test_a_run_keeps_to_its_folder(settings: Settings, dataset: Path, tmp_path: Path) -> None:
    """It is made before the first step, held by one run, and is no folder of something else."""
    apart = replace(settings, out=str(tmp_path / "a" / "b"), log=str(tmp_path / "logs" / "c.jsonl"), steps=1)
    train(apart)
    assert apart.checkpoint_path.exists()
    with run_folder(Path(apart.out)), pytest.raises(CurriculumError, match="another run is writing there"):
        train(apart)
    for folder, sentence in ((dataset, "holds a dataset"), (tmp_path / "other", "has a model/ and no checkpoint.pt")):
        (tmp_path / "other" / "model").mkdir(parents=True, exist_ok=True)
        with pytest.raises(ConfigError, match=sentence):
            train(replace(settings, out=str(folder)))
    (tmp_path / "file").touch()
    with pytest.raises(CurriculumError, match=r"cannot be written \(File exists\); give another --out\."):
        train(replace(settings, out=str(tmp_path / "file")))
    precious = tmp_path / "precious.json"
    for content, sentence in (
        ('{"my": "precious"}', r"precious\.json, line 1: there is no step in it"),
        ('{"my": "pre', "ends with what no log ends with"),
    ):
        precious.write_text(content)
        with pytest.raises(DataError, match=sentence):
            train(replace(settings, log=str(precious)))
        assert precious.read_text() == content
