"""The command that builds a dataset again, said by its manifest: what its card shows.

In:  a manifest, also that of a stranger.   Out: `Rebuild`: commands as lists of words, and what they cannot say.
Guarantee: made from manifest fields, never from what was typed, so that equal datasets show equal commands. The plan of
the command is compiled and compared before it is called that of the dataset; where choosing its shapes takes long, a
note says that it was not. Every word is a number, a choice or a name of letters, digits, `.`, `_` and `-`: nothing that
a shell could take for something else. An installed pacing function is never loaded because a manifest names it.

    curriculum build CORPUS --out rebuilt --tokenizer tokenizer.json --eos id:256 --seed 0 --mode segment
      --schedule linear --start-length 8 --max-length 64 --multiple-of 8 --length-warmup-steps 30 --steps 100 ...

A budget is said as the steps that it came to, a share as the warmup steps that it came to; held-out documents by the
tokens that they have, which hold out the same ones. Where schedule and batch cannot be said so, explicit phases do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curriculum.document_plan import DocumentCurriculum
from curriculum.errors import PlanError
from curriculum.explicit_phases import SEPARATE, ExplicitPhases, parse_phases
from curriculum.manifest import Manifest, TokenizerEntry
from curriculum.phase import EXTENSIONS
from curriculum.plan import Budget, Plan, compile_plan
from curriculum.schedule import PACING_NAMES
from curriculum.shape_budget import SHAPES_BY
from pipeline.option_fields import OptionFields
from pipeline.rebuild_batch import Said, batch_said
from pipeline.rebuild_sources import extension_words, held_out_tokens, source_said
from pipeline.requested_plan import batch_of, compile_requested, pacing_of
from pipeline.windows import consumed_tokens

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_COSTS = 2_000_000
"""About a second of the dynamic program of a shape budget."""
NOT_COMPARED = (
    "Choosing so few of so many lengths takes long, so the plan of this command was not compared with that of the "
    "dataset: `curriculum plan --json` with its options shows it, and equal ids are equal datasets."
)
MAX_PHASES = 2_000
"""Characters of --phases on a command line; longer ones are read from the manifest."""
SHAPES_BY_SAID = [("shapes_by", one) for one in SHAPES_BY]
PHASES_FILE = (
    'python -c \'import json; plan = json.load(open("manifest.json"))["plan"]; '
    'runs = plan["order"][: len(plan["order"]) - plan["schedule"].get("extensions", 0)]; '
    'print("phases = \\"%s\\"" % ",".join("%d:%d" % (plan["phases"][p]["seq_len"], n) for p, n in runs))\' '
    "> phases.toml"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuild:
    """Commands, one after the other, and sentences about what they do not say."""

    commands: tuple[tuple[str, ...], ...]
    """words, grouped into lines: an option and its value are one entry"""
    notes: tuple[str, ...]
    files: tuple[str, ...]
    """of the dataset, that the commands read where they are typed"""

    @property
    def where(self) -> str:
        """Where they are typed: in the dataset its folder would get files that are not of it."""
        copies = " and ".join(f"`{name}`" for name in self.files)
        return f"In another folder, with a copy of {copies}" if copies else "In another folder"

    @property
    def text(self) -> str:
        """As it is typed."""
        return "\n".join(" \\\n  ".join(command) for command in self.commands)


def rebuild(manifest: Manifest) -> Rebuild:
    """The commands that build this dataset from its corpus."""
    plan = built_plan(manifest.plan)
    batch, notes = batch_said(plan)
    said, plan_note = plan_said(plan, batch)
    sources, source_notes = source_said(manifest, plan, _epochs(manifest, plan))
    long_phases = len(str(said.get("phases", ""))) > MAX_PHASES
    if long_phases:
        said = {"config": "phases.toml", **{name: value for name, value in said.items() if name != "phases"}}
    tokenizer, build = manifest.tokenizer, manifest.build
    groups = (
        {"out": "rebuilt"},
        {"tokenizer": _tokenizer_said(tokenizer), "eos": f"id:{tokenizer.eos_id}", "bos": build.bos},
        {"mode": plan.mode, **said},
        {"seed": manifest.seed, "shuffle_window": build.window_tokens, "shard_bytes": build.shard_bytes},
        _held_out_said(manifest),
        {"on_bad_record": "skip"} if manifest.accounting.skipped_records else {},
        _about_said(manifest),
    )
    lines = (" ".join(flags(group)) for group in groups if group)
    command = (f"curriculum build {sources[0]}", *sources[1:], *lines)
    all_notes = [*notes, *plan_note, *source_notes, *_reading_notes(manifest)]
    before = ((PHASES_FILE,),) if long_phases else ()
    files = ("tokenizer.json",) * (tokenizer.hub is None) + ("manifest.json",) * long_phases
    return Rebuild(commands=(*before, command, *extension_words(manifest)), notes=tuple(all_notes), files=files)


def built_plan(plan: Plan) -> Plan:
    """The plan before all extensions."""
    count = plan.num_extensions
    if not count:
        return plan
    return Plan(
        mode=plan.mode,
        max_seq_len=plan.max_seq_len,
        schedule={key: value for key, value in plan.schedule.items() if key != EXTENSIONS},
        phases=plan.phases[:-count],
        order=plan.order[:-count],
    )


def flags(said: Mapping[str, Any]) -> Iterator[str]:
    """Words of options: `--batch-rows 16`, or `--balanced` alone."""
    for name, value in said.items():
        yield f"--{name.replace('_', '-')}" if value is True else f"--{name.replace('_', '-')} {value}"


def plan_said(plan: Plan, batch: Said) -> tuple[Said, list[str]]:
    """Options that give this plan; if none do, those that come nearest, and a sentence that says so."""
    name = str(plan.schedule.get("name"))
    if plan.mode == "document":
        return _document_said(plan, batch)
    pacing = {key: plan.schedule[key] for key in _keys(name) if key in plan.schedule}
    if name not in (*PACING_NAMES, ExplicitPhases.NAME) and NAME.fullmatch(name) and _numbers(pacing):
        note = f"It takes the pacing function `{name}` to be installed as it was then: only its name is recorded."
        return {"schedule": name, **pacing, "steps": plan.total_steps, **batch}, [note]
    explicit = {"phases": _runs(plan), "multiple_of": plan.schedule.get("multiple_of"), **batch}
    candidates = [explicit] if name == ExplicitPhases.NAME else []
    if name in PACING_NAMES and _numbers(pacing):
        # With a budget of shapes the warmup can be longer than what is left of the run: --steps would be refused.
        if int(pacing.get("length_warmup_steps", 0)) <= plan.total_steps:
            candidates.append({"schedule": name, **pacing, "steps": plan.total_steps, **batch})
        most = plan.total_tokens + plan.phases[plan.order[-1][0]].tokens_per_step - 1
        candidates.append({"schedule": name, **pacing, "tokens": most, **batch})
    for candidate in candidates:
        if _takes_long(candidate, plan):
            return candidate, [NOT_COMPARED]
        if _gives(candidate, plan):
            return candidate, []
    explicit["multiple_of"] = 1
    note = "No options are known that give this very plan. These give its steps, and a dataset of another id."
    return explicit, [note]


def _keys(name: str) -> tuple[str, ...]:
    """Keys of a plan's schedule that are options, too."""
    own = {"root": ("degree",), "step": ("stages",)}.get(name, ())
    start = () if name == "constant" else ("start_length",)
    return (*own, *start, "max_length", "multiple_of", "max_shapes", "shapes_by", "length_warmup_steps")


def _numbers(pacing: Said) -> bool:
    """Whether all values are of the types that options have: a text times a number is a text of any size."""
    return all(isinstance(value, int) or (key, value) in SHAPES_BY_SAID for key, value in pacing.items())


def _runs(plan: Plan) -> str:
    return ",".join(f"{plan.phases[phase].seq_len}:{num_steps}" for phase, num_steps in plan.order)


def _takes_long(said: Said, plan: Plan) -> bool:
    """Whether compiling these options would hold up whoever only wants the card."""
    try:
        options = OptionFields(**said, mode=plan.mode)
        num_lengths = len(pacing_of(options).lengths) if options.max_shapes is not None else 0
    except (PlanError, TypeError):  # of a manifest that no release of ours wrote
        return False
    return num_lengths.bit_length() * num_lengths * (options.max_shapes or 0) > MAX_COSTS


def _gives(said: Said, plan: Plan) -> bool:
    """Whether these options are compiled to this plan."""
    try:
        options = OptionFields(**said, mode=plan.mode)
        if SEPARATE in plan.schedule:  # they stay so for weights that are listed one by one
            phases = parse_phases(said["phases"], said["multiple_of"], separate=True)
            return (
                compile_plan(pacing=phases, warmup=None, batch=batch_of(options), budget=Budget(), mode=plan.mode)
                == plan
            )
        return compile_requested(options, None) == plan
    except (PlanError, TypeError):  # of a manifest that no release of ours wrote
        return False


def _document_said(plan: Plan, batch: Said) -> tuple[Said, list[str]]:
    schedule = plan.schedule
    said: Said = {key: schedule[key] for key in ("start_length", "max_length", "cycles") if key in schedule}
    asked: Said = {"schedule": schedule["name"], **said, **({"balanced": True} if schedule.get("balanced") else {})}
    try:
        curriculum = DocumentCurriculum(
            name=str(schedule["name"]), **said, balanced=bool(schedule.get("balanced")), seed=int(schedule["seed"])
        )
        same = curriculum.describe() == schedule
    except (PlanError, TypeError, KeyError, ValueError):
        same = False
    if not same:
        return batch, ["Its schedule is not one of this release: its order of steps cannot be had from a command."]
    return {**asked, "steps": plan.total_steps, **batch}, []


def _epochs(manifest: Manifest, plan: Plan) -> int:
    """Passes over the only source that the plan needs; in document mode the fewest that can have given its rows."""
    source, held_out = manifest.sources[0], held_out_tokens(manifest)
    size = max(1, source.tokens - held_out)
    if plan.mode != "document":
        return -(-(consumed_tokens(plan, manifest.build.fill[: len(plan.phases)]) + 1) // size)
    documents = max(0, source.documents - held_out // 2)  # one that is held out has two tokens or more
    return max(1, -(-manifest.accounting.trained_tokens // max(1, size - documents)))


def _tokenizer_said(tokenizer: TokenizerEntry) -> str:
    """The file beside the manifest; the name on the Hub where the manifest has it, for the id covers that, too."""
    return "tokenizer.json" if tokenizer.hub is None else f"hf:{tokenizer.hub.name}@{tokenizer.hub.revision}"


def _held_out_said(manifest: Manifest) -> Said:
    return {"validation_tokens": held_out_tokens(manifest)} if manifest.validation else {}


def _about_said(manifest: Manifest) -> Said:
    about = manifest.about.to_json()
    return about | ({"language": ",".join(about["language"])} if "language" in about else {})


def _reading_notes(manifest: Manifest) -> Iterator[str]:
    if manifest.build.bos != "none":
        yield (
            f"Documents begin with the token {manifest.tokenizer.bos_id}: if tokenizer.json does not name it as BOS, a "
            f"tokenizer_config.json beside it has to."
        )
    if manifest.plan.mode == "document" and (_epochs(manifest, built_plan(manifest.plan)) > 1 or _balanced(manifest)):
        yield "The rows of how many epochs were counted is not recorded: if the id is another, try more `--epochs`."


def _balanced(manifest: Manifest) -> bool:
    return bool(manifest.plan.schedule.get("balanced"))
