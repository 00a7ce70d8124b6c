"""A tune that was stopped, or is asked for more, goes on with the probes that it has."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import BuildError, DataError
from pipeline.interruption import Interrupted, ending_on_signals
from pipeline.report_tune import tune_report
from pipeline.tuning import Candidate, Evaluation, ProbeRun
from tune_world import Said, Tune, World, tuned_with


def test_killed_at_any_probe_the_same_call_goes_on_and_trains_none_twice(run: Tune, tmp_path: Path) -> None:
    """A tune of days loses the probe it was at."""
    whole = run(World(16, 95))
    for dies_at in range(1, len(whole.probes) + 1):
        first, second = World(16, 95, dies_at=dies_at), World(16, 95)
        with pytest.raises(KeyboardInterrupt):
            run(first, overwrite=True)
        result = run(second, overwrite=dies_at == 1)  # nothing was saved over what was there
        assert [*first.probed, *second.probed] == [probe.candidate for probe in whole.probes]
        assert result == whole
    finished = World(16, 95)
    assert run(finished) == whole
    assert finished.probed == []
    (tmp_path / "tune" / "tune.svg").unlink()
    assert run(finished).plot == tmp_path / "tune" / "tune.svg"


def test_what_overwrite_drops_is_said_and_how_to_go_on_without_it(run: Tune, tmp_path: Path) -> None:
    """A job that is queued again with the same command would begin at probe 1 for ever."""
    said, folder = Said(), tmp_path / "tune"
    last_words = []
    for dies_at in (1, 3, 3):
        with ending_on_signals():
            with pytest.raises(KeyboardInterrupt):
                run(World(16, 95, dies_at=dies_at), overwrite=True, progress=said)
            last_words.append(str(Interrupted(signal.SIGINT)))
    without = "interrupted by SIGINT. Run the same command again without --overwrite to continue."
    assert last_words == [without.replace(" without --overwrite", ""), without, without]
    ends = f"{folder}: has 2 finished probes of this tune, which --overwrite would drop: leave it out to go on."
    drops = (
        f"{folder}: --overwrite drops 2 finished probes as soon as a new one is finished. Leave it out to go on with "
        f"this tune where it is interrupted."
    )
    assert [message for message in said.messages if "overwrite" in message] == [ends, drops, ends]
    assert len(run(World(16, 95), progress=said).probes) == 7
    (folder / "tune.json").write_text("damaged")
    assert run(World(16, 95), overwrite=True, progress=said).found is not None


def test_other_options_are_refused_and_change_nothing(run: Tune, options: dict[str, Any], tmp_path: Path) -> None:
    """Also those of the build, the prober, and the corpus; how many work at it is no other option."""
    before = run(World(8, inf))
    state = (tmp_path / "tune" / "tune.json").read_bytes()
    with pytest.raises(BuildError, match=r"fluctuation was 1\.3, now 1\.5"):
        run(World(8, inf), fluctuation=1.5)
    with pytest.raises(BuildError, match=r"trains was 'prober World', now 'prober .*lambda"):
        run(lambda candidate, num_steps, stop_now: World(8, inf)(candidate, num_steps, stop_now))
    for other, sentence in (
        ({"steps": 410}, "steps was 400, now 410"),
        ({"validation_tokens": 5_000}, "6000, now 5000"),
    ):
        with pytest.raises(BuildError, match=sentence):
            tuned_with({**options, **other}, World(8, inf), tmp_path / "tune")
    assert (tmp_path / "tune" / "tune.json").read_bytes() == state
    again = tuned_with({**options, "out": "d"}, World(8, inf), tmp_path / "tune", params=10**8)
    assert again.probes == before.probes


def test_other_bounds_go_on_with_the_probes_and_count_those_that_are_of_no_more_use(run: Tune, tmp_path: Path) -> None:
    """The answer recommends wider bounds, a finer resolution and other starts; nothing is trained again for them."""
    first = run(World(16, 95), most_length_warmup_steps=70)
    assert first.found == Candidate(start_length=16, length_warmup_steps=70)
    wider = World(16, 95)
    result = run(wider)
    assert result.found == Candidate(start_length=16, length_warmup_steps=90)
    assert min(one.length_warmup_steps for one in wider.probed) > 70
    finer = World(16, 95)
    assert run(finer, resolution_steps=2).found == Candidate(start_length=16, length_warmup_steps=94)
    assert {one.length_warmup_steps for one in finer.probed} == {94, 96}
    none = World(16, 95)
    bounded = run(none, most_length_warmup_steps=70)
    assert none.probed == []
    assert bounded.probes == first.probes
    assert [one.candidate for one in bounded.other_probes] == [*wider.probed, *finer.probed]
    assert bounded.probe_tokens == sum(one.run.num_tokens for one in (*bounded.probes, *bounded.other_probes))
    table = tune_report(bounded).splitlines()
    assert table[len(first.probes) + 1] == "Trained for other bounds, and of no use for these:"
    assert table[len(first.probes) + 2].startswith(f"{len(first.probes) + 1:<3}    16")
    assert len(bounded.to_json()["other_probes"]) == len(bounded.other_probes)
    for _ in range(2):  # the second time no probe is trained
        assert run(World(16, 95)).config is not None
        assert run(World(16, 40), least_length_warmup_steps=55).config is None
        assert not (tmp_path / "tune" / "tuned.toml").exists(), "the answer of the bounds before"


def test_a_probe_that_cannot_be_judged_ends_in_a_sentence_and_costs_no_other(run: Tune, tmp_path: Path) -> None:
    """It names the probe; the ones before it are on the disk."""

    class Rare(World):
        def __call__(self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], /) -> ProbeRun:
            self.every = 5 if len(self.probed) == 2 else 2
            return super().__call__(candidate, num_steps, stop_now)

    Rare.__qualname__ = "World"
    with pytest.raises(BuildError) as refused:
        run(Rare(16, 95))
    assert str(refused.value).startswith(
        "probe 3 of at most 8, start 16, warmup 180 steps, cannot be judged: steps 2 to 5 "
    )
    assert "--validate-every 2" in str(refused.value)
    going_on = World(16, 95)
    assert run(going_on).found == Candidate(start_length=16, length_warmup_steps=90)
    assert len(going_on.probed) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda evaluations: evaluations[:2],
        lambda evaluations: evaluations[::-1],
        lambda evaluations: [[1, 0.5], *evaluations[1:]],
    ],
)
def test_a_state_that_cannot_be_judged_is_named(run: Tune, tmp_path: Path, damage: Callable[[Any], Any]) -> None:
    """Not the train command, which is not to blame: somebody has changed the file."""
    run(World(8, inf))
    path = tmp_path / "tune" / "tune.json"
    state = json.loads(path.read_text())
    state["probes"][0]["evaluations"] = damage(state["probes"][0]["evaluations"])
    path.write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"tune\.json: the probe of start 8, warmup 30 steps cannot be judged.*--over"):
        run(World(8, inf))
