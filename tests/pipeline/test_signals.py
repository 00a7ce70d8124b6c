"""SIGTERM, Ctrl-C and a closed terminal end a build within seconds, in one sentence; the same command continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from curriculum.errors import BuildError
from pipeline.cli import main
from pipeline.interruption import Interrupted
from running_build import ROOT, dataset_bytes, end, finish, start, wait_for, workers_of

TIDY_SECONDS = 5.0
"""Slurm and Kubernetes give 30; the machine may be busy."""


@pytest.fixture
def place(slowly_built: Path, tmp_path: Path) -> Path:
    """The same corpus (a link, so that it stays the same corpus), nothing built."""
    (tmp_path / "corpus").symlink_to(slowly_built / "corpus")
    return tmp_path


def test_a_signal_ends_a_build_tidily(slowly_built: Path, place: Path) -> None:
    """To the build alone or to its workers too: a sentence, the exit code of shells, nobody left, nothing lost. Each
    build goes on where the one before it was interrupted."""
    kill, kill_group = os.kill, os.killpg  # Slurm and a terminal signal the whole group
    for stage, send, number in (
        ("start", kill, signal.SIGTERM),
        ("encode", kill_group, signal.SIGTERM),
        ("more", kill_group, signal.SIGHUP),
        ("more", kill_group, signal.SIGINT),
        ("cut", kill, signal.SIGTERM),
    ):
        build = start(place)
        wait_for(place, stage, build)
        began = time.monotonic()
        send(build.pid, number)
        code, said = end(build)
        assert time.monotonic() - began < TIDY_SECONDS
        assert said == f"curriculum: interrupted by {number.name}. Run the same command again to continue.\n"
        assert code == 128 + number
        assert not (place / "out" / "manifest.json").exists()
    assert finish(place) == dataset_bytes(slowly_built)
    assert list((place / "out.store").glob("aside/*")) == []


def test_ctrl_c_twice_ends_at_once(place: Path) -> None:
    """Also while a worker tidies up or hangs: here all workers are stopped and answer nobody."""
    build = start(place)
    wait_for(place, "encode", build)
    for worker in workers_of(build):
        os.kill(worker, signal.SIGSTOP)
    os.killpg(build.pid, signal.SIGINT)
    time.sleep(0.4)
    began = time.monotonic()
    os.killpg(build.pid, signal.SIGINT)
    build.wait(5)
    assert time.monotonic() - began < 1
    assert build.returncode == 130
    os.killpg(build.pid, signal.SIGCONT)  # now the workers see that their parent is gone
    assert end(build)[1].startswith("curriculum: interrupted by SIGINT.")


def test_a_signal_reaches_a_process_that_is_in_native_code(tmp_path: Path) -> None:
    """The training of a tokenizer takes seconds without a moment for an exception: the process ends all the same."""
    code = (
        "import hashlib\n"
        "from pipeline import interruption\n"
        "interruption.GRACE_SECONDS = 0.5\n"
        "with interruption.ending_on_signals():\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 1_000_000_000)\n"
    )
    script = tmp_path / "busy.py"
    script.write_text(code)
    busy = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert busy.stdout is not None
    assert busy.stdout.readline() == "ready\n"
    time.sleep(0.5)  # it enters the native code
    busy.terminate()
    _, said = busy.communicate(timeout=10)
    assert (busy.returncode, said) == (
        143,
        "curriculum: interrupted by SIGTERM. Run the same command again to continue.\n",
    )


@pytest.mark.parametrize("busy", [True, False])
def test_who_lost_its_place_says_so_also_where_an_upload_cannot_be_stopped(tmp_path: Path, busy: bool) -> None:
    """Nobody wished that the process ends: exit code 1 and why, not "interrupted by SIGINT"; the lease of the other one
    stays. Uploads that run are waited for, here by a block that ends long after the grace, or at once."""
    script = tmp_path / "overtaken.py"
    script.write_text(
        "import sys, threading, time\n"
        "import pipeline.files.lease as lease\n"
        "from curriculum.errors import BuildError\n"
        "from pipeline import interruption\n"
        "interruption.GRACE_SECONDS = 0.3\n"
        "lease.PACE = lease.Pace(renew=0.05, settle=0.0)\n"
        "class Place:\n"
        "    where = 's3://bucket/d\\x1b'\n"
        "    data = None\n"
        "    def read(self, name, patience): return self.data\n"
        "    def write_small(self, name, data, patience): self.data = data\n"
        "    def remove_object(self, name, patience): print('removed')\n"
        "place = Place()\n"
        "with interruption.ending_on_signals():\n"
        "    try:\n"
        "        with lease.leased(place):\n"
        '            place.data = b\'{"owner": "other", "pid": 1, "host": "n"}\'\n'
        "            try:\n"
        "                threading.Event().wait(10)\n"
        "            finally:\n"
        f"                time.sleep({20 if busy else 0})\n"
        "    except BuildError as error:\n"
        "        sys.exit(f'tidily: {error}')\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=10
    )
    said = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (1, b"")
    if busy:
        assert said.startswith("curriculum: s3://bucket/d\\x1b: another build or push has taken this place")
    else:
        assert said.startswith("tidily: s3://bucket/d\x1b: another build or push has taken this place")


def test_a_signal_that_was_ignored_stays_ignored_and_a_copy_is_no_second_one(place: Path) -> None:
    """`nohup` outlives its terminal; `timeout` signals the command and then its group."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        build = start(place)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(place, "start", build)
    os.kill(build.pid, signal.SIGHUP)
    wait_for(place, "encode", build)
    os.kill(build.pid, signal.SIGTERM)
    os.killpg(build.pid, signal.SIGTERM)
    code, said = end(build)
    assert (code, said.count("interrupted by SIGTERM")) == (143, 1)


def test_an_error_that_hides_a_signal_is_told_as_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """`shutil.rmtree`, interrupted while it closes a folder, says "Bad file descriptor": no disk is broken."""

    def interrupted(*_: object) -> None:
        try:
            raise Interrupted(signal.SIGTERM)
        finally:
            raise BuildError("out/.build/aside: cannot be written: Bad file descriptor.")

    monkeypatch.setattr("pipeline.build.build", interrupted)
    result = CliRunner().invoke(main, ["build"])
    assert result.exit_code == 143
    assert result.stderr == "curriculum: interrupted by SIGTERM. Run the same command again to continue.\n"
