"""`export`: a dataset for trainers that read nothing of ours."""

from __future__ import annotations

import click

from pipeline.cli_options import storage_option
from pipeline.commands.parameters import as_json_option, dataset_argument, storage, without_secret
from pipeline.commands.results import show
from pipeline.exporters import FORMATS


@click.command()
@dataset_argument
@click.argument("out", callback=without_secret)
@click.option("--format", "to", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option("--phases", default=None, help="A part: 0-3 or 0,2,5-7, both ends included; 5- for all from 5 on.")
@click.option("--steps", default=None, help="A part: the rows of these steps, written like phases: 0-9999.")
@click.option("--validation/--no-validation", default=True, help="Held-out rows too.  [default: yes]")
@click.option("--overwrite", is_flag=True, help="Replace another export at OUT.")
@click.option("--dry-run", is_flag=True, help="Only say what would be exported.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Worker processes.  [default: one per core]")
@as_json_option
@storage_option
def export(
    dataset: str,
    out: str,
    to: str,
    phases: str | None,
    steps: str | None,
    validation: bool,
    overwrite: bool,
    dry_run: bool,
    workers: int | None,
    as_json: bool,
    storage_option: tuple[str, ...],
) -> None:
    """Write the rows of DATASET, in training order, to the folder OUT for a trainer that reads another format.

    \b
    parquet    files per phase with input_ids: datasets, the Hub, duckdb, polars, Spark
    mds        a folder per phase for Mosaic's StreamingDataset(..., shuffle=False)
    megatron   rows.bin and rows.idx per phase for Megatron's IndexedDataset
    npy        arrays per phase for numpy.load(..., mmap_mode="r")

    export.json there says in which order steps visit the phases, README.md how the rows are read. Every row has
    seq_len + 1 tokens: inputs and targets overlap. Packed rows have labels, -100 where there is no target.

    \b
    curriculum export my-dataset my-parquet --format parquet
    curriculum export my-dataset my-mds --format mds --steps 0-9999
    curriculum export s3://bucket/my-dataset my-arrays --format npy --phases 3-
    """
    from pipeline.engines.cores import num_cores
    from pipeline.export import Export, export_dataset
    from pipeline.progress import Terminal
    from pipeline.report_export import export_report

    asked = Export(to=to, phases=phases, steps=steps, validation=validation)
    report = export_dataset(
        dataset,
        out,
        asked,
        workers=workers or num_cores(),
        progress=Terminal(),
        overwrite=overwrite,
        dry_run=dry_run,
        options=storage(storage_option),
    )
    show(report, export_report, as_json)
