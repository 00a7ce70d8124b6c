"""The command line: parse, call one function, print.

Results go to stdout, everything else to stderr. Exit 0: fine; 1: the request failed; 2: the request is wrong; 128 and
the number of a signal: it ended the command (130 SIGINT, 143 SIGTERM, 129 SIGHUP).
Heavy modules load inside the command that needs them, so that `curriculum --help` is instant.
"""

from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from curriculum.errors import ConfigError, CurriculumError, DataError, PlanError
from pipeline.cli_options import (
    IMPORTERS,
    GroupedHelp,
    model_size_options,
    plan_options,
    reading_options,
    storage_option,
)
from pipeline.interruption import Interrupted, ending_on_signals

_CONCEAL = "pipeline.cli.conceal"
"""What takes the secrets of a command out of its last sentence, in the meta of its context."""


class _Group(click.Group):
    """Turns the project's errors, and signals, into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        with ending_on_signals():
            try:
                return super().invoke(ctx)
            except CurriculumError as error:
                _end(ctx, str(error), 2 if isinstance(error, PlanError | ConfigError) else 1)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    raise
                _end(ctx, _os_error(error), 1)
            except MemoryError:
                _end(
                    ctx,
                    "out of memory. Fewer --workers, smaller --unit-bytes and --shuffle-window need less; then run the "
                    "same command again to continue.",
                    1,
                )
            except Interrupted as signalled:
                _end(ctx, str(signalled), signalled.exit_code)
            except KeyboardInterrupt:
                _end(ctx, str(Interrupted(signal.SIGINT)), Interrupted(signal.SIGINT).exit_code)


def _os_error(error: OSError) -> str:
    """Libraries of networks call their errors OSErrors too: those have no number, or a type of their own."""
    if error.errno is not None and type(error).__module__ == "builtins":
        return f"{error.filename or 'the disk'}: {error.strerror or error}."
    from curriculum.remote.failures import reason

    return f"the system or a store failed ({reason(error)})."


def _end(ctx: click.Context, sentence: str, exit_code: int) -> NoReturn:
    sentence = ctx.meta.get(_CONCEAL, str)(sentence)
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"curriculum: {sentence}", err=True)
    ctx.exit(exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="seqlen-curriculum", prog_name="curriculum")
def main() -> None:
    """Compile a sequence-length curriculum into a dataset.

    \b
    curriculum plan  --steps 1000 --frac 0.3          what would be trained, without any data
    curriculum build --schedule linear --frac 0.3     the standard library of Python as a demo corpus
    curriculum build corpus/ --tokenizer tokenizer.json --max-length 2048 --out my-dataset
    curriculum verify my-dataset
    """


@main.command(cls=GroupedHelp)
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
        options=_options(config, flags), model_size=size, shape_table=shape_table, census=census or not as_json
    )
    outcome = plan_request(request, Terminal())
    for warning in outcome.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        _print_json(with_analysis(outcome, census=census, shape_table=shape_table))
    else:
        plan_report(outcome, all_phases=all_phases)


@main.command(cls=GroupedHelp)
@plan_options
@click.option("--out", type=str, default=None, help="Folder or address of the dataset.  [default: ./curriculum-data]")
@click.option("--keep-store/--no-keep-store", default=None, help="Keep the token store for later builds.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace another dataset at OUT.")
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

    result = run(_options(config, flags), Terminal())
    if as_json:
        _print_json(result.to_json())
    else:
        build_report(result)


def _without_secret(ctx: click.Context, parameter: click.Parameter, address: str | None) -> str | None:
    from pipeline.files.address import refuse_secret

    refuse_secret(parameter.name or "", address or "")
    return address


_dataset = click.argument("dataset", callback=_without_secret)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@main.command()
@_dataset
@_as_json
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
    options = _options(None, {**flags, **own, "storage_option": storage_option})
    extent = Extent(steps=steps, total_steps=total_steps, tokens=tokens, epochs=epochs)
    result = run(options, extent, Terminal(), sources=names)
    if as_json:
        _print_json(result.to_json())
    else:
        build_report(result)


@main.command()
@_dataset
@_as_json
@click.option("--quick", is_flag=True, help="Check sizes and footers only.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Worker processes.  [default: one per core]")
def verify(dataset: str, as_json: bool, quick: bool, workers: int | None) -> None:
    """Recompute everything that DATASET claims, from its files alone.

    \b
    curriculum verify my-dataset
    curriculum verify my-dataset --quick --json
    """
    from pipeline.engines.cores import num_cores
    from pipeline.files.address import is_url
    from pipeline.progress import Terminal
    from pipeline.report_dataset import verify_report
    from pipeline.verify import verify_dataset

    if is_url(dataset):
        raise ConfigError(
            f"{dataset}: verify reads every byte several times, from a disk: copy the dataset to one. In a store, "
            f"curriculum.open(..., verify='shard') compares each shard with its sha256 before its rows are used."
        )
    try:
        report = verify_dataset(Path(dataset), quick=quick, workers=workers or num_cores(), progress=Terminal())
    except DataError as error:
        if as_json:
            _print_json({"dataset": dataset, "ok": False, "error": str(error)})
        raise
    _show(report, verify_report, as_json)


@main.command()
@_dataset
@_as_json
@storage_option
def inspect(dataset: str, as_json: bool, storage_option: tuple[str, ...]) -> None:
    """Summarize DATASET: plan, phases, tokenizer, sources, accounting.

    \b
    curriculum inspect my-dataset
    curriculum inspect s3://bucket/my-dataset
    """
    from pipeline.report_dataset import summary_report
    from pipeline.summary import summarize

    _show(summarize(dataset, _storage(storage_option)), summary_report, as_json)


@main.command()
@_dataset
@_as_json
@click.option("--step", type=int, default=None, help="Rows of this global step.")
@click.option("--phase", type=int, default=None, help="Rows of this phase.")
@click.option("--row", type=int, default=None, help="One row of the step or phase.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Show at most this many rows.")
@click.option("--store", default=None, callback=_without_secret, help="Token store, to name source files.")
@storage_option
def cat(
    dataset: str,
    as_json: bool,
    step: int | None,
    phase: int | None,
    row: int | None,
    limit: int | None,
    store: str | None,
    storage_option: tuple[str, ...],
) -> None:
    """Print decoded rows of DATASET, and the file that each came from while the token store is there.

    \b
    curriculum cat my-dataset --step 180000 --limit 4
    curriculum cat my-dataset --phase 3 --row 17 --json
    """
    from pipeline.report_dataset import cat_report
    from pipeline.rows import cat_rows

    options = _storage(storage_option)
    rows = cat_rows(dataset, step=step, phase=phase, row=row, limit=limit, store=store, options=options)
    if as_json:
        _print_json({"rows": [row.to_json() for row in rows]})
    else:
        click.echo(cat_report(rows))


_TRAINERS = ("torch", "hf", "accelerate", "lightning", "deepspeed", "torchtitan", "jax")


@main.command()
@_dataset
@_as_json
@click.option(
    "--check", "logs", type=click.Path(path_type=Path), multiple=True, help="Log of a run; again for resumes."
)
@click.option(
    "--start-step", type=click.IntRange(min=0), default=None, help="With --check: where it began.  [default: 0]"
)
@click.option("--saved-at", type=int, multiple=True, help="With --check: step of the checkpoint of each resume.")
@click.option("--trainer", type=click.Choice(_TRAINERS), default=None, help="Start this trainer on CPU processes.")
@click.option("--steps", type=int, default=None, help="Steps to train; the stop is in the middle.  [default: 12]")
@click.option("--world-size", type=int, default=None, help="Processes.  [default: 2]")
@click.option("--resume-world-size", type=int, default=None, help="Processes after the stop.  [default: as before]")
@click.option("--micro-batches", type=int, default=None, help="Micro-batches per step and process.  [default: 1]")
@click.option("--keep", type=click.Path(path_type=Path), default=None, help="Keep logs and checkpoint in this folder.")
@click.option("--timeout", "timeout_seconds", type=float, default=None, help="Seconds for each run.  [default: 600]")
def doctor(dataset: str, as_json: bool, **flags: Any) -> None:
    """Did the rows of DATASET reach the model: all of them, once, in order, with their labels?

    \b
    curriculum doctor --trainer hf my-dataset                    train, stop, resume; compare with the plan
    curriculum doctor --trainer torch --steps 40 --resume-world-size 4 my-dataset
    CURRICULUM_DOCTOR_LOG=log/1 torchrun my_train.py             your own loop, with curriculum.doctor.record(batch)
    curriculum doctor --check log/1 --check log/2 my-dataset     the run and its resume
    """
    from pipeline.doctor import examine
    from pipeline.progress import Terminal
    from pipeline.report_doctor import doctor_report

    report = examine(dataset, {name: value for name, value in flags.items() if value not in (None, ())}, Terminal())
    _show(report, doctor_report, as_json)
    if not report.ok:
        click.get_current_context().exit(1)


def _options(config: Path | None, flags: dict[str, Any]) -> Any:
    from pipeline.option_sources import load_imported, load_options

    keys = {name: f"from_{name.replace('-', '_')}" for name in IMPORTERS}
    imports = {name: path for name, key in keys.items() if (path := flags.pop(key, None)) is not None}
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    if "storage_option" in given:
        given["storage_option"] = _storage(given["storage_option"])
    if imports:
        options, line = load_imported(config, given, imports)
        click.echo(line, err=True)
    else:
        options = load_options(config, given)
    _conceal(options.storage_option)
    return options


def _storage(given: tuple[str, ...]) -> Any:
    from pipeline.files.storage_options import parse_storage_options

    return _conceal(parse_storage_options(given))


def _conceal(options: Any) -> Any:
    """Whatever ends the command later, its sentence holds no secret of these options."""
    click.get_current_context().meta[_CONCEAL] = options.conceal
    return options


def _show(report: Any, as_text: Callable[[Any], str], as_json: bool) -> None:
    if as_json:
        _print_json(report.to_json())
    else:
        click.echo(as_text(report))


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
