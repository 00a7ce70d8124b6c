"""What `build` and `extend` say at their end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum.manifest import load_manifest
from pipeline.build import BuildResult
from pipeline.report import build_report


@pytest.mark.parametrize(
    ("where", "command"),
    [("s3://bucket/my-dataset", "curriculum inspect s3://bucket/my-dataset"), ("out", "curriculum verify out")],
)
def test_the_address_is_printed_as_it_is(
    where: str, command: str, small_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a path it would lose a slash, and `verify` of an address is refused: people copy what stands here."""
    files: Any = SimpleNamespace(where=where, facts=lambda name: None)
    build_report(BuildResult(files=files, manifest=load_manifest(small_dataset), already_finished=False))
    shown = capsys.readouterr().out
    assert shown.startswith(f"{where} is finished.")
    assert shown.splitlines()[-1].split(maxsplit=1) == ["next", command]


def test_no_line_reaches_the_terminal_with_control_characters(
    small_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and addresses are those of whoever made the dataset."""
    files: Any = SimpleNamespace(where="out\x1b[2J\nmine", facts=lambda name: None)
    build_report(BuildResult(files=files, manifest=load_manifest(small_dataset), already_finished=False))
    shown = capsys.readouterr().out
    assert shown.startswith("out\\x1b[2J\\nmine is finished.\n")
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(("packed", "told"), [(True, " unused (all sources together)\n"), (False, " unused\n")])
def test_unused_tokens_of_packed_sources_are_told_as_a_sum(
    packed: bool, told: str, small_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them may have nothing left where the sum says it has, or the other way round."""
    manifest = load_manifest(small_dataset)
    (source,) = manifest.sources
    two = replace(manifest, sources=(source, replace(source, name="b")), requires=("packed",) if packed else ())
    files: Any = SimpleNamespace(where="out", facts=lambda name: None)
    build_report(BuildResult(files=files, manifest=two, already_finished=False))
    assert told in capsys.readouterr().out
