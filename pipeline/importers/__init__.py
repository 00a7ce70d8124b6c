"""Importers: the curriculum of another tool, as options of ours.

In:  a configuration file of DeepSpeed, Composer or OLMo-core, or the name of a SkyLadder schedule.
Out: `Imported`: options by name, and one line that says what differs from the original.
Guarantee: the options name our own schedule only where it has the original's length at every step; otherwise they
are explicit phases with exactly those lengths. What the original crashes on or gets wrong is refused in a sentence.

    import_schedule({"deepspeed": "ds_config.json"}).options
    {"mode": "truncate", "schedule": "linear", "start_length": 8, "max_length": 1024, "multiple_of": 8,
     "length_warmup_steps": 1000, "batch_rows": 512}
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from curriculum.errors import ConfigError
from pipeline.importers.composer import import_composer
from pipeline.importers.deepspeed import import_deepspeed
from pipeline.importers.olmo import import_olmo
from pipeline.importers.skyladder import import_skyladder
from pipeline.importers.translation import Imported, ending_early

__all__ = ["Imported", "import_composer", "import_deepspeed", "import_olmo", "import_schedule", "import_skyladder"]

FILES: dict[str, Callable[[Path], Imported]] = {
    "deepspeed": import_deepspeed,
    "deepspeed-unclamped": partial(import_deepspeed, clamped=False),
    "composer": import_composer,
    "olmo": import_olmo,
}


def import_schedule(given: Mapping[str, str], *, max_length: int | None = None, steps: int | None = None) -> Imported:
    """The one schedule that `--from-TOOL` names.

    Args:
        given: tool -> file or name.
        max_length: completes the name of a SkyLadder schedule.
        steps: of the whole run, which may end inside the curriculum; None where the budget is another.

    Raises:
        ConfigError: several tools are given, or the schedule cannot be imported.
    """
    if len(given) != 1:
        flags = " and ".join(f"--from-{tool}" for tool in given) or "no --from-TOOL"
        raise ConfigError(f"{flags} given; a run has one schedule: give one of them.")
    ((tool, name),) = given.items()
    if tool == "skyladder":
        imported = import_skyladder(name, max_length=max_length, steps=steps)
    else:
        imported = FILES[tool](Path(name))
    return imported if steps is None else ending_early(imported, steps)
