"""The command line that trains a probe, as people write it.

In:  a template.   Out: a `Training`: its words, in which the values of each probe are put.
Guarantee: no shell reads it, so a value is one argument whatever it holds. What cannot be run is refused here.

    training_command("python train.py --data {dataset} --steps {steps} --log {log}").words
    -> ("python", "train.py", "--data", "{dataset}", "--steps", "{steps}", "--log", "{log}")
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from curriculum.errors import ConfigError

NEEDED = ("dataset", "steps", "log")
"""Placeholders without which a training cannot be a probe."""
PLACEHOLDERS = {
    "dataset": "folder of the dataset",
    "steps": "number of steps to train",
    "log": "file to write the log to",
    "out": "empty folder for checkpoints, removed after the probe",
    "decay_tokens": "tokens of the full training, over which the learning rate decays",
    "lr_warmup_steps": "steps of the warmup of the learning rate",
    "validate_every": "steps from one validation to the next, at most",
    "start_length": "length that the candidate starts at",
    "length_warmup_steps": "steps of the candidate's length warmup",
}
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is run for every probe."""

    name: str
    """for sentences"""
    words: tuple[str, ...]
    """the program and its arguments, with placeholders"""

    def takes(self, placeholder: str) -> bool:
        """Whether it is told the value."""
        return any(placeholder in PLACEHOLDER.findall(word) for word in self.words)

    def filled(self, values: Mapping[str, object]) -> list[str]:
        """With the values of one probe."""
        return [PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), word) for word in self.words]


def training_command(template: str) -> Training:
    """A command line as a training.

    Raises:
        ConfigError: it cannot be split into words, lacks a placeholder, has an unknown one, or no such program exists.
    """
    known = "; ".join(f"{{{name}}}: {what}" for name, what in PLACEHOLDERS.items())
    try:
        words = tuple(shlex.split(template))
    except ValueError as error:
        raise ConfigError(f"train_cmd is {template!r}, which a shell could not read either: {error}.") from None
    found = [name for word in words for name in PLACEHOLDER.findall(word)]
    unknown = [name for name in found if name not in PLACEHOLDERS]
    if unknown:
        raise ConfigError(f"train_cmd has {{{unknown[0]}}}, which stands for nothing. There are {known}.")
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise ConfigError(f"train_cmd has no {{{missing[0]}}}. It needs {{dataset}}, {{steps}} and {{log}} ({known}).")
    if shutil.which(words[0]) is None:
        raise ConfigError(
            f"train_cmd begins with {words[0]!r}, which is no program that can be run. It is run without a shell: for "
            f"`cd`, pipes or variables give a script, or bash -c '...'."
        )
    return Training(name="the train command", words=words)
