"""The log survives kills and resumes, and a stranger's log ends in a sentence, not in a traceback."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curriculum.errors import ConfigError, CurriculumError, DataError
from curriculum.stability_log import StabilityLog, read_log
from curriculum.stability_records import read_records


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(path: Path, losses: list[float], start_step: int = 0) -> None:
    log = StabilityLog(path, start_step=start_step)
    for step, loss in enumerate(losses, start_step):
        log.write(step, loss=loss)
    log.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    log = StabilityLog(path)
    log.write(0, seq_len=8, tokens=64, loss=4.0)
    log.write(1, seq_len=8, tokens=128, loss=5.0, grad_norm=math.inf)
    log.add(validation_loss=4.5)
    log.write(2, seq_len=16, tokens=256, loss=math.nan)
    assert len(lines(path)) == 3, "every line is in the file before the log is closed"
    assert '"grad_norm": "Infinity"' in path.read_text("utf-8")
    found = read_log(path)
    assert [record["loss_ratio"] for record in found[:2]] == [None, 1.25] or found[0].get("loss_ratio") is None
    assert (found[1]["validation_loss"], found[1]["grad_norm"], found[1]["tokens"]) == (4.5, math.inf, 128)
    assert math.isnan(found[2]["loss"])
    log.close()


def test_add_keeps_one_line_per_step_and_needs_a_line(tmp_path: Path) -> None:
    """pandas.read_json(path, lines=True) and the like see each step once."""
    log = StabilityLog(tmp_path / "log")
    with pytest.raises(ConfigError, match="no line to add to"):
        log.add(validation_loss=1.0)
    log.write(0, loss=1.0)
    with pytest.raises(ConfigError, match=r"takes no loss: a step has its ratio from write\(step, loss="):
        log.add(loss=0.5)  # the next ratio would be another one after a resume
    log.add(validation_loss=2.0)
    log.add(validation_loss=3.0)
    log.write(1, loss=0.5)
    log.close()
    assert [(line["step"], line["loss_ratio"]) for line in lines(tmp_path / "log")] == [(0, None), (1, 0.5)]
    assert lines(tmp_path / "log")[0]["validation_loss"] == 3.0


def test_a_shorter_value_leaves_nothing_of_the_longer_one(tmp_path: Path) -> None:
    """What was left stood in a line of its own, and no reader took the log any more."""
    log = StabilityLog(tmp_path / "log")
    log.write(0, loss=1.0)
    log.add(validation_loss=3.123456789)
    log.add(validation_loss=3.5)
    assert [line["validation_loss"] for line in lines(tmp_path / "log")] == [3.5]
    log.write(1, loss=0.5)
    log.close()
    assert [record["step"] for record in read_log(tmp_path / "log")] == [0, 1]


def test_a_long_line_that_was_cut_off_is_gone_with_the_resume(tmp_path: Path) -> None:
    """A short new line in its place must not leave the end of it behind."""
    (tmp_path / "log").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "note": "' + "x" * 500, "utf-8")
    write(tmp_path / "log", [0.5], start_step=1)
    assert [line["step"] for line in lines(tmp_path / "log")] == [0, 1]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_killed_run_resumes_with_the_ratios_of_one_that_was_not(tmp_path: Path, cut: int) -> None:
    """Wherever in its last line it was killed."""
    losses = [4.0, 3.0, 5.0, 2.0, 6.0, 1.0]
    write(tmp_path / "whole", losses)
    write(tmp_path / "killed", losses[:5])
    content = (tmp_path / "killed").read_bytes()
    (tmp_path / "killed").write_bytes(content[: len(content) - cut])
    assert len(read_log(tmp_path / "killed")) == (5 if cut == 1 else 4), (
        "a line that lacks its line break alone is whole"
    )
    write(tmp_path / "killed", losses[3:], start_step=3)
    ratios = [[record.get("loss_ratio") for record in read_log(tmp_path / name)] for name in ("whole", "killed")]
    assert ratios[0] == ratios[1]


def test_zeros_after_a_power_cut_are_no_line(tmp_path: Path) -> None:
    """Some file systems have the length of what was written, and not what was: the run could not go on."""
    (tmp_path / "log").write_bytes(b'{"step": 0, "loss": 4.0}\n{"st' + bytes(9))
    assert read_log(tmp_path / "log") == [{"step": 0, "loss": 4.0}]
    write(tmp_path / "log", [2.0], start_step=1)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "log")] == [(0, 4.0), (1, 2.0)]


def test_a_whole_line_before_zeros_is_kept_by_a_resume(tmp_path: Path) -> None:
    """Readers count it, and so does the next ratio."""
    (tmp_path / "log").write_bytes(b'{"step": 0, "loss": 4.0}\n{"step": 1, "loss": 3.0}' + bytes(9))
    assert [line["step"] for line in read_log(tmp_path / "log")] == [0, 1]
    write(tmp_path / "log", [1.5], start_step=2)
    assert [(line["step"], line.get("loss_ratio")) for line in lines(tmp_path / "log")] == [
        (0, None),
        (1, None),
        (2, 0.5),
    ]


def test_numbers_of_numpy_and_tensors_are_written_as_numbers(tmp_path: Path) -> None:
    """A loss that was not brought to the host ended the run, and its log could not be written to any more."""
    log = StabilityLog(tmp_path / "log")
    log.write(np.int64(0), tokens=np.int64(64), rows=np.int64(8), loss=np.float32(4.0), grad_norm=torch.tensor(2.0))  # type: ignore[arg-type]
    log.add(validation_loss=torch.tensor([math.nan]), seq_len=torch.tensor(8))
    assert '"tokens": 64, "rows": 8, "loss": 4.0, "grad_norm": 2.0' in (tmp_path / "log").read_text("utf-8")
    assert '"validation_loss": "NaN", "seq_len": 8}' in (tmp_path / "log").read_text("utf-8")
    log.close()


@pytest.mark.parametrize(
    ("step", "values", "said"),
    [
        (-1, {}, "log: step is -1, expected an integer of at least 0."),
        (1.5, {}, "log: step is 1.5, expected"),
        (2**63, {}, "log: step is 9223372036854775808, expected"),
        (1, {"loss": torch.ones(2)}, r"log: loss is tensor\(\[1., 1.\]\), which is no number"),
        (1, {"loss": "high"}, "log: loss is 'high', which is no number"),
        (1, {"tokens": 0.5}, "log: tokens is 0.5, expected an integer"),
    ],
)
def test_what_no_reader_would_take_is_not_written(tmp_path: Path, step: Any, values: dict[str, Any], said: str) -> None:
    """The log was lost for the resume; the next line is as if nothing had been."""
    log = StabilityLog(tmp_path / "log")
    log.write(0, loss=4.0)
    with pytest.raises(ConfigError, match=said):
        log.write(step, **values)
    log.write(1, loss=2.0)
    log.close()
    assert [(line["step"], line["loss_ratio"]) for line in lines(tmp_path / "log")] == [(0, None), (1, 0.5)]


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(CurriculumError, match=r"log: cannot be written \(.*\); give another file to the log"):
        StabilityLog(tmp_path / "file" / "log")
    log = StabilityLog(tmp_path / "log")
    log.close()
    log._file = os.fdopen(os.open("/dev/full", os.O_RDWR), "r+b")
    with pytest.raises(CurriculumError, match=r"cannot be written \(No space left on device\)"):
        log.write(0, loss=1.0)
    with pytest.raises(CurriculumError, match="make room"):
        log.close()


def test_going_back_drops_what_came_after(tmp_path: Path) -> None:
    """A run that begins anew in the same folder and stops early must not end with the steps of the one before."""
    write(tmp_path / "log", [4.0, 3.0, 2.0, 1.0])
    write(tmp_path / "log", [9.0, 8.0], start_step=1)
    assert [(record["step"], record["loss"]) for record in read_log(tmp_path / "log")] == [(0, 4.0), (1, 9.0), (2, 8.0)]
    assert len(lines(tmp_path / "log")) == 6, "nothing that was written is lost"


def test_a_validation_may_have_a_line_of_its_own(tmp_path: Path) -> None:
    """docs/tuning.md lets trainers write it so. A run that goes back takes nothing over from the one before."""
    lines = ['{"step": 0, "loss": 1.0}', '{"step": 0, "validation_loss": 2.0}', '{"step": 1, "loss": 1.0}']
    (tmp_path / "log").write_text("\n".join([*lines, ""]), "utf-8")
    assert read_log(tmp_path / "log") == [{"step": 0, "loss": 1.0, "validation_loss": 2.0}, {"step": 1, "loss": 1.0}]
    (tmp_path / "log").write_text("\n".join([*lines, '{"step": 0, "loss": 3.0}', ""]), "utf-8")
    assert read_log(tmp_path / "log") == [{"step": 0, "loss": 3.0}]


def test_a_late_validation_drops_nothing(tmp_path: Path) -> None:
    """A trainer that validates beside the training writes it some steps later: all steps since were gone, unsaid."""
    lines = [json.dumps({"step": step, "loss": 4.0}) for step in range(6)]
    (tmp_path / "log").write_text("\n".join([*lines, '{"step": 3, "validation_loss": 2.0}', ""]), "utf-8")
    found = read_records(tmp_path / "log")
    assert [record.get("validation_loss") for record in found.records] == [None, None, None, 2.0, None, None]
    assert found.num_dropped == 0
    (tmp_path / "log").write_text("\n".join([*lines, '{"step": 3, "loss": 2.0}', ""]), "utf-8")
    assert (len(read_records(tmp_path / "log").records), read_records(tmp_path / "log").num_dropped) == (4, 3)
    (tmp_path / "log").write_text("\n".join([*lines, '{"step": 3, "loss": null, "validation_loss": 2.0}', ""]), "utf-8")
    assert read_log(tmp_path / "log")[3] == {"step": 3, "loss": 4.0, "validation_loss": 2.0}, "null is no value"


@pytest.mark.parametrize(
    ("lines", "expected", "num_dropped"),
    [
        ("L3 V9 / L2", "L2", 1),
        ("G3 V9 / G2", "G2", 1),
        ("L3 V9 / V8", "L3 V8", 0),
        ("L3 G1 / L3 V9", "L3 G1 V9", 0),  # says more, and nothing else
        ("Lnan / Lnan V9", "Lnan V9", 0),
        ("V9 / L3", "V9 L3", 0),
    ],
)
def test_a_step_that_was_trained_again_takes_nothing_over(
    tmp_path: Path, lines: str, expected: str, num_dropped: int
) -> None:
    """Its validation was one of weights that are gone, and nobody was told that there are two runs."""
    keys = {"L": "loss", "G": "grad_norm", "V": "validation_loss"}

    def record(values: str) -> dict[str, float]:
        return {"step": 1, **{keys[value[0]]: float(value[1:]) for value in values.split()}}

    (tmp_path / "log").write_text("\n".join(json.dumps(record(values)) for values in lines.split("/")), "utf-8")
    found = read_records(tmp_path / "log")
    assert (repr(found.records), found.num_dropped) == (repr([record(expected)]), num_dropped)


@pytest.mark.parametrize("key", ["grad_norm", "validation_loss"])
def test_a_log_without_losses_goes_back_too(tmp_path: Path, key: str) -> None:
    """Where there is nothing but validations, they are no late ones."""
    (tmp_path / "log").write_text("\n".join(json.dumps({"step": step, key: 1.0}) for step in (0, 5, 9, 3)), "utf-8")
    found = read_records(tmp_path / "log")
    assert ([record["step"] for record in found.records], found.num_dropped) == ([0, 3], 2)


def test_a_late_validation_between_logged_steps_has_a_place_of_its_own(tmp_path: Path) -> None:
    """A loss every ten steps: the three logged since were gone."""
    lines = [json.dumps({"step": step, "loss": 4.0}) for step in range(0, 60, 10)]
    (tmp_path / "log").write_text("\n".join([*lines, '{"step": 25, "validation_loss": 2.0}', ""]), "utf-8")
    found = read_records(tmp_path / "log")
    assert [(record["step"], record.get("validation_loss")) for record in found.records] == [
        *((0, None), (10, None), (20, None)),
        *((25, 2.0), (30, None), (40, None), (50, None)),
    ]
    assert found.num_dropped == 0


def test_a_last_line_without_its_line_break_counts(tmp_path: Path) -> None:
    """Other writers end files so; a run that goes on ends the line and begins its own."""
    (tmp_path / "log").write_text('{"step": 0, "loss": 4.0}\n{"step": 1, "loss": 2.0}', "utf-8")
    assert [record["loss"] for record in read_log(tmp_path / "log")] == [4.0, 2.0]
    write(tmp_path / "log", [3.0], start_step=2)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "log")] == [(0, 4.0), (1, 2.0), (2, 3.0)]
    assert lines(tmp_path / "log")[2]["loss_ratio"] == 1.5


def test_what_other_trainers_write_into_what_no_measure_needs(tmp_path: Path) -> None:
    """Whole numbers as floats, as pandas does; a rate for each group; a byte order mark."""
    line = '\ufeff{"step": 3.0, "tokens": 64.0, "loss": 2, "learning_rate": [0.1, 0.2], "seconds": "0:01"}\n'
    (tmp_path / "log").write_text(line, "utf-8")
    (record,) = read_log(tmp_path / "log")
    assert record == {"step": 3, "tokens": 64, "loss": 2.0, "learning_rate": None, "seconds": None}
    assert type(record["step"]) is int


def test_seconds_go_on_after_a_resume(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"step": 0, "seconds": 1000.0}\n', "utf-8")
    write(tmp_path / "log", [1.0], start_step=1)
    assert 1000.0 <= read_log(tmp_path / "log")[1]["seconds"] < 1100.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x", "not JSON"),
        ("[1]", "[1] found"),
        ('{"loss": 1.0, "epoch": 2}', "there is no step in it, an integer of at least 0; found ['loss', 'epoch']"),
        ('{"step": 1.5}', "step is 1.5"),
        ('{"step": true}', "step is True"),
        ('{"step": -1}', "step is -1"),
        ('{"step": 9223372036854775808}', "expected an integer"),
        ('{"step": 1, "loss": "\\u001b[2J"}', r"loss is '\\x1b[2J', which is no number"),
        ('{"step": 1, "loss": [1]}', "loss is [1]"),
        ('{"step": 1, "grad_norm": true}', "grad_norm is True"),
        ('{"step": 1, "seq_len": 8.5}', "seq_len is 8.5"),
        ("[" * 100_000, "not JSON"),
        ('{"step": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_what_is_no_such_log_is_a_sentence(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "log").write_text('{"step": 0}\n' + line + "\n", "utf-8")
    with pytest.raises(DataError) as refused:
        read_log(tmp_path / "log")
    sentence = str(refused.value)
    assert "line 2: " in sentence
    assert said in sentence or said.replace("\\\\", "\\") in sentence
    assert sentence.isprintable()
    assert len(sentence) < 500 + len(str(tmp_path))


def test_numbers_of_other_writers(tmp_path: Path) -> None:
    """Python's own json writes NaN bare, some write integers, huge ones among them; other keys are theirs."""
    (tmp_path / "log").write_text(
        '{"step": 3, "loss": NaN, "grad_norm": 2, "note": "x", "variance_l1": 1' + "0" * 400 + "}\n", "utf-8"
    )
    (record,) = read_log(tmp_path / "log")
    assert math.isnan(record["loss"])
    assert (record["grad_norm"], record["note"], record["variance_l1"]) == (2.0, "x", math.inf)


def test_no_log_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_log(tmp_path / "none")
    (tmp_path / "log").write_text('{"step": 0', "utf-8")
    with pytest.raises(DataError, match="no whole line is in it"):
        read_log(tmp_path / "log")


@pytest.mark.parametrize(
    ("content", "said"),
    [('[{"step": 0, "loss": 4.0}]', r"line 1: \[\{'step': 0, 'loss': 4.0\}\] found"), ("Hello", "line 1: not JSON")],
)
def test_one_line_of_something_else_is_no_log_that_ended_early(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "log").write_text(content, "utf-8")
    with pytest.raises(DataError, match=said):
        read_log(tmp_path / "log")


HOLDS = (
    "import sys; from curriculum.stability_log import *; l = StabilityLog(sys.argv[1]); "
    "l.write(0, loss=9.0); read_log(l.path); print(flush=True); input()"
)


def test_a_log_that_another_run_writes_is_left_alone(tmp_path: Path) -> None:
    """Each wrote over the lines of the other, and no reader took the log any more."""
    path = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(CurriculumError, match="log: another process has it open, a run or a notebook in"):
            StabilityLog(path)
        other.communicate(b"\n")
    left = StabilityLog(path)  # by a run that an error has ended, of which a notebook has the traceback
    left.write(0, loss=4.0)
    write(path, [3.0], start_step=1)
    assert [line["step"] for line in read_log(path)] == [0, 1]
    with pytest.raises(CurriculumError, match="log: this log is closed; write to the one that was opened after it"):
        left.write(1, loss=4.0)
    left.close()


def test_a_fork_takes_no_log_from_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the parent's objects, and the parent's lock."""
    parents = StabilityLog(tmp_path / "log")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(CurriculumError, match="log: another process has it open"):
        StabilityLog(tmp_path / "log")
    parents.write(0, loss=4.0)
    parents.close()


LEAVES_A_WORKER = (
    "import os, sys, time; from curriculum.stability_log import *; l = StabilityLog(sys.argv[1]); "
    "l.write(0, loss=4.0); os.fork() and os._exit(9); print(os.getpid(), flush=True); time.sleep(60)"
)


def test_a_worker_that_outlives_its_run_does_not_hold_its_log(tmp_path: Path) -> None:
    """As of a data loader: whoever restarts the run at once was told that another has its log."""
    path = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", LEAVES_A_WORKER, str(path)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        worker = int(killed.stdout.readline())
        try:
            assert killed.wait(10) == 9
            write(path, [3.0], start_step=1)
        finally:
            os.kill(worker, signal.SIGKILL)
    assert [line["step"] for line in read_log(path)] == [0, 1]


def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("curriculum.stability_log.fcntl.flock", refuse)
    write(tmp_path / "log", [4.0])
    assert len(lines(tmp_path / "log")) == 1
