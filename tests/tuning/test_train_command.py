"""A training is a command with placeholders, or a function that is called in a process of its own."""

from __future__ import annotations

import json
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
