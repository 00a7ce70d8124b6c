"""What a killed tune goes on with: a file that is whole, of the same tune, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import product
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import BuildError, DataError
from pipeline.tuning.candidate import Candidate, Evaluation, ProbeRun
from pipeline.tuning.state import FinishedProbe, open_state, save_state

REQUEST = {"lr_warmup_steps": 100, "trains": "train.py {dataset}", "fluctuation": 1.3}


def probe(duration: int, *perplexities: float) -> FinishedProbe:
    evaluations = tuple(Evaluation(step=9 + 10 * i, perplexity=value) for i, value in enumerate(perplexities))
    run = ProbeRun(evaluations=evaluations, num_tokens=960, num_steps=60, stopped_early=True, seconds=1.25)
    return FinishedProbe(candidate=Candidate(start_length=8, length_warmup_steps=duration), run=run)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the state of a tune that had two probes."""
    save_state(tmp_path, REQUEST, [probe(300, 900, 5e200), probe(600, 900, inf)])
    return tmp_path


def test_probes_come_back_as_they_were(folder: Path) -> None:
    """In their order, with perplexities that JSON has no numbers for, and larger ones than integers of 64 bits."""
    before = open_state(folder, REQUEST, overwrite=False, say=print)
    assert before == (probe(300, 900, 5e200), probe(600, 900, inf))
    save_state(folder, REQUEST, [probe(300, nan)])
    (diverged,) = open_state(folder, REQUEST, overwrite=False, say=print)
    assert repr(diverged.run.evaluations[0].perplexity) == "nan"
    assert [path.name for path in folder.iterdir()] == ["tune.json"]
    assert open_state(folder / "new", REQUEST, overwrite=False, say=print) == ()


def test_a_tune_of_other_options_is_refused_naming_each(folder: Path) -> None:
    """Probes of another learning rate or threshold would answer a question that nobody asked."""
    now = {**REQUEST, "trains": "train.py {dataset} --lr 2", "fluctuation": 1.5, "seed": 1}
    with pytest.raises(BuildError) as refused:
        open_state(folder, now, overwrite=False, say=print)
    for said in (
        "holds a tune with 2 finished probes",
        "fluctuation was 1.3, now 1.5",
        "seed was not given, now 1",
        "trains was 'train.py {dataset}', now 'train.py {dataset} --lr 2'",
        "--overwrite",
    ):
        assert said in str(refused.value)
    assert open_state(folder, now, overwrite=True, say=print) == ()
    assert (
        len(open_state(folder, REQUEST, overwrite=False, say=print)) == 2
    )  # nothing is lost before the first new probe


def test_without_a_finished_probe_other_options_begin_anew(tmp_path: Path) -> None:
    """A train command with a mistake in it is corrected without asking for more."""
    save_state(tmp_path, REQUEST, [])
    assert open_state(tmp_path, {**REQUEST, "trains": "better.py"}, overwrite=False, say=print) == ()


def _set(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def damage(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _set(["format"], "else"),
        _set(["version"], 0),
        _set(["probes", 0, "start_length"], 0),
        _set(["probes", 0, "stopped_early"], 1),
        _set(["probes", 0, "seconds"], "1"),
        _set(["probes", 0, "evaluations", 0], [9]),
        _set(["probes", 0, "evaluations", 0], [-1, 5.0]),
        _set(["probes", 0, "evaluations", 0], [9, "nan"]),
        _set(["probes", 0, "evaluations", 0], [9, True]),
        _set(["probes", 0, "evaluations", 0], [9, 10**400]),
        _set(["probes", 0, "evaluations", 0], [9, [5]]),
        _set(["probes", 0, "length_warmup_steps"], 600),
        _set(["request"], []),
    ],
)
def test_a_damaged_state_is_named_and_nothing_of_it_is_believed(
    folder: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    """Half a state would send the search elsewhere."""
    path = folder / "tune.json"
    state = json.loads(path.read_text())
    damage(state)
    path.write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"tune\.json.*--overwrite to begin anew"):
        open_state(folder, REQUEST, overwrite=False, say=print)


def test_a_state_of_a_newer_release_is_not_called_damaged(folder: Path) -> None:
    """--overwrite, which was advised, would drop its probes."""
    path = folder / "tune.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(BuildError, match=r"a newer curriculum has written this state\. Install it to go on, or give"):
        open_state(folder, REQUEST, overwrite=False, say=print)


def test_what_is_no_file_or_cannot_be_read_is_refused_before_a_probe_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, a pipe that nobody writes to, a disk that fails: also with --overwrite, which is to write there."""
    (tmp_path / "a" / "tune.json").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "tune.json")
    for folder, overwrite in product((tmp_path / "a", tmp_path / "b"), (False, True)):
        with pytest.raises(BuildError, match=r"tune\.json: is no file.*Remove it, or give another --out"):
            open_state(folder, REQUEST, overwrite=overwrite, say=print)
    save_state(tmp_path / "c", REQUEST, [])

    def fails(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(BuildError, match=r"tune\.json: cannot be read: Permission denied"):
        open_state(tmp_path / "c", REQUEST, overwrite=False, say=print)


def test_every_cut_of_the_file_is_noticed(folder: Path) -> None:
    """As a full disk or a copy that ended early leaves it."""
    path = folder / "tune.json"
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="--overwrite"):
            open_state(folder, REQUEST, overwrite=False, say=print)
