"""A probe from options to evaluations: its dataset is cut, trained on, and gone; log and output stay."""

from __future__ import annotations

import math
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum.errors import BuildError, ConfigError
from pipeline.lock import HeldError, locked
from pipeline.option_sources import load_options
from pipeline.progress import Once, Silent
from pipeline.tuning import when_free
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import full_plan, tunable
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.prober import DatasetProber
from pipeline.tuning.settings import TuneSettings
from pipeline.tuning.train_command import training_command
from pipeline.tuning.train_with import train_with
from tune_world import Said

TRAINER = """
import json, sys
import curriculum
dataset, steps, log, out, decay_tokens = sys.argv[1:6]
start_length, length_warmup_steps = map(int, sys.argv[6:])
reader = curriculum.open(dataset)
open(out + "/checkpoint", "w").close()
with open(log, "w") as file:
    for batch in reader.steps():
        if batch.step == int(steps):
            break
        line = {"step": batch.step, "seq_len": batch.seq_len, "decay_tokens": int(decay_tokens)}
        line |= {"name": f"{start_length} in {length_warmup_steps}"}
        if batch.step % 3 == 2:
            rows = sum(len(held_out.tokens) for held_out in reader.validation.batches(16))
            line["validation_loss"] = batch.tokens.size / rows
        file.write(json.dumps(line) + "\\n")
"""
"""Its losses are the tokens of a step over the rows that are held out."""


@pytest.fixture
def prober(corpus: Path, tmp_path: Path) -> DatasetProber:
    """Of a full training of 60 steps over the small corpus."""
    given = {"tokenizer": "bytes", "max_length": 64, "batch_rows": 8, "workers": 1, "steps": 60}
    options = load_options(None, {**given, "corpus": (str(corpus),), "out": str(tmp_path / "full")})
    names = ("dataset", "steps", "log", "out", "decay_tokens", "start_length", "length_warmup_steps")
    words = shlex.join([sys.executable, "-c", TRAINER, *(f"{{{name}}}" for name in names)])
    return DatasetProber(
        options=tunable(options, lambda message: None),
        training=training_command(words),
        folder=tmp_path / "probes",
        progress=Silent(),
        lr_warmup_steps=5,
        validate_every=3,
    )


def test_a_probe_trains_the_first_steps_and_leaves_its_log(prober: DatasetProber, tmp_path: Path) -> None:
    """And neither its dataset nor its checkpoint: a hundred probes must not fill the disk."""
    candidate = Candidate(start_length=8, length_warmup_steps=14)  # 8 tokens in steps 0 and 1, 16 in step 2
    run = prober(candidate, 9, lambda evaluation: False)
    plan = full_plan(prober.options, candidate, Silent()).plan
    rows = math.log(run.evaluations[0].perplexity)  # 8 rows of 16 tokens and one more, over the rows held out
    held_out = round(8 * 17 / rows)
    assert held_out >= 64
    assert [(one.step, round(math.log(one.perplexity) * held_out, 6)) for one in run.evaluations] == [
        (2, 8 * 17), (5, 8 * 33), (8, 8 * 41),
    ]  # fmt: skip
    assert (run.num_steps, run.num_tokens, run.stopped_early) == (9, plan.tokens_at(9), False)
    (folder,) = (tmp_path / "probes").iterdir()
    assert folder.name == "start00008-warmup00000014-steps00000009"
    assert sorted(path.name for path in folder.iterdir()) == ["log.jsonl", "output.txt"]
    assert f'"decay_tokens": {plan.total_tokens}, "name": "8 in 14"' in (folder / "log.jsonl").read_text()


def test_a_probe_that_was_stopped_costs_what_it_trained(prober: DatasetProber) -> None:
    """Not all that it was asked for: the share of the full training that a tune cost is made of these."""
    five = """
import sys, time
with open(sys.argv[1], "w") as log:
    log.writelines('{"step": %d, "validation_loss": %d}\\n' % (step, 4 + step) for step in range(5))
time.sleep(60)
"""
    training = training_command(shlex.join([sys.executable, "-S", "-c", five, "{log}", "{dataset}", "{steps}"]))
    candidate = Candidate(start_length=8, length_warmup_steps=14)
    run = replace(prober, training=training)(candidate, 9, lambda evaluation: evaluation.step == 1)
    plan = full_plan(prober.options, candidate, Silent()).plan
    assert ([one.step for one in run.evaluations], run.stopped_early) == ([0, 1], True)
    assert (run.num_steps, run.num_tokens) == (5, plan.tokens_at(5))


def test_a_probe_that_fails_can_be_tried_again(prober: DatasetProber, tmp_path: Path) -> None:
    """Its dataset is gone, what it printed is there; a next one in the same place does not read its log."""
    candidate = Candidate(start_length=8, length_warmup_steps=14)
    broken = "import sys; open(sys.argv[1], 'w').write('{\"step\": 5, \"loss\": 5}\\n'); 1 / 0"
    training = training_command(shlex.join([sys.executable, "-c", broken, "{log}", "{dataset}", "{steps}"]))
    with pytest.raises(BuildError, match=r"exit code 1, with 6 of 6 steps in its log(.|\n)*ZeroDivisionError"):
        replace(prober, training=training)(candidate, 6, lambda evaluation: False)
    (folder,) = (tmp_path / "probes").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["log.jsonl", "output.txt"]
    assert [one.step for one in prober(candidate, 6, lambda evaluation: False).evaluations] == [2, 5]


def test_the_training_of_a_killed_tune_is_waited_for(
    prober: DatasetProber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For up to 35 seconds it may write into the log, and is on the GPU."""
    monkeypatch.setattr("pipeline.tuning.prober.WAIT_SECONDS", 0.1)
    with (
        locked(tmp_path / "probes"),
        pytest.raises(BuildError, match=r"probes: the training of an earlier tune is still there after 0\.1 seconds"),
    ):
        prober(Candidate(start_length=8, length_warmup_steps=14), 6, lambda evaluation: False)
    monkeypatch.setattr("pipeline.tuning.prober.WAIT_SECONDS", 60)
    earlier = ExitStack()
    earlier.enter_context(locked(tmp_path / "probes"))
    timer = threading.Timer(0.3, earlier.close)
    timer.start()
    assert prober(Candidate(start_length=8, length_warmup_steps=14), 6, lambda evaluation: False).num_steps == 6
    timer.join()


def test_the_store_is_waited_for_while_another_process_works_with_it(
    prober: DatasetProber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tune of days does not end because somebody looks at a plan."""
    store, candidate = tmp_path / "full.store", Candidate(start_length=8, length_warmup_steps=14)
    said = Said()
    waiting = replace(prober, progress=said)
    with ExitStack() as other:
        other.enter_context(locked(store))
        timer = threading.Timer(0.5, other.close)
        timer.start()
        assert waiting(candidate, 6, lambda evaluation: False).num_steps == 6
        timer.join()
    waits = (
        f"{store}: another process works with this token store; waits until it has ended, for 3,600 seconds at most."
    )
    assert [message[len("23:59:59: ") :] for message in said.messages if "waits" in message] == [waits]
    monkeypatch.setattr("pipeline.tuning.when_free.STORE_SECONDS", 0.1)
    with locked(store), pytest.raises(BuildError, match=r"full\.store: another process is writing there"):
        waiting(candidate, 6, lambda evaluation: False)


def test_a_second_wait_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tune that waits at probe 2, and for an hour at probe 5, would look hung there: it says no line twice."""
    said, now = Said(), [0.0]
    progress = Once(said)
    clock = SimpleNamespace(
        monotonic=lambda: now[0],
        sleep=lambda seconds: now.append(now.pop() + 10 * seconds),
        strftime=lambda _: f"00:00:{now[0]:02.0f}",
    )
    monkeypatch.setattr(when_free, "time", clock)
    for _ in range(2):
        fails = iter([HeldError("held"), HeldError("held")])

        def act(fails: Iterator[HeldError] = fails) -> str:
            for error in fails:
                raise error
            return "done"

        assert when_free.when_free(act, seconds=99, waits="Waits.", progress=progress) == "done"
    assert said.messages == ["00:00:00: Waits.", "00:00:06: Waits."]


@pytest.mark.parametrize(("more", "is_warned"), [("", True), (" {decay_tokens}", False)])
def test_a_training_without_decay_tokens_is_warned_of(tmp_path: Path, more: str, is_warned: bool) -> None:
    """Its learning rate would be at its lowest where the full training is at its highest."""
    said = Said()
    train_with(
        "true {dataset} {steps} {log}" + more,
        settings=TuneSettings(lr_warmup_steps=100),
        folder=tmp_path,
        limits=Limits(),
        progress=said,
    )
    assert [message[:46] for message in said.messages] == (
        ["The train command is not told decay_tokens: a "] if is_warned else []
    )


@pytest.mark.parametrize("path", ["{corpus}", "{corpus}/**/*.txt", "{corpus}/s?b"])
def test_a_folder_in_the_corpus_is_refused(prober: DatasetProber, corpus: Path, path: str) -> None:
    """Logs end in .jsonl: each probe would train on those of the ones before it."""
    options = replace(prober.options, corpus=(path.format(corpus=corpus),))
    assert replace(prober, options=options).options is options
    with pytest.raises(ConfigError, match="lies in the corpus"):
        replace(prober, options=options, folder=corpus / "sub" / "tune")


@pytest.mark.parametrize("seconds", [0, -5, math.nan, "9", None])
def test_limits_that_are_no_time_are_refused(seconds: Any) -> None:
    """Before a corpus is tokenized, not after it, by a probe that took longer than -5 seconds."""
    with pytest.raises(ConfigError, match=r"stall_seconds is .* \(--stall-timeout\); give a number of seconds above 0"):
        Limits(stall_seconds=seconds)
    if seconds is not None:
        with pytest.raises(ConfigError, match=r"total_seconds is .* \(--probe-timeout\)"):
            Limits(total_seconds=seconds)
    assert Limits(stall_seconds=math.inf, total_seconds=None).stall_seconds == math.inf
