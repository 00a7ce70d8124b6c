"""Composer: the `seq_length_warmup` algorithm of a YAML file, as Composer and llm-foundry users have it.

In:  `algorithms` (a mapping or a list), `max_duration` in batches or epochs, and optionally `max_seq_len`,
     `global_train_batch_size` and `train_subset_num_batches`. `${a.b}` stands for another key of the file.
Out: `Imported`. `truncate: true` is mode truncate with `batch_rows`; `truncate: false` is mode segment with the tokens
     of a full batch.

Guarantee: the lengths of `SeqLengthWarmup.apply` at every batch, which floors twice and so ends before `duration`:

    W = int(total * duration);   every = W // ((max - min) // step)
    length = min(max, min + step * (batch // every))            batch counts from 0

    batch     0   1   2    50   254      total 1000, the defaults (0.3, 8, 1024, 8): W = 300, every = 2
    length    8   8  16   208  1024      1024 comes at batch 254 and not at 300

Where max - min is a multiple of step, that is our `linear` over n * every + 1 steps, n = (max - min) / step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.limits import MAX_TOTAL
from pipeline.importers.translation import (
    Imported,
    Translation,
    as_section,
    as_whole,
    batch_size,
    flag,
    pacing_or_none,
    read_yaml,
    shown,
    translate,
    until,
    whole,
)

ALGORITHM = "seq_length_warmup"
DEFAULTS: dict[str, Any] = {"duration": 0.3, "min_seq_length": 8, "max_seq_length": 1024, "step_size": 8}
MAX_CHANGES = 1_000_000


def import_composer(path: Path) -> Imported:
    """The curriculum of a Composer YAML; train_subset_num_batches says how long an epoch of max_duration is.

    Raises:
        ConfigError: there is no such curriculum in it, or one on which Composer fails.
    """
    config = read_yaml(path)
    config = {key: _named(config, value) for key, value in config.items()}
    where = f"{path}: {ALGORITHM}"
    section = {**DEFAULTS, **_section(config, path)}
    total_batches = _total_batches(config, path)
    every = _every(section, total_batches, where)
    least, most, step = (whole(section, key, where) for key in ("min_seq_length", "max_seq_length", "step_size"))
    row_length = whole(config, "max_seq_len", f"{path}") if config.get("max_seq_len") is not None else most
    most = min(most, row_length)  # a batch that is shorter stays as it is
    changes = max(0, -(-(most - least) // step))
    runs = [*((min(least + step * k, most), every) for k in range(changes)), (most, 1)]
    end = every * changes
    nearest = pacing_or_none(name="linear", start_length=least, max_length=most, multiple_of=step)
    translation = translate(until(runs, total_batches), nearest, end + 1)
    is_truncating = flag(section, "truncate", where, default=True)
    options = {"mode": "truncate" if is_truncating else "segment", "steps": total_batches, **translation.options}
    rows = batch_size(config, ("global_train_batch_size", "train_batch_size"), f"{path}")
    if rows is not None:
        options |= {"batch_rows": rows} if is_truncating else {"batch_tokens": rows * row_length, "rows_multiple_of": 1}
    remarks = _remarks(section, translation, is_truncating=is_truncating, end=end, total=total_batches)
    if rows is None:
        remarks.append("The file has no global_train_batch_size: give batch_rows or batch_tokens.")
    return Imported(options=options, differs=" ".join(remarks), source=where)


def _remarks(
    section: Mapping[str, Any], translation: Translation, *, is_truncating: bool, end: int, total: int
) -> list[str]:
    """What differs, in the order of what matters."""
    how = f" as {translation.num_phases:,} explicit phases" if translation.num_phases else ""
    comes = f"comes at batch {end:,} of {total:,}" if end < total else "is never reached"
    remarks = [f"Equal at every step{how} (Composer floors twice: the maximum {comes})."]
    remarks.append("Its Hugging Face models shift labels and predict one token fewer per row.")
    if is_truncating and section.get("preserve_end_of_sequence"):
        remarks.append("preserve_end_of_sequence is not kept: rows are cut, and their last token stays what it was.")
    if not is_truncating:
        remarks.append("It drops the rest of each batch that fills no row; here no token is dropped.")
    return remarks


def _every(section: Mapping[str, Any], total_batches: int, where: str) -> int:
    """Batches between two changes; refused where Composer raises."""
    duration = section["duration"]
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 <= duration <= 1:
        raise ConfigError(f"{where}: duration is {shown(duration)}; give a share from 0 to 1, such as 0.3.")
    least, most, step = (whole(section, key, where) for key in ("min_seq_length", "max_seq_length", "step_size"))
    if most < least:
        raise ConfigError(f"{where}: max_seq_length {most} is below min_seq_length {least}; swap them.")
    changes = (most - least) // step
    warmup_batches = int(total_batches * duration)
    if changes == 0:
        raise ConfigError(
            f"{where}: min_seq_length {least} and max_seq_length {most} are less than one step_size {step} apart, and "
            f"Composer divides by zero (SeqLengthWarmup, num_update_steps); use a smaller step_size, or schedule "
            f"constant."
        )
    if changes > MAX_CHANGES:
        raise ConfigError(f"{where}: {changes} changes of length are too many; use a larger step_size than {step}.")
    if warmup_batches < changes:
        raise ConfigError(
            f"{where}: duration {duration} of {total_batches} batches is {warmup_batches}, fewer than the {changes} "
            f"changes of length, and Composer divides by zero (SeqLengthWarmup, update_every_n_steps); use a longer "
            f"run, or a larger duration or step_size."
        )
    return warmup_batches // changes


def _section(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`algorithms` is a mapping in llm-foundry, and a list of one-key mappings in older files."""
    algorithms = config.get("algorithms")
    entries = algorithms if isinstance(algorithms, list) else [algorithms]
    found = [entry[ALGORITHM] for entry in entries if isinstance(entry, dict) and ALGORITHM in entry]
    if len(found) != 1:
        raise ConfigError(f"{path}: algorithms has {len(found)} entries {ALGORITHM}; exactly one can be imported.")
    section = as_section(_named(config, found[0]) or {}, f"{path}: {ALGORITHM}")
    section = {key: _named(config, value) for key, value in section.items()}
    unknown = sorted(set(map(str, section)) - {*DEFAULTS, "truncate", "preserve_end_of_sequence"})
    if unknown:
        raise ConfigError(
            f"{path}: {ALGORITHM}: unknown key {unknown[0]!r}; Composer knows {', '.join(DEFAULTS)}, truncate and "
            f"preserve_end_of_sequence."
        )
    return section


def _total_batches(config: Mapping[str, Any], path: Path) -> int:
    """`max_duration` in batches; a number without a unit counts epochs, as in Composer."""
    value = config.get("max_duration")
    found = re.fullmatch(
        r"\s*([0-9.eE+]+)\s*(iter|ep|ba|sp|tok|dur|sec)", f"{value}ep" if type(value) is int else str(value)
    )
    where = f"{path}: max_duration"
    if not found:
        raise ConfigError(f"{where} is {shown(value)}; give it in batches, such as 1000ba.")
    number, unit = found.groups()
    if unit not in ("ep", "ba"):
        raise ConfigError(
            f"{where} is {shown(value)}, and Composer's SeqLengthWarmup takes batches and epochs only (its #226); give "
            f"batches, such as 1000ba."
        )
    try:
        count = as_whole(float(number), where, most=MAX_TOTAL)
    except (ValueError, OverflowError):
        raise ConfigError(f"{where} is {shown(value)}; give it in batches, such as 1000ba.") from None
    if unit == "ba":
        return count
    batches_per_epoch = config.get("train_subset_num_batches")
    if type(batches_per_epoch) is not int or batches_per_epoch < 1:
        raise ConfigError(
            f"{where} is {shown(value)}, and the number of batches of an epoch is not in the file; give max_duration "
            f"in batches, such as 1000ba, or train_subset_num_batches."
        )
    return count * batches_per_epoch


def _named(config: Mapping[str, Any], value: Any) -> Any:
    """What `${a.b}` names, as OmegaConf does; any other value as it is."""
    for _ in range(10):  # a name may name another
        found = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if not found:
            break
        inner: Any = config
        for key in found[1].split("."):
            inner = inner.get(key) if isinstance(inner, dict) else None
        if inner is None:
            break
        value = inner
    return value
