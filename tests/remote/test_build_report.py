"""What `build` says of a dataset in an object store."""

from __future__ import annotations

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
    files: Any = SimpleNamespace(where=where, read=lambda name: None)
    build_report(BuildResult(files=files, manifest=load_manifest(small_dataset), already_finished=False))
    shown = capsys.readouterr().out
    assert shown.startswith(f"{where} is finished.")
    assert shown.splitlines()[-1].split(maxsplit=1) == ["next", command]
