"""Following a file of lines while somebody writes it.

In:  its path, looked at now and then.   Out: the whole lines that are new since the last look.
Guarantee: a line is handed out when it is whole, and again when it was written anew with more in it, as
`StabilityLog.add` does with the last one. A file that was cut or begun anew is read from its start.

    look 1    {"step": 0, "loss": 7}\n{"step": 1, "lo        the line of step 0
    look 2    {"step": 0, "loss": 7}\n{"step": 1, "loss": 6}\n                             the line of step 1
    look 3    {"step": 0, "loss": 7}\n{"step": 1, "loss": 6, "validation_loss": 6}\n       the line of step 1, again
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import BuildError


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What one look has found."""

    lines: bytes = b""
    """each with its end"""
    replaces_last: bool = False
    """whether the first of them is the last one of the looks before, written anew"""
    rest: bytes = b""
    """of a line that is not whole"""


@dataclass(kw_only=True, slots=True)
class FollowedLog:
    """A file, and how far it was read."""

    path: Path
    _start: int = 0
    """of the last whole line"""
    _last: bytes = b""
    """that line"""

    def look(self) -> News:
        """Read on.

        Raises:
            BuildError: what is there is no file, or cannot be read.
        """
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
                kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no plain file"
                raise BuildError(f"{self.path}: is {kind}. Write the log into it as a file: {{log}} is its path.")
            if found.st_size < self._start + len(self._last):
                self._start, self._last = 0, b""
            with self.path.open("rb") as file:
                file.seek(self._start)
                data = file.read()
        except FileNotFoundError:
            return News()
        except OSError as error:
            raise BuildError(f"{self.path}: cannot be read ({error.strerror}). Make it a file that can be.") from None
        whole = data[: data.rfind(b"\n") + 1]
        rest = data[len(whole) :]
        is_same = whole.startswith(self._last)
        lines = whole[len(self._last) :] if is_same else whole
        news = News(lines=lines, replaces_last=not is_same, rest=rest)
        begin = whole.rfind(b"\n", 0, -1) + 1
        self._start, self._last = self._start + begin, whole[begin:]
        return news
