"""However a probe ends, nothing that its training has started goes on beside the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fake_training import TEN_STEPS, ended, failure, fake, runs
from pipeline.lock import HeldError, locked
from pipeline.progress import Silent
from pipeline.tuning import guard, run_training
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.run_training import Trained, train


def test_what_ignores_sigterm_is_killed(
    probe: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a worker with a session of its own, as torchrun starts them, is not left behind on the GPU."""
    monkeypatch.setattr(run_training, "GRACE_SECONDS", 0.3)
    code = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=lambda: signal.signal(15, signal.SIG_IGN))
print(os.getpid(), worker.pid, flush=True)
log.write('{"step": 0, "validation_loss": 9.0}\\n')
time.sleep(60)
"""
    trained = probe(fake(code), lambda evaluation: True)
    assert trained.stopped_early
    ended(tmp_path / "output.txt")


def test_what_a_command_leaves_behind_is_ended(probe: Callable[..., Trained], tmp_path: Path) -> None:
    """A server that it has started in a session of its own would stay on the GPU beside the next probe."""
    code = f"""{TEN_STEPS}
apart = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(apart.pid, flush=True)
"""
    began = time.monotonic()
    assert probe(fake(code)).num_steps == 10
    assert time.monotonic() - began < 20
    ended(tmp_path / "output.txt")


def test_what_is_begun_again_when_it_is_killed_is_ended_too(
    probe: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a supervisor that ignores SIGTERM: who it began after that was on no list."""
    monkeypatch.setattr(run_training, "GRACE_SECONDS", 0.3)
    code = f"""{TEN_STEPS}
import signal
if not os.fork():
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        worker = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
        print(worker.pid, flush=True)
        worker.wait()
while not open({str(tmp_path / "output.txt")!r}).read():
    time.sleep(0.02)
"""
    assert probe(fake(code)).num_steps == 10
    assert len((tmp_path / "output.txt").read_text().split()) > 1, "it has begun another one"
    ended(tmp_path / "output.txt")


def test_what_cannot_be_killed_does_not_keep_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a broken disk would keep a tune waiting for ever."""
    monkeypatch.setattr(guard, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(guard, "KILL_SECONDS", 0.01)
    monkeypatch.setattr(guard, "_descendants", lambda pid: [os.getpid()])
    tries: list[signal.Signals] = []

    def in_vain(number: signal.Signals, family: dict[int, bytes]) -> None:
        tries.append(number)
        assert len(tries) < 1000

    monkeypatch.setattr(guard, "_send", in_vain)
    guard._end_rest({}, deadline=0)
    assert tries[-1] is signal.SIGKILL


def test_a_guard_that_is_killed_leaves_nothing_running(probe: Callable[..., Trained], tmp_path: Path) -> None:
    """Else the training goes on, its dataset removed, beside the next probe."""
    code = """
apart = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(os.getpid(), apart.pid, flush=True)
os.kill(os.getppid(), 9)
time.sleep(60)
"""
    assert "failed with exit code 137 (SIGKILL)" in failure(probe, code)
    ended(tmp_path / "output.txt")


def test_a_tune_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    """kill -9 of the tune: an orphan would keep the GPU as long as it likes. Until it is gone, its folder is held."""
    started, log = tmp_path / "started", tmp_path / "log"
    helper = f'open({str(started)!r}, "w").write(f"{{os.getpid()}} {{helper.pid}}"); time.sleep(60)'
    words = fake(
        f'import signal; signal.signal(15, signal.SIG_IGN); helper = subprocess.Popen(["sleep", "60"]); {helper}'
    ).words
    tune = f"""
from pathlib import Path
from pipeline.progress import Silent
from pipeline.lock import locked_handle
from pipeline.tuning import run_training
from pipeline.tuning.run_training import *
run_training.GRACE_SECONDS = 1.0
values = {{"dataset": "d", "steps": 10, "log": {str(log)!r}}}
with locked_handle(Path({str(tmp_path / "probes")!r}), "--out") as held:
    train(Training(name="it", words={words!r}), values, num_steps=10, log=Path({str(log)!r}), held=(held,),
      output=Path({str(tmp_path / "output")!r}), limits=Limits(), stop_now=lambda evaluation: False, progress=Silent())
"""
    process = subprocess.Popen([sys.executable, "-c", tune])
    while not started.is_file() or len(started.read_text().split()) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    pid = int(started.read_text().split()[0])
    with pytest.raises(HeldError), locked(tmp_path / "probes"):
        pass
    ended(started)
    for _ in range(200):
        with suppress(HeldError), locked(tmp_path / "probes"):
            assert not runs(pid)
            break
        time.sleep(0.05)
    else:
        pytest.fail("the folder is still held")


def test_an_interruption_ends_the_training(tmp_path: Path) -> None:
    """Ctrl-C of a tune raises in whatever it does."""
    started, log = tmp_path / "started", tmp_path / "log"
    training = fake(f'open({str(started)!r}, "w").write(str(os.getpid())); time.sleep(60)')
    values = {"dataset": "d", "steps": 10, "log": log}

    def interrupt() -> None:
        while not started.is_file() or not started.read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        train(
            training, values, num_steps=10, log=log, output=tmp_path / "output", limits=Limits(),
            stop_now=lambda evaluation: False, progress=Silent(),
        )  # fmt: skip
    ended(started)
