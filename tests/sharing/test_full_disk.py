"""A disk that is full at any moment: one sentence, nothing damaged visible; with room again the rest is fetched."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.publish
from curriculum.errors import BuildError
from travels import content, pull, push, travelling


class FullDisk:
    """From the n-th write, rename or new folder on, there is no space left; half of a write still fits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        for name in ("replace", "mkdir"):
            monkeypatch.setattr(os, name, self._limited(getattr(os, name)))
        monkeypatch.setattr(pipeline.publish, "open", self._open, raising=False)

    def _step(self) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _limited(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._step()
            return effect(*args, **kwargs)

        return run

    def _open(self, path: Path, mode: str, buffering: int) -> Any:
        self._step()
        file = builtins.open(path, mode, buffering=buffering)  # noqa: SIM115 - `Aside` closes it
        write = file.write

        class Limited:
            def write(_, data: memoryview) -> int:
                try:
                    self._step()
                except OSError:
                    write(data[: len(data) // 2])
                    raise
                return write(data)

            def __getattr__(_, name: str) -> Any:
                return getattr(file, name)

        return Limited()


@pytest.mark.parametrize("direction", ["push", "pull", "pull-packed"])
def test_full_at_any_moment(tiny: Path, tmp_path: Path, direction: str) -> None:
    """Until it succeeds: the room grows by a few effects each time."""
    source = tmp_path / "there" if direction == "pull-packed" else tiny
    if direction == "pull-packed":
        push(tiny, source, compress=True)
    run: Any = push if direction == "push" else pull
    failures = 0
    for room in range(0, 1000, 5):
        end = tmp_path / f"end{room}"
        end.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            FullDisk(monkeypatch, room)
            try:
                run(source, end)
            except BuildError as error:
                failures += 1
                assert "cannot be written" in str(error)  # noqa: PT017
                assert "No space left on device" in str(error)  # noqa: PT017
            else:
                assert content(end) == travelling(tiny)
                break
        found = content(end)
        assert "manifest.json" not in found
        whole = travelling(tiny)
        assert all(whole[name] == data for name, data in found.items() if not name.startswith((".pull/", ".push")))
        run(source, end)
        assert content(end) == whole
    assert failures > 5
