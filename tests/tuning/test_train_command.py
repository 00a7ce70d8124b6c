"""A training is a command with placeholders, or a function that is called in a process of its own."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from curriculum.errors import ConfigError
from pipeline.tuning.run_callable import training_function
from pipeline.tuning.run_training import Trained
from pipeline.tuning.train_command import training_command


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
    with pytest.raises(ConfigError, match="finds it by its name: define it in a file, at the top of a module"):
        training_function(lambda dataset, steps, log: None)


PROGRAM = """
import subprocess, sys
from dataclasses import dataclass
@dataclass
class Sizes:
    layers: "int" = 2
def layers(sizes):
    return sizes.layers
def mine(dataset, steps, log):
    import multiprocessing  # at the top it would put a `__mp_main__` of its own into sys.modules
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        print(dataset, steps, log, sys.argv[1:], workers.map(layers, [Sizes()]))
if __name__ == "__main__":
    from pipeline.tuning.run_callable import training_function
    words = training_function(mine).filled({"dataset": "{log}", "steps": 3, "log": "L"})
    sys.exit(subprocess.run(words).returncode)
"""


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("script.py", PROGRAM, ["script.py"]),
        ("package/program.py", f"from . import __name__ as package{PROGRAM}", ["-m", "package.program"]),
    ],
)
def test_a_function_of_the_program_itself_is_a_training(tmp_path: Path, name: str, code: str, words: list[str]) -> None:
    """What stands below its guard does not run again, or it would tune without end; relative imports are found.

    A config that is a dataclass and a pool of workers, as of a data loader, are at home in such a program.
    """
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(code)
    shown = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.stderr) == ("{log} 3 L [] [2]\n", "")


def test_a_function_from_standard_input_is_refused() -> None:
    """Each probe failed with "no such file: <stdin>"; in a notebook it looks as if it stood at the top of a script."""
    code = (
        "def mine(dataset, steps, log): ...\nfrom pipeline.tuning.run_callable import training_function as t\nt(mine)"
    )
    shown = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=False)
    assert "ConfigError: The training function is <function mine" in shown.stderr
    assert "nothing from a notebook, an interpreter or standard input is found there" in shown.stderr


def test_a_program_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    """Its function stands at the top, as it should; the process that was to call it tunes instead."""
    (tmp_path / "script.py").write_text("def mine(dataset, steps, log): ...")
    loaded_there = runpy.run_path(str(tmp_path / "script.py"), run_name="__mp_main__")["mine"]
    with pytest.raises(ConfigError, match="mine: put the call of the tune below `if __name__ == '__main__':`"):
        training_function(loaded_there)
