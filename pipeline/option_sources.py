"""Where options come from: flags, a TOML file, and the configuration of another tool.

In:  flags; a TOML file whose keys are the flags' names with underscores; options that an importer translated.
Out: `Options`.   Guarantee: flags win over the file, the file over what was imported, also where two names contradict
each other; an unknown key is an error that suggests the nearest.

    # small.toml
    frac = 0.3
    max_length = 512      ->  load_options(Path("small.toml"), {"max_length": 256}).max_length == 256
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_type_hints

from curriculum.errors import ConfigError
from curriculum.schedule import DOCUMENT_CURRICULA
from pipeline.files.address import is_url
from pipeline.files.storage_options import StorageOptions, storage_options
from pipeline.hub.names import is_hub_name
from pipeline.importers import Imported, import_schedule
from pipeline.option_rules import (
    EXCLUSIVE,
    NOT_WITH_DOCUMENTS,
    NOT_WITH_PHASES,
    NOT_WITH_TOKENIZED,
    ONLY_FOR_SCHEDULE,
    ONLY_FOR_TOKENIZED,
    ONLY_GROWING,
)
from pipeline.options import Options
from pipeline.requested_plan import phases_are_closed
from pipeline.sources import by_name, source_options


def load_options(config: Path | None, flags: Mapping[str, Any], imported: Mapping[str, Any] | None = None) -> Options:
    """Options from what an importer translated, a TOML file and flags; the later ones win.

    Raises:
        ConfigError: a key is unknown or has the wrong type, or two options contradict each other.
    """
    return _layered(imported or {}, _read_toml(config) if config else {}, flags)


def load_imported(config: Path | None, flags: Mapping[str, Any], given: Mapping[str, str]) -> tuple[Options, str]:
    """Options on top of the schedule of another tool, and the line that says what differs from the original.

    Raises:
        ConfigError: as `load_options`; the import fails; or something said would replace the phases that it became.
    """
    file = _read_toml(config) if config else {}
    said = {**file, **flags}
    imported = import_schedule(given, max_length=said.get("max_length"), steps=said.get("steps"))
    layers = [{n: v for n, v in layer.items() if n not in imported.completed_by} for layer in (file, flags)]
    merged = {**layers[0], **layers[1]}
    for name, value in merged.items():
        _refuse_to_replace(imported, name, {name: value}, merged)
    options = _layered(imported.options, *layers)
    replaced = {name for name, value in imported.options.items() if getattr(options, name) != value}
    differs = imported.differs
    if replaced & LENGTHS:
        differs = "Its lengths are changed by your own options."
    if replaced:
        differs += f" Replaced: {', '.join(sorted(replaced))}."
    if options.max_shapes is not None:
        differs += f" max_shapes {options.max_shapes} chooses among its lengths."
    return options, f"{imported.source}: {differs}"


BY_NAME = ("source", "weight", "source_epochs")
"""Options whose entries are NAME=VALUE: flags replace those of a name."""
LENGTHS = {*NOT_WITH_PHASES, "phases", "multiple_of", "cycles", "balanced"}
"""Options that decide the length of a step."""


def _refuse_to_replace(imported: Imported, name: str, said: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
    """Refuse an option beside which the imported schedule would make room for one that nobody named."""
    gone = {name, *_contradicted(imported.options, said)} - set(merged)
    if "phases" in imported.options and ("phases" in gone or name in {*NOT_WITH_PHASES, "phases"}):
        raise ConfigError(
            f"{imported.source} is imported as explicit phases, and {name} is given too, which would replace them: "
            f"leave one of them out."
        )
    if "schedule" in gone & set(imported.options) and "phases" not in merged:
        raise ConfigError(
            f"{imported.source} is imported as schedule {imported.options['schedule']!r}, which {name} "
            f"{said[name]!r} has no use for: leave {name} out, or the import."
        )


def _layered(*layers: Mapping[str, Any]) -> Options:
    values: dict[str, Any] = {}
    for layer in layers:
        below = values.get("storage_option")
        values = {name: value for name, value in values.items() if name not in _contradicted(values, layer)}
        named = {name: by_name(values.get(name, ()), layer[name]) for name in BY_NAME if name in layer}
        values.update({**layer, **named})
        if below is not None and "storage_option" in layer:
            values["storage_option"] = layer["storage_option"].over(below)
    return Options(**values)


def _contradicted(values: Mapping[str, Any], above: Mapping[str, Any]) -> set[str]:
    """Options that make no sense beside those of the layer above: --steps replaces tokens of the file."""
    gone = {other for pair in EXCLUSIVE for one, other in (pair, pair[::-1]) if one in above}
    if "corpus" in above:
        gone |= set(BY_NAME)
    elif "source" in above:
        gone.add("corpus")
    schedule, mode = above.get("schedule"), above.get("mode")
    if above.get("engine") == "local":
        gone |= {"ray_address"}
    if schedule == "constant":
        gone |= set(ONLY_GROWING)
    if schedule is not None:
        gone |= {option for option, schedules in ONLY_FOR_SCHEDULE.items() if schedule not in schedules}
    if "phases" in above:
        closed = {"steps", "tokens"} if phases_are_closed(above["phases"]) else set()
        gone |= set(NOT_WITH_PHASES) | closed
    elif schedule is not None:
        gone |= {"phases"}  # other options beside phases are refused: they would bring back a schedule nobody named
    if mode == "document":
        gone |= set(NOT_WITH_DOCUMENTS)
    if mode is not None and (mode == "document") != (values.get("schedule") in DOCUMENT_CURRICULA):
        gone |= {"schedule", "cycles", "balanced"}
    if "tokenized" in above:
        gone |= set(NOT_WITH_TOKENIZED)
        gone |= {option for option, formats in ONLY_FOR_TOKENIZED.items() if above["tokenized"] not in formats}
    return gone - set(above)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None
    hints = {name: hint for name, hint in get_type_hints(Options).items() if name not in BY_NAME}
    values: dict[str, Any] = {}
    if "source" in table:
        values = source_options(table.pop("source"), str(path))
        values["source"] = tuple(_beside(path, entry) for entry in values["source"])
    for key, value in table.items():
        if isinstance(value, int) and value.bit_length() > 128:  # Python will not even print it
            raise ConfigError(f"{path}: {key[:40]} is a number of {value.bit_length()} bits; nothing is that large.")
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key.replace("-", "_"), hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(hints)}."
            raise ConfigError(f"{path}: unknown key {key!r}; {hint}")
        values[key] = _typed(path, key, value, hints[key])
    return values


def _beside(path: Path, entry: str) -> str:
    """NAME=PATH, the path relative to the file that says so, unless it is an address."""
    name, _, value = entry.partition("=")
    return entry if "://" in value or is_hub_name(value) else f"{name}={path.parent / value}"


def _typed(path: Path, key: str, value: Any, hint: Any) -> Any:
    """The value as the option's type; booleans are not integers, integers are decimals."""
    wanted = (
        [kind for kind in get_args(hint) if kind is not type(None)] if isinstance(hint, types.UnionType) else [hint]
    )
    kind = wanted[0]
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        if key != "corpus":
            return tuple(value)
        return tuple(item if is_url(item) or is_hub_name(item) else str(path.parent / item) for item in value)
    if kind is StorageOptions and isinstance(value, dict):
        return storage_options(value)
    if kind is StorageOptions:
        raise ConfigError(f"{path}: {key} is no table; write it as [{key}], with a line for each option of the client.")
    if kind is Decimal and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    name = {int: "an integer", str: "a string", bool: "true or false", Decimal: "a number"}.get(
        kind, "a list of strings"
    )
    raise ConfigError(f"{path}: {key} is {value!r}, expected {name}.")
