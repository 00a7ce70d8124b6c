"""Every command and every Python block of the documentation runs as shown."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shlex
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner

import curriculum
from pipeline.cli import main
from pipeline.tokenizer import train_tokenizer
from small_corpus import real_texts

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINERS = ROOT / "docs" / "trainers.md"
OTHER_TOOLS = ("pip ", "python ", "torchrun ", "bash ")
"""Commands that are run elsewhere: .ci/run installs, other tests start the scripts, benchmarks take minutes."""


def blocks(page: Path, language: str) -> Iterator[str]:
    """Fenced code of a language."""
    for found, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if found == language:
            yield text


def commands(page: Path) -> list[str]:
    """Lines of unnamed blocks that begin with `curriculum`, and the part after `&&` of one that installs."""
    lines = [line for text in blocks(page, "") for line in text.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("curriculum ")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader of the README has it: a corpus, a tokenizer, the configs."""
    (tmp_path / "corpus").mkdir()
    texts = real_texts()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts * 3)
    (tmp_path / "corpus" / "texts.jsonl").write_text(lines, "utf-8")
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(texts, 500), "utf-8")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "docs/curricula.md"])
def test_a_page_runs_from_top_to_bottom(name: str, workplace: Path) -> None:
    """A newcomer copies each line; every one must work, in this order, and then the Python blocks."""
    page = ROOT / name
    shown = commands(page)
    assert len(shown) >= 7
    for command in shown:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), {})


def test_the_blocks_of_the_trainers_page_run_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks after the training script, which has tests of its own; they build on each other and assert."""
    monkeypatch.chdir(tmp_path)
    _, packed, packed_model, functional, callback = blocks(TRAINERS, "python")
    names: dict[str, Any] = {}
    for code in (packed, functional):
        exec(compile(code, str(TRAINERS), "exec"), names)
    pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[trainers]'"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, about this machine
        for code in (packed_model, callback):
            exec(compile(code, str(TRAINERS), "exec"), names)


@pytest.fixture
def packed_dataset(workplace: Path) -> Path:
    """Rows of several documents, with much padding."""
    command = "build corpus/ --tokenizer tokenizer.json --mode best-fit --schedule constant --max-length 128"
    result = CliRunner().invoke(main, [*command.split(), "--batch-rows", "8", "--steps", "4", "--out", "packed"])
    assert result.exit_code == 0, result.output
    return workplace / "packed"


def test_pieces_of_is_the_structure_that_rows_store(packed_dataset: Path) -> None:
    """The function of the trainers page on real rows: an input and its target, and nothing else, share a piece."""
    names: dict[str, Any] = {}
    exec(compile(list(blocks(TRAINERS, "python"))[1], str(TRAINERS), "exec"), names)
    reader = curriculum.open(packed_dataset)
    for batch in (reader[step] for step in range(len(reader))):
        assert batch.num_tokens is not None
        piece, position_ids = names["pieces_of"](batch.doc_starts, batch.num_tokens, batch.seq_len)
        same = (piece[:, 1:] == piece[:, :-1]) & (np.arange(1, batch.seq_len) < batch.num_tokens[:, None])
        assert (same == batch.has_target[:, :-1]).all()
        assert ((position_ids[:, 1:] == position_ids[:, :-1] + 1) == (piece[:, 1:] == piece[:, :-1])).all()
        assert (position_ids[:, 0] == 0).all()


def test_the_training_script_divides_a_packed_step_by_its_targets(packed_dataset: Path) -> None:
    """Rows have unequal numbers of targets: one rank and eight must still report the same loss."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[torch]'")
    import torch

    torch.set_num_threads(1)
    script = packed_dataset.parent / "train.py"
    script.write_text(next(blocks(TRAINERS, "python")), "utf-8")
    losses = []
    for world_size in ("1", "8"):
        torch.manual_seed(0)
        printed = io.StringIO()
        with (
            patch("sys.argv", [str(script), str(packed_dataset), "--world-size", world_size, "--stop-before", "1"]),
            contextlib.redirect_stdout(printed),
        ):
            runpy.run_path(str(script), run_name="__main__")
        losses.append(json.loads(printed.getvalue())["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_no_command_is_shown_that_does_not_exist() -> None:
    """Inline code such as `curriculum verify` names a real command, in every page."""
    for page in PAGES:
        for name in re.findall(r"`curriculum ([a-z]+)", page.read_text("utf-8")):
            assert name in main.commands, f"{page.name}: {name}"
    for page in PAGES[1:]:
        for command in commands(page):
            assert command.split()[1] in main.commands


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    """--help shows how the command is used, not only what its flags are."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"curriculum {name} " in result.output.split("Options:")[0].split("\n", 1)[1]


def test_the_reading_order_names_every_file() -> None:
    """A file that CONTRIBUTING.md does not name is a file that nobody is led to."""
    order = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    files = [path for package in ("curriculum", "pipeline") for path in (ROOT / package).glob("*.py")]
    assert [path.name for path in files if path.name != "__init__.py" and f"{path.name}`" not in order] == []


def test_links_of_the_documentation_lead_somewhere() -> None:
    """Relative links point at files of the project."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    prose = "".join((ROOT / name).read_text("utf-8") for name in ("CONTRIBUTING.md", "docs/design.md"))
    for name in re.findall(r"`((?:tests|pipeline|curriculum)/[\w/]+\.py)`", prose):
        assert (ROOT / name).exists(), name
