"""OLMo-core's sequence length callback and its variable-length dataset."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import ConfigError
from imported_lengths import imported_lengths, written
from pipeline.importers import Imported, import_olmo
from pipeline.option_sources import load_options
from pipeline.requested_plan import curriculum_of

CALLBACK = "olmo_core.train.callbacks.sequence_length_scheduler.SequenceLengthSchedulerCallback"
DATASETS = "olmo_core.data.numpy_dataset"


def scheduler_config(most: int = 2048, **callback: Any) -> dict[str, Any]:
    """The part of a saved config.json that matters, with an evaluation dataset of another length beside it."""
    evaluation = {"eval_dataset": {"_CLASS_": f"{DATASETS}.NumpyPaddedFSLDatasetConfig", "sequence_length": 4096}}
    return {
        "dataset": {"_CLASS_": f"{DATASETS}.NumpyFSLDatasetConfig", "sequence_length": most},
        "data_loader": {"_CLASS_": "olmo_core.data.data_loader.NumpyDataLoaderConfig", "global_batch_size": 65_536},
        "trainer": {"callbacks": {"seq_len": {"_CLASS_": CALLBACK, **callback}, "lm_evaluator": evaluation}},
    }


def vsl_config(least: int = 256, most: int = 4096, **curriculum: Any) -> dict[str, Any]:
    return {
        "dataset": {
            "_CLASS_": f"{DATASETS}.NumpyVSLDatasetConfig",
            "min_sequence_length": least,
            "max_sequence_length": most,
            "vsl_curriculum": {"_CLASS_": f"{DATASETS}.VSLCurriculumConfig", **curriculum},
            "tokenizer": {"eos_token_id": 100257, "bos_token_id": None},
        },
        "data_loader": {"global_batch_size": 65_536},
    }


def imported(folder: Path, config: dict[str, Any]) -> Imported:
    return import_olmo(written(folder, "config.json", json.dumps(config)))


def changes(lengths: list[int]) -> list[tuple[int, int]]:
    """(t, length) where the length changes, t = step + 1 as OLMo-core counts."""
    found, t = [], 1
    for length, group in groupby(lengths):
        found.append((t, length))
        t += len(list(group))
    return found


def test_split_lengths_are_the_golden_ones(tmp_path: Path) -> None:
    """128 -> 2048 over 2000 steps, the defaults: the maximum is reached on the last one only."""
    found = imported(tmp_path, scheduler_config())
    assert changes(imported_lengths(found, 3000)) == [(1, 128), (134, 256), (400, 512), (934, 1024), (2000, 2048)]
    assert found.options["mode"] == "segment"
    assert (found.options["batch_tokens"], found.options["rows_multiple_of"]) == (65_536, 1)
    assert found.differs.startswith("Equal at every step as 5 explicit phases.")


def test_truncated_lengths(tmp_path: Path) -> None:
    """128 more about every 133 steps; rows per step stay constant, 65,536 / 2048."""
    found = imported(tmp_path, scheduler_config(truncate=True))
    lengths = imported_lengths(found, 2100)
    expected = [int(128 * ((128 + 1920 * min(t, 2000) / 2000) // 128)) for t in range(1, 2101)]
    assert lengths == expected
    assert (found.options["mode"], found.options["batch_rows"]) == ("truncate", 32)
    assert found.options["schedule"] == "linear"
    assert "counts truncated tokens" in found.differs


def test_rows_are_whole_after_the_warmup(tmp_path: Path) -> None:
    """2048 is no multiple of 96: the warmup ends at 2016, and step 2001 has 2048."""
    lengths = imported_lengths(imported(tmp_path, scheduler_config(truncate=True, keep_multiple_of=96)), 2001)
    assert lengths[1998:2001] == [1920 + 96, 2016, 2048]


def test_variable_lengths_become_document_mode(tmp_path: Path) -> None:
    """Names, cycles and balance; a natural curriculum has neither of the two."""
    found = imported(tmp_path, vsl_config(name="grow_p2", num_cycles=4, balanced=True))
    assert found.options == {
        "mode": "document",
        "schedule": "grow-p2",
        "start_length": 256,
        "max_length": 4096,
        "cycles": 4,
        "balanced": True,
        "batch_tokens": 65_536,
        "rows_multiple_of": 1,
    }
    assert "EOS included" in found.differs
    curriculum = curriculum_of(load_options(None, {}, found.options))
    assert curriculum is not None
    assert (curriculum.name, curriculum.cycles, curriculum.max_length) == ("grow-p2", 4, 4096)
    natural = imported(tmp_path, vsl_config(name="natural", num_cycles=4)).options
    assert (natural["schedule"], "cycles" in natural, "balanced" in natural) == ("natural", False, False)
    linear = imported(tmp_path, vsl_config(name="grow_linear"))
    assert (linear.options["schedule"], linear.options["cycles"], linear.options["balanced"]) == (
        "grow-linear",
        8,
        False,
    )
    assert "AssertionError" in linear.differs


def test_yaml_and_the_class_name_of_older_files(tmp_path: Path) -> None:
    """Until September 2025 one class named its kind in a key; and people write YAML."""
    text = (
        "dataset:\n  _CLASS_: olmo_core.data.numpy_dataset.NumpyDatasetConfig\n  name: vsl\n"
        "  min_sequence_length: 256\n  max_sequence_length: 8192\n"
    )
    found = import_olmo(written(tmp_path, "old.yaml", text))
    assert (found.options["schedule"], found.options["max_length"]) == ("natural", 8192)
    assert "give batch_tokens" in found.differs


REFUSED = {
    "not a power of two times min_sequence_length 100, and OLMo-core fails during": scheduler_config(
        min_sequence_length=100
    ),
    "by mistake, because the power-of-two check": scheduler_config(min_sequence_length=384, truncate=True),
    "keep_multiple_of 128 is above min_sequence_length 64, and OLMo-core truncates to length 0": scheduler_config(
        min_sequence_length=64, truncate=True
    ),
    "sequence_length 128 is not above min_sequence_length 128": scheduler_config(most=128),
    "warmup_steps is 0": scheduler_config(warmup_steps=0),
    "enabled is false": scheduler_config(enabled=False),
    "sequence_length is missing": {"trainer": scheduler_config()["trainer"]},
    "0 SequenceLengthSchedulerCallback and 0 NumpyVSLDatasetConfig": {"model": {}},
    "1 SequenceLengthSchedulerCallback and 1 NumpyVSLDatasetConfig": {**scheduler_config(), **vsl_config()},
    "max_sequence_length 65536 becomes 0": vsl_config(most=65_536, name="natural"),
    "max_sequence_length 256 becomes 0": vsl_config(least=128, most=256, name="natural"),
    "must be two powers of two": vsl_config(least=200, name="natural"),
    "vsl_curriculum is {'_CLASS_'": vsl_config(name="grow_p100"),
    "global_batch_size 65536 holds no row of 131072": vsl_config(most=131_072, name="natural"),
    "OLMo-core has no BOS": {"dataset": {**vsl_config(name="natural")["dataset"], "tokenizer": {"bos_token_id": 1}}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_olmo_core_gets_wrong_is_a_sentence(message: str, tmp_path: Path) -> None:
    """OLMo-core crashes late or trains on empty buckets; the importer says so first."""
    with pytest.raises(ConfigError, match=message) as refused:
        imported(tmp_path, REFUSED[message])
    assert str(refused.value).endswith(".")
