"""Every command and every Python block of the documentation runs as shown."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import curriculum
import default_build
from default_build import DefaultBuild
from pipeline.backends import ReferenceEncoder
from pipeline.cli import main
from pipeline.tokenizer import train_tokenizer
from small_corpus import real_texts
from stored_corpora import flat, write_datatrove, write_megatron

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
    for name, of_source in (("web", texts * 3), ("code", texts[::2]), ("books", texts[::9])):
        (tmp_path / "corpora" / name).mkdir(parents=True)
        lines = "".join(json.dumps({"text": text}) + "\n" for text in of_source)
        (tmp_path / "corpora" / name / "texts.jsonl").write_text(lines, "utf-8")
    _write_ids(tmp_path / "corpora", tmp_path / "tokenizer.json", texts)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_ids(folder: Path, tokenizer: Path, texts: list[str]) -> None:
    """The corpora of docs/tokenized.md."""
    ids, lengths = ReferenceEncoder(str(tokenizer)).encode(texts)
    documents = [[*part.tolist(), 0] for part in np.split(ids, np.cumsum(lengths)[:-1])]
    for name in ("megatron", "nanogpt", "datatrove", "parquet"):
        (folder / name).mkdir(parents=True)
    write_megatron(folder / "megatron" / "a.bin", documents)
    flat(documents, "uint16").tofile(folder / "nanogpt" / "a.bin")
    write_datatrove(folder / "datatrove" / "a.ds", documents)
    pq.write_table(pa.table({"input_ids": documents}), folder / "parquet" / "a.parquet")


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("README.md", 7),
        ("docs/curricula.md", 7),
        ("docs/reading.md", 1),
        ("docs/tokenized.md", 4),
        ("docs/mixtures.md", 4),
        ("docs/extending.md", 8),
        ("docs/sharing.md", 12),
        ("docs/tuning.md", 0),
    ],
)
def test_a_page_runs_from_top_to_bottom(name: str, at_least: int, workplace: Path) -> None:
    """A newcomer copies each line; every one must work, in this order, and then the Python blocks."""
    page = ROOT / name
    shown = commands(page)
    assert len(shown) >= at_least
    if name == "README.md":
        assert shown.pop(0) == default_build.COMMAND  # the test below
    for command in shown:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    names: dict[str, Any] = {}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


def test_the_first_command_needs_no_corpus_and_says_what_it_took(by_default: DefaultBuild) -> None:
    """A newcomer must know what was tokenized: one line says it."""
    announced = [line for line in by_default.stderr.splitlines() if "standard library" in line]
    assert len(announced) == 1
    assert curriculum.open(by_default.dataset).manifest.accounting.corpus_tokens > 5_000_000


def test_the_trainers_page_shows_the_scripts_as_they_are() -> None:
    """Each is copied by people and run by `curriculum doctor` and by tests: there must be one of each."""
    scripts = sorted((ROOT / "curriculum" / "examples").glob("train_*.py"))
    assert len(scripts) == 7
    shown = list(blocks(TRAINERS, "python"))
    for script in scripts:
        text = script.read_text("utf-8")
        assert text in shown, f"docs/trainers.md does not show {script.name} as it is: copy it into its block"


def test_the_other_blocks_of_the_trainers_page_run_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that cut at run time; they build on each other and assert."""
    monkeypatch.chdir(tmp_path)
    functional, callback = [code for code in blocks(TRAINERS, "python") if "__main__" not in code]
    names: dict[str, Any] = {}
    exec(compile(functional, str(TRAINERS), "exec"), names)
    pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install 'seqlen-curriculum[trainers]'"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, about this machine
        exec(compile(callback, str(TRAINERS), "exec"), names)


def test_the_loop_of_the_stability_page_writes_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People copy it into theirs; the command then has all that it needs."""
    monkeypatch.chdir(tmp_path)
    for code in blocks(ROOT / "docs" / "stability.md", "python"):
        exec(compile(code, "stability.md", "exec"), {})
    result = CliRunner().invoke(main, ["stability", "stability.jsonl", "--json"])
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.output)["logs"]
    assert (found["num_steps"], found["missing"], found["last_validation"]["step"]) == (20, [], 19)


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
    files = [path for package in ("curriculum", "pipeline") for path in (ROOT / package).rglob("*.py")]
    alike = ("adapters", "examples", "importers")  # a trainer or a tool each, by its name
    for path in files:
        if path.name != "__init__.py" and path.parent.name not in alike:
            named = order + (path.parent / "__init__.py").read_text("utf-8")  # a folder may have an order of its own
            assert f"{path.name}`" in named or f"`{path.stem}`" in named, path


def test_links_of_the_documentation_lead_somewhere() -> None:
    """Relative links point at files of the project."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    prose = "".join((ROOT / name).read_text("utf-8") for name in ("CONTRIBUTING.md", "docs/design.md"))
    for name in re.findall(r"`((?:tests|pipeline|curriculum)/[\w/]+\.py)`", prose):
        assert (ROOT / name).exists(), name
