"""`plan`, `build` and `extend`: what makes a dataset, or shows what would be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import GroupedHelp, model_size_options, plan_options, reading_options, storage_option
from pipeline.commands.parameters import as_json_option, dataset_argument, options_of
from pipeline.commands.results import print_json


@click.command(cls=GroupedHelp)
@plan_options
@model_size_options
@click.option("--corpus-tokens", type=int, default=None, help="Training tokens of the corpus, if it is not at hand.")
@click.option("--census", is_flag=True, help="With --json too: what the corpus means for the plan.")
@click.option("--shape-table", is_flag=True, help="What a budget of 2, 3, ... shapes costs.")
@click.option("--all-phases", is_flag=True, help="Show every phase in the table.")
def plan(
    config: Path | None,
    as_json: bool,
    all_phases: bool,
    census: bool,
    shape_table: bool,
    params: int | None,
    layers: int | None,
    hidden: int | None,
    **flags: Any,
) -> None:
    """Show what a schedule trains, step by step, before anything is built.

    \b
    curriculum plan --steps 1000 --frac 0.3 --batch-rows 512
    curriculum plan --steps 1000 --max-shapes 8 --params 1500000000 --layers 48 --hidden 1600
    curriculum plan --schedule root --degree 2 --max-length 2048 --tokens 300_000_000_000 --batch-tokens 4194304
    curriculum plan --from-deepspeed ds_config.json --steps 300000
    curriculum plan corpus/ --tokenizer tokenizer.json      one pass; tokenizes the corpus into the store
    """
    from pipeline.planning import PlanRequest, plan_request, with_analysis
    from pipeline.progress import Terminal
    from pipeline.report import plan_report

    size = (params, layers, hidden)
    request = PlanRequest(
        options=options_of(config, flags), model_size=size, shape_table=shape_table, census=census or not as_json
    )
    outcome = plan_request(request, Terminal())
    for warning in outcome.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        print_json(with_analysis(outcome, census=census, shape_table=shape_table))
    else:
        plan_report(outcome, all_phases=all_phases)


@click.command(cls=GroupedHelp)
@plan_options
@click.option("--out", type=str, default=None, help="Folder or address of the dataset.  [default: ./curriculum-data]")
@click.option("--keep-store/--no-keep-store", default=None, help="Keep the token store for later builds.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace another dataset at OUT.")
@click.option("--license", default=None, help="The Hub's identifier of its licence, such as apache-2.0.")
@click.option("--language", multiple=True, help="A language of its texts, such as en; again for more, or en,de.")
def build(config: Path | None, as_json: bool, **flags: Any) -> None:
    """Build the dataset, or continue a build that was interrupted.

    \b
    curriculum build --schedule linear --frac 0.3
    curriculum build 'corpus/*.jsonl.zst' --tokenizer gpt2/tokenizer.json --batch-tokens 524288 --out my-dataset
    curriculum build --config configs/tiny.toml
    """
    from pipeline.build import build as run
    from pipeline.progress import Terminal
    from pipeline.report import build_report

    result = run(options_of(config, flags), Terminal())
    if as_json:
        print_json(result.to_json())
    else:
        build_report(result)


@click.command()
@dataset_argument
@as_json_option
@click.option(
    "--source",
    multiple=True,
    help="NAME=PATH: new text, as a source of its own; again with the same NAME for more paths. NAME: one that was "
    "added before.  [default: what the dataset was built from]",
)
@click.option("--steps", type=int, default=None, help="This many steps more.  [default: all unused tokens]")
@click.option(
    "--total-steps", type=click.IntRange(min=1), default=None, help="So many steps in all, those that it has included."
)
@click.option("--tokens", type=int, default=None, help="Steps that train at most this many tokens more.")
@click.option("--epochs", type=click.IntRange(min=1), default=None, help="Passes over the source, in all.")
@click.option("--store", type=str, default=None, help="Folder or address of its token store, if it was moved.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Tasks at once.  [default: one per core]")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Where the work is done.")
@click.option("--ray-address", type=str, default=None, help="Address of a Ray cluster.")
@reading_options
@storage_option
def extend(
    dataset: str,
    as_json: bool,
    source: tuple[str, ...],
    steps: int | None,
    total_steps: int | None,
    tokens: int | None,
    epochs: int | None,
    storage_option: tuple[str, ...],
    **flags: Any,
) -> None:
    """Add steps at the maximum length to DATASET: from tokens of its corpus that no step has used, or from new text.

    Its shards stay as they are, and a run that was trained to its end resumes with the new steps. The same command
    again finds that it is done; for as many steps again, ask for a number in all with --total-steps.

    \b
    curriculum extend my-dataset --steps 1000
    curriculum extend my-dataset --total-steps 6000               also in a script that is run again
    curriculum extend my-dataset --tokens 10_000_000_000 --epochs 2
    curriculum extend my-dataset --source news=corpora/news       new text: all of it, once
    curriculum extend my-dataset --source news --epochs 2         the same text once more
    """
    from pipeline.extend import extend as run
    from pipeline.longer_plan import Extent
    from pipeline.progress import Terminal
    from pipeline.report import build_report

    paths, names = (tuple(one for one in source if ("=" in one) == is_path) for is_path in (True, False))
    own = {"out": dataset, "source": paths, "tokenizer": f"{dataset.rstrip('/')}/tokenizer.json"}
    options = options_of(None, {**flags, **own, "storage_option": storage_option})
    extent = Extent(steps=steps, total_steps=total_steps, tokens=tokens, epochs=epochs)
    result = run(options, extent, Terminal(), sources=names)
    if as_json:
        print_json(result.to_json())
    else:
        build_report(result)
