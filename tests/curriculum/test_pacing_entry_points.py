"""A user's own pacing function: found by name in installed packages, checked, never loaded by a file that names it."""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from curriculum.errors import PlanError
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, load_pacing_function

FUNCTIONS = """
import math
def cubic(x): return x * x * x
def half(x): return min(1.0, 0.5 + x)
def falls(x): return 1.0 if x != 0.5 else 0.25
def short(x): return 0.9 * x
def large(x): return 2 * x
def negative(x): return 2 * x - 1
def nothing(x): return math.nan
def raises(x): return 1 / (x - 0.5)
def word(x): return "fast"
number = 7
"""


def install(folder: Path, package: str, entries: dict[str, str]) -> None:
    """What pip leaves behind: a distribution folder with its entry points."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[curriculum.pacing]", *lines]) + "\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    names = ("cubic", "half", "falls", "short", "large", "negative", "nothing", "raises", "word", "number", "absent")
    entries = {f"my-{name}": f"my_pacing_curves:{name}" for name in names}
    install(tmp_path, "my-curves", {**entries, "my-broken": "my_broken_curves:f", "linear": "my_broken_curves:f"})
    (tmp_path / "my_pacing_curves.py").write_text(FUNCTIONS)
    (tmp_path / "my_broken_curves.py").write_text("raise RuntimeError('no license')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_pacing_curves", None)


@pytest.mark.usefixtures("installed")
def test_a_function_of_an_installed_package_is_a_schedule() -> None:
    assert load_pacing_function("my-cubic")(0.5) == 0.125
    p = Pacing(name="my-cubic", start_length=8, max_length=72)
    assert p.runs(1000, 800) == (
        (8, 399),
        (16, 104),
        (24, 73),
        (32, 58),
        (40, 49),
        (48, 43),
        (56, 39),
        (64, 34),
        (72, 201),
    )
    assert [p.length(step, 800) for step in (0, 398, 399, 798, 799)] == [8, 8, 16, 64, 72]
    assert p.arrivals(800)[1] == 400  # x**3 = 1 / 8 at exactly half
    plan = compile_plan(pacing=p, warmup=Fraction(1, 2), batch=Batch(rows=4), budget=Budget(steps=100))
    assert plan.schedule == {
        "name": "my-cubic",
        "start_length": 8,
        "max_length": 72,
        "multiple_of": 8,
        "length_warmup_steps": 50,
    }


@pytest.mark.usefixtures("installed")
def test_a_function_may_begin_above_the_start_and_arrive_before_the_end() -> None:
    p = Pacing(name="my-half", start_length=8, max_length=72)
    assert p.runs(100, 80) == ((40, 9), (48, 10), (56, 10), (64, 10), (72, 61))


@pytest.mark.usefixtures("installed")
def test_a_built_in_name_stays_built_in() -> None:
    """The package of the fixture offers a `linear` that cannot even be imported."""
    assert Pacing(name="linear", start_length=8, max_length=24).arrivals(10) == [1, 5, 10]


@pytest.mark.usefixtures("installed")
def test_reading_a_plan_never_loads_what_it_names() -> None:
    """A dataset from anywhere must not choose which code runs."""
    p = Pacing(name="linear", start_length=8, max_length=24)
    plan = compile_plan(pacing=p, warmup=5, batch=Batch(rows=4), budget=Budget(steps=10)).to_json()
    del plan["schedule"]["degree"]
    for name in ("my-broken", "my-cubic", "my-none"):
        plan["schedule"]["name"] = name
        assert Plan.from_json(plan).total_steps == 10
    assert not {"my_broken_curves", "my_pacing_curves"} & set(sys.modules)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-falls", "schedule 'my-falls' falls from 1.0 to 0.25 at x = 0.5; a pacing function must never fall."),
        ("my-short", "schedule 'my-short' gives 0.9 at x = 1; it must reach 1 there."),
        ("my-large", "schedule 'my-large' gives 1.001953125 at x = 0.5009765625; it must be from 0 to 1."),
        ("my-negative", "schedule 'my-negative' gives -1.0 at x = 0.0; it must be from 0 to 1."),
        ("my-nothing", "schedule 'my-nothing' gives nan at x = 0.0; it must be from 0 to 1."),
        ("my-raises", "schedule 'my-raises' gives -2.0 at x = 0.0"),
        ("my-word", "schedule 'my-word' fails at x = 0.0: TypeError: str instead of a number"),
        ("my-number", "schedule 'my-number' fails at x = 0.0: TypeError: 'int' object is not callable."),
        (
            "my-absent",
            "schedule 'my-absent' cannot be loaded from 'my_pacing_curves:absent' of my-curves: AttributeError",
        ),
        ("my-broken", "of my-curves: RuntimeError: no license. Repair or reinstall that package."),
        (
            "my-cubes",
            "Installed entry points of group 'curriculum.pacing': linear, my-absent, my-broken, my-cubic, my-",
        ),
    ],
)
def test_a_function_that_is_no_pacing_is_refused_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        Pacing(name=name, start_length=8, max_length=64)
    assert message in str(refusal.value)
    assert str(refusal.value).endswith(".")


def test_two_packages_with_one_name_are_refused(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of them wins would depend on the order of the path."""
    install(installed / "other", "your-curves", {"my-cubic": "your_curves:cubic"})
    monkeypatch.syspath_prepend(str(installed / "other"))
    with pytest.raises(PlanError, match="'my-cubic' is offered by my-curves and your-curves; uninstall all but one"):
        load_pacing_function("my-cubic")
