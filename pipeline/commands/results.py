"""How commands print: a result on stdout, as text for people or as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click


def show(report: Any, as_text: Callable[[Any], str], as_json: bool) -> None:
    """A report, for people or for programs."""
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(as_text(report))


def print_json(value: Any) -> None:
    """One line of JSON."""
    json.dump(value, sys.stdout)
    sys.stdout.write("\n")
