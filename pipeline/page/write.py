"""`curriculum report`: look at a dataset, draw, write one file.

In:  the folder or address of a dataset, where the page goes, how many rows of a phase are shown.
Out: the file, and `PageResult`.
Guarantee: bounded in time and memory whatever the dataset is: the manifest, the build log, sizes of files, rows of a
few steps, and at most 256 MiB of indexes of the token store. The same dataset gives the same page with the same
matplotlib. What is missing is said on the page, and nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import curriculum
from curriculum.errors import ConfigError
from curriculum.reader import Reader
from pipeline.files.address import dataset_files, is_url
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.layout import read_build_log
from pipeline.lineage import extended_by
from pipeline.publish import Aside
from pipeline.rebuild_command import rebuild
from pipeline.summary import Summary, summarize

try:
    from pipeline.page.build_facts import build_facts
    from pipeline.page.document_lengths import LengthsUnknown, document_lengths
    from pipeline.page.facts import about, cards, identity, lede
    from pipeline.page.figures import (
        PageFigure,
        build_figure,
        flow_figure,
        lengths_figure,
        mixture_figure,
        phases_figure,
        schedule_figure,
    )
    from pipeline.page.number_tables import source_table
    from pipeline.page.place import place_of_page
    from pipeline.page.render import Page, render
    from pipeline.page.sample_rows import sample_steps
    from pipeline.page.visible_text import visible
except ModuleNotFoundError as error:
    _package = (error.name or "").partition(".")[0]
    raise ConfigError(
        f"A page needs {_package}, which is not installed: pip install 'seqlen-curriculum[report]'."
    ) from error

DEFAULT_ROWS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PageResult:
    """What was written."""

    out: str
    num_bytes: int
    dataset: str
    id: str
    figures: tuple[str, ...]
    sample_rows: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def write_page(
    dataset: str | Path,
    out: Path,
    *,
    rows: int = DEFAULT_ROWS,
    overwrite: bool = False,
    options: StorageOptions = NO_OPTIONS,
) -> PageResult:
    """Write the page of a dataset.

    Args:
        dataset: a folder or address.
        out: the file; a page that is there is replaced.
        rows: of a phase to show.
        overwrite: replace whatever file is there.
        options: of the store.

    Raises:
        ConfigError: a page cannot be there (`place.py`).
        DataError: there is no dataset, or its manifest is damaged.
        BuildError: another file is there, the page cannot be written, or a store cannot be read.
    """
    summary = summarize(dataset, options)
    place = place_of_page(out, dataset, overwrite=overwrite)
    page = _page(dataset, summary, rows, options)
    text = render(page).encode("utf-8", "replace")
    with Aside(place.parent, place) as file:
        file.write(text)
    return PageResult(
        out=str(out),
        num_bytes=len(text),
        dataset=str(dataset),
        id=summary.manifest.id,
        figures=tuple(figure.key for figure in page.figures),
        sample_rows=sum(len(step.rows) for step in page.steps),
        notes=(*page.alerts, *page.row_notes),
    )


def _page(dataset: str | Path, summary: Summary, num_rows: int, options: StorageOptions) -> Page:
    manifest, files = summary.manifest, dataset_files(dataset, options)
    reader = curriculum.open(dataset, storage_options=options.values()) if is_url(dataset) else Reader(dataset)
    log = read_build_log(files, manifest.id)
    steps, notes = sample_steps(reader, files, num_rows)
    figures: list[PageFigure] = [schedule_figure(manifest.plan), flow_figure(manifest), phases_figure(manifest)]
    if summary.use is not None:
        figures.append(mixture_figure(summary.use))
    lengths = document_lengths(files, manifest, log, reader)
    unknown = [lengths.why] if isinstance(lengths, LengthsUnknown) else []
    if not isinstance(lengths, LengthsUnknown):
        figures.append(lengths_figure(lengths, manifest.plan.max_seq_len))
    built = build_facts(log)
    if built is not None:
        figures.append(build_figure(built))
    return Page(
        name=visible(str(dataset).rstrip("/").rpartition("/")[2] or "dataset"),
        lede=lede(manifest),
        alerts=[*_alerts(summary, has_log=built is not None), *unknown],
        cards=cards(manifest, summary.bytes_on_disk),
        figures=figures,
        sources=source_table(manifest) if len(manifest.sources) > 1 else None,
        steps=steps,
        row_notes=notes,
        targets="labels" if manifest.packed else "targets",
        about=about(manifest),
        rebuild=rebuild(manifest),
        identity=identity(manifest),
        lineage=extended_by(manifest),
    )


def _alerts(summary: Summary, *, has_log: bool) -> Iterator[str]:
    if summary.missing_shards:
        yield (
            f"This copy has {summary.num_shards - summary.missing_shards:,} of {summary.num_shards:,} shards: it was "
            f"pulled in part. The figures are of the whole dataset."
        )
    if not has_log:
        yield "How it was built cannot be said: there is no build-log.json of this dataset."
