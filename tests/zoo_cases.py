"""The cases of `test_zoo.py`: every curriculum of this project at a small size, with what its method says about it.

Lengths of steps are worked out by hand from the formula, the number of steps from the budget.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.option_sources import load_imported, load_options
from pipeline.options import Options

CONFIGS = Path(__file__).parents[1] / "configs"
TOKENIZER = "train:8192"
"""One for all builds, or each would tokenize the corpus anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A curriculum at a small size."""

    lengths: dict[int, int]
    """step -> length; -1 is the last step"""
    shapes: int
    steps: int | None
    """None: the documents of this Python's library decide"""
    options: dict[str, Any] = field(default_factory=dict)
    imported: tuple[str, str] | None = None
    """tool, and the text of its configuration file or the name of its schedule"""

    def resolve(self, folder: Path, *, config: Path | None, store: Path) -> Options:
        """As the command line does: flags over the config over what was imported."""
        flags = {**self.options, "tokenizer": TOKENIZER, "store": str(store), "out": str(folder / "out"), "workers": 1}
        if self.imported is None:
            return load_options(config, flags)
        tool, source = self.imported
        if tool != "skyladder":
            (folder / "original").write_text(source, "utf-8")
            source = str(folder / "original")
        return load_imported(config, flags, {tool: source})[0]


SLW = {"start_length": 8, "max_length": 128, "length_warmup_steps": 45, "batch_rows": 32, "tokens": 153_600}
"""GPT-2 1.5B with steps / 1000, rows / 128 and lengths / 8; 153,600 tokens are 37.5 steps of full length."""
GPT3 = {"start_length": 16, "max_length": 256, "length_warmup_steps": 55, "tokens": 292_968}
LADDER = {"max_length": 512, "length_warmup_steps": 65, "batch_tokens": 4096, "steps": 100}

FROM_CONFIGS = {
    "tiny.toml": Case(options={"steps": 100}, lengths={0: 8, 14: 64, 28: 120, 29: 128}, shapes=16, steps=100),
    "constant.toml": Case(options={"tokens": 204_800}, lengths={0: 128, -1: 128}, shapes=1, steps=100),
    "gpt2-1.5b.toml": Case(options=SLW, lengths={0: 8, 22: 64, 43: 120, 44: 128}, shapes=16, steps=59),
    "shape-budget.toml": Case(options=SLW, lengths={0: 8, 44: 128, -1: 128}, shapes=8, steps=58),
    "gpt3-1.3b.toml": Case(options={**GPT3, "batch_rows": 8}, lengths={0: 16, 54: 256, -1: 256}, shapes=31, steps=169),
    "gpt3-1.3b-reshape.toml": Case(
        options={**GPT3, "batch_tokens": 2048, "rows_multiple_of": 4}, lengths={0: 16, 54: 256}, shapes=31, steps=148
    ),
    "bigscience-104b.toml": Case(
        options={"start_length": 8, "max_length": 256, "length_warmup_steps": 36, "batch_rows": 8, "tokens": 146_484},
        lengths={0: 8, 17: 128, 34: 248, 35: 256, -1: 256},
        shapes=32,
        steps=89,
    ),
    "deepspeed-root.toml": Case(
        options={"max_length": 128, "length_warmup_steps": 15, "batch_rows": 16, "steps": 50},
        lengths={0: 32, 1: 48, 7: 88, 13: 120, 14: 128},  # 8 + 120 * sqrt(t / 15)
        shapes=12,
        steps=50,
    ),
    "composer.toml": Case(  # total 100, duration 0.3, 7 rises: every int(30 / 7) = 4 batches, 7 * 4 + 1 = 29
        options={"max_length": 64, "length_warmup_steps": 29, "batch_rows": 16, "steps": 100},
        lengths={0: 8, 3: 8, 4: 16, 27: 56, 28: 64},
        shapes=8,
        steps=100,
    ),
    "shortformer.toml": Case(
        options={"phases": "32:49,128:51", "batch_tokens": 2048}, lengths={48: 32, 49: 128}, shapes=2, steps=100
    ),
    "growlength.toml": Case(
        options={
            "start_length": 16,
            "max_length": 512,
            "length_warmup_steps": 25,
            "batch_tokens": 8192,
            "steps": 30,
        },
        lengths={0: 16, 3: 16, 4: 32, 9: 64, 14: 128, 19: 256, 23: 256, 24: 512},
        shapes=6,
        steps=30,
    ),
    "modded-nanogpt.toml": Case(
        options={"phases": "112:8,256:*", "batch_tokens": 4096, "steps": 24},
        lengths={7: 112, 8: 256},
        shapes=2,
        steps=24,
    ),
    "mamba-dna.toml": Case(
        options={"phases": "64:2,128:2,256:2,512:2,1024:*", "batch_tokens": 8192, "steps": 20},
        lengths={0: 64, 2: 128, 4: 256, 6: 512, 8: 1024, -1: 1024},
        shapes=5,
        steps=20,
    ),
    "skyladder-linear.toml": Case(options=LADDER, lengths={0: 32, 32: 256, 64: 512}, shapes=16, steps=100),
    "skyladder-sine.toml": Case(options=LADDER, lengths={0: 32, 32: 352, 64: 512}, shapes=16, steps=100),
    "skyladder-exponential.toml": Case(options=LADDER, lengths={0: 32, 32: 128, 64: 512}, shapes=16, steps=100),
    "dataset-decomposition.toml": Case(options={"batch_tokens": 65_536}, lengths={}, shapes=6, steps=None),
    "olmo-vsl.toml": Case(options={"batch_tokens": 65_536, "steps": 24}, lengths={}, shapes=6, steps=24),
    "best-fit.toml": Case(
        options={"max_length": 256, "batch_rows": 16, "tokens": 204_800}, lengths={0: 256, -1: 256}, shapes=1, steps=50
    ),
}

MIDDLE = {"start_length": 8, "max_length": 64, "length_warmup_steps": 30, "steps": 40}
PACING = {  # lengths at t = 1, 15 and 30 of 30: 8 + 56 * f(t / 30), rounded down to a multiple of 8
    "linear": (8, 32, 64),
    "root": (16, 40, 64),  # 56 * sqrt(1 / 30) = 10.2, sqrt(1 / 2) -> 39.6
    "exponential": (8, 16, 64),  # 8 * sqrt(8) = 22.6
    "sine": (8, 40, 64),  # sin(pi / 4) -> 39.6
    "cosine": (8, 24, 64),  # 1 - cos(pi / 4) -> 16.4
    "logarithmic": (40, 56, 64),  # 1 + ln(1 / 30 + e**-10) / 10 -> 37.0, 1 + ln(1 / 2 + e**-10) / 10 -> 52.1
    "step": (8, 8, 64),
    "doubling": (8, 16, 64),  # 16 from a third, 32 from two thirds
}
NUM_SHAPES = {"root": 7, "logarithmic": 4, "step": 2, "doubling": 4}
"""8 where all lengths appear; a root is at 16 at once, a logarithm at 40, and two stages or three doublings are few."""

BUCKETS = {"mode": "document", "start_length": 64, "max_length": 1024, "batch_tokens": 16_384, "steps": 60}
BALANCED = {**BUCKETS, "steps": None, "cycles": 2, "balanced": True}
PACKED = {"mode": "best-fit", "max_length": 128, "length_warmup_steps": 60, "steps": 100}
LINE = {"max_length": 128, "length_warmup_steps": 60, "steps": 100, "max_shapes": 4}

FROM_FLAGS = {
    **{
        f"{name} {mode}": Case(
            options={**MIDDLE, "schedule": name, "mode": mode},
            lengths={0: first, 14: middle, 29: top, -1: top},
            shapes=NUM_SHAPES.get(name, 8),
            steps=40,
        )
        for name, (first, middle, top) in PACING.items()
        for mode in ("segment", "truncate")
    },
    "natural": Case(options={**BUCKETS, "schedule": "natural"}, lengths={}, shapes=5, steps=60),
    "grow-linear": Case(options={**BUCKETS, "schedule": "grow-linear", "cycles": 1}, lengths={}, shapes=5, steps=60),
    "grow-p2": Case(options={**BUCKETS, "schedule": "grow-p2", "cycles": 2}, lengths={}, shapes=5, steps=60),
    "grow-linear, balanced": Case(options={**BALANCED, "schedule": "grow-linear"}, lengths={}, shapes=5, steps=None),
    "grow-p2, balanced": Case(options={**BALANCED, "schedule": "grow-p2"}, lengths={}, shapes=5, steps=None),
    "best-fit, growing": Case(options=PACKED, lengths={0: 8, 29: 64, 59: 128}, shapes=16, steps=100),
    "4 shapes, relative": Case(options=LINE, lengths={0: 8, -1: 128}, shapes=4, steps=100),
    "4 shapes, absolute": Case(options={**LINE, "shapes_by": "absolute"}, lengths={0: 8, -1: 128}, shapes=4, steps=100),
    "warmup by tokens": Case(  # 4 steps per length: 4 * 16 * (8 + ... + 56) + 16 * 64 = 15,360, so T = 29
        options={"max_length": 64, "length_warmup_tokens": 15_360, "steps": 50},
        lengths={0: 8, 27: 56, 28: 64},
        shapes=8,
        steps=50,
    ),
    "open phases": Case(  # 30 * 256 = 7,680 tokens, and 90 * 1,024 of the 92,320 that are left
        options={"phases": "16:30,64:*", "tokens": 100_000}, lengths={29: 16, 30: 64, 119: 64}, shapes=2, steps=120
    ),
}


def _deepspeed(least: int, most: int, kind: str, **schedule: Any) -> dict[str, Any]:
    ends = {"min_difficulty": least, "max_difficulty": most}
    return {"enabled": True, **ends, "schedule_type": kind, "schedule_config": schedule}


def _ds_config(**sections: Any) -> str:
    return json.dumps({"train_batch_size": 16, **sections})


LEGACY = _deepspeed(8, 64, "fixed_linear", total_curriculum_step=50, difficulty_step=8)
UNALIGNED = _deepspeed(10, 60, "fixed_linear", total_curriculum_step=20, difficulty_step=8)
RESHAPE = _deepspeed(32, 128, "fixed_discrete", difficulty=[32, 64, 128], max_step=[10, 20])
SAMPLING = {
    "enabled": True,
    "curriculum_learning": {"enabled": True, "curriculum_metrics": {"seqlen_reshape": RESHAPE}},
}
COMPOSER = """
max_duration: 100ba
global_train_batch_size: 16
algorithms: {seq_length_warmup: {max_seq_length: 64, truncate: %s}}
"""
OLMO_CALLBACK = """
dataset: {sequence_length: 128}
data_loader: {global_batch_size: 2048}
trainer: {callbacks: {sequence_length_scheduler: {min_sequence_length: 16, warmup_steps: 40, keep_multiple_of: 16}}}
"""
OLMO_VSL = """
dataset: {min_sequence_length: 128, max_sequence_length: 1024, vsl_curriculum: {name: grow_linear, num_cycles: 2}}
data_loader: {global_batch_size: 16384}
"""

IMPORTED = {
    "deepspeed legacy": Case(
        imported=("deepspeed", _ds_config(curriculum_learning={**LEGACY, "curriculum_type": "seqlen"})),
        options={"steps": 80},
        lengths={0: 8, 24: 32, 48: 56, 49: 64},  # floor(t / 50 * 56 + 8), down to a multiple of 8
        shapes=8,
        steps=80,
    ),
    "deepspeed, unaligned maximum": Case(  # 16 since PR #8334; t = 21 gives 62 -> 56, t = 22 gives 65 -> 64 -> 60
        imported=("deepspeed", _ds_config(curriculum_learning={**UNALIGNED, "curriculum_type": "seqlen"})),
        options={"steps": 40},
        lengths={0: 16, 20: 56, 21: 60, -1: 60},
        shapes=7,
        steps=40,
    ),
    "deepspeed data efficiency": Case(
        imported=("deepspeed", _ds_config(data_efficiency={"enabled": True, "data_sampling": SAMPLING})),
        options={"steps": 40},
        lengths={9: 32, 10: 64, 19: 64, 20: 128},
        shapes=3,
        steps=40,
    ),
    "composer truncate": Case(
        imported=("composer", COMPOSER % "true"), lengths={0: 8, 3: 8, 4: 16, 27: 56, 28: 64}, shapes=8, steps=100
    ),
    "composer segment": Case(
        imported=("composer", COMPOSER % "false"), lengths={3: 8, 4: 16, 27: 56, 28: 64}, shapes=8, steps=100
    ),
    "olmo callback": Case(  # 16 + 112 * t / 40 passes 32 at t = 6, 64 at t = 18, 128 at t = 40
        imported=("olmo", OLMO_CALLBACK),
        options={"steps": 60},
        lengths={4: 16, 5: 32, 16: 32, 17: 64, 38: 64, 39: 128},
        shapes=4,
        steps=60,
    ),
    "olmo vsl": Case(imported=("olmo", OLMO_VSL), options={"steps": 60}, lengths={}, shapes=4, steps=60),
    "skyladder": Case(  # the window grows by 1 each step and is rounded down to 64; below 64 it is 32
        imported=("skyladder", "dm1inc64"),
        options={"max_length": 512, "steps": 500, "batch_tokens": 1024},
        lengths={31: 32, 32: 64, 95: 64, 96: 128, 479: 448, 480: 512},
        shapes=9,
        steps=500,
    ),
}
