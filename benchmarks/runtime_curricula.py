"""What cutting at run time costs, next to datasets that were cut before: tokens, bytes, shapes, seconds, resume.

    pip install -e '.[dev]'
    python benchmarks/runtime_curricula.py [--quick] [--only PART ...] [--layers N] [--folder DIR] [--json]

In:  nothing but this machine: the Python standard library as corpus, GPT-2 of `transformers` with random weights, and
     DeepSpeed's own scheduler and sampler if the package is installed.
Out: tables, or with --json one object, on stdout; progress on stderr. Most of the time is inductor's.
Guarantee: one model, one loop, one corpus, one number of trained tokens; ways take turns (see timed_training.py). The
load of the machine before and after is part of what is found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # what compiles is this process and its g++
SAMPLER_ROWS = 16
"""A batch of the sampler, of which only numbers are compared: two rows would often come in the same order by chance."""
PARTS = ("tokens", "train", "compiled", "shapes", "resume")
QUICK: dict[str, Any] = {
    "max_length": 32,
    "warmup_steps": 6,
    "steps": 10,
    "few_shapes": (2,),
    "layers": 1,
    "width": 16,
    "heads": 1,
    "backends": ("eager", "eager"),
    "rounds": 2,
    "turns": 2,
}


def measure(
    folder: Path,
    *,
    quick: bool = False,
    parts: Sequence[str] = PARTS,
    layers: int | None = None,
    corpus: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The parts that were asked for, by name."""
    import torch
    from length_data import Setting, prepare
    from length_ways import seq_len_of_deepspeed

    import curriculum

    torch.set_num_threads(1)
    setting = Setting(**(QUICK if quick else {}) | ({} if layers is None else {"layers": layers}))
    load = [os.getloadavg()[0]]
    say("building the datasets ...")
    paths = prepare(folder, setting, corpus)
    seq_len, scheduler = seq_len_of_deepspeed(setting)
    reader = curriculum.open(paths["truncate"])
    for step in range(len(reader)):
        assert reader[step].seq_len == seq_len(step), f"step {step}: the compiled length is not DeepSpeed's"
    found: dict[str, Any] = {"setting": asdict(setting), "deepspeed_lengths": scheduler}
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "tokens": lambda *_: published_tokens(),
        "train": trained,
        "compiled": trained_compiled,
        "shapes": shape_table,
        "resume": resumed,
    }
    for part in parts:
        found[part] = measures[part](setting, paths, seq_len)
    found["load"] = [*load, os.getloadavg()[0]]
    return found


def published_tokens() -> dict[str, Any]:
    """Loaded against trained tokens by arithmetic: published runs that truncate, and Composer's defaults."""
    from pipeline.option_sources import load_options
    from pipeline.requested_plan import compile_requested

    found = {}
    for name in ("gpt2-1.5b", "gpt3-1.3b", "bigscience-104b"):
        plan = compile_requested(load_options(ROOT / "configs" / f"{name}.toml", {}), None)
        loaded = sum(phase.num_rows for phase in plan.phases) * plan.max_seq_len
        found[name] = {"steps": plan.total_steps, "loaded_tokens": loaded, "trained_tokens": plan.total_tokens}
    return {**found, **_composer_tokens(batches=1000, rows=512)}


def _composer_tokens(*, batches: int, rows: int) -> dict[str, Any]:
    """Its defaults, 8 to 1,024 by 8 over 30 % of the batches; its models predict one token fewer than a row has."""
    from length_data import Setting
    from length_ways import seq_len_of_composer

    setting = Setting()
    every = batches * 3 // 10 // setting.num_changes
    lengths = [seq_len_of_composer(setting, every, step) for step in range(batches)]
    loaded = batches * rows * setting.max_length
    cut = {"truncate": lambda length: rows, "segment": lambda length: rows * setting.max_length // length}
    return {
        f"Composer's defaults, {name}, {batches:,} batches of {rows}": {
            "steps": batches,
            "loaded_tokens": loaded,
            "trained_tokens": sum(rows_of(length) * (length - 1) for length in lengths),
        }
        for name, rows_of in cut.items()
    }


def trained(setting: Any, paths: dict[str, Path], seq_len: Callable[[int], int]) -> dict[str, Any]:
    """Five ways to equal trained tokens, without torch.compile, in turns, several times."""
    import length_ways as ways
    from timed_training import Run, train_in_turns

    import curriculum

    plan, vocab_size = curriculum.open(paths["truncate"]).plan, _vocab_size(paths)
    every = (
        ways.compiled("compiled, truncate", paths["truncate"]),
        ways.deepspeed_style(paths["full"], setting, seq_len),
        ways.composer_style(paths["full"], setting, is_segment=False),
        ways.compiled("compiled, segment", paths["segment"]),
        ways.composer_style(paths["full"], setting, is_segment=True),
    )
    Run(every[1], setting, vocab_size, None).train_until(1)  # libraries start up here
    rounds = []
    for number in range(setting.rounds):
        say(f"training five ways, round {number + 1} of {setting.rounds} ...")
        rounds.append([Run(way, setting, vocab_size, None) for way in every])
        train_in_turns(rounds[-1], plan.total_tokens, setting.turns)
    return {runs[0].way.name: _of_runs(runs) for runs in zip(*rounds, strict=True)}


def trained_compiled(setting: Any, paths: dict[str, Path], seq_len: Callable[[int], int]) -> dict[str, Any]:
    """The same with torch.compile, one after the other: compiled code of two models in one process is not apart."""
    import length_ways as ways
    import torch
    from shape_compiles import empty_caches
    from timed_training import Run

    import curriculum

    total, vocab_size = curriculum.open(paths["truncate"]).plan.total_tokens, _vocab_size(paths)
    few = f"{setting.few_shapes[0]} shapes"
    deepspeed = ways.deepspeed_style(paths["full"], setting, seq_len)
    cases: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("DeepSpeed-style, dynamic=None", deepspeed, {"dynamic": None}),
        ("compiled, marked", ways.compiled("", paths["truncate"], tells_shapes=True), {"dynamic": None}),
        (f"compiled, {few}, dynamic=False", ways.compiled("", paths[few]), {"dynamic": False}),
        ("DeepSpeed-style, dynamic=False", deepspeed, {"dynamic": False}),
    )
    found = {}
    for name, way, options in cases:
        say(f"training with torch.compile: {name} ...")
        torch._dynamo.reset()
        with empty_caches(setting.backends[0]):
            run = Run(way, setting, vocab_size, {"backend": setting.backends[0], **options})
            run.train_until(total)
        found[name] = _of_runs([run])
        say(f"    {sum(run.clock.wall.values()):.0f} s, CPU {sum(run.clock.cpu.values()):.0f} s: {run.clock.cpu}")
    torch._dynamo.reset()
    return found


def shape_table(setting: Any, paths: dict[str, Path], seq_len: Callable[[int], int]) -> dict[str, Any]:
    """Graphs and seconds of many and of few shapes."""
    from shape_compiles import Told, compiles

    from curriculum.adapters.pytorch import CurriculumDataset
    from curriculum.adapters.shapes import Shapes

    found: dict[str, Any] = {}
    for name in ("truncate", *(f"{count} shapes" for count in reversed(setting.few_shapes)), "segment"):
        shapes = Shapes(CurriculumDataset(paths[name]).share)
        many = len(shapes.all)
        cases = [Told(name="dynamic=None", dynamic=None, limit=8)]
        if name != "segment":
            cases.append(Told(name="dynamic=False", dynamic=False, limit=8))
        if name != "segment" and many > 8:
            cases.append(Told(name="dynamic=False, limit raised", dynamic=False, limit=many))
        if shapes.dynamic:
            cases.append(Told(name="marked", dynamic=None, limit=8, mark=shapes.mark))
        kind = f"{many} shapes, rows vary" if name == "segment" else f"{many} shapes"
        for told in cases:
            say(f"compiling {kind}, {told.name} ...")
            one = compiles(setting, _vocab_size(paths), shapes.all, told, setting.backends[1])
            found[f"{kind}: {told.name}"] = asdict(one)
            say(f"    {one}")
    return found


def resumed(setting: Any, paths: dict[str, Path], seq_len: Callable[[int], int]) -> dict[str, Any]:
    """Stopped in the middle, continued."""
    import length_ways as ways
    import resume_exactness as resume

    say("stopping and continuing ...")
    stop, steps = setting.steps // 2, setting.steps
    deepspeed = ways.deepspeed_style(paths["full"], setting, seq_len)
    composer = ways.composer_style(paths["full"], setting, is_segment=False)
    cases = {
        "compiled": resume.resume_compiled(paths["truncate"], stop),
        "compiled, on 2 ranks": resume.resume_compiled(paths["truncate"], stop, world_size=2),
        "DeepSpeed-style, the loader begins anew": resume.resume_cut(deepspeed, stop, steps, skips=False),
        "DeepSpeed-style, the user skips": resume.resume_cut(deepspeed, stop, steps, skips=True),
        "Composer-style, skips": resume.resume_cut(composer, stop, steps, skips=True),
    }
    rows = SAMPLER_ROWS
    sampler = resume.resume_deepspeed_sampler(setting, stop, setting.steps * 3 // 4 * rows, rows)
    if sampler is not None:
        version, within, beyond = sampler
        cases[f"DeepSpeedDataSampler {version}, to the end of its epoch"] = within
        cases[f"DeepSpeedDataSampler {version}, the next epoch"] = beyond
    return {"stopped_after": stop, **{name: asdict(case) for name, case in cases.items()}}


def _vocab_size(paths: dict[str, Path]) -> int:
    import curriculum

    return curriculum.open(paths["full"]).manifest.tokenizer.vocab_size


def _of_runs(runs: Sequence[Any]) -> dict[str, Any]:
    """What is counted is the same in every round; the parts of the time are of the round in the middle."""
    runs = sorted(runs, key=lambda run: sum(run.clock.cpu.values()))
    counts, clock = runs[0].counts, runs[len(runs) // 2].clock
    return {
        **asdict(counts),
        "shapes": len(counts.shapes),
        "shard_bytes_read": _shard_bytes(runs[0].way.source, counts.loaded_tokens),
        "seconds": clock.wall,
        "cpu_seconds": clock.cpu,
        "cpu_seconds_of_rounds": [sum(run.clock.cpu.values()) for run in runs],
    }


def _shard_bytes(path: Path, tokens: int) -> int:
    """Of the shards, headers included, as the manifest says; of a dataset that was not read to its end its share."""
    import curriculum

    manifest = curriculum.open(path).manifest
    num_bytes = sum(shard.num_bytes for phase in manifest.phases for shard in phase.shards)
    return round(num_bytes * tokens / manifest.plan.total_tokens)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Parse, measure, print."""
    from runtime_report import tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no inductor: whether it runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some of the parts")
    parser.add_argument("--layers", type=int, help="of the model, in all parts  [default: 1]")
    parser.add_argument("--folder", type=Path, help="where to work, and keep the data  [default: a temporary folder]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curriculum-benchmark-") as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, quick=given.quick, parts=given.only, layers=given.layers)
    print(json.dumps(found) if given.json else tables(found))


if __name__ == "__main__":
    main()
