"""Typed access to a JSON object that may be damaged or hostile.

In:  bytes or a parsed object, and where it stands.   Out: values of the type that was asked for.
Guarantee: a wrong type, a missing or unknown key, a number out of range or a path that leaves its folder is a
`DataError` that names the place. `true` is not an integer, and a key must not stand twice.

    top = JsonObject.parse(b'{"num_rows": "7"}', "manifest.json")
    top.integer("num_rows")      DataError: manifest.json: num_rows is '7', expected an integer from 0 to ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from curriculum.errors import DataError
from curriculum.printable import one_line, shown

MAX_INTEGER = 2**63 - 1
MAX_VALUES = 1 << 24
"""Values in a file, at most: the order of the longest document curriculum has 3.1 million, 100,000 shards 0.6 million.
Each takes up to 72 bytes of memory once it is parsed."""
MAX_STRING = 4096
"""Characters of a string."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class JsonObject:
    """One JSON object; remembers which keys were read, so that `no_others` can refuse the rest."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise DataError(f"{where}: {shown(value)} found, expected a JSON object.")
        self.where = where
        self._value: dict[str, Any] = value
        self._read: set[str] = set()

    @classmethod
    def parse(cls, text: bytes, where: str) -> JsonObject:
        """Parse UTF-8 JSON whose top is an object."""
        # Every value but the first follows one of these, and takes two bytes with it: short texts need no count.
        most = sum(map(text.count, (b",", b"[", b"{"))) if len(text) > 2 * MAX_VALUES else 0
        if most > MAX_VALUES:
            raise DataError(
                f"{where}: up to {most:,} values, expected {MAX_VALUES:,} at most. It is damaged or another file: copy "
                f"it again."
            )
        try:
            # `json` would also take UTF-16 and UTF-32, and half characters.
            return cls(
                json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant), where
            )
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not valid JSON ({_reason(error)}). Copy the file again.") from None

    @property
    def raw(self) -> dict[str, Any]:
        """The object as it was parsed."""
        return self._value

    def value(self, key: str) -> Any:
        """The raw value of a key that must be there."""
        if key not in self._value:
            raise DataError(f"{self.where}: {key!r} is missing.")
        self._read.add(key)
        return self._value[key]

    def integer(self, key: str, *, least: int = 0, most: int = MAX_INTEGER) -> int:
        """An integer within [least, most]."""
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise DataError(f"{self.where}: {key} is {shown(value)}, expected an integer from {least} to {most}.")
        return value

    def number(self, key: str) -> float:
        """A finite number that is not negative."""
        value = self.value(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
            raise DataError(f"{self.where}: {key} is {shown(value)}, expected a number of at least 0.")
        return float(value)

    def string(self, key: str, *, most: int = MAX_STRING) -> str:
        """A string of at most so many characters."""
        value = self.value(key)
        if not isinstance(value, str) or not (value.isascii() or _SURROGATE.search(value) is None):
            raise DataError(f"{self.where}: {key} is {shown(value)}, expected a string of Unicode text.")
        if len(value) > most:
            raise DataError(f"{self.where}: {key} has {len(value):,} characters, expected {most:,} at most.")
        return value

    def one_of(self, key: str, allowed: Sequence[str]) -> str:
        """One of a few strings."""
        value = self.string(key)
        if value not in allowed:
            raise DataError(f"{self.where}: {key} is {shown(value)}, expected {' or '.join(map(repr, allowed))}.")
        return value

    def strings(self, key: str) -> list[str]:
        """A list of strings."""
        values = self.array(key)
        if not all(isinstance(value, str) for value in values):
            raise DataError(f"{self.where}: {key} holds {shown(values)}, expected strings.")
        return [str(value) for value in values]

    def integers(self, key: str, *, least: int = 0, most: int = MAX_INTEGER) -> list[int]:
        """A list of integers within [least, most]."""
        items = self.array(key)
        if set(map(type, items)) <= {int} and (not items or (min(items) >= least and max(items) <= most)):
            return items  # a million at once
        return [JsonObject({key: item}, self.where).integer(key, least=least, most=most) for item in items]

    def array(self, key: str) -> list[Any]:
        """A list."""
        value = self.value(key)
        if not isinstance(value, list):
            raise DataError(f"{self.where}: {key} is {shown(value)}, expected a list.")
        return value

    def object(self, key: str) -> JsonObject:
        """A nested object."""
        return JsonObject(self.value(key), f"{self.where}: {key}")

    def objects(self, key: str, *, most: int = MAX_VALUES) -> Iterator[JsonObject]:
        """Each object of a list of at most so many."""
        values = self.array(key)
        if len(values) > most:
            raise DataError(f"{self.where}: {key} has {len(values):,} entries, expected {most:,} at most.")
        return (JsonObject(value, f"{self.where}: {key}[{i}]") for i, value in enumerate(values))

    def relative_path(self, key: str) -> str:
        """A path that stays inside its folder on every system: relative, forward slashes, no `.`, `..`, `\\` or `:`."""
        path = self.string(key)
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or not path.isprintable() or "\\" in path or ":" in path:
            raise DataError(
                f"{self.where}: {key} is {shown(path)}, expected a relative path with forward slashes that stays "
                f"inside the dataset. Do not trust a dataset that asks for other files."
            )
        return path

    def no_others(self, *also: str) -> None:
        """Refuse keys that nobody asked for."""
        unknown = sorted(set(self._value) - self._read - set(also))
        if unknown:
            raise DataError(f"{self.where}: unknown key {shown(unknown[0])}; a newer release may have written it.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "set_int_max_str_digits" in str(error):
        return "a number has thousands of digits"
    return one_line(error)
