"""`curriculum doctor`: trainers are started and ended, logs are compared, scripts can rely on exit codes and kinds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import curriculum
import pipeline.launch
from curriculum.doctor.recorder import close_logs
from curriculum.errors import CurriculumError
from pipeline.cli import main
from pipeline.doctor import TRAINERS
from pipeline.launch import Launch, run_to_end
from pipeline.progress import Silent
from ready_python import ready_python


def run(*arguments: str | Path) -> Result:
    """Invoke `curriculum doctor` in this process."""
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


def record(dataset: Path, log: Path, start: int, stop: int, *, rank: int | None = None) -> Path:
    """Two ranks' logs of correct steps; or, with `rank`, of ranks that all take that one's rows."""
    reader = curriculum.open(dataset)
    for of_rank in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CURRICULUM_DOCTOR_LOG", str(log))
            patch.setenv("RANK", str(of_rank))
            patch.setenv("WORLD_SIZE", "2")
            for batch in reader.steps(start, of_rank if rank is None else rank, 2):
                if batch.step == stop:
                    break
                curriculum.doctor.record(batch)
            close_logs()
    return log


def test_a_run_and_its_resume_are_compared(small_dataset: Path, tmp_path: Path) -> None:
    """The user's own loop: exit 0, and one JSON object of the fixed form."""
    first, second = record(small_dataset, tmp_path / "1", 0, 4), record(small_dataset, tmp_path / "2", 3, 6)
    result = run("--check", first, "--check", second, small_dataset, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["dataset"] == str(small_dataset)
    assert found["trainer"] is None
    assert found["ok"] is True
    assert found["findings"] == []
    assert found["runs"][1] == {
        "log": str(second),
        "world_size": 2,
        "micro_batches_recorded": 6,
        "start": {"step": 3, "row": 0},
        "stop": {"step": 6, "row": 0},
        "micro_batches": [{"seq_len": 8, "per_step": 1}],
        "loss": "not recorded",
    }
    assert run("--check", first, "--check", second, "--saved-at", "3", small_dataset).exit_code == 0
    text = run("--check", second, "--start-step", "3", small_dataset)
    assert text.exit_code == 0
    assert "run 1    steps 3 to 5, 2 ranks, 6 micro-batches, length 8\n" in text.stdout
    assert "ok       every row reached the model in the plan's order" in text.stdout


def test_a_finding_ends_with_exit_1(small_dataset: Path, tmp_path: Path) -> None:
    """On stdout, as the result that was asked for, with its kind."""
    log = record(small_dataset, tmp_path / "1", 0, 4, rank=0)
    result = run("--check", log, small_dataset, "--json")
    assert result.exit_code == 1
    [finding] = json.loads(result.stdout)["findings"]
    assert {"kind": "same-rows", "run": 0, "step": 0, "rank": None}.items() <= finding.items()
    text = run("--check", log, small_dataset)
    assert text.exit_code == 1
    assert "found    same-rows (run 1, step 0). All 2 ranks were given the same rows" in text.stdout
    assert max(map(len, text.stdout.splitlines())) <= max(80, len(f"dataset  {small_dataset}"))
    again = run("--check", record(small_dataset, tmp_path / "2", 0, 4), "--check", tmp_path / "2", small_dataset)
    assert again.exit_code == 1
    assert "restart" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give --check LOG, once for each run, or --trainer NAME, and not both."),
        (["--check", "log", "--trainer", "torch"], 2, "give --check LOG"),
        (["--check", "log", "--world-size", "2"], 2, "--world-size belongs to --trainer; leave it out."),
        (["--trainer", "torch", "--start-step", "2"], 2, "--start-step belongs to --check; leave it out."),
        (["--check", "log"], 1, "log: no log of a run (rank-00000.jsonl) is there."),
        (["--trainer", "torch", "--world-size", "3"], 2, "3 processes x 1 micro-batches do not divide the rows"),
        (["--trainer", "torch", "--micro-batches", "8"], 2, "2 processes x 8 micro-batches do not divide"),
        (["--trainer", "torch", "--steps", "1"], 2, "a run that stops and resumes has at least 2 steps, not 1"),
    ],
)
def test_wrong_requests_are_refused(arguments: list[str], code: int, message: str, small_dataset: Path) -> None:
    """Before anything is started, in a sentence."""
    result = run(*arguments, small_dataset)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_what_divides_is_named(small_dataset: Path) -> None:
    """8 rows per step."""
    assert "Products that do: 1, 2, 4, 8." in run("--trainer", "torch", "--world-size", "3", small_dataset).stderr


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, small_dataset: Path) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(TRAINERS, "jax", ("a_library_that_is_not_there", "pip install 'jax'"))
    result = run("--trainer", "jax", small_dataset)
    assert result.exit_code == 2
    assert (
        "--trainer jax needs a_library_that_is_not_there, not installed here; run: pip install 'jax'" in result.stderr
    )


def test_every_trainer_has_its_script() -> None:
    """What `--trainer` offers is what docs/trainers.md shows."""
    examples = Path(curriculum.__file__).parent / "examples"
    assert {path.stem.removeprefix("train_") for path in examples.glob("train_*.py")} == set(TRAINERS)
    assert f"[{'|'.join(TRAINERS)}]" in run("--help").stdout


def launch(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, **changes: Any) -> Launch:
    """A launch whose command is `code` in place of torchrun."""
    monkeypatch.setattr(pipeline.launch, "_command", lambda _: [sys.executable, "-c", code])
    values: dict[str, Any] = {
        "name": "torch, run 1 of 2",
        "module": "",
        "arguments": (),
        "world_size": 2,
        "folder": folder,
        "log": folder / "run-1",
        "num_calls": 3,
        "timeout_seconds": 60.0,
    }
    return Launch(**values | changes)


def test_a_trainer_that_fails_shows_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the workers' own output, not torchrun's table of exit codes."""
    printed = "CUDA out of \x1b[31mmemory\nE1 failed (exitcode: 1)\n" + "noise\n" * 50
    code = f"import sys; sys.stderr.write({printed!r}); sys.exit(3)"
    with pytest.raises(CurriculumError) as failure:
        run_to_end(launch(tmp_path, monkeypatch, code), Silent())
    assert str(failure.value) == (
        "torch, run 1 of 2 failed with exit code 3. It printed last:\n    CUDA out of \\x1b[31mmemory"
    )


def test_a_trainer_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launcher and worker, a session of its own as torchrun's workers are, though both ignore SIGTERM."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    worker = deaf + "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}], start_new_session=True)"
    monkeypatch.setattr(pipeline.launch, "_GRACE_SECONDS", 0.2)
    with pytest.raises(CurriculumError, match="did not end within 3 seconds and was stopped"):
        run_to_end(launch(tmp_path, monkeypatch, deaf + start, timeout_seconds=3.0), Silent())
    pid = int((tmp_path / "pid").read_text("ascii"))
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text("ascii").split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_doctor_that_is_terminated_ends_its_trainer(tmp_path: Path) -> None:
    """As a scheduler does it: no process is left behind."""
    trainer = "import os, signal, time; print(os.getpid(), flush=True); os.kill(os.getppid(), 15); time.sleep(60)"
    doctor = (
        "import pathlib, sys, pipeline.launch as launch; from pipeline.progress import Silent;"
        f"launch._command = lambda _: [sys.executable, '-c', {trainer!r}];"
        f"folder = pathlib.Path({str(tmp_path)!r});"
        "launch.run_to_end(launch.Launch(name='', module='', arguments=(), world_size=1, folder=folder, "
        "log=folder / 'run-1', num_calls=1, timeout_seconds=60), Silent())"
    )
    ended = subprocess.run([sys.executable, "-c", doctor], cwd=Path(__file__).parents[2], timeout=50, check=False)
    assert ended.returncode == 128 + 15
    pid = int((tmp_path / "run-1.stdout").read_text("ascii"))
    assert not Path(f"/proc/{pid}").exists()


def test_a_trainer_is_started_stopped_and_resumed(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing, with torchrun: two processes, then one, with two micro-batches; logs and checkpoint are kept."""
    pytest.importorskip("torch")
    options = ["--steps", "6", "--resume-world-size", "1", "--micro-batches", "2", "--keep", tmp_path / "kept"]
    with ready_python(sys.executable, "train_torch") as python, monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        patch.setenv("PYTHON_EXEC", str(python))  # what torchrun starts
        result = run("--trainer", "torch", *options, small_dataset, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["trainer"], found["ok"]) == ("torch", True)
    assert [(r["world_size"], r["start"]["step"], r["stop"]["step"], r["loss"]) for r in found["runs"]] == [
        (2, 0, 3, "plain"),
        (1, 3, 6, "plain"),
    ]
    assert [r["micro_batches_recorded"] for r in found["runs"]] == [12, 6]
    kept = tmp_path / "kept"
    assert run("--check", kept / "run-1", "--check", kept / "run-2", small_dataset).exit_code == 0
    assert "the folder is not empty" in run("--trainer", "torch", "--keep", kept, small_dataset).stderr
