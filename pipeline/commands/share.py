"""`push` and `pull`: datasets to other places, and from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from curriculum.errors import ConfigError
from pipeline.cli_options import storage_option
from pipeline.commands.parameters import as_json_option, storage, without_secret
from pipeline.commands.results import show

_Command = Callable[..., Any]


def _part_options(command: _Command) -> _Command:
    """What push and pull both take."""
    for option in reversed(
        (
            click.option("--phases", help="A part: 0-3 or 0,2,5-7, both ends included; 5- for all from 5 on."),
            click.option("--steps", help="A part: the shards of these steps, written like phases: 0-9999."),
            click.option("--dry-run", is_flag=True, help="Say what would move, and move nothing."),
            click.option(
                "--overwrite",
                is_flag=True,
                help="Replace another dataset that is there; a push sends all of its own again.",
            ),
            click.option("--build-log", is_flag=True, help="Move build-log.json too: it names hosts and paths."),
            click.option(
                "--workers",
                type=click.IntRange(min=1, max=256),
                default=8,
                show_default=True,
                help="Files at once; pushed to the Hub, or moved from and to its buckets, its client chooses.",
            ),
            as_json_option,
            storage_option,
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("dataset", type=str, callback=without_secret)
@click.argument("target", type=str, callback=without_secret)
@_part_options
@click.option(
    "--compress",
    type=click.Choice(["zstd"]),
    default=None,
    help="Send shards compressed; pull unpacks them, load_dataset does not.",
)
@click.option(
    "--public/--private", default=False, show_default=True, help="Who may see a repository of the Hub that is created."
)
@click.option("--sign", "sign_key", default=None, metavar="KEY", help="Private key to sign the manifest with.")
def push(
    dataset: str,
    target: str,
    as_json: bool,
    workers: int,
    compress: str | None,
    public: bool,
    storage_option: tuple[str, ...],
    **flags: Any,
) -> None:
    """Send the dataset in the folder DATASET to TARGET: a folder, s3://, gs://, hf://datasets/, hf://buckets/.

    What is there is not sent again, so the same command continues after an interruption; the manifest is sent last.
    Held-out rows always come along.

    \b
    curriculum push my-dataset s3://bucket/my-dataset
    curriculum push my-dataset hf://datasets/ORG/NAME --public
    curriculum push my-dataset hf://datasets/ORG/NAME@v2                  to a branch, which is created
    curriculum push my-dataset gs://bucket/my-dataset --compress zstd --sign ~/.ssh/id_ed25519
    curriculum push my-dataset /mnt/share/my-dataset --dry-run
    curriculum push my-dataset s3://bucket/my-dataset --steps 0-9999      the shards of the first 10,000 steps
    """
    from pipeline.files.address import is_url
    from pipeline.progress import Terminal
    from pipeline.sharing.moved import report
    from pipeline.sharing.open_place import open_place
    from pipeline.sharing.push import Offering
    from pipeline.sharing.push import push as run

    if is_url(dataset):
        raise ConfigError(f"{dataset}: push sends a folder of this machine. Pull the dataset into one first.")
    _require_apart(dataset, target)
    place = open_place(target, storage(storage_option), workers, pushing=True, private=not public)
    moved = run(Path(dataset), place, Offering(compress=compress is not None, **flags), Terminal())
    show(moved, report, as_json)


@click.command()
@click.argument("source", type=str, callback=without_secret)
@click.argument("dataset", type=str, callback=without_secret)
@_part_options
@click.option("--verify-key", default=None, metavar="KEY", help="Public key that must have signed the manifest.")
def pull(source: str, dataset: str, as_json: bool, workers: int, storage_option: tuple[str, ...], **flags: Any) -> None:
    """Fetch the dataset at SOURCE into the folder DATASET; every shard is compared with its sha256.

    What is there and right is not fetched again, so the same command continues after an interruption, repairs what is
    broken, and completes a part. A part is read as a whole dataset is, in the steps that it has.

    \b
    curriculum pull s3://bucket/my-dataset my-dataset
    curriculum pull hf://datasets/ORG/NAME@v1 my-dataset --phases 0-3
    curriculum pull s3://bucket/my-dataset my-dataset --steps 0-9999      the shards of the first 10,000 steps
    curriculum pull /mnt/share/my-dataset my-dataset --dry-run --json
    """
    from pipeline.files.address import is_url
    from pipeline.progress import Terminal
    from pipeline.sharing.moved import report
    from pipeline.sharing.open_place import open_place
    from pipeline.sharing.pull import Wish
    from pipeline.sharing.pull import pull as run

    if is_url(dataset):
        raise ConfigError(f"{dataset}: pull writes into a folder of this machine. Pull there, then push.")
    _require_apart(source, dataset)
    place = open_place(source, storage(storage_option), workers)
    show(run(place, Path(dataset), Wish(**flags), Terminal()), report, as_json)


def _require_apart(source: str, target: str) -> None:
    from pipeline.files.address import is_url

    if is_url(source) or is_url(target):
        return
    one, other = Path(source).resolve(), Path(target).resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ConfigError(f"{source} and {target}: one is the other, or lies in it. Give two folders.")
