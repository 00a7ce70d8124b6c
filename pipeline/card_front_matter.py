"""The front matter of a dataset card: what the Hub and `datasets` read of it; licence and languages for people too.

In:  a manifest, also that of a stranger.   Out: lines of YAML, and of Markdown.
Guarantee: every value is a number, one of our own words or an identifier that was checked when the manifest was read,
in double quotes where YAML could take it for something else: the language `no` is Norwegian, not false.

    license: "apache-2.0"
    configs:
    - config_name: phase-00000-len0000008      load_dataset(DATASET, "phase-00000-len0000008")
      data_files:
      - split: train
        path: "phases/00000-len0000008/**/*.arrow"

No config is the default one where there are several phases: `load_dataset(DATASET)` would then be the first few rows of
a run, of one length; without a default it names the configs. Of one phase that is all there is, and the default.
"""

from __future__ import annotations

from collections.abc import Iterator

from curriculum.about_entry import About
from curriculum.manifest import Manifest
from curriculum.shard_format import config_name, phase_folder

TAGS = ("sequence-length-warmup", "pre-tokenized")
SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
"""Borders of the Hub's classes of rows, each ten times the one before."""


def front_matter(manifest: Manifest) -> Iterator[str]:
    """Lines of YAML, without the dashes around them."""
    yield from about_in_yaml(manifest.about)
    yield f'pretty_name: "{pretty_name(manifest)}"'
    rows = sum(entry.num_rows for entry in manifest.entries)
    yield from ("size_categories:", f'- "{size_category(rows)}"')
    yield from ("task_categories:", "- text-generation")
    yield from ("tags:", *(f"- {tag}" for tag in TAGS))
    yield "configs:"
    yield from _configs(manifest)


def about_in_yaml(about: About) -> Iterator[str]:
    """Licence and languages, if they were said: also of an export, which is as bound by them as the dataset."""
    if about.license is not None:
        yield f'license: "{about.license}"'
    if about.language:
        yield "language:"
        yield from (f'- "{code}"' for code in about.language)


def about_in_words(about: About) -> Iterator[str]:
    """The same for people: lines of a list."""
    if about.license is not None:
        yield f"- licence: `{about.license}`"
    if about.language:
        yield f"- languages: {', '.join(f'`{code}`' for code in about.language)}"


def pretty_name(manifest: Manifest) -> str:
    """What people see of it first."""
    lengths = {phase.seq_len for phase in manifest.plan.phases}
    ends = f"{min(lengths):,} to {max(lengths):,}" if len(lengths) > 1 else f"{max(lengths):,}"
    return f"Sequence-length curriculum, rows of {ends} tokens, {manifest.plan.total_steps:,} steps"


def size_category(num_rows: int) -> str:
    """The Hub's class: `1K<n<10K`."""
    number = sum(num_rows >= 10**power for power in range(3, 3 + len(SIZES)))
    if number == 0:
        return f"n<{SIZES[0]}"
    return f"n>{SIZES[-1]}" if number == len(SIZES) else f"{SIZES[number - 1]}<n<{SIZES[number]}"


def _configs(manifest: Manifest) -> Iterator[str]:
    phases = manifest.plan.phases
    for i, phase in enumerate(phases):
        name = config_name(i, phase.seq_len)
        is_all = len(phases) == 1
        yield from _config(name, "train", f"{phase_folder(i, phase.seq_len)}/**/*.arrow", default=is_all)
    if manifest.validation:
        yield from _config("validation", "validation", "validation/**/*.arrow")


def _config(name: str, split: str, pattern: str, *, default: bool = False) -> Iterator[str]:
    yield f"- config_name: {name}"
    if default:
        yield "  default: true"
    yield from ("  data_files:", f"  - split: {split}", f'    path: "{pattern}"')
