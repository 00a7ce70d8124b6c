"""One setting, and the datasets that every way to it reads.

In:  a `Setting`, a folder, perhaps a corpus.   Out: finished datasets by name, cut from one token store.
Guarantee: the schedules are taken from configurations of DeepSpeed and of Composer by this project's importers.

    truncate     rows of every length of DeepSpeed's schedule
    segment      the same lengths, tokens of a full batch at every step: Composer's `truncate: false`
    8 shapes     rows as in `truncate`, the schedule held to so many lengths
    full         rows of the full length alone: what is loaded to be cut in the loop
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curriculum
from pipeline.build import build
from pipeline.option_sources import load_imported, load_options
from pipeline.progress import Silent


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One run: its lengths, its batch, its model."""

    start_length: int = 8
    max_length: int = 1024
    multiple_of: int = 8
    warmup_steps: int = 254
    """a multiple of (max - start) / multiple, so that Composer's double flooring ends its warmup there too"""
    steps: int = 340
    """of the truncating runs; the others train as many tokens"""
    batch_rows: int = 2
    tokenizer: str = "bytes"
    """a small vocabulary, so that the model is layers and not embeddings"""
    few_shapes: tuple[int, ...] = (8, 16)
    layers: int = 1
    """one, so that loading and cutting weigh as much as they can, and inductor is done in minutes"""
    width: int = 64
    heads: int = 2
    backends: tuple[str, str] = ("inductor", "eager")
    """of the trained runs, and of the table of shapes, whose graphs are made before a backend sees them"""
    rounds: int = 3
    """so often all ways are trained, each time from the beginning"""
    turns: int = 10
    """so often within a round each way is trained a little further"""

    @property
    def num_changes(self) -> int:
        """How often the length grows."""
        return (self.max_length - self.start_length) // self.multiple_of


def prepare(folder: Path, setting: Setting, corpus: tuple[str, ...] = ()) -> dict[str, Path]:
    """Build what the ways read, all from one token store: name -> dataset."""
    deepspeed = folder / "ds_config.json"
    deepspeed.write_text(json.dumps({"curriculum_learning": deepspeed_schedule(setting)}), "utf-8")
    length = {"start_length": setting.start_length, "max_length": setting.max_length}
    common = {
        "corpus": corpus,
        "tokenizer": setting.tokenizer,
        "store": str(folder / "store"),
        "workers": 1,
        "shard_bytes": 1 << 20,
    }
    rows = {"batch_rows": setting.batch_rows}

    def built(name: str, options: Any) -> Path:
        build(options, Silent())
        return folder / name

    found: dict[str, Path] = {}
    flags = {**common, **rows, "steps": setting.steps, "mode": "truncate", "out": str(folder / "truncate")}
    found["truncate"] = built("truncate", load_imported(None, flags, {"deepspeed": str(deepspeed)})[0])
    tokens = curriculum.open(found["truncate"]).plan.total_tokens
    composer = folder / "composer.yaml"
    composer.write_text(json.dumps(composer_config(setting, tokens)), "utf-8")  # JSON is YAML
    flags = {**common, "out": str(folder / "segment")}
    found["segment"] = built("segment", load_imported(None, flags, {"composer": str(composer)})[0])
    for shapes in setting.few_shapes:
        flags = {**common, **rows, **length, "out": str(folder / f"{shapes}"), "mode": "truncate", "schedule": "linear"}
        flags |= {"multiple_of": setting.multiple_of, "length_warmup_steps": setting.warmup_steps}
        one_step_more = (
            tokens + setting.batch_rows * setting.max_length
        )  # a budget is filled by whole steps, from below
        flags |= {"max_shapes": shapes, "tokens": one_step_more}
        found[f"{shapes} shapes"] = built(f"{shapes}", load_options(None, flags))
    flags = {**common, **rows, "out": str(folder / "full"), "schedule": "constant", "max_length": setting.max_length}
    flags |= {"steps": setting.steps * 5 // 4}  # Composer trains fewer targets a row and needs more rows
    found["full"] = built("full", load_options(None, flags))
    return found


def deepspeed_schedule(setting: Setting) -> dict[str, Any]:
    """The curriculum in DeepSpeed's words."""
    return {
        "enabled": True,
        "curriculum_type": "seqlen",
        "min_difficulty": setting.start_length,
        "max_difficulty": setting.max_length,
        "schedule_type": "fixed_linear",
        "schedule_config": {
            "total_curriculum_step": setting.warmup_steps,
            "difficulty_step": setting.multiple_of,
        },
    }


def composer_config(setting: Setting, tokens: int) -> dict[str, Any]:
    """A run of Composer that makes segments; a length stays for one batch.

    A quarter more batches than the tokens would fill: a batch of so few rows loses much where a length does not divide
    it (two rows of 1,024 are two segments of 688), and rows of all ways are fewer then.
    """
    total = tokens * 5 // 4 // (setting.batch_rows * setting.max_length) + 1
    return {
        "max_duration": f"{total}ba",
        "global_train_batch_size": setting.batch_rows,
        "max_seq_len": setting.max_length,
        "algorithms": {
            "seq_length_warmup": {
                "duration": (setting.num_changes + 0.5) / total,
                "min_seq_length": setting.start_length,
                "max_seq_length": setting.max_length,
                "step_size": setting.multiple_of,
                "truncate": False,
            }
        },
    }
