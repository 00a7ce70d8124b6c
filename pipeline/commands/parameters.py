"""What several commands take: a dataset, options of a build, options of a store.

In:  what was typed.   Out: values of the pipeline.
Guarantee: an address with a secret is refused before anything is done with it, and no sentence that ends a command
repeats a secret of `--storage-option`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import IMPORTERS

CONCEAL = "pipeline.commands.conceal"
"""What takes the secrets of a command out of its last sentence, in the meta of its context."""


def without_secret(ctx: click.Context, parameter: click.Parameter, address: str | None) -> str | None:
    """The callback of an address; one with a secret is refused."""
    from pipeline.files.address import refuse_secret

    refuse_secret(parameter.name or "", address or "")
    return address


dataset_argument = click.argument("dataset", callback=without_secret)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def options_of(config: Path | None, flags: dict[str, Any]) -> Any:
    """`Options` of a file and of the flags that were given."""
    from pipeline.option_sources import load_imported, load_options

    keys = {name: f"from_{name.replace('-', '_')}" for name in IMPORTERS}
    imports = {name: path for name, key in keys.items() if (path := flags.pop(key, None)) is not None}
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    if "storage_option" in given:
        given["storage_option"] = storage(given["storage_option"])
    if imports:
        options, line = load_imported(config, given, imports)
        click.echo(line, err=True)
    else:
        options = load_options(config, given)
    _conceal(options.storage_option)
    return options


def storage(given: tuple[str, ...]) -> Any:
    """`StorageOptions` of the `--storage-option` flags."""
    from pipeline.files.storage_options import parse_storage_options

    return _conceal(parse_storage_options(given))


def _conceal(options: Any) -> Any:
    """Whatever ends the command later, its sentence holds no secret of these options."""
    click.get_current_context().meta[CONCEAL] = options.conceal
    return options
