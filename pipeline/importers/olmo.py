"""OLMo-core: a `SequenceLengthSchedulerCallback`, or a `NumpyVSLDatasetConfig` with its curriculum.

In:  the config.json that OLMo-core saves with a run (classes stand in `_CLASS_`), or the same as YAML.
Out: `Imported`: phases for the callback; mode document with `natural`, `grow-linear` or `grow-p2` for the dataset.
     `global_batch_size` counts tokens and becomes `batch_tokens` (`batch_rows` where rows are truncated).

Guarantee: the callback's length at every step, its floating point included. Its step counts from 1, so t = step + 1:

    L = min + (max - min) * min(t, W) / W
    split:     min * 2 ** floor(log2(L // min))               truncate: keep * (L // keep)

    t           1   134   400   934  2000      split, 128 -> 2048, W = 2000
    length    128   256   512  1024  2048

For t > W rows have the full length, whatever `keep_multiple_of` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.explicit_phases import merged_runs
from curriculum.limits import MAX_TOTAL
from pipeline.importers.translation import (
    MAX_WARMUP_STEPS,
    Imported,
    as_whole,
    flag,
    pacing_or_none,
    read_yaml,
    runs_of,
    shown,
    translate,
    whole,
)

CLASS = "_CLASS_"
CALLBACK = "SequenceLengthSchedulerCallback"
VSL_DATASET = "NumpyVSLDatasetConfig"
CURRICULA = {"natural": "natural", "grow_linear": "grow-linear", "grow_p2": "grow-p2"}
DEFAULT_CYCLES = 8
WRAPPING_LENGTHS = (256, 65_536)
"""OLMo-core stores lengths in the smallest unsigned type that holds length - 1, where these become 0."""

Found = tuple[str, dict[str, Any]]


def import_olmo(path: Path) -> Imported:
    """The curriculum of an OLMo-core configuration.

    Raises:
        ConfigError: there is none, or more than one, or one that OLMo-core gets wrong.
    """
    nodes = list(_nodes(read_yaml(path), f"{path}"))
    callbacks = [node for node in nodes if _is_callback(*node)]
    datasets = [node for node in nodes if _is_vsl(node[1])]
    if len(callbacks) + len(datasets) > 1:  # its launch scripts carry a disabled callback along
        callbacks = [(where, node) for where, node in callbacks if node.get("enabled") is not False]
    if len(callbacks) + len(datasets) != 1:
        found = f"{len(callbacks)} {CALLBACK} and {len(datasets)} {VSL_DATASET}"
        raise ConfigError(f"{path}: {found} found; exactly one of either can be imported.")
    batch_tokens = _only(nodes, "global_batch_size", path)
    if datasets:
        return _document(*datasets[0], batch_tokens)
    max_length = _only(nodes, "sequence_length", path)
    if max_length is None:
        raise ConfigError(f"{path}: the dataset's sequence_length is missing; the schedule ends there, so give it.")
    return _scheduler(*callbacks[0], as_whole(max_length, f"{path}: sequence_length"), batch_tokens)


def _nodes(value: Any, where: str) -> Iterator[Found]:
    """Every mapping and where it stands."""
    stack = [(where, value)]
    while stack:
        where, value = stack.pop()
        if isinstance(value, dict):
            yield where, value
            stack += [(f"{where}: {key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(f"{where}[{i}]", inner) for i, inner in enumerate(value)]


def _class_of(node: Mapping[str, Any]) -> str:
    return str(node.get(CLASS, "")).rpartition(".")[2]


def _is_callback(where: str, node: Mapping[str, Any]) -> bool:
    name = _class_of(node)
    return name == CALLBACK or (not name and where.endswith(": sequence_length_scheduler"))


def _is_vsl(node: Mapping[str, Any]) -> bool:
    """Until September 2025 one class, `NumpyDatasetConfig`, named its kind in a key."""
    name = _class_of(node)
    return name == VSL_DATASET or (
        name in ("", "NumpyDatasetConfig") and ("vsl_curriculum" in node or _is_named_vsl(node))
    )


def _is_named_vsl(node: Mapping[str, Any]) -> bool:
    return node.get("name") == "vsl" and "max_sequence_length" in node


def _only(nodes: list[Found], key: str, path: Path) -> int | None:
    """The one value that a key has in the training part; evaluation datasets stand among the callbacks."""
    values = {where: node[key] for where, node in nodes if ": callbacks" not in where and node.get(key) is not None}
    if len(set(map(str, values.values()))) > 1:
        raise ConfigError(f"{path}: {key} stands in {len(values)} places with different values; leave one.")
    return next((as_whole(value, f"{where}: {key}", most=MAX_TOTAL) for where, value in values.items()), None)


def _scheduler(where: str, node: dict[str, Any], max_length: int, batch_tokens: int | None) -> Imported:
    """The callback as phases, or as `linear` where that is equal."""
    if not flag(node, "enabled", where, default=True):
        raise ConfigError(f"{where}: enabled is false, so there is no curriculum to import; set it to true.")
    least = whole({"min_sequence_length": 128, **node}, "min_sequence_length", where)
    warmup_steps = whole({"warmup_steps": 2000, **node}, "warmup_steps", where, most=MAX_WARMUP_STEPS)
    keep = whole({"keep_multiple_of": 128, **node}, "keep_multiple_of", where)
    is_truncating = flag(node, "truncate", where, default=False)
    _refuse_scheduler(where, least, max_length, keep, is_truncating=is_truncating)

    def length(t: int) -> int:
        grown = least + (max_length - least) * min(t, warmup_steps) / warmup_steps
        if is_truncating:
            return int(keep * (grown // keep))
        return int(least * 2 ** math.floor(math.log(grown // least, 2)))

    runs = merged_runs((*runs_of(map(length, range(1, warmup_steps + 1))), (max_length, 1)))
    linear = pacing_or_none(name="linear", start_length=least, max_length=max_length, multiple_of=keep)
    translation = translate(runs, linear if is_truncating else None, warmup_steps)
    options = {"mode": "truncate" if is_truncating else "segment", **translation.options}
    how = f" as {translation.num_phases:,} explicit phases" if translation.num_phases else ""
    remarks = [f"Equal at every step{how}."]
    if is_truncating:
        remarks.append("OLMo-core counts truncated tokens as trained; here they are not.")
    remarks.append("Rows here train a target for every input; OLMo-core shifts labels and trains one fewer.")
    if batch_tokens is None:
        remarks.append("The file has no global_batch_size: give batch_tokens or batch_rows.")
    elif is_truncating:
        options["batch_rows"] = max(1, batch_tokens // max_length)
    else:
        options |= {"batch_tokens": batch_tokens, "rows_multiple_of": 1}
    return Imported(options=options, differs=" ".join(remarks), source=f"{where}: {CALLBACK}")


def _is_doubling(least: int, most: int) -> bool:
    return most % least == 0 and (most // least).bit_count() == 1


def _refuse_scheduler(where: str, least: int, most: int, keep: int, *, is_truncating: bool) -> None:
    if most <= least:
        raise ConfigError(f"{where}: sequence_length {most} is not above min_sequence_length {least}; raise it.")
    if not is_truncating and not _is_doubling(least, most):
        raise ConfigError(
            f"{where}: sequence_length {most} is not a power of two times min_sequence_length {least}, and OLMo-core "
            f"fails during training (melt_batch), because its check stands under `if self.truncate`; use such a "
            f"min_sequence_length."
        )
    if is_truncating and not _is_doubling(least, most):
        raise ConfigError(
            f"{where}: OLMo-core refuses min_sequence_length {least} with sequence_length {most} and truncate by "
            f"mistake, because the power-of-two check of truncate=False stands under `if self.truncate`; use "
            f"schedule linear with start_length and max_length here."
        )
    if is_truncating and keep > least:
        raise ConfigError(
            f"{where}: keep_multiple_of {keep} is above min_sequence_length {least}, and OLMo-core truncates to length "
            f"0 at first; use a keep_multiple_of of at most {least}."
        )


def _document(where: str, node: dict[str, Any], batch_tokens: int | None) -> Imported:
    """The variable-length dataset as mode document."""
    least, most = (whole(node, key, where) for key in ("min_sequence_length", "max_sequence_length"))
    curriculum = node.get("vsl_curriculum") or {}
    if not isinstance(curriculum, dict) or str(curriculum.get("name", "natural")) not in CURRICULA:
        raise ConfigError(f"{where}: vsl_curriculum is {shown(curriculum)}; name one of {', '.join(CURRICULA)}.")
    name = CURRICULA[str(curriculum.get("name", "natural"))]
    _refuse_document(where, least, most, node)
    options = {"mode": "document", "schedule": name, "start_length": least, "max_length": most}
    inside = f"{where}: vsl_curriculum"
    if name != "natural":
        cycles = curriculum.get("num_cycles")
        options["cycles"] = DEFAULT_CYCLES if cycles is None else as_whole(cycles, f"{inside}: num_cycles")
        balanced = {key: value for key, value in curriculum.items() if value is not None}
        options["balanced"] = flag(balanced, "balanced", inside, default=False)
    remarks = [
        f"Same buckets and shares; kept here and dropped by OLMo-core: tails under {least} tokens, their EOS included, "
        f"and the remainder of each bucket. The order within a sub-cycle is ours."
    ]
    if name == "grow-linear":
        remarks.append("OLMo-core's Grow-Linear stops with an AssertionError on some corpora; here it never does.")
    if node.get("instance_filter_config") is not None:
        remarks.append("Its instance_filter_config is not applied: filter the corpus first.")
    if batch_tokens is None:
        remarks.append("The file has no global_batch_size: give batch_tokens.")
    else:
        if batch_tokens < most:
            raise ConfigError(f"{where}: global_batch_size {batch_tokens} holds no row of {most}; raise it to {most}.")
        options |= {"batch_tokens": batch_tokens, "rows_multiple_of": 1}
    return Imported(options=options, differs=" ".join(remarks), source=f"{where}: {VSL_DATASET}")


def _refuse_document(where: str, least: int, most: int, node: Mapping[str, Any]) -> None:
    if least.bit_count() != 1 or most.bit_count() != 1 or least >= most:
        raise ConfigError(
            f"{where}: min_sequence_length {least} and max_sequence_length {most} must be two powers of two, the first "
            f"the smaller; use such lengths."
        )
    if most in WRAPPING_LENGTHS:
        raise ConfigError(
            f"{where}: max_sequence_length {most} becomes 0 in the integer type in which OLMo-core stores lengths "
            f"(NumpyVSLDataset, instance lengths), and its longest bucket stays empty; use another length, or give "
            f"mode document and max_length {most} here, where it works."
        )
    tokenizer = node.get("tokenizer")
    if isinstance(tokenizer, dict) and tokenizer.get("bos_token_id") is not None:
        raise ConfigError(f"{where}: OLMo-core has no BOS in this dataset (tokenizer: bos_token_id); leave it out.")
