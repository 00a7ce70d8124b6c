"""What can be said to a tune besides the options of a build: the windows, the rule, and where to search.

In:  the steps of the learning-rate warmup, and whatever else was said.   Out: the rule, the bounds of the search.
Guarantee: pure; everything that was not said has a default that follows from the learning-rate warmup.

    TuneSettings(lr_warmup_steps=100).rule      beginning_steps=100, probe_steps=300, threshold=1.3, validations=20
    TuneSettings(lr_warmup_steps=100).least     300      the shortest length warmup, with which starts are tried
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from curriculum.errors import ConfigError
from curriculum.printable import shown
from pipeline.option_fields import DEFAULT_START_LENGTH, OptionFields
from pipeline.tuning.fluctuation import THRESHOLD, VALIDATIONS, Rule

PROBE_WARMUPS = 3
"""The first few multiples of the learning-rate warmup; the authors saw Adam's variance settle within them (1.5 billion
parameters: 3,000 steps of warmup, and after 8,000 the norm was lowest)."""
FEW_VALIDATIONS = 5
"""Of a beginning with fewer steps than `VALIDATIONS` each step is validated; with fewer than that it shows nothing."""
MOST_FRAC = Decimal("0.8")
"""Of the steps, the warmup may take. Durations up to 0.77 were published (45,000 of 58,769 steps, GPT-2 1.5B)."""
LARGE_PARAMS = 1_000_000_000
LARGE_START_LENGTH = 64
"""The authors begin at 8 for models of millions of parameters, at 64 for those of billions."""
SEARCHED = ("frac", "length_warmup_steps", "length_warmup_tokens")
"""Options of a build that a tune is to find."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneSettings:
    """What a tune is asked for; None means not said."""

    lr_warmup_steps: int
    params: int | None = None
    """of the model, for where the search begins"""
    fluctuation: float = THRESHOLD
    """perplexity above so many times its best so far"""
    beginning_steps: int | None = None
    probe_steps: int | None = None
    validations: int | None = None
    least_length_warmup_steps: int | None = None
    most_length_warmup_steps: int | None = None
    resolution_steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ConfigError: names the value and what is allowed.
        """
        for name in ("lr_warmup_steps", *COUNTS):
            value = getattr(self, name)
            if value is None and name in COUNTS:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**62:
                raise ConfigError(f"{name} is {shown(value)}; give a whole number of 1 or more.")
        if not isinstance(self.fluctuation, int | float):
            raise ConfigError(
                f"fluctuation is {shown(self.fluctuation)}; give a number above 1, such as {THRESHOLD:g}."
            )
        assert self.rule

    @property
    def rule(self) -> Rule:
        """When a probe is steady, and how long it takes."""
        beginning = self.beginning_steps or self.lr_warmup_steps
        return Rule(
            beginning_steps=beginning,
            probe_steps=self.probe_steps or max(PROBE_WARMUPS * self.lr_warmup_steps, beginning),
            threshold=self.fluctuation,
            validations=self.validations or max(min(VALIDATIONS, beginning), FEW_VALIDATIONS),
        )

    @property
    def least(self) -> int:
        """The shortest length warmup."""
        return self.least_length_warmup_steps or PROBE_WARMUPS * self.lr_warmup_steps

    @property
    def resolution(self) -> int:
        """Durations that lie so far apart are told from each other."""
        return self.resolution_steps or self.lr_warmup_steps

    def first_start(self, options: OptionFields) -> int:
        """The length that the search begins at: what was said, or 8, or 64 for a large model; aligned."""
        if options.start_length is not None:
            return options.start_length
        is_large = self.params is not None and self.params >= LARGE_PARAMS
        start, multiple = LARGE_START_LENGTH if is_large else DEFAULT_START_LENGTH, options.alignment
        return -(-start // multiple) * multiple

    def to_json(self) -> dict[str, Any]:
        """What decides how a probe is trained and judged, with the defaults; where to search does not."""
        rule = self.rule
        return {
            "lr_warmup_steps": self.lr_warmup_steps,
            "fluctuation": self.fluctuation,
            "beginning_steps": rule.beginning_steps,
            "probe_steps": rule.probe_steps,
            "validations": rule.validations,
        }


COUNTS = tuple(one.name for one in fields(TuneSettings) if one.name not in ("lr_warmup_steps", "fluctuation"))
"""Whole numbers that need not be said."""


def settings_of(lr_warmup_steps: int, said: Mapping[str, Any]) -> TuneSettings:
    """Settings by their names.

    Raises:
        ConfigError: a name is none, or a value has no meaning.
    """
    known = ("fluctuation", *COUNTS)
    for name in said:
        if name not in known:
            raise ConfigError(f"{shown(name)} is no setting of a tune; there are {', '.join(known)}.")
    return TuneSettings(lr_warmup_steps=lr_warmup_steps, **said)


def refuse_searched(options: OptionFields) -> None:
    """Refuse options that say what is to be found.

    Raises:
        ConfigError: names the option.
    """
    for name in SEARCHED:
        if getattr(options, name) is not None:
            raise ConfigError(
                f"{name} is given, and the duration of the warmup is what a tune looks for: leave it out, also of the "
                f"file that --config names. --least-length-warmup-steps and --most-length-warmup-steps are its bounds."
            )
