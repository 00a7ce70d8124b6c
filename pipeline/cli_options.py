"""The options that `plan` and `build` share, as the command line shows them.

Names are those of `pipeline.options.Options`; a flag that is not given stays None, so that files and defaults decide.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.option_rules import CHOICES

Command = TypeVar("Command", bound=Callable[..., Any])

IMPORTERS = {
    "deepspeed": "a ds_config.json of DeepSpeed (curriculum_learning or data_efficiency)",
    "deepspeed-unclamped": "the same, with the lengths of releases before 0.19.7",
    "composer": "a YAML of Composer (seq_length_warmup)",
    "olmo": "a JSON or YAML of OLMo-core (sequence length scheduler, or variable sequence lengths)",
    "skyladder": "the name of a SkyLadder schedule, such as dm8 or sin8",
}


def number(value: str) -> Decimal:
    """A decimal number, kept exact."""
    try:
        return Decimal(value)
    except InvalidOperation:
        raise click.BadParameter(f"{value!r} is not a decimal number such as 0.3.") from None


def _one_of(option: str) -> click.Choice[str]:
    """What may be said of an option with few values."""
    return click.Choice(CHOICES[option])


PLAN_OPTIONS: tuple[tuple[str, Any, str], ...] = (
    (
        "--schedule",
        str,
        "linear, root, exponential, sine, cosine, logarithmic, step, doubling, constant, or an installed function; "
        "with --mode document: natural, grow-linear, grow-p2.  [default: linear; grow-p2]",
    ),
    ("--degree", int, "Degree of the root schedule.  [default: 2]"),
    ("--stages", int, "Number of stages of the step schedule.  [default: 2]"),
    ("--cycles", int, "Cycles of grow-linear and grow-p2.  [default: 8]"),
    ("--frac", number, "Share of the steps in which the length grows.  [default: 0.3]"),
    ("--length-warmup-steps", int, "The same as a number of steps."),
    ("--length-warmup-tokens", int, "The same as a number of trained tokens (before --max-shapes)."),
    ("--start-length", int, "Length that the warmup starts from, in tokens.  [default: 8]"),
    ("--max-length", int, "Length at the end, in tokens.  [default: 1024]"),
    ("--multiple-of", int, "All lengths are multiples of this.  [default: 8]"),
    ("--max-shapes", int, "Use at most this many lengths, chosen to stay closest to the schedule."),
    (
        "--shapes-by",
        _one_of("shapes_by"),
        "Closest by the ratio or by the difference of lengths.  [default: relative]",
    ),
    (
        "--phases",
        str,
        "Explicit phases LEN:STEPS,LEN:STEPS,... instead; the last may be LEN:*, the rest.",
    ),
    ("--batch-rows", int, "Sequences per step, at every length.  [default: 16]"),
    ("--batch-tokens", int, "Tokens per step, at every length (instead of --batch-rows)."),
    ("--rows-multiple-of", int, "Rows per step are a multiple of this.  [default: 1, with --batch-tokens 8]"),
    ("--steps", int, "Train this many steps.  [default: one pass over the corpus]"),
    ("--tokens", int, "Train at most this many tokens."),
    ("--epochs", int, "Passes over the corpus that a budget may take.  [default: 1]"),
    (
        "--mode",
        _one_of("mode"),
        "Use every token; cut rows short; never cross a document; pack whole documents.  [default: segment]",
    ),
    ("--tokenizer", str, "tokenizer.json, hf:ORG/NAME, train:N or bytes.  [default: train:8192]"),
    ("--eos", str, "End-of-document token.  [default: the tokenizer's]"),
    ("--bos", _one_of("bos"), "Put a BOS before each document.  [default: none]"),
    ("--text-key", str, "Key or column that holds the text.  [default: text]"),
    (
        "--tokenized",
        _one_of("tokenized"),
        "The corpus holds ids: Megatron's .bin, .idx; bare .npy, .bin cut at EOS; datatrove's .ds; lists of a column.",
    ),
    ("--ids-dtype", _one_of("ids_dtype"), "Of raw ids without a header."),
    ("--ids-key", str, "Column that holds the lists of ids.  [default: input_ids]"),
    (
        "--tokenizer-check",
        _one_of("tokenizer_check"),
        "What to do if the tokenizer does not give the ids back.  [default: stop]",
    ),
    ("--on-bad-record", _one_of("on_bad_record"), "What to do with unreadable records.  [default: stop]"),
    ("--validation-tokens", int, "Hold out documents with at least this many tokens."),
    ("--validation-frac", number, "Hold out this share of the documents."),
    ("--seed", int, "Order of documents and rows.  [default: 0]"),
    ("--shuffle-window", int, "Tokens that are shuffled together.  [default: total/1024, 32 Mi to 128 Mi]"),
    ("--shard-bytes", int, "Token bytes of a shard at most.  [default: 256 MiB]"),
    ("--unit-bytes", int, "Text bytes of a work unit.  [default: by file size, 16 to 128 MiB]"),
    ("--backend", _one_of("backend"), "Tokenizer backend.  [default: auto]"),
    ("--engine", _one_of("engine"), "Where the work is done.  [default: local]"),
    ("--ray-address", str, "HOST:PORT of a running Ray cluster.  [default: RAY_ADDRESS, or this machine's]"),
    ("--workers", int, "Tasks at once.  [default: one per core, of the whole cluster with --engine ray]"),
    (
        "--store",
        str,
        "Folder or address of the token store.  [default: OUT.store; for plan and tune ./curriculum-data.store]",
    ),
)


SOURCE_OPTIONS = (
    ("--source", "NAME=PATH: a source of a mixture, instead of CORPUS; again for others, or for more paths."),
    (
        "--weight",
        "NAME=W: share of the rows of a source, or NAME=LENGTH:W,LENGTH:W,... by row length.  [default: by tokens]",
    ),
    ("--source-epochs", "NAME=N: passes over a source that a plan may take.  [default: --epochs]"),
)


READING = (
    "--text-key",
    "--tokenized",
    "--ids-dtype",
    "--ids-key",
    "--tokenizer-check",
    "--on-bad-record",
    "--unit-bytes",
    "--backend",
)
"""How a corpus is read, whatever is made of it."""


GROUPS = {
    "Tune": "train_cmd lr_warmup_steps fluctuation beginning_steps probe_steps validations least_length_warmup_steps "
    "most_length_warmup_steps resolution_steps probe_timeout stall_timeout",
    "Corpus": "source weight source_epochs text_key on_bad_record tokenized ids_dtype ids_key corpus_tokens "
    "validation_tokens validation_frac",
    "Output": "out store keep_store overwrite seed shuffle_window shard_bytes license language",
    "Tokenizer": "tokenizer eos bos tokenizer_check backend",
    "Schedule": "mode schedule degree stages cycles balanced frac length_warmup_steps length_warmup_tokens "
    "start_length max_length multiple_of max_shapes shapes_by phases "
    + " ".join(f"from_{name.replace('-', '_')}" for name in IMPORTERS),
    "Batch and budget": "batch_rows batch_tokens rows_multiple_of steps tokens epochs",
    "Machine": "engine ray_address workers unit_bytes storage_option",
    "Other options": "config as_json params layers hidden census shape_table all_phases help",
}
"""Headings of --help, and the options under each, in the order in which they are shown."""


class GroupedHelp(click.Command):
    """A command whose options are shown under the headings above: half a hundred in one list are not read."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every option under its heading."""
        records = {option.name: option.get_help_record(ctx) for option in self.get_params(ctx)}
        for heading, names in GROUPS.items():
            shown = [record for name in names.split() if (record := records.get(name)) is not None]
            if shown:
                with formatter.section(heading):
                    formatter.write_dl(shown)


def reading_options(command: Command) -> Command:
    """Those of the options above that say how a new source is read."""
    for flag, kind, help_text in reversed([option for option in PLAN_OPTIONS if option[0] in READING]):
        command = click.option(flag, type=kind, default=None, help=f"With --source NAME=PATH: {help_text}")(command)
    return command


def storage_option(command: Command) -> Command:
    """Options of the client of a store."""
    return click.option(
        "--storage-option",
        metavar="KEY=VALUE",
        multiple=True,
        help="For s3://, gs:// and hf:// addresses: an option of their client, such as endpoint_url=https://...",
    )(command)


def plan_options(command: Command) -> Command:
    """Everything that decides a plan or a build, with the corpus as arguments."""
    for name, what in reversed(IMPORTERS.items()):
        command = click.option(f"--from-{name}", type=str, default=None, help=f"Take the schedule from {what}.")(
            command
        )
    for flag, help_text in reversed(SOURCE_OPTIONS):
        command = click.option(flag, type=str, multiple=True, default=None, help=help_text)(command)
    balanced = "The same number of steps of every length (grow-linear, grow-p2)."
    command = click.option("--balanced", is_flag=True, default=None, help=balanced)(command)
    for flag, kind, help_text in reversed(PLAN_OPTIONS):
        command = click.option(flag, type=kind, default=None, help=help_text)(command)
    command = storage_option(command)
    config = click.Path(exists=True, dir_okay=False, path_type=Path)
    command = click.option("--config", type=config, default=None, help="TOML file with these options.")(command)
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)
    return click.argument("corpus", nargs=-1)(command)


def model_size_options(command: Command) -> Command:
    """The size of a model, to count floating-point operations for."""
    for flag, help_text in (
        ("--hidden", "Hidden size of that model."),
        ("--layers", "Layers of that model."),
        ("--params", "Count training FLOPs for a model of this many parameters."),
    ):
        command = click.option(flag, type=int, default=None, help=help_text)(command)
    return command
