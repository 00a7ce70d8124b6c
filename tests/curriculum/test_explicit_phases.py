"""Explicit phases: what the text says is what is trained, an open last phase included, and nothing else is accepted."""

import pytest

from curriculum.errors import PlanError
from curriculum.schedule import ExplicitPhases, parse_phases


def spread(runs: tuple[tuple[int, int], ...]) -> list[int]:
    return [seq_len for seq_len, num_steps in runs for _ in range(num_steps)]


def test_explicit_phases_may_shrink_and_revisit() -> None:
    phases = parse_phases("128:1000, 1024:500,128:20")
    assert phases.runs == ((128, 1000), (1024, 500), (128, 20))
    assert (phases.total_steps, phases.max_length, phases.lengths) == (1520, 1024, (128, 1024))


def test_the_published_discrete_schedules_are_explicit_phases() -> None:
    """slw.md 3.3: DeepSpeed's fixed_discrete and its unit test, {1-based step: length}."""
    unaligned = parse_phases("1:5,2:5,3:*", multiple_of=1)
    assert spread(unaligned.runs_with(3)) == [1] * 5 + [2] * 5 + [3] * 3
    assert spread(parse_phases("1:2,2:2,3:2,4:2,5:*", multiple_of=1).runs_with(2)) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    lengths = spread(parse_phases("128:100,256:200,512:300,1024:*").runs_with(400))
    borders = {1: 128, 100: 128, 101: 256, 300: 256, 301: 512, 600: 512, 601: 1024, 1000: 1024}
    assert {step: lengths[step - 1] for step in borders} == borders


def test_an_open_last_phase_takes_what_is_left() -> None:
    phases = parse_phases("128:9, 512 : *")
    assert (phases.is_open, phases.open_length, phases.total_steps, phases.max_length) == (True, 512, 9, 512)
    assert phases.runs_with(41) == ((128, 9), (512, 41))
    assert parse_phases("8:3,8:*").runs_with(2) == ((8, 5),)
    assert parse_phases("512:9,128:*").lengths == (128, 512)
    assert parse_phases("64:*").runs_with(7) == ((64, 7),)
    assert parse_phases("128:9,512:*").describe() == parse_phases("128:9,512:41").describe()
    with pytest.raises(PlanError, match=r"no entry LEN:\*"):
        parse_phases("128:9").runs_with(1)


def test_neighbouring_phases_of_equal_length_are_one_run() -> None:
    assert parse_phases("8:1,8:2,16:3,8:4,8:5").runs == ((8, 3), (16, 3), (8, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "phase 1 of phases is ''; write LEN:STEPS"),
        ("128", "phase 1 of phases is '128'; write LEN:STEPS"),
        ("128:10,", "phase 2 of phases is ''; write LEN:STEPS"),
        ("128:10:3", "phase 1 of phases is '128:10:3'"),
        ("128:1e3", "phase 1 of phases is '128:1e3'"),
        ("128:-5", "phase 1 of phases is '128:-5'"),
        ("128:1_000", "phase 1 of phases is '128:1_000'"),
        ("128:*,256:5", "phase 1 of phases is '128:*'; only the last phase may last LEN:*."),
        ("8:*,16:*", "phase 1 of phases is '8:*'; only the last phase may last LEN:*."),
        ("*", "phase 1 of phases is '*'; "),
        ("8:5,*", "phase 2 of phases is '*'; "),
        (":*", "phase 1 of phases is ':*'; write LEN:STEPS"),
        ("8:2:*", "phase 1 of phases is '8:2:*'; "),
        ("8:**", "phase 1 of phases is '8:**'; write LEN:STEPS"),
        ("8:5,100:*", "the length of phase 2, 100 is not a multiple of multiple_of 8; use 96 or 104."),
        ("128:²", "phase 1 of phases is '128:²'"),
        ("8:" + "9" * 10_000_000, "phase 1 of phases is '8:999"),
        ("128:0", "the number of steps of phase 1 is 0; choose"),
        ("0:5", "the length of phase 1 is 0; choose"),
        ("8:5,100:5", "the length of phase 2, 100 is not a multiple of multiple_of 8; use 96 or 104."),
        ("8:4611686018427387904,16:1", "the number of steps of all phases together is 4611686018427387905"),
    ],
)
def test_phases_that_cannot_work_are_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        parse_phases(text)
    assert message in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_no_phases_at_all_are_refused() -> None:
    with pytest.raises(PlanError, match="phases is empty"):
        ExplicitPhases(steps_by_length=())
