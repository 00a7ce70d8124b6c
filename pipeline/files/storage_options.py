"""Options of the client of a store: endpoint, credentials, whatever its file system of fsspec takes.

In:  `key=value` of the command line, or a table of a TOML file.   Out: `StorageOptions`.
Guarantee: a value that knows its content but never shows it: no message, log, request or manifest can hold a secret by
printing one. Values are read as JSON where they are JSON, else as text; dots in a key nest.

    parse_storage_options(("client_kwargs.region_name=us-east-1", "anon=true"))
    ->  {"client_kwargs": {"region_name": "us-east-1"}, "anon": True}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

from curriculum.errors import ConfigError
from curriculum.printable import without_user

MIN_SECRET_CHARS = 4
"""Shorter values are words like "us" or "true", which would turn messages into riddles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageOptions:
    """A table as JSON text, so that it can be compared, hashed and sent to another process."""

    text: str = field(default="{}", repr=False)

    def values(self) -> dict[str, Any]:
        """The table."""
        table: dict[str, Any] = json.loads(self.text)
        return table

    def over(self, below: StorageOptions) -> StorageOptions:
        """These options, and those of `below` that they do not name."""
        return storage_options(_merged(below.values(), self.values()))

    def conceal(self, message: str) -> str:
        """The message without any text that these options hold, but for addresses and regions; and without users of
        addresses, which may come from the environment."""
        secrets = {
            written
            for secret in _secrets(self.values())
            for written in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))  # as URLs write it
        }
        for written in sorted(secrets, key=len, reverse=True):
            message = message.replace(written, "***")
        return without_user(message)


NO_OPTIONS = StorageOptions()
_PUBLIC = ("endpoint", "region", "project", "url", "protocol", "profile", "version")
"""Parts of the names of options that messages may repeat, but for what stands before an @ or behind a ? in them."""
_USER = re.compile(r"//([^/@:]*):(?![0-9]+(?:/|$))([^@]*)@")


def storage_options(table: Mapping[str, Any]) -> StorageOptions:
    """Options from a table of JSON values, integers and exact decimals.

    Raises:
        ConfigError: a value is none of JSON, or an endpoint holds a password, which clients do not take. It names the
            key, never the value.
    """
    _check(table)
    return StorageOptions(text=json.dumps(table, sort_keys=True, default=float))


def parse_storage_options(given: Iterable[str]) -> StorageOptions:
    """Options from `key=value` arguments.

    Raises:
        ConfigError: an argument is no such pair, or two of them contradict each other. It names the key, never a value.
    """
    table: dict[str, Any] = {}
    for argument in given:
        key, equals, text = argument.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise ConfigError(
                "A --storage-option is no key=value pair (it is not shown here, it may be a secret): write it as "
                "endpoint_url=https://..., or client_kwargs.region_name=us-east-1 for a table."
            )
        inner = table
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--storage-option {key}: {name} is given as a value too; leave one of them out.")
        inner[names[-1]] = _value(text)
    return storage_options(table)


def _check(value: Any, key: str = "") -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            _check(inner, key)
    elif value is not None and not isinstance(value, str | bool | int | float | Decimal):
        raise ConfigError(
            f"storage option {key} is a {type(value).__name__}, and clients take strings, numbers, true and false, "
            f"lists and tables: write it in quotes."
        )
    elif "endpoint" in key and isinstance(value, str) and _USER.search(value):
        raise ConfigError(
            f"storage option {key} holds a name and a password before an @: give the address of the store alone, and "
            f"the credentials as options of their own, such as key and secret."
        )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = _merged(below[name], above[name])
    return merged


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _secrets(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, name)
    elif not isinstance(value, bool) and value is not None:
        text = str(value)
        if any(part in name.lower() for part in _PUBLIC):
            yield from _secrets_of_url(text)
        elif len(text) >= MIN_SECRET_CHARS:
            yield text


def _secrets_of_url(text: str) -> Iterator[str]:
    """`bob:hunter2@`, and `hunter2` too, of http://bob:hunter2@host; `sig=x` of https://host?sig=x."""
    user = _USER.search(text)
    if user is not None:
        yield f"{user[1]}:{user[2]}@"
        yield from (word for word in (user[2],) if len(word) >= MIN_SECRET_CHARS)
    _, question, query = text.partition("?")
    if question and query:
        yield query
