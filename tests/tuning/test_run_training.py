"""A probe's training: followed while it runs, and ended early; what goes wrong is a sentence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from curriculum.errors import BuildError
from fake_training import EVERY_THIRD, TEN_STEPS, ended, failure, fake
from pipeline.tuning import probe_faults, run_training
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.fluctuation import Rule, Verdict, Watch, judge
from pipeline.tuning.run_training import Trained


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


TRAINS_ON = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for step in range(last + 1):
    log.write('{"step": %d, "validation_loss": %d}\\n' % (step, 4 + (step == 3)))
    while step == 3 and os.path.exists(sys.argv[3] + ".untold"):
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("last", "end", "num_steps", "stopped_early"),
    [
        (6, "", 7, True),
        (6, "log.write('no line of a log\\n')", 7, True),
        (6, 'log.write(\'{"step": 7, "loss": 5}\')', 8, True),  # killed before the end of the line
        (3, 'log.truncate(0); log.write(\'{"step": 0, "loss": 5}\\n\')', 4, True),  # begun anew by its supervisor
        (9, "", 10, False),
        (12, "", 10, False),
    ],
)
def test_what_was_trained_after_the_stop_is_counted(
    probe: Callable[..., Trained], tmp_path: Path, last: int, end: str, num_steps: int, stopped_early: bool
) -> None:
    """A trainer that ends when it likes has cost all of that; 0.7 % was said of a tune that took 23 %."""
    untold = tmp_path / "log.jsonl.untold"
    untold.touch()

    def spiked(evaluation: Evaluation) -> bool:
        if evaluation.step == 3:
            untold.unlink()
        return evaluation.step == 3

    trained = probe(fake(f"last = {last}\n{TRAINS_ON}{end}"), spiked)
    assert [one.step for one in trained.evaluations] == [0, 1, 2, 3], "the verdict rests on these"
    assert (trained.num_steps, trained.stopped_early) == (num_steps, stopped_early)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (f"{TEN_STEPS}\nprint('bye'); sys.exit(3)", None),  # it has done all that was asked for
        ("log.write('{\"step\": 0, \"loss\": 5}\\n'); raise RuntimeError('out of luck')",
         'code 1, with 1 of 10 steps in its log. If it ends itself where training diverges, let it write that step'),
        ("os.kill(os.getpid(), 11)", "failed with exit code 139 (SIGSEGV), with 0 of 10 steps in its log. It"),
        ("os.remove(sys.argv[3]); print('hi')", "without an error and without a log: there is no "),
        ("pass", "checkpoint of an earlier try, let it keep its checkpoints in {out}, which is empty."),
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


class Watching:
    """Told by rising step; leaves a file when it is told step 6, so that a trainer knows that it was."""

    def __init__(self, seen: Path) -> None:
        self.seen = seen
        self.told: list[tuple[int, float]] = []

    def __call__(self, evaluation: Evaluation) -> bool:
        assert not self.told or evaluation.step > self.told[-1][0]
        self.told.append((evaluation.step, math.log(evaluation.perplexity)))
        if evaluation.step == 6:
            self.seen.touch()
        return self.told[-3:] == [(3, 3), (4, 7), (5, 7)]


def test_a_trainer_that_goes_back_is_told_anew(probe: Callable[..., Trained], tmp_path: Path) -> None:
    """It went on from its checkpoint: what it wrote after it counts no more, nor as the best perplexity so far."""
    seen = tmp_path / "seen"
    code = f"""
for step, loss in [(0, 3), (1, 3), (2, 3), (3, 3), (4, 1), (5, 1), (6, 1), (4, 7), (5, 7), (6, 7)]:
    if (step, loss) == (4, 7):
        while not os.path.exists({str(seen)!r}):
            time.sleep(0.01)
    log.write(json.dumps({{"step": step, "validation_loss": loss}}) + "\\n")
time.sleep(60)
"""
    trained = probe(fake(code), Watching(seen))
    assert [(one.step, round(math.log(one.perplexity))) for one in trained.evaluations] == [
        (0, 3), (1, 3), (2, 3), (3, 3), (4, 7), (5, 7),
    ]  # fmt: skip


LATE = """
for step in range(10):
    log.write('{"step": %d, "loss": %s}\\n' % (step, "NaN" if step == 9 else "5"))
    if step:
        log.write('{"step": %d, "validation_loss": 4}\\n' % (step - 1))
"""
"""It diverges in its last step, and the last line is a validation of the one before."""


def test_a_late_validation_takes_nothing_back(probe: Callable[..., Trained], tmp_path: Path) -> None:
    """A divergence was forgotten for it, and the candidate called steady. Who stops at nothing sees all in order."""
    told: list[int] = []
    trained = probe(fake(LATE), lambda evaluation: bool(told.append(evaluation.step)))
    assert [one.step for one in trained.evaluations] == list(range(10))
    assert (trained.num_steps, math.isnan(trained.evaluations[-1].perplexity)) == (10, True)
    (tmp_path / "log.jsonl").unlink()
    rule = Rule(beginning_steps=5, probe_steps=10, validations=5)
    assert judge(probe(fake(LATE), Watch(rule)).evaluations, rule).verdict is Verdict.LATER


RULE = Rule(beginning_steps=4, probe_steps=10, validations=2)
THREE_STEPS_LATE = """
for step in range(10):
    log.write('{"step": %d, "loss": %s}\\n' % (step, "5" if step < 5 else "NaN"))
    if step % 2 == 0 and step > 3:
        log.write('{"step": %d, "validation_loss": 4}\\n' % (step - 3))
    if step in looked_at:
        time.sleep(0.15)
"""
"""Every second step is validated, from 1 on, and it diverges in step 5, where only that of step 1 is there."""


@pytest.mark.parametrize("looked_at", [(), (4, 5, 6, 7)])
def test_a_validation_that_is_late_is_waited_for_whenever_the_log_is_looked_at(
    probe: Callable[..., Trained], looked_at: tuple[int, ...]
) -> None:
    """It was refused as validated too rarely, each time it was run, where a look fell before the validation of 3."""
    trained = probe(fake(f"looked_at = {looked_at}{THREE_STEPS_LATE}"), Watch(RULE))
    assert (judge(trained.evaluations, RULE).verdict, judge(trained.evaluations, RULE).step) == (Verdict.LATER, 5)


def test_a_trainer_that_ends_where_it_diverged_is_judged_by_what_it_has_validated(
    probe: Callable[..., Trained],
) -> None:
    """It is not its exit code that is to be mended, but how often it validates."""
    code = THREE_STEPS_LATE.replace("range(10)", "range(6)")
    trained = probe(fake(f"looked_at = (){code}sys.exit(1)"), Watch(RULE))
    with pytest.raises(BuildError, match="steps 2 to 4 were not validated"):
        judge(trained.evaluations, RULE)


@pytest.mark.parametrize("end", ["sys.exit(1)", "time.sleep(60)"])
def test_a_late_validation_leaves_the_training_at_its_end(
    probe: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """All steps are trained and validated: neither a crash nor a hang after that is a failure."""
    monkeypatch.setattr(probe_faults, "END_SECONDS", 0.2)
    code = TEN_STEPS + 'log.write(\'{"step": 8, "validation_loss": 4}\\n\')\n' + end
    assert probe(fake(code)).num_steps == 10


def test_what_counts_no_more_before_it_is_read_is_not_told(probe: Callable[..., Trained]) -> None:
    """A log that is written at the end holds a spike and the resume before it: only the steps that count are judged."""
    code = """
steps = [(step, 4 + (step == 7)) for step in range(8)] + [(step, 4) for step in range(5, 10)]
log.write("".join('{"step": %d, "loss": 5, "validation_loss": %d}\\n' % one for one in steps))
"""
    trained = probe(fake(code), lambda evaluation: evaluation.perplexity > math.exp(4.5))
    assert ([one.step for one in trained.evaluations], trained.stopped_early) == (list(range(10)), False)


def test_more_steps_than_asked_for_are_not_waited_for(probe: Callable[..., Trained]) -> None:
    """A trainer that goes through the whole dataset trains the one step more that it has; its log says so."""
    code = f"{TEN_STEPS.replace('int(sys.argv[2])', '12')}\ntime.sleep(60)"
    trained = probe(fake(code))
    assert (trained.num_steps, trained.stopped_early) == (10, False)
    assert [one.step for one in trained.evaluations] == [1, 3, 5, 7, 9]


def test_a_command_that_removes_what_it_printed_fails_with_its_exit_code(
    probe: Callable[..., Trained], tmp_path: Path
) -> None:
    """A script that begins with an empty folder: all that was said was that there is no output.txt."""
    said = failure(probe, f"os.remove({str(tmp_path / 'output.txt')!r}); sys.exit(7)")
    assert "failed with exit code 7" in said
    assert "What it printed is gone: it has removed or replaced " in said
