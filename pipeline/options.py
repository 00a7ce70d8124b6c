"""The options of `plan` and `build`, checked as far as that is possible without data.

In:  values by name (`pipeline/option_sources.py` collects them from flags, TOML and imported configurations).
Out: `Options`; `pipeline/requested_plan.py` makes the schedule, batch and budget of them that they describe.
Guarantee: options that contradict each other are refused before anything is read.

    Options(steps=1, tokens=1)      ConfigError: steps and tokens are both given; they contradict each other: give one.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.option_checks import check_options
from pipeline.option_fields import OptionFields


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(OptionFields):
    """Everything that can be said to `plan` and `build`, without contradictions."""

    def __post_init__(self) -> None:
        check_options(self)
