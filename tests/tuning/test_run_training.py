"""A probe's training: followed while it runs, ended early, and never left running; what goes wrong is a sentence."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from curriculum.errors import BuildError, ConfigError
from curriculum.stability_log import StabilityLog
from pipeline.lock import HeldError, locked
from pipeline.progress import Silent
from pipeline.tuning import probe_faults, run_training
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.follow_log import FollowedLog
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.probe_log import ProbeLog
from pipeline.tuning.run_callable import training_function
from pipeline.tuning.run_training import Trained, train
from pipeline.tuning.train_command import Training, training_command

START = "import json, math, os, subprocess, sys, time\nlog = open(sys.argv[3], 'a', buffering=1)\n"
"""What every fake trainer begins with; its arguments are dataset, steps and log."""
TEN_STEPS = """
for step in range(int(sys.argv[2])):
    line = {"step": step, "loss": 5.0}
    if step % 2:
        line["validation_loss"] = 4.0 - step / 10
    log.write(json.dumps(line) + "\\n")
"""
EVERY_THIRD = TEN_STEPS.replace("range(int(sys.argv[2]))", "[2, 5, 8]").replace("step % 2", "True")
"""Complete, for a trainer that writes a line for every third step."""


def fake(code: str) -> Training:
    """A training that runs this code, with the interpreter's least start."""
    return training_command(shlex.join([sys.executable, "-S", "-c", START + code, "{dataset}", "{steps}", "{log}"]))


@pytest.fixture
def probe(tmp_path: Path) -> Callable[..., Trained]:
    """Train ten steps."""

    def run(
        training: Training, stop_now: Callable[[Evaluation], bool] = lambda evaluation: False, **limits: float
    ) -> Trained:
        log, output = tmp_path / "log.jsonl", tmp_path / "output.txt"
        values = {"dataset": tmp_path, "steps": 10, "log": log, "decay_tokens": 6_400}
        own = Limits(**limits)
        return train(
            training, values, num_steps=10, log=log, output=output, limits=own, stop_now=stop_now, progress=Silent()
        )

    return run


def failure(probe: Callable[..., Trained], code: str, **limits: float) -> str:
    """The sentence that a training with this code ends in."""
    with pytest.raises(BuildError) as error:
        probe(fake(code), **limits)
    return str(error.value)


def test_evaluations_come_as_they_are_written(probe: Callable[..., Trained]) -> None:
    """A search that is told of a spike an hour late has trained an hour for nothing."""
    told: list[Evaluation] = []
    trained = probe(fake(TEN_STEPS), lambda evaluation: bool(told.append(evaluation)))
    assert [(one.step, round(math.log(one.perplexity), 9)) for one in told] == [
        (1, 3.9), (3, 3.7), (5, 3.5), (7, 3.3), (9, 3.1),
    ]  # fmt: skip
    assert trained == Trained(evaluations=tuple(told), num_steps=10, stopped_early=False)


def test_a_training_is_ended_as_soon_as_nothing_after_it_counts(probe: Callable[..., Trained], tmp_path: Path) -> None:
    """With what it has started; what it prints stays."""
    started = tmp_path / "started"
    code = f"""
log.write('{{"step": 3, "validation_loss": 2.0}}\\n')
helper = subprocess.Popen(["sleep", "60"])
apart = subprocess.Popen(["sleep", "60"], start_new_session=True)
open({str(started)!r}, "w").write(f"{{os.getpid()}} {{helper.pid}} {{apart.pid}}")
print("printed", flush=True)
log.write('{{"step": 4, "validation_loss": 9.0}}\\n')
time.sleep(60)
"""
    began = time.monotonic()
    trained = probe(fake(code), lambda evaluation: evaluation.step == 4)
    assert time.monotonic() - began < 20
    assert (trained.stopped_early, trained.num_steps, len(trained.evaluations)) == (True, 5, 2)
    assert (tmp_path / "output.txt").read_text() == "printed\n"
    ended(started)


def ended(started: Path) -> None:
    """All processes that a file names have ended, or do within some seconds."""
    for pid in map(int, started.read_text().split()):
        for _ in range(200):
            if not runs(pid):
                break
            time.sleep(0.05)
        assert not runs(pid), pid


def runs(pid: int) -> bool:
    """Whether a process of that number runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False


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


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (f"{TEN_STEPS}\nprint('bye'); sys.exit(3)", None),  # it has done all that was asked for
        ("log.write('{\"step\": 0, \"loss\": 5}\\n'); raise RuntimeError('out of luck')", "exit code 1, with 1 of 10"),
        ("os.kill(os.getpid(), 11)", "failed with exit code 139 (SIGSEGV), with 0 of 10 steps in its log. It"),
        ("os.remove(sys.argv[3]); print('hi')", "without an error and without a log: there is no "),
        ("pass", "log.jsonl has no whole line"),
        (TEN_STEPS.replace("validation_loss", "val"), "log.jsonl has 10 lines with step, loss, val, and no validation"),
        (TEN_STEPS.replace("range(int(sys.argv[2]))", "range(7)"), "ended without an error, but with 7 of 10 steps"),
        ("log.write('step 0, loss 5\\n')", "log.jsonl, line 1: not JSON (Expecting value: line 1 column 1"),
        ("log.write('{\"loss\": 5}\\n')", "there is no step in it, an integer of at least 0; found ['loss']. Write"),
        ("log.write('{\"step\": true}\\n')", "line 1: step is True, expected an integer of at least 0. Write a line"),
        ("log.write('{\"step\": 1, \"loss\": \"5\"}\\n')", "line 1: loss is '5', which is no number"),
        (f"{EVERY_THIRD}\nos.kill(os.getpid(), 11)",
         "exit code 139 (SIGSEGV), with 9 of 10 steps"),
        ("os.remove(sys.argv[3]); os.mkdir(sys.argv[3]); time.sleep(60)", "log.jsonl: is a folder. Write the log into"),
        ("os.remove(sys.argv[3]); os.mkfifo(sys.argv[3]); time.sleep(60)", "log.jsonl: is no plain file. Write the"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_a_sentence(probe: Callable[..., Trained], code: str, sentence: str | None) -> None:
    """It says what was found and what is needed; the end of what the command printed is below it."""
    if sentence is None:
        assert probe(fake(code)).num_steps == 10
    else:
        assert sentence in failure(probe, code)


def test_the_end_of_what_it_printed_is_shown(probe: Callable[..., Trained]) -> None:
    """The traceback of a crash is what people need; a terminal must not obey it."""
    said = failure(probe, "print(*range(30), sep='\\n'); raise RuntimeError('out of \\x1b[2J luck')")
    assert said.endswith("\n    RuntimeError: out of \\x1b[2J luck")
    assert "output.txt, at the end:\n" in said
    assert "\n    5\n" not in said


def test_a_training_that_hangs_is_ended(
    probe: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a new line for ten minutes, which pass at once where it waits; or when it takes too long in all."""
    busy = 'while True: log.write(\'{"step": 1, "loss": 5}\\n\'); time.sleep(0.05)'
    assert "longer than 0.2 seconds" in failure(probe, busy, total_seconds=0.2)

    minutes = iter(range(1000))
    output = tmp_path / "output.txt"
    clock = SimpleNamespace(monotonic=lambda: 60 * next(minutes) if output.read_text() else 0)
    monkeypatch.setattr(run_training, "time", clock)
    output.write_text("")
    said = failure(probe, 'log.write(\'{"step": 1, "loss": 5}\\n\'); print("waiting", flush=True); time.sleep(60)')
    assert "ended after 2 of 10 steps" in said
    assert "no new line for 600 seconds" in said
    assert said.endswith("\n    waiting")


@pytest.mark.parametrize(
    ("code", "last_validated"), [(TEN_STEPS, 9), (TEN_STEPS.replace("step % 2", "step % 4 == 3"), 7)]
)
def test_who_is_through_and_does_not_end_is_not_waited_for(
    probe: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch, code: str, last_validated: int
) -> None:
    """A process group that hangs on its way out costs a night; what it was asked for is in its log."""
    monkeypatch.setattr(probe_faults, "END_SECONDS", 0.2 if last_validated == 9 else 600)
    trained = probe(fake(f"{code}\ntime.sleep(60)"), stall_seconds=600 if last_validated == 9 else 0.7)
    assert (trained.num_steps, trained.stopped_early) == (10, False)
    assert trained.evaluations[-1].step == last_validated


def test_a_trainer_that_goes_back_is_told_anew(probe: Callable[..., Trained]) -> None:
    """It went on from its checkpoint: what it wrote after it counts no more, nor as the best perplexity so far."""

    class Rising:
        def __init__(self) -> None:
            self.told: list[tuple[int, float]] = []

        def __call__(self, evaluation: Evaluation) -> bool:
            assert not self.told or evaluation.step > self.told[-1][0]
            self.told.append((evaluation.step, math.log(evaluation.perplexity)))
            return self.told[-3:] == [(3, 3), (4, 7), (5, 7)]

    code = """
for step, loss in [(0, 3), (1, 3), (2, 3), (3, 3), (4, 1), (5, 1), (6, 1), (4, 7), (5, 7), (6, 7)]:
    log.write(json.dumps({"step": step, "validation_loss": loss}) + "\\n")
time.sleep(60)
"""
    trained = probe(fake(code), Rising())
    assert [(one.step, round(math.log(one.perplexity))) for one in trained.evaluations] == [
        (0, 3), (1, 3), (2, 3), (3, 3), (4, 7), (5, 7),
    ]  # fmt: skip


def test_more_steps_than_asked_for_are_not_waited_for(probe: Callable[..., Trained]) -> None:
    """A trainer that goes through the whole dataset trains the one step more that it has; its log says so."""
    code = f"{TEN_STEPS.replace('int(sys.argv[2])', '12')}\ntime.sleep(60)"
    trained = probe(fake(code))
    assert (trained.num_steps, trained.stopped_early) == (10, False)
    assert [one.step for one in trained.evaluations] == [1, 3, 5, 7, 9]


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


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("python train.py 'x", "could not read either: No closing quotation"),
        ("true {dataset} {steps}", "train_cmd has no {log}. It needs {dataset}, {steps} and {log}"),
        ("", "train_cmd has no {dataset}"),
        ("true {dataset} {step} {log}", "train_cmd has {step}, which stands for nothing. There are {dataset}: folder"),
        ("cd x && true {dataset} {steps} {log}", "begins with 'cd', which is no program that can be run. It is run w"),
    ],
)
def test_a_command_that_cannot_work_is_refused(template: str, sentence: str) -> None:
    """Before anything is tokenized."""
    with pytest.raises(ConfigError) as error:
        training_command(template)
    assert sentence in str(error.value)


def test_values_are_words_whatever_is_in_them() -> None:
    """A folder named `a b; rm -rf c` is an argument; braces that are no placeholder stay."""
    training = training_command("env A={out}/x python '{dataset}' {steps} --json '{\"a\": 1}' {log}")
    values = {"dataset": "/a b; rm -rf 'c'", "steps": 3, "log": "/{steps}", "out": "/o"}
    assert training.filled(values)[1:4] == ["A=/o/x", "python", "/a b; rm -rf 'c'"]
    assert training.filled(values)[4:] == ["3", "--json", '{"a": 1}', "/{steps}"]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_log_is_read_the_same_however_it_is_cut(cut: int) -> None:
    """A line that is read half counts when it is whole; one that is never finished does not count."""
    text = b'{"step": 0, "loss": 7}\n\n{"step": 1, "loss": 6, "validation_loss": 0}\n{"step": 2, "validation_loss": 1'
    reader = ProbeLog(where="log", num_steps=10)
    found = [one for start in range(0, len(text), cut) for one in reader.take(text[start : start + cut])]
    assert found == [Evaluation(step=1, perplexity=1.0)]
    assert (reader.end(), reader.steps_trained) == ([], 2)
    reader.take(b'{"step": 2, "validation_loss": 0}')
    assert reader.end() == [Evaluation(step=2, perplexity=1.0)]


@pytest.mark.parametrize(
    ("entry", "perplexity"),
    [
        ('"validation_loss": 0', 1.0),
        ('"validation_perplexity": 200.5, "validation_loss": 3', 200.5),
        ('"loss": NaN', math.nan),
        ('"loss": "NaN"', math.nan),
        ('"loss": Infinity', math.inf),
        ('"loss": "-Infinity"', math.nan),
        ('"loss": 5, "validation_loss": "Infinity"', math.inf),
        ('"validation_loss": 1e9', math.inf),
        ('"validation_perplexity": "Infinity"', math.inf),
        ('"validation_perplexity": "NaN", "validation_loss": 3', math.nan),
        (f'"validation_loss": {10**400}', math.inf),
        (f'"validation_loss": {-(10**400)}', math.nan),
        ('"loss": 5, "validation_loss": null', None),
    ],
)
def test_a_divergence_is_an_evaluation(entry: str, perplexity: float | None) -> None:
    """NaN as strict JSON, as Python's `json` writes it, or in the training loss alone: the search has to hear of it."""
    found = ProbeLog(where="log", num_steps=10).take(f'{{"step": 4, {entry}}}\n'.encode())
    assert repr(found) == repr([] if perplexity is None else [Evaluation(step=4, perplexity=perplexity)])


@pytest.mark.parametrize(
    ("steps", "is_complete"),
    [
        (range(10), True),
        (range(9), False),
        (range(1, 11), True),  # counted from 1
        (range(0, 10, 3), True),
        ([0, 3, 6], False),
        ([4, 9], True),  # logged after every fifth
        ([4], False),
    ],
)
def test_a_log_tells_whether_all_steps_were_trained(steps: range, is_complete: bool) -> None:
    """Also one that has a line for every third step only."""
    reader = ProbeLog(where="log", num_steps=10)
    reader.take("".join(json.dumps({"step": step}) + "\n" for step in steps).encode())
    assert reader.is_complete is is_complete


def test_a_last_line_that_is_written_anew_is_read_again(tmp_path: Path) -> None:
    """As `StabilityLog.add` does after a validation, which may take minutes, and a crash in it may cut."""
    followed, reader = FollowedLog(path=tmp_path / "log"), ProbeLog(where="log", num_steps=10)

    def told() -> list[tuple[int, float]]:
        news = followed.look()
        found = reader.take(news.lines, replaces_last=news.replaces_last)
        return [(one.step, round(math.log(one.perplexity), 6)) for one in found]

    assert told() == []
    log = StabilityLog(tmp_path / "log")
    log.write(0, loss=4.0)
    log.write(1, loss=4.0)
    assert told() == []
    log.add(validation_loss=4.5)
    assert (told(), told()) == ([(1, 4.5)], [])
    log.write(2, loss=4.0)
    assert told() == []
    log.add(validation_loss=4.25)
    log.write(3, loss=4.0)
    log.add(validation_loss=4.125)
    assert (told(), reader.num_lines) == ([(2, 4.25), (3, 4.125)], 4)
    log.close()
    with (tmp_path / "log").open("r+b") as file:  # a longer last line, cut
        file.seek(-1, os.SEEK_END)
        file.write(b', "val')
    assert (told(), followed.look().rest[-5:]) == ([], b' "val')
    log = StabilityLog(tmp_path / "log", start_step=2)  # goes back
    log.write(2, loss=4.0)
    log.add(validation_loss=4.0)
    log.close()
    assert (told()[-1], sorted(reader.evaluations)) == ((2, 4.0), [1, 2])  # from its start: it is shorter than it was
    (tmp_path / "log").write_text('{"step": 0, "validation_loss": 3}\n')  # begins anew
    assert (told(), sorted(reader.evaluations)) == ([(0, 3.0)], [0])


def a_training(dataset: str, steps: int, log: str, *, decay_tokens: int = 0, rate: float = 0.1) -> None:
    """For the test below: what a user's function does."""
    with Path(log).open("w") as file:
        for step in range(steps):
            file.write(json.dumps({"step": step, "validation_loss": 2.0}) + "\n")
    sys.stdout.write(f"from {Path(dataset).name}, {decay_tokens + 1}")


def of_other_names(data: str, steps: int, log: str) -> None:
    """For the test below: what cannot be called."""


def of_more(dataset: str, steps: int, log: str, model: str) -> None:
    """The same."""


def test_a_function_is_a_training(probe: Callable[..., Trained], tmp_path: Path) -> None:
    """In a process of its own, where it may crash; one that cannot be found there is refused."""
    assert probe(training_function(a_training)).num_steps == 10
    assert (tmp_path / "output.txt").read_text() == f"from {tmp_path.name}, 6401"
    with pytest.raises(ConfigError, match=r"of_other_names has no parameter dataset. It is called with dataset, steps"):
        training_function(of_other_names)
    with pytest.raises(
        ConfigError, match=r"has a parameter model that nothing is known for.*decay_tokens, lr_warmup_s"
    ):
        training_function(of_more)
    with pytest.raises(ConfigError, match="finds it by its name: give a function that is defined at the top of"):
        training_function(lambda dataset, steps, log: None)


def test_a_function_of_a_script_is_a_training(tmp_path: Path) -> None:
    """What stands below the guard of the script does not run again, or it would tune without end."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "def mine(dataset, steps, log):\n"
        "    print(dataset, steps, log, sys.argv[1:])\n"
        "if __name__ == '__main__':\n"
        "    from pipeline.tuning.run_callable import training_function\n"
        "    import subprocess\n"
        "    words = training_function(mine).filled({'dataset': '{log}', 'steps': 3, 'log': 'L'})\n"
        "    subprocess.run(words, check=True)\n"
    )
    shown = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert shown.stdout == "{log} 3 L []\n"
