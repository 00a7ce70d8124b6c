"""DeepSpeed: the curriculum sections of a ds_config.json.

In:  the legacy `curriculum_learning` section, or `data_efficiency` with one sequence-length metric.
Out: `Imported`. `train_batch_size` becomes `batch_rows`; the modes are those of `MODES`.

Guarantee: the lengths of `CurriculumScheduler` at every step, its floating point, its rounding and its latch at the
maximum included. DeepSpeed counts steps t from 1: our step s is its t = s + 1. For `fixed_linear` (root 1) and
`fixed_root`

    d = floor((t / T) ** (1 / root) * (max - min) + min);   d -= d % step;   d = min(d, max)

Since 0.19.7 (PR #8334) d is also at least min rounded up to a multiple of the step; before, a min below the step gave
length 0. Once max is reached, d stays. Where max is no multiple of the step, d grows on behind T:

    t            990   1000   1003   1004      10 -> 1020, step 8, T = 1000
    length      1008   1016   1016   1020
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.explicit_phases import merged_runs
from curriculum.schedule import Pacing
from pipeline.importers.translation import (
    MAX_WARMUP_STEPS,
    Imported,
    Runs,
    Translation,
    as_section,
    as_whole,
    batch_size,
    flag,
    pacing_or_none,
    read_json,
    runs_of,
    shown,
    translate,
    whole,
)

LEGACY = "curriculum_learning"
MODES = {"seqlen": "truncate", "seqlen_truncate": "truncate", "seqlen_reshape": "segment"}
MAX_ROOT_DEGREE = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """`fixed_linear` (root_degree 1) or `fixed_root`; `clamped` from 0.19.7 on."""

    min_length: int
    max_length: int
    difficulty_step: int
    warmup_steps: int
    root_degree: float
    clamped: bool = True

    def length(self, t: int) -> int:
        """Same operations in the same order as DeepSpeed, so that every rounding is its own."""
        grown: float = (float(t) / self.warmup_steps) ** (1.0 / self.root_degree)
        length = math.floor(grown * (self.max_length - self.min_length) + self.min_length)
        length -= length % self.difficulty_step
        if self.clamped:
            length = max(length, -(-self.min_length // self.difficulty_step) * self.difficulty_step)
        return min(length, self.max_length)

    def lengths(self, where: str) -> Iterator[int]:
        """From t = 1 to the first step at the maximum, where the scheduler stops computing."""
        if self.min_length == self.max_length:  # current_difficulty starts at min: never computed at all
            yield self.max_length
            return
        for t in range(1, MAX_WARMUP_STEPS + 1):
            length = self.length(t)
            yield length
            if length >= self.max_length:
                return
        raise ConfigError(
            f"{where}: max_difficulty {self.max_length} is not reached within {MAX_WARMUP_STEPS} steps; give a smaller "
            f"total_curriculum_step, or a max_difficulty that is a multiple of difficulty_step {self.difficulty_step}."
        )

    def nearest(self) -> Pacing | None:
        """Our schedule of the same ends, None where there is none."""
        if not self.root_degree.is_integer():
            return None
        degree = int(self.root_degree)
        return pacing_or_none(
            name="linear" if degree == 1 else "root",
            start_length=self.min_length,
            max_length=self.max_length,
            multiple_of=self.difficulty_step,
            degree=degree,
        )


def import_deepspeed(path: Path, *, clamped: bool | None = None) -> Imported:
    """The curriculum of a ds_config.json.

    `clamped` True reproduces DeepSpeed 0.19.7 and later, False the releases before PR #8334; None is True, and the line
    says where the older ones differ.

    Raises:
        ConfigError: there is no curriculum over sequence lengths in it, or one that DeepSpeed gets wrong.
    """
    config = read_json(path)
    metric, section, where = _section(config, path)
    schedule = as_section(section.get("schedule_config"), f"{where}: schedule_config")
    kind = section.get("schedule_type")
    if kind == "fixed_discrete":
        translation, remarks = _discrete(section, schedule, where)
    elif kind in ("fixed_linear", "fixed_root"):
        translation, remarks = _grown(section, schedule, where, clamped)
    else:
        raise ConfigError(
            f"{where}: schedule_type is {shown(kind)}; fixed_linear, fixed_root and fixed_discrete can be imported, a "
            f"custom function cannot: write its lengths as phases."
        )
    options = {"mode": MODES[metric], **translation.options}
    rows = batch_size(config, ("train_batch_size",), f"{path}")
    if rows is None:
        remarks.append(_missing_batch(config, MODES[metric], translation, section, where))
    elif MODES[metric] == "truncate":
        options["batch_rows"] = rows
    else:
        options |= {"batch_tokens": rows * _longest(translation, section, where), "rows_multiple_of": 1}
    remarks += REMARKS.get(metric, [])
    if "data_efficiency" in where.removeprefix(f"{path}"):
        remarks.append("Its sampler draws another random stream after a resume (DeepSpeed #8405); a dataset does not.")
    return Imported(options=options, differs=" ".join(remarks), source=where)


REMARKS = {
    "seqlen_reshape": [
        "seqlen_reshape repeats the end of every sample and never feeds a chunk's last label; here every token is a "
        "target once, and a step holds the tokens of train_batch_size full rows."
    ]
}


def _missing_batch(
    config: Mapping[str, Any], mode: str, translation: Translation, section: Mapping[str, Any], where: str
) -> str:
    found = "is 'auto'" if config.get("train_batch_size") == "auto" else "is missing"
    wanted = "batch_rows" if mode == "truncate" else f"{_longest(translation, section, where)} times it as batch_tokens"
    return f"train_batch_size {found}: give {wanted}, or steps have 16 rows."


def _longest(translation: Translation, section: Mapping[str, Any], where: str) -> int:
    """Rows are reshaped from full sequences, whose length the file does not name: max_difficulty is taken."""
    longest: int = translation.options.get("max_length") or whole(section, "max_difficulty", where)
    return longest


def _section(config: Mapping[str, Any], path: Path) -> tuple[str, Mapping[str, Any], str]:
    """The metric's name, its section and where that stands."""
    found = []
    if LEGACY in config:
        found.append(_legacy(as_section(config[LEGACY], f"{path}: {LEGACY}"), f"{path}: {LEGACY}"))
    if "data_efficiency" in config:
        found.append(_data_efficiency(config["data_efficiency"], f"{path}: data_efficiency"))
    enabled = [entry for entry in found if entry is not None]
    if len(enabled) > 1:
        raise ConfigError(f"{path}: {LEGACY} and data_efficiency are both enabled; disable one of them.")
    if not enabled:
        what = "is not enabled" if found else "is missing"
        raise ConfigError(
            f"{path}: a curriculum {what}; DeepSpeed has one in {LEGACY}, or in data_efficiency: data_sampling: "
            f"{LEGACY}, each with enabled set to true."
        )
    return enabled[0]


def _legacy(section: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any], str] | None:
    if not flag(section, "enabled", where, default=False):
        return None
    metric = section.get("curriculum_type")
    if metric != "seqlen":
        raise ConfigError(f"{where}: curriculum_type is {shown(metric)}; only seqlen sets a sequence length.")
    return metric, section, where


def _data_efficiency(section: Any, where: str) -> tuple[str, Mapping[str, Any], str] | None:
    for inner in (None, "data_sampling", LEGACY):
        if inner is not None:
            section, where = section.get(inner, {}), f"{where}: {inner}"
        section = as_section(section, where)
        if not flag(section, "enabled", where, default=False):
            return None
    where = f"{where}: curriculum_metrics"
    metrics = as_section(section.get("curriculum_metrics"), where)
    if len(metrics) != 1 or next(iter(metrics)) not in MODES:
        raise ConfigError(
            f"{where} has {', '.join(map(shown, metrics)) or 'nothing'}; exactly one of {', '.join(MODES)} can be "
            f"imported, for other metrics choose among samples and not among lengths."
        )
    (metric,) = metrics
    where = f"{where}: {metric}"
    section = as_section(metrics[metric], where)
    for key, allowed in (("difficulty_type", "value"), ("clustering_type", "single_cluster")):
        if section.get(key, allowed) != allowed:
            raise ConfigError(
                f"{where}: {key} is {shown(section[key])}, which picks samples by rank instead of cutting them to a "
                f"length; only {allowed!r} can be imported."
            )
    return metric, section, where


def _grown(
    section: Mapping[str, Any], schedule: Mapping[str, Any], where: str, clamped: bool | None
) -> tuple[Translation, list[str]]:
    """`fixed_linear` and `fixed_root`."""
    curve = _curve(section, schedule, where, clamped=clamped is not False)
    runs = runs_of(curve.lengths(where))
    if not curve.clamped and runs[0][0] < 1:
        raise ConfigError(
            f"{where}: before release 0.19.7 DeepSpeed gives length 0 at its first {runs[0][1]} steps, because "
            f"min_difficulty {curve.min_length} is below difficulty_step {curve.difficulty_step} (its PR #8334); "
            f"import the lengths of later releases, or raise min_difficulty."
        )
    translation = translate(runs, curve.nearest(), curve.warmup_steps)
    remarks = [_remark(translation, curve, runs)]
    if clamped is None:
        older = replace(curve, clamped=False).length(1)
        if older != runs[0][0] and curve.min_length < curve.max_length:
            remarks.append(
                f"Releases before 0.19.7 start at length {older} instead (DeepSpeed PR #8334), as "
                f"--from-deepspeed-unclamped does."
            )
    return translation, remarks


def _curve(section: Mapping[str, Any], schedule: Mapping[str, Any], where: str, *, clamped: bool) -> Curve:
    least, most = whole(section, "min_difficulty", where), whole(section, "max_difficulty", where)
    if least > most:
        raise ConfigError(
            f"{where}: min_difficulty {least} is above max_difficulty {most}, and DeepSpeed would stay at {least} for "
            f"good; swap them."
        )
    inside = f"{where}: schedule_config"
    root_degree = 1.0
    if section["schedule_type"] == "fixed_root":
        degree = schedule.get("root_degree")
        if isinstance(degree, bool) or not isinstance(degree, int | float) or not 0.1 <= degree <= MAX_ROOT_DEGREE:
            raise ConfigError(f"{inside}: root_degree is {shown(degree)}; give a number from 0.1 to 1000, such as 2.")
        root_degree = float(degree)
    return Curve(
        min_length=least,
        max_length=most,
        difficulty_step=whole(schedule, "difficulty_step", inside),
        warmup_steps=whole(schedule, "total_curriculum_step", inside, most=MAX_WARMUP_STEPS),
        root_degree=root_degree,
        clamped=clamped,
    )


def _remark(translation: Translation, curve: Curve, runs: Runs) -> str:
    if not translation.num_phases:
        return "Equal at every step."
    if translation.differing_steps is not None:
        return (
            f"DeepSpeed's floating point is off the exact schedule at {translation.differing_steps:,} of "
            f"{curve.warmup_steps:,} steps; reproduced as {translation.num_phases:,} explicit phases, equal at every "
            f"step."
        )
    reached = 1 + sum(steps for _, steps in runs[:-1])
    return (
        f"No schedule of ours has these ends, alignment and degree: {translation.num_phases:,} explicit phases, equal "
        f"at every step; max_difficulty {curve.max_length} is reached at step {reached:,} (total_curriculum_step is "
        f"{curve.warmup_steps:,})."
    )


def _discrete(section: Mapping[str, Any], schedule: Mapping[str, Any], where: str) -> tuple[Translation, list[str]]:
    """`fixed_discrete`: `difficulty[i]` up to and including step `max_step[i]`, the last one from then on."""
    whole(section, "min_difficulty", where)  # DeepSpeed asks for it, and starts at it
    top = whole(section, "max_difficulty", where)
    inside = f"{where}: schedule_config"
    lengths, ends = (_integers(schedule, key, inside) for key in ("difficulty", "max_step"))
    if not ends or len(lengths) != len(ends) + 1:
        raise ConfigError(
            f"{inside}: difficulty has {len(lengths)} entries and max_step {len(ends)}; max_step needs one or more, "
            f"and difficulty one more than max_step."
        )
    if section["min_difficulty"] >= top:
        raise ConfigError(
            f"{where}: min_difficulty {section['min_difficulty']} is not below max_difficulty {top}, and DeepSpeed "
            f"would never look at the difficulty list; give the smallest and the largest of the list."
        )
    runs, start = [], 0
    for stop in sorted({end for end in ends if end <= ends[-1]}):
        number = next(i for i, end in enumerate(ends) if stop <= end)
        runs.append((lengths[number], stop - start))
        start = stop
    runs.append((lengths[-1], 1))
    for number, (length, _) in enumerate(runs[:-1]):
        if length >= top:  # the latch: update_difficulty computes only while the current one is below the maximum
            runs = runs[: number + 1]
            remark = f"Equal at every step: DeepSpeed never leaves a length of max_difficulty {top} or more again."
            break
    else:
        remark = "Equal at every step."
    return translate(merged_runs(tuple(runs))), [remark]


def _integers(section: Mapping[str, Any], key: str, where: str) -> list[int]:
    values = section.get(key)
    if not isinstance(values, list):
        raise ConfigError(f"{where}: {key} is {shown(values)}, expected a list of whole numbers.")
    return [as_whole(value, f"{where}: {key}[{i}]") for i, value in enumerate(values)]
