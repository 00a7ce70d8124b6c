"""Run a small build whose n-th effect on the disk fails, for every n; then run it again and compare.

In:  a folder with a corpus, and a scenario.   Out: number of effects, and what was wrong after which of them.
Runs in the process of disturbed_builds.py, with the counting, scenarios and forked attempts of kill_everywhere.py. The
n-th effect, and all after it, fail with ENOSPC (removals still work), EIO or EROFS; or the n-th alone with EDQUOT; or
SIGTERM arrives there: in turn, as n grows, and in another order for every stride. A write that fails has written half
of its data. The command line runs, so that what people see is looked at too.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kill_everywhere import BASE, SCENARIOS, Effects, prepare, run_build, snapshot

import pipeline.cli
import pipeline.progress
import pipeline.report

FAULTS: tuple[tuple[int, bool], ...] = (
    # errno (0: the signal), and whether everything after it fails too
    (errno.ENOSPC, True),
    (errno.EIO, True),
    (errno.EROFS, True),
    (errno.EDQUOT, False),
    (0, False),
)


class AllEffects(Effects):
    """An fsync may fail too."""

    names = (*Effects.names, "fsync")


class Failing(AllEffects):
    """Counts effects; those from number `fatal` on fail."""

    def __init__(self, fatal: int, number: int, stays: bool) -> None:
        super().__init__(fatal)
        self.number = number
        self.stays = stays

    def step(self, partial: Callable[[], object] | None = None, path: object = None, removes: bool = False) -> None:
        self.count += 1
        if self.count < (self.fatal or 0) or (self.count > (self.fatal or 0) and not self.stays):
            return
        if self.number == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        elif not (removes and self.number == errno.ENOSPC):
            if partial is not None:
                partial()
            named = (path,) if isinstance(path, str | Path) else ()  # the system knows no name of a descriptor
            raise OSError(self.number, os.strerror(self.number), *named)

    def _counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        removes = effect.__name__ in ("unlink", "rmdir")

        def run(*args: Any, **kwargs: Any) -> Any:
            self.step(path=args[0], removes=removes)
            return effect(*args, **kwargs)

        return run


def run_command(folder: Path, options: dict[str, Any], effects: Failing) -> tuple[int, str]:
    """Exit code and stderr of `curriculum build`, or `extend`, in a forked process."""
    if "extend_by" in options:
        command = ["extend", str(folder / "out"), "--source", f"new={folder / 'new'}", "--steps"]
        command += [str(options["extend_by"]), "--workers", "1", "--backend", "tokenizers"]
    else:
        command = ["build", str(folder / "corpus")]
        for name, value in {**BASE, **options, "out": str(folder / "out")}.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                command += [f"--{flag}" if value else f"--no-{flag}"]
            else:
                command += [f"--{flag}", str(value)]
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write_end, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        effects.install()
        code = 99
        try:
            code = pipeline.cli.main(command, standalone_mode=False) or 0
        finally:
            if code == 99:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text


def fault(folder: Path, options: dict[str, Any], n: int, expected: dict[str, str], complete: dict[str, str]) -> str:
    """What was wrong with a build whose n-th effect failed; nothing if all was well.

    Args:
        expected: what the undisturbed build leaves.
        complete: the same with the token store, where that is dropped.
    """
    before = snapshot(folder)
    number, stays = FAULTS[n % len(FAULTS)]
    code, said = run_command(folder, options, Failing(n, number, stays))
    sentences = [line for line in said.splitlines() if line.startswith("curriculum: ")]
    if code == 0 and snapshot(folder) == expected:
        return ""  # a removal on a full disk; or the memory of checked parts alone was not written: nobody misses it
    wanted = "interrupted by SIGTERM" if number == 0 else os.strerror(number)
    if code != (143 if number == 0 else 1) or len(sentences) != 1 or "Traceback" in said:
        return f"exit {code}: {said}"
    if wanted not in sentences[0] or (number and str(folder) not in sentences[0]):
        return f"not said where and what: {sentences[0]}"
    found = {name: digest for name, digest in snapshot(folder).items() if "aside" not in name and "/.build" not in name}
    torn = {name for name, digest in found.items() if digest not in (before.get(name), complete.get(name))}
    if torn:
        return f"half-written: {torn}"
    manifest = found.get("out/manifest.json")
    for whole in (before, expected):
        if manifest is not None and manifest == whole.get("out/manifest.json"):
            missing = {n for n in whole if n.startswith("out/phases") and n not in found}
            return f"a manifest without {missing}" if missing else ""
    return "" if manifest is None else "a manifest of neither"


def disturb(folder: Path, scenario: str, stride: int) -> dict[str, Any]:
    """Try every `stride`-th n of a scenario."""
    options = SCENARIOS[scenario][0]
    prepare(folder, scenario)
    run_build(folder, {**options, "keep_store": True}, None)
    complete = snapshot(folder)
    prepare(folder, scenario)
    total = run_build(folder, options, None, AllEffects)
    expected = snapshot(folder)
    wrong = {}
    for n in range(1, total + 1, stride):
        prepare(folder, scenario)
        problem = fault(folder, options, n, expected, complete)
        if not problem:
            run_build(folder, options, None)
            found = snapshot(folder)
            names = {*found, *expected}
            problem = ", ".join(sorted(n for n in names if found.get(n) != expected.get(n)))
        if problem:
            wrong[n] = problem
    return {"effects": total, "wrong": wrong}
