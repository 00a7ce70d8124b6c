"""What docs/evidence.md compares: scales, settings, arms and seeds, and the commands that each run is.

In:  a scale and how many tokens.   Out: `Run`s, each with its `curriculum build` and its `curriculum train` command.
Guarantee: a run differs from its neighbours in what its name says and in nothing else. All arms of a setting train the
same number of tokens (but for less than one step), have the same peak learning rate, the same warm-up of it in steps
and its decay by tokens, and are validated on the same rows at full length. A seed is that of the weights and of the
order of the data; a baseline and a curriculum of one seed begin with the same weights.

    runs(SCALES["cpu"], seeds=1)     aggressive-constant-seed0, aggressive-truncation-seed0, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ARMS = {
    "constant": ("--schedule", "constant"),
    "truncation": ("--schedule", "linear", "--mode", "truncate"),
    "segmentation": ("--schedule", "linear", "--mode", "segment"),
    "long-warmup": ("--schedule", "constant"),
}
"""The baseline, the paper's method, the one that throws no token away, and a control: the baseline with a learning rate
that warms up for as many tokens as the length of the others grows in. Does it need the lengths?"""
CONTROL = "long-warmup"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How hard a training is pushed."""

    name: str
    batch_rows: int
    """constant rows in a step, as in the paper: the tokens of a step grow with the length"""
    lr: float
    validate_every: int
    """steps"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A model, its settings, and how long it is trained."""

    name: str
    model: tuple[str, ...]
    tokenizer: str
    start_length: int
    max_length: int
    frac: float
    """part of a curriculum's steps in which the length grows"""
    lr_warmup: float
    """part of the baseline's steps; every arm of a setting has this number of steps, but for the control"""
    tokens: int
    validation_tokens: int
    settings: tuple[Setting, ...]
    machine: tuple[str, ...]
    """options of the trainer that do not change what is trained"""


SCALES = {
    "cpu": Scale(
        name="cpu",
        model=("--layers", "4", "--width", "192", "--heads", "6"),
        tokenizer="train:4096",
        start_length=8,
        max_length=256,
        frac=0.4,
        lr_warmup=0.055,
        tokens=1_500_000,
        validation_tokens=80_000,
        settings=(
            Setting(name="aggressive", batch_rows=32, lr=8e-3, validate_every=20),
            Setting(name="normal", batch_rows=8, lr=2e-3, validate_every=80),
        ),
        machine=("--device", "cpu", "--threads", "1", "--bf16", "--micro-tokens", "1024"),
    ),
    "gpt2": Scale(
        name="gpt2",
        model=("--layers", "12", "--width", "768", "--heads", "12"),
        tokenizer="train:50257",
        start_length=8,
        max_length=1024,
        frac=0.4,
        lr_warmup=0.01,
        tokens=10_000_000_000,
        validation_tokens=1_000_000,
        settings=(  # the paper's: batch 8 times, learning rate 4 times
            Setting(name="aggressive", batch_rows=4096, lr=6e-4, validate_every=50),
            Setting(name="normal", batch_rows=512, lr=1.5e-4, validate_every=400),
        ),
        machine=("--device", "cuda", "--bf16", "--compile", "--micro-tokens", "65536"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: a cell of the matrix."""

    scale: Scale
    setting: Setting
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its dataset and its folder."""
        return f"{self.setting.name}-{self.arm}-seed{self.seed}"

    @property
    def identity(self) -> str:
        """Its commands without places and corpus: what must be the same of all runs of a table."""
        return f"{self.scale.name}: {' '.join([*self.build(Path(), [], 1), *self.train(Path())])}"

    def build(self, folder: Path, corpus: list[str], epochs: int) -> list[str]:
        """`curriculum build`: from the token store that all runs share."""
        scale, arm = self.scale, ARMS[self.arm]
        growth = ["--start-length", str(scale.start_length), "--frac", str(scale.frac)] if "constant" not in arm else []
        budget = [
            "--tokens",
            str(scale.tokens),
            "--epochs",
            str(epochs),
            "--validation-tokens",
            str(scale.validation_tokens),
        ]
        batch = ["--max-length", str(scale.max_length), "--batch-rows", str(self.setting.batch_rows)]
        places = ["--store", str(folder / "store"), "--out", str(folder / "data" / self.name)]
        return [
            "build",
            *corpus,
            "--tokenizer",
            scale.tokenizer,
            *arm,
            *growth,
            *batch,
            *budget,
            "--seed",
            str(self.seed),
            *places,
        ]

    def train(self, folder: Path) -> list[str]:
        """`curriculum train`: the same command continues a run that was stopped."""
        scale, setting = self.scale, self.setting
        baseline_steps = scale.tokens / (setting.batch_rows * scale.max_length)
        part = scale.frac / (2 - scale.frac) if self.arm == CONTROL else scale.lr_warmup
        rate = ["--lr", str(setting.lr), "--lr-warmup-steps", str(round(part * baseline_steps))]
        often = ["--validate-every", str(setting.validate_every), "--save-every", str(setting.validate_every)]
        places = [str(folder / "data" / self.name), "--out", str(folder / "runs" / self.name)]
        return ["train", *places, *scale.model, *rate, *often, "--seed", str(self.seed), *scale.machine]


def runs(scale: Scale, seeds: int) -> list[Run]:
    """All cells, seed by seed, so that a matrix that was stopped has as many of each arm as possible. The control is at
    the first setting only, where the baseline struggles."""
    cells = [(setting, arm) for setting in scale.settings for arm in ARMS]
    cells = [(setting, arm) for setting, arm in cells if arm != CONTROL or setting == scale.settings[0]]
    return [Run(scale=scale, setting=setting, arm=arm, seed=seed) for seed in range(seeds) for setting, arm in cells]
