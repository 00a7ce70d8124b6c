"""Real trainers, set up wrongly in the ways that people set them up: the doctor names each mistake.

In this process, one rank after the other: a launch costs ten seconds, and each of these shows without one.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

import curriculum
from curriculum.doctor.check import DoctorReport, check_runs
from curriculum.doctor.recorder import close_logs
from curriculum.doctor.run_log import load_run

SCRIPTS = Path(__file__).parent / "wrong_setups"
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the libraries


def start(script: str, dataset: Path, log: Path, *arguments: str, world_size: int = 1) -> None:
    """Run a script as each rank in turn."""
    for rank in range(world_size):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CURRICULUM_DOCTOR_LOG", str(log))
            for name, value in (("RANK", rank), ("WORLD_SIZE", world_size)):
                patch.delenv(name, raising=False) if world_size == 1 else patch.setenv(name, str(value))
            patch.setattr(sys, "argv", [script, str(dataset), *arguments])
            patch.syspath_prepend(SCRIPTS)
            try:
                runpy.run_path(str(SCRIPTS / script), run_name="__main__")
            finally:
                close_logs()


def examine(dataset: Path, *logs: Path) -> DoctorReport:
    """Compare with the plan, as `doctor --check` does."""
    return check_runs(curriculum.open(dataset), [load_run(log) for log in logs])


@pytest.mark.parametrize(
    ("script", "kinds"),
    [("hf_right.py", []), ("hf_random_sampler.py", ["shuffled"]), ("hf_labels_only.py", ["double-shift"])],
)
def test_hugging_face_trainer(script: str, kinds: list[str], small_dataset: Path, tmp_path: Path) -> None:
    """The default sampler shuffles; models shift labels unless they get shift_labels."""
    pytest.importorskip("transformers")
    start(script, small_dataset, tmp_path / "log", str(tmp_path / "run"))
    report = examine(small_dataset, tmp_path / "log")
    assert [finding.kind for finding in report.findings] == kinds
    assert report.runs[0].num_calls == 12


@pytest.mark.parametrize(
    ("library", "script", "kind", "begins"),
    [
        ("transformers", "hf_ignore_data_skip.py", "restart", 0),
        ("lightning", "lightning_plain_loader.py", "restart", 0),
        ("lightning", "lightning_without_len.py", "skipped-at-resume", 7),
    ],
)
def test_resumes_that_lose_their_place(
    library: str, script: str, kind: str, begins: int, small_dataset: Path, tmp_path: Path
) -> None:
    """Saved before step 6; the second run begins elsewhere."""
    pytest.importorskip(library)
    for log in ("1", "2"):
        start(script, small_dataset, tmp_path / log, str(tmp_path / "run"))
    report = examine(small_dataset, tmp_path / "1", tmp_path / "2")
    assert [(finding.kind, finding.run) for finding in report.findings] == [(kind, 1)]
    assert report.runs[1].start == (begins, 0)


def test_accelerate_shares_out_what_is_shared_out_already(small_dataset: Path, tmp_path: Path) -> None:
    """dispatch_batches=False with a loader that knows its rank: half of the batches never arrive."""
    pytest.importorskip("accelerate")
    start("accelerate_dispatch_off.py", small_dataset, tmp_path / "log", world_size=2)
    [finding] = examine(small_dataset, tmp_path / "log").findings
    assert finding.kind == "dropped"
    assert len(load_run(tmp_path / "log").calls[0]) == 6  # of 12


@pytest.mark.parametrize(
    ("mistake", "world_size", "kind", "run"),
    [
        ("none", 2, None, 0),
        ("forgotten_rank", 2, "same-rows", 0),
        ("prefetched_cursor", 1, "skipped-at-resume", 1),
        ("shifted_twice", 1, "labels-shifted-twice", 0),
        ("truncated", 1, "wrong-length", 0),
        ("rank_local_state", 2, "same-rows", 1),
    ],
)
def test_loops_of_ones_own(
    mistake: str, world_size: int, kind: str | None, run: int, small_dataset: Path, tmp_path: Path
) -> None:
    """Trained to step 6, resumed to step 12."""
    pytest.importorskip("torch")
    for log in ("1", "2"):
        state = str(tmp_path / "run")
        start("torch_loop.py", small_dataset, tmp_path / log, mistake, state, world_size=world_size)
    findings = examine(small_dataset, tmp_path / "1", tmp_path / "2").findings
    assert [finding.kind for finding in findings if finding.run == run] == ([kind] if kind else [])
    assert {finding.kind for finding in findings} == ({kind} if kind else set())
