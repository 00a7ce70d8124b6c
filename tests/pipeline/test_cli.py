"""The command line: results on stdout, the rest on stderr, exit codes that scripts can rely on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from curriculum.plan import Plan
from pipeline.cli import main
from pipeline.cli_options import GROUPS
from pipeline.tokenizer import byte_tokenizer

TINY = ["--tokenizer", "bytes", "--max-length", "64", "--batch-rows", "8", "--workers", "1"]


def run(*arguments: str | Path) -> Result:
    """Invoke `curriculum` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def lengths(plan: dict[str, Any]) -> list[int]:
    """Sequence length of every step."""
    return [plan["phases"][phase]["seq_len"] for phase, steps in plan["order"] for _ in range(steps)]


def test_plan_json_is_the_issue_s_curve() -> None:
    """8 -> 1024 over 1,000 steps by 8: the golden values of DeepSpeed's `fixed_linear`, 0-based."""
    options = ["--schedule", "linear", "--start-length", "8", "--max-length", "1024", "--multiple-of", "8"]
    result = run("plan", *options, "--steps", "1000", "--frac", "1.0", "--batch-rows", "512", "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    plan = json.loads(result.stdout)
    found = lengths(plan)
    assert [found[i] for i in (0, 6, 7, 15, 49, 332, 499, 749, 998, 999)] == [
        8,
        8,
        16,
        24,
        56,
        344,
        512,
        768,
        1016,
        1024,
    ]
    assert sum(found) == 512_512
    assert plan["total_tokens"] == 512_512 * 512
    assert plan["num_shapes"] == 128
    assert Plan.from_json(plan).to_json() == plan


def test_plan_without_a_length_of_the_run_says_what_is_missing() -> None:
    """Exit 2 and the four ways out."""
    result = run("plan", "--frac", "0.3")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(word in result.stderr for word in ("--steps", "--tokens", "corpus", "--store", "--corpus-tokens"))


def test_plan_shows_table_curve_and_facts() -> None:
    """What people decide by, on 80 columns."""
    result = run("plan", "--corpus-tokens", "1000000", "--batch-tokens", "10000", "--max-length", "1024")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for text in ("world sizes", "distinct shapes", "on disk", "of 1,000,000", "█", "trained tokens"):
        assert text in result.stdout
    assert "5,056 tokens, under 90 % of the 10,000 asked for" in result.stderr


def test_plan_warns_of_jumps_above_two() -> None:
    """The authors of the method saw divergence after long flat phases followed by a jump."""
    assert "jumps from 8 to 64" in run("plan", "--phases", "8:10,64:10", "--json").stderr
    assert run("plan", "--phases", "8:10,16:10").stderr == ""


@pytest.mark.parametrize("command", ["plan", "build", "tune"])
def test_help_shows_every_option_once_under_a_heading(command: str) -> None:
    """An option that is in no group would be shown nowhere."""
    shown = run(command, "--help").stdout
    headings = [line.rstrip(":") for line in shown.splitlines() if re.fullmatch(r"[A-Z][a-z ]+:", line)]
    assert headings == list(GROUPS)[command != "tune" :]
    assert shown.index("\nOutput:") < shown.index("\nSchedule:")
    for option in main.commands[command].params:
        if isinstance(option, click.Option):
            flag = max(option.opts, key=len)
            assert len(re.findall(rf"^  (?:-h, )?{flag}\b(?!-)", shown, re.M)) == 1, flag


def test_plan_of_a_corpus_and_of_its_store_agree(corpus: Path, tmp_path: Path) -> None:
    """Tokenized once, planned from the store at once, and built from it without tokenizing again."""
    store = tmp_path / "store"
    by_corpus = run("plan", corpus, *TINY, "--store", store, "--json")
    assert by_corpus.exit_code == 0, by_corpus.output
    by_store = run("plan", *TINY, "--store", store, "--json")
    assert json.loads(by_store.stdout) == json.loads(by_corpus.stdout)
    built = run("build", corpus, *TINY, "--store", store, "--out", tmp_path / "out", "--json")
    assert json.loads(built.stdout)["total_steps"] == json.loads(by_corpus.stdout)["total_steps"]
    assert run("plan", *TINY, "--bos", "document", "--store", store).exit_code == 2, "no BOS is in that store"
    run("plan", corpus, *TINY, "--tokenizer", "train:300", "--store", store)
    assert json.loads(run("plan", *TINY, "--store", store, "--json").stdout) == json.loads(by_corpus.stdout)
    ambiguous = run("plan", "--max-length", "64", "--store", store)
    assert ambiguous.exit_code == 2
    assert "it has 2 tokenized corpora with bos none, by several tokenizers" in ambiguous.stderr
    other = run("plan", *TINY, "--tokenizer", "train:400", "--store", store)
    assert other.exit_code == 2
    assert "0 of its tokenized corpora" in other.stderr
    assert f"tokens of {corpus} by train:300 with bos none" in other.stderr
    run("plan", corpus / "a.jsonl", *TINY, "--store", store)
    same = run("plan", *TINY, "--store", store)
    assert same.exit_code == 2
    assert "2 of its tokenized corpora are by tokenizer bytes with bos none" in same.stderr
    assert "Give the corpus itself, whose tokens are used again, or --corpus-tokens." in same.stderr


def test_a_plan_of_a_store_counts_by_the_ids_that_are_there(corpus: Path, tmp_path: Path) -> None:
    """Ids above 65,535 take four bytes each, whether or not the tokenizer is named again; and shards of several sources
    are divided by their bytes, so that other bytes would be other shares."""
    wide = json.loads(byte_tokenizer())
    wide["model"]["vocab"]["never found in a text"] = 70_000
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(json.dumps(wide), "utf-8")
    schedule = ["--max-length", "64", "--batch-rows", "8", "--workers", "1"]
    for number, what in enumerate(([corpus], ["--source", f"a={corpus}", "--source", f"b={corpus}"])):
        flags = [*schedule, "--store", tmp_path / f"store{number}"]
        by_corpus = run("plan", *what, *flags, "--tokenizer", tokenizer)
        assert by_corpus.exit_code == 0, by_corpus.output
        run("plan", *what, *flags, "--tokenizer", "train:300")
        assert run("plan", *flags, "--tokenizer", tokenizer).stdout == by_corpus.stdout
    alone = [*schedule, "--store", tmp_path / "alone"]
    run("plan", corpus, *alone, "--tokenizer", tokenizer)
    unnamed = run("plan", *alone)
    assert unnamed.stdout == run("plan", corpus, *alone, "--tokenizer", tokenizer).stdout
    assert f"tokens of {corpus} by {tokenizer}" in unnamed.stderr


def test_build_verify_inspect_cat_speak_json(corpus: Path, tmp_path: Path) -> None:
    """One object on stdout each, nothing else there."""
    out = tmp_path / "out"
    built = run("build", corpus, *TINY, "--steps", "20", "--out", out, "--json")
    assert built.exit_code == 0, built.output
    result = json.loads(built.stdout)
    assert result["already_finished"] is False
    again = json.loads(run("build", corpus, *TINY, "--steps", "20", "--out", out, "--json").stdout)
    assert again == {**result, "already_finished": True}
    assert json.loads(run("verify", out, "--json", "--workers", "1").stdout)["id"] == result["id"]
    assert json.loads(run("verify", out, "--json", "--quick").stdout)["quick"] is True
    assert json.loads(run("inspect", out, "--json").stdout)["id"] == result["id"]
    rows = json.loads(run("cat", out, "--step", "0", "--limit", "2", "--json").stdout)["rows"]
    assert len(rows) == 2


def test_other_options_exit_with_1_and_name_them(corpus: Path, tmp_path: Path) -> None:
    """A finished dataset is never replaced by accident."""
    out = tmp_path / "out"
    run("build", corpus, *TINY, "--steps", "20", "--out", out)
    refused = run("build", corpus, *TINY, "--steps", "21", "--out", out)
    assert refused.exit_code == 1
    assert "steps was 20, now 21" in refused.stderr
    assert run("build", corpus, *TINY, "--steps", "21", "--out", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan", "--steps", "10", "--max-length", "1023"], 2, "1016 or 1024"),
        (["plan", "--steps", "ten"], 2, "--steps"),
        (["plan", "--frac", "x", "--steps", "1"], 2, "decimal number"),
        (["plan", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["build", "nowhere/"], 2, "nowhere"),
        (["build", "--tokenizer", "gpt2"], 2, "gpt2"),
        (["verify", "nowhere"], 1, "not a curriculum dataset"),
        (["inspect", "nowhere"], 1, "not a curriculum dataset"),
        (["cat", "nowhere", "--step", "0"], 1, "not a curriculum dataset"),
        (["fly"], 2, "fly"),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2: the request is wrong. 1: the request failed. Never a traceback."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert list(tmp_path.iterdir()) == [], "a refused request writes nothing"


def test_a_bad_record_stops_with_file_and_line_or_is_skipped_and_counted(tmp_path: Path) -> None:
    """--on-bad-record skip counts it and lists it in build-log.json."""
    source = tmp_path / "texts.jsonl"
    good = json.dumps({"text": "words and words " * 40})
    source.write_text("\n".join([good] * 30 + ['{"text": 3}'] + [good] * 30))
    options = ["build", source, *TINY, "--max-length", "16", "--out", tmp_path / "out"]
    stopped = run(*options)
    assert stopped.exit_code == 1
    assert "texts.jsonl, line 31" in stopped.stderr
    assert "--on-bad-record skip" in stopped.stderr
    skipped = run(*options, "--on-bad-record", "skip", "--json")
    assert json.loads(skipped.stdout)["accounting"]["skipped_records"] == 1
    log = json.loads((tmp_path / "out" / "build-log.json").read_text())
    assert len(log["skipped_examples"]) == 1
    assert "line 31" in log["skipped_examples"][0]
