"""Datasets of each kind that tests of extensions go on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from new_text import (
    STEPS,
    copy_of,
    new_texts,
    write_texts,
)
from pipeline.build import BuildResult
from running_build import finish, write_slow_corpus
from small_corpus import real_texts

Build = Callable[..., BuildResult]
MIXED = ("a=2", "b=1")


@pytest.fixture(scope="session")
def slowly_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that takes seconds, and the dataset of a build of it that nothing disturbed."""
    place = tmp_path_factory.mktemp("undisturbed")
    write_slow_corpus(place / "corpus")
    finish(place)
    return place


@pytest.fixture(scope="session")
def cases(build_small: Build, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short dataset of each kind; treat them as read-only."""
    folder = tmp_path_factory.mktemp("new-text")
    mixture = {"corpus": (), "source": (f"a={corpus / 'a.jsonl'}", f"b={corpus / 'sub'}"), "weight": MIXED}
    options: dict[str, dict[str, Any]] = {
        "segment": {"validation_tokens": 6_000},
        "named": {"corpus": (), "source": (f"code={corpus}",)},
        "truncate": {"mode": "truncate", "seed": 3},
        "best-fit": {"mode": "best-fit", "validation_tokens": 6_000},
        "mixture": {**mixture, "validation_tokens": 6_000},
        "two epochs": {
            "schedule": "constant",
            "start_length": None,
            "steps": 600,
            "epochs": 3,
            "validation_tokens": 6_000,
        },
    }
    for name, own in options.items():
        build_small(folder / name, **{"steps": STEPS, **own})
    return {name: folder / name for name in options}


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The new text; three of its documents are also in the corpus, so that some of it may be held out."""
    texts = [*new_texts(), *real_texts()[3:40]]
    return write_texts(tmp_path_factory.mktemp("new") / "n.jsonl", texts)


@pytest.fixture
def copy(cases: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a case; its log names the store of the original."""
    return lambda name: copy_of(cases[name], tmp_path / "copy")
