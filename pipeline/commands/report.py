"""`report`: a page that explains a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli_options import storage_option
from pipeline.commands.parameters import as_json_option, dataset_argument, storage
from pipeline.commands.results import print_json


@click.command()
@dataset_argument
@as_json_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"), show_default=True)
@click.option(
    "--rows", type=click.IntRange(min=0, max=64), default=2, show_default=True, help="Rows of a phase to show."
)
@click.option("--overwrite", is_flag=True, help="Replace a file at OUT that is no such page.")
@storage_option
def report(dataset: str, as_json: bool, out: Path, rows: int, overwrite: bool, storage_option: tuple[str, ...]) -> None:
    """Write one HTML file that explains DATASET: schedule, phases, where each token went, documents, rows, build.

    It has everything inside it: no network, no script. Rows are text of the corpus: look before you publish it.

    \b
    curriculum report my-dataset
    curriculum report my-dataset --out my-dataset.html --rows 4
    curriculum report hf://datasets/ORG/NAME --rows 0
    """
    from pipeline.page.write import write_page

    result = write_page(dataset, out, rows=rows, overwrite=overwrite, options=storage(storage_option))
    if as_json:
        print_json(result.to_json())
        return
    for note in result.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"{result.out}: {result.num_bytes:,} bytes, {len(result.figures)} figures, {result.sample_rows} rows")
