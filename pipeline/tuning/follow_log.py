"""Following a file of lines while somebody writes it.

In:  its path, looked at now and then.   Out: the whole lines that are new since the last look, and their numbers.
Guarantee: a line is handed out when it is whole, and again when it was written anew with more in it, as
`StabilityLog.add` does with the last one. A file that was cut or begun anew is read from its start.

    look 1    {"step": 0, "loss": 7}\n{"step": 1, "lo        line 1, of step 0
    look 2    {"step": 0, "loss": 7}\n{"step": 1, "loss": 6}\n                             line 2, of step 1
    look 3    {"step": 0, "loss": 7}\n{"step": 1, "loss": 6, "validation_loss": 6}\n       line 2, again
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import BuildError
from curriculum.stability_line import is_object


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What one look has found."""

    first_number: int
    """of the first line; that of a line which was handed out before if it was written anew"""
    lines: tuple[bytes, ...] = ()
    rest: bytes = b""
    """of a line that is not whole"""


@dataclass(kw_only=True, slots=True)
class FollowedLog:
    """A file, and how far it was read."""

    path: Path
    _start: int = 0
    """of the last whole line"""
    _last: bytes = b""
    """that line, with its end"""
    _number: int = 0
    """and its number, from 1"""

    def look(self, *, at_end: bool = False) -> News:
        """Read on.

        Args:
            at_end: nothing more will be written: a last line that lacks nothing but its end is whole.

        Raises:
            BuildError: what is there is no file, or cannot be read.
        """
        data = self._from_last()
        rest = data[data.rfind(b"\n") + 1 :]
        if at_end and is_object(rest):
            data, rest = data + b"\n", b""
        whole = data[: len(data) - len(rest)]
        is_same = whole.startswith(self._last)
        first_number = self._number + is_same
        lines = (whole[len(self._last) :] if is_same else whole).split(b"\n")[:-1]
        begin = whole.rfind(b"\n", 0, -1) + 1
        self._start, self._last, self._number = self._start + begin, whole[begin:], first_number + len(lines) - 1
        return News(first_number=first_number, lines=tuple(lines), rest=rest)

    def _from_last(self) -> bytes:
        """What the file holds from its last known line on."""
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
                kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no plain file"
                raise BuildError(f"{self.path}: is {kind}. Write the log into it as a file: {{log}} is its path.")
            if found.st_size < self._start + len(self._last):
                self._start, self._last, self._number = 0, b"", 0
            with self.path.open("rb") as file:
                file.seek(self._start)
                return file.read()
        except FileNotFoundError:
            return self._last
        except OSError as error:
            raise BuildError(f"{self.path}: cannot be read ({error.strerror}). Make it a file that can be.") from None
