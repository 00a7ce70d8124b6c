"""The options of a build with the warmup that a tune has found, as a TOML file for `curriculum build --config`.

In:  options, a candidate, lines about it.   Out: TOML text.
Guarantee: read again, the file gives the same options, wherever it is read: paths of a disk are absolute. Options of
the client of a store may be secrets and are not written; a comment says that they have to be given again. Names that
TOML cannot hold are refused.

    # Found by `curriculum tune`: start 16, warmup 700 steps.
    corpus = ["/data/corpus"]
    steps = 3000
    start_length = 16
    length_warmup_steps = 700
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.printable import printable_text
from pipeline.files.address import is_url
from pipeline.files.storage_options import NO_OPTIONS
from pipeline.hub.names import is_hub_name
from pipeline.option_fields import DEFAULTS
from pipeline.options import Options
from pipeline.sources import named_sources
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import candidate_options

OF_SOURCES = ("source", "weight", "source_epochs")
UNWRITABLE = re.compile("[\ud800-\udfff]")
"""Bytes of a name of a file that are no UTF-8, as Python has them."""
NOT_WRITTEN = (*OF_SOURCES, "storage_option", "out", "overwrite", "keep_store")


def tuned_config(options: Options, candidate: Candidate, comments: Iterable[str]) -> str:
    """The file.

    Args:
        options: those of the probes.
        candidate: what was found.
        comments: lines for its head.

    Raises:
        ConfigError: an option is no Unicode text, such as the name of a file may be.
    """
    tuned = candidate_options(options, candidate)
    lines = [f"# {comment}" for comment in comments]
    if options.storage_option != NO_OPTIONS:
        lines.append("# The tune was given --storage-option, which may hold secrets: give it again.")
    for name, default in DEFAULTS.items():
        value = getattr(tuned, name)
        if name not in NOT_WRITTEN and value != default:
            lines.append(f"{name} = {_toml(_anywhere(name, value))}")
    lines += _sources(tuned)
    for line in lines:
        if UNWRITABLE.search(line):
            raise ConfigError(
                f"{printable_text(line)}: this is not UTF-8, and a TOML file could not say it. Rename the file or "
                f"folder, or give a link to it."
            )
    return "\n".join(lines) + "\n"


def _sources(options: Options) -> Iterator[str]:
    """`[[source]]` tables; they come last, since what follows a table belongs to it."""
    if not options.source:
        return
    weights = dict(entry.split("=", 1) for entry in options.weight)
    epochs = dict(entry.split("=", 1) for entry in options.source_epochs)
    for one in named_sources((), options.source, options.weight, options.source_epochs, options.epochs):
        yield ""
        yield "[[source]]"
        yield f"name = {_toml(one.name)}"
        yield f"path = {_toml(tuple(_absolute(path) for path in one.paths))}"
        if one.name in weights:
            yield f"weight = {_weight(weights[one.name])}"
        if one.name in epochs:
            yield f"epochs = {int(epochs[one.name])}"


def _weight(said: str) -> str:
    """`0.5`, `8:0.9,512:0.5` or `0.9,0.2` as a number, an inline table or a list."""
    parts = [part.strip() for part in said.split(",")]
    if ":" in said:
        pairs = (part.split(":") for part in parts)
        return "{" + ", ".join(f"{length.strip()} = {_toml(Decimal(value.strip()))}" for length, value in pairs) + "}"
    numbers = [_toml(Decimal(part)) for part in parts]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"


def _anywhere(name: str, value: Any) -> Any:
    """Paths that mean the same wherever the file lies and the command is run."""
    if name == "corpus":
        return tuple(_absolute(path) for path in value)
    if name == "tokenizer" and Path(value).exists():
        return _absolute(value)
    return value


def _absolute(path: str) -> str:
    return path if is_url(path) or is_hub_name(path) else os.path.abspath(path)  # noqa: PTH100 - links stay links


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # The strings of JSON are those of TOML, but for DEL, which TOML wants as an escape.
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
