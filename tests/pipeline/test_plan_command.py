"""What `plan` shows beside the phases: FLOPs, shapes, documents, and where an imported schedule came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from small_corpus import real_texts

MODEL = ["--params", "1000000", "--layers", "2", "--hidden", "64"]
TINY = ["--tokenizer", "bytes", "--max-length", "64", "--workers", "1"]
LEGACY = {
    "enabled": True,
    "curriculum_type": "seqlen",
    "min_difficulty": 10,
    "max_difficulty": 60,
    "schedule_type": "fixed_linear",
    "schedule_config": {"total_curriculum_step": 20, "difficulty_step": 8},
}


def plan(*arguments: object) -> Result:
    """`curriculum plan` in this process."""
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def analysis(*arguments: object) -> dict[str, Any]:
    """What `--json` adds to the plan object."""
    found: dict[str, Any] = json.loads(plan(*arguments, "--json").stdout).get("analysis", {})
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of real texts."""
    path = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in real_texts()), "utf-8")
    return path


@pytest.fixture
def ds_config(tmp_path: Path) -> Path:
    """A curriculum that no schedule of ours equals: phases 16 24 .. 56 60."""
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({"train_batch_size": 16, "curriculum_learning": LEGACY}), "utf-8")
    return path


def test_flops_of_a_model() -> None:
    """10 steps of one row of 8: 80 tokens of 6 N + 12 L H s each."""
    found = analysis("--schedule", "constant", "--max-length", 8, "--batch-rows", 1, "--steps", 10, *MODEL)["flops"]
    assert found["total"] == found["constant_length"] == 80 * (6 * 1_000_000 + 12 * 2 * 64 * 8)
    assert "training FLOPs" in plan("--steps", 10, *MODEL).stdout
    partly = plan("--steps", 10, *MODEL[:4])
    assert (partly.exit_code, "all three of them" in partly.stderr) == (2, True)


def test_what_fewer_shapes_cost() -> None:
    """The table does not depend on the budget that is asked for, and a budget shows it."""
    request = ["--max-length", 64, "--tokens", 1_000_000]
    rows = analysis(*request, "--shape-table")["shape_budget"]
    assert [row["num_shapes"] for row in rows] == [2, 3, 4, 5, 6, 7, 8]
    assert rows == analysis(*request, "--max-shapes", 4, "--shape-table")["shape_budget"]
    assert "--max-shapes" in plan(*request, "--max-shapes", 4).stdout
    assert "--max-shapes" not in plan(*request).stdout
    assert "leave --shape-table out" in plan("--phases", "8:5", "--shape-table").stderr
    phases = analysis("--phases", "8:9,16:1,24:9,32:9", "--shape-table")["shape_budget"]
    assert [row["num_shapes"] for row in phases] == [2, 3, 4]


def test_phases_and_imports_take_a_budget_of_shapes(ds_config: Path) -> None:
    """What made people drop sequence length warmup are shapes: few of them must be one flag away, also from outside."""
    shown = json.loads(plan("--phases", "8:9,16:1,24:9,32:*", "--steps", 40, "--max-shapes", 3, "--json").stdout)
    assert [(phase["seq_len"], phase["num_steps"]) for phase in shown["phases"]] == [(8, 9), (24, 10), (32, 21)]
    result = plan("--from-deepspeed", ds_config, "--steps", 40, "--max-shapes", 3, "--json")
    lengths = [phase["seq_len"] for phase in json.loads(result.stdout)["phases"]]
    assert (len(lengths), lengths[0], lengths[-1]) == (3, 16, 60)
    assert "max_shapes 3 chooses among its lengths" in result.stderr
    assert "lengths that grow" in plan("--phases", "8:9,16:1,8:9", "--max-shapes", 2).stderr


def test_documents_of_a_corpus_and_of_its_store(corpus: Path, tmp_path: Path) -> None:
    """The same census, with a budget and without; nothing where there are no documents."""
    store = ["--store", tmp_path / "store"]
    by_corpus = analysis(corpus, *TINY, *store, "--census")["census"]
    assert by_corpus["census"]["documents"] == sum(map(bool, real_texts()))  # an empty text is no document
    assert analysis(*TINY, *store, "--census")["census"] == by_corpus
    assert analysis(*TINY, *store, "--census", "--steps", 20)["census"]["census"] == by_corpus["census"]
    assert analysis(corpus, *TINY, *store) == {}
    shown = plan(corpus, *TINY, *store).stdout
    assert "length from" in shown
    assert "rules of thumb" in " ".join(shown.split())
    assert "--census describes a corpus" in plan("--steps", 3, "--census", "--json").stderr


def test_mode_document_needs_documents() -> None:
    """Their lengths are the plan."""
    refused = plan("--mode", "document", "--steps", 30)
    assert (refused.exit_code, "Give the corpus" in refused.stderr) == (2, True)


def test_an_import_says_what_it_is(ds_config: Path) -> None:
    """One line on stderr; the plan on stdout has the original's lengths."""
    result = plan("--from-deepspeed", ds_config, "--steps", 40, "--json")
    assert "7 explicit phases, equal at every step" in result.stderr
    assert [phase["seq_len"] for phase in json.loads(result.stdout)["phases"]] == [16, 24, 32, 40, 48, 56, 60]
    assert "Replaced: mode." in plan("--from-deepspeed", ds_config, "--steps", 40, "--mode", "segment").stderr


@pytest.mark.parametrize(
    "flags", [["--max-length", 64], ["--start-length", 16], ["--frac", "0.5"], ["--mode", "document"]]
)
def test_nothing_replaces_imported_phases_silently(ds_config: Path, flags: list[object]) -> None:
    """`equal at every step` would be said of a schedule that is another one."""
    refused = plan("--from-deepspeed", ds_config, "--steps", 40, *flags)
    assert (refused.exit_code, "is imported as explicit phases" in refused.stderr) == (2, True)


def test_a_file_completes_an_import(tmp_path: Path) -> None:
    """`lin80p` needs the steps of the run, and 2,048 is the block that windows grow to, wherever that was said."""
    (tmp_path / "run.toml").write_text("steps = 1000\nmax_length = 2048\nbatch_tokens = 8192\n", "utf-8")
    result = plan("--config", tmp_path / "run.toml", "--from-skyladder", "lin80pinc256", "--json")
    shown = json.loads(result.stdout)
    assert (shown["total_steps"], shown["max_seq_len"], shown["schedule"]["name"]) == (1000, 2048, "phases")
