"""`verify`, `inspect` and `cat`: what is in a dataset, and whether it is so."""

from __future__ import annotations

from pathlib import Path

import click

from curriculum.errors import ConfigError, DataError
from pipeline.cli_options import storage_option
from pipeline.commands.parameters import as_json_option, dataset_argument, storage, without_secret
from pipeline.commands.results import print_json, show


@click.command()
@dataset_argument
@as_json_option
@click.option("--quick", is_flag=True, help="Check sizes and footers only.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Worker processes.  [default: one per core]")
def verify(dataset: str, as_json: bool, quick: bool, workers: int | None) -> None:
    """Recompute what DATASET claims, from its files alone; what cannot be proven is noted.

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
            f"{dataset}: verify reads every byte several times, from a disk: `curriculum pull` it to one. In a store, "
            f"curriculum.open(..., verify='shard') compares each shard with its sha256 before its rows are used."
        )
    try:
        report = verify_dataset(Path(dataset), quick=quick, workers=workers or num_cores(), progress=Terminal())
    except DataError as error:
        if as_json:
            print_json({"dataset": dataset, "ok": False, "error": str(error)})
        raise
    show(report, verify_report, as_json)


@click.command()
@dataset_argument
@as_json_option
@storage_option
def inspect(dataset: str, as_json: bool, storage_option: tuple[str, ...]) -> None:
    """Summarize DATASET: plan, phases, tokenizer, sources, accounting.

    \b
    curriculum inspect my-dataset
    curriculum inspect s3://bucket/my-dataset
    """
    from pipeline.report_dataset import summary_report
    from pipeline.summary import summarize

    show(summarize(dataset, storage(storage_option)), summary_report, as_json)


@click.command()
@dataset_argument
@as_json_option
@click.option("--step", type=int, default=None, help="Rows of this global step.")
@click.option("--phase", type=int, default=None, help="Rows of this phase.")
@click.option("--row", type=int, default=None, help="One row of the step or phase.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Show at most this many rows.")
@click.option("--store", default=None, callback=without_secret, help="Token store, to name source files.")
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

    options = storage(storage_option)
    rows = cat_rows(dataset, step=step, phase=phase, row=row, limit=limit, store=store, options=options)
    if as_json:
        print_json({"rows": [row.to_json() for row in rows]})
    else:
        click.echo(cat_report(rows))
