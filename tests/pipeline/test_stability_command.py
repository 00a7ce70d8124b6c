"""`curriculum stability`: numbers and a picture of any log, or a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.draw_stability import names, thinned
from pipeline.stability_logs import read_run


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["stability", *arguments])


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return str(path)


def whole_run(num_steps: int = 300, spike: float = 2.0) -> list[dict[str, Any]]:
    """Every measure; a spike in step 200, where rows have 16 tokens."""
    return [
        {
            "step": step,
            "seq_len": 8 if step < 100 else 16,
            "tokens": 64 * (step + 1),
            "loss": 5.0 - step / 1000 + 0.01 * (step % 3) + (spike if step == 200 else 0.0),
            "grad_norm": 1.0 + 0.01 * (step % 5) + (3.0 if step == 200 else 0.0),
            "variance_l1": 0.5 + 0.001 * (step % 7) + (0.5 if step == 200 else 0.0),
            "variance_max": 0.01,
            **({"validation_loss": 5.0 - step / 120} if step % 100 == 99 else {}),
        }
        for step in range(num_steps)
    ]


def test_a_whole_run(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", whole_run())
    text = " ".join(run(path).output.split())
    for said in (
        "300, 0 to 299; 19,200 tokens trained",
        "highest 1.4202 in step 200 (length 16); above 1.1 in 1 step, above 1.2 in 1 step, above 1.5 in 0 steps",
        "loss 0.33 % (1 of 300); gradient norm 0.33 % (1 of 300); either 0.33 % (1 of 300)",
        "L1 norm at most 1, in step 200",
        "of loss ratio and variance norm: +0.9",
        "variance max: loss ratio or variance_max is the same in all steps",
        "best 2.5083 in step 299; last 2.5083",
    ):
        assert said in text
    found = json.loads(run(path, "--json", "--threshold", "1.3").output)
    assert found["logs"][0]["steps_above"] == {"1.3": 1}
    assert found["logs"][0]["worst"][0] == {"value": pytest.approx(1.4202, abs=1e-4), "step": 200, "seq_len": 16}
    assert found["plot"] is None


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_picture_has_the_panels_of_what_was_logged(tmp_path: Path, kind: str) -> None:
    """Two logs, of which one has losses alone, and a name that would be mathematics or markup."""
    whole = write(tmp_path / "whole.jsonl", whole_run())
    plain = write(tmp_path / "a$_{<b>&.jsonl", [{"step": step, "loss": 3.0} for step in range(0, 100, 10)])
    picture = tmp_path / f"runs.{kind}"
    result = run(whole, plain, "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert "not every step was logged" in " ".join(result.output.split())
    if kind == "png":
        assert picture.read_bytes()[:4] == b"\x89PNG"
        return
    text = picture.read_text("utf-8")
    for panel in ("loss ratio", "variance, L1 norm", "largest element", "gradient norm", "tokens in a row"):
        assert panel in text
    assert "a$_{&lt;b&gt;&amp;.jsonl" in text
    assert run(whole, plain, "--plot", str(picture)).exit_code == 0
    assert picture.read_text("utf-8") == text, "equal logs are equal pictures"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a$_{<b>&.jsonl", "runs.svg", "whole.jsonl"]


def test_a_long_run_is_drawn_with_its_spikes() -> None:
    """A picture of many steps opens, and the one bad step is in it."""
    points = [(step, 1.0) for step in range(100_000)]
    points[12_345] = (12_345, 9.0)
    few = thinned(points)
    assert len(few) <= 1200
    assert (12_345, 9.0) in few
    assert few == sorted(few)
    assert thinned(points[:100]) == points[:100]


def test_logs_are_called_by_what_differs() -> None:
    """Six logs of one name in six folders are told apart, and the picture is not all names."""
    assert names(["/a/b/one/log.jsonl", "/a/b/two/log.jsonl"]) == ["one/log.jsonl", "two/log.jsonl"]
    assert names(["one/log.jsonl", "one/log.jsonl"]) == ["log.jsonl", "log.jsonl"]
    assert names(["a\x1b.jsonl"]) == ["a\\x1b.jsonl"]
    assert names(["x" * 100]) == ["..." + "x" * 57]


def test_diverged_and_short_runs_are_reported(tmp_path: Path) -> None:
    """One step; nothing but NaN: no measure is made up, and the picture is still drawn."""
    nothing = [{"step": step, "loss": "NaN", "grad_norm": "Infinity"} for step in range(3)]
    for records, said in (
        (nothing, "NaN or infinite in 3 steps, first in step 0"),
        ([{"step": 0, "loss": 2.0}], "none: no step has a loss, finite and with one before it"),
    ):
        path = write(tmp_path / "log.jsonl", records)
        result = run(path, "--plot", str(tmp_path / "log.svg"))
        assert result.exit_code == 0, result.output
        assert said in " ".join(result.output.split())
        assert "gradient norm" not in (tmp_path / "log.svg").read_text("utf-8"), "there is none to draw"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no whole line is in it"),
        ('{"step": 0}\n', "no line has one of loss, loss_ratio, grad_norm"),
        ('{"step": 0, "train/\\u001b[2Jloss": 3.0}\n', r"found ['step', 'train/\x1b[2Jloss']"),
        ('{"step": 0, "loss": 1.0}\nrubbish\n{"step": 1, "loss": 1.0}\n', "line 2: not JSON"),
    ],
)
def test_no_log_ends_in_a_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "log.jsonl").write_text(content, "utf-8")
    result = run(str(tmp_path / "log.jsonl"))
    assert result.exit_code == 1
    assert said in result.output
    assert "\x1b" not in result.output


def test_wrong_usage(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", whole_run(20))
    for arguments, said in (
        ((path, "--threshold", "nan"), "give at least 1"),
        ((path, "--plot", path), "a picture is one of .svg, .png"),
        ((), "Missing argument"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert said in result.output
    assert run(str(tmp_path / "none.jsonl")).exit_code == 1
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 20


def test_names_reach_no_terminal_raw(tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[2J.jsonl"
    write(name, whole_run(20))
    result = run(str(name))
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "\\x1b[2J.jsonl" in result.output.replace("\n", "").replace(" ", "")


def test_the_history_of_a_hugging_face_trainer(tmp_path: Path) -> None:
    """It counts from 1, and its evaluations are entries of their own."""
    history = [
        {"loss": 3.0, "grad_norm": 1.0, "learning_rate": 0.1, "epoch": 0.1, "step": 10},
        {"eval_loss": 3.5, "epoch": 0.1, "step": 10},
        {"loss": math.nan, "grad_norm": math.nan, "epoch": 0.2, "step": 20},
        {"train_runtime": 1.0, "train_loss": 3.0, "step": 20},
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history}), "utf-8")
    found = read_run(str(path))
    assert [record["step"] for record in found.records] == [9, 19]
    assert found.records[0]["validation_loss"] == 3.5
    assert found.summary.divergences == 1
    path.write_text("{}", "utf-8")
    assert "there is no log_history in it" in run(str(path)).output
    path.write_text('{"log_history": [{"step": 1, "loss": "x"}]}', "utf-8")
    assert "log_history[0]: loss is 'x', which is no number" in run(str(path)).output


def test_json_lines_may_be_called_json(tmp_path: Path) -> None:
    """Of one step and of several; how many records a resume has replaced is said in both forms."""
    path = write(tmp_path / "log.json", [{"step": 0, "loss": 2.0}])
    assert len(read_run(path).records) == 1
    path = write(tmp_path / "log.json", [{"step": step, "loss": 2.0} for step in (0, 1, 2, 1)])
    assert json.loads(run(path, "--json").output)["logs"][0]["num_dropped"] == 2
    assert "dropped 2 records: a later line goes back" in " ".join(run(path).output.split())


def test_why_there_is_no_ratio_of_losses_below_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [{"step": step, "loss": -1.0 - step} for step in range(3)])
    assert "none: the lowest loss is -3.0000, and a ratio is one of losses" in " ".join(run(path).output.split())


def test_a_picture_that_cannot_be_written_is_a_sentence_about_it(tmp_path: Path) -> None:
    """Not the advice of a build, to give another --out."""
    path = write(tmp_path / "log.jsonl", whole_run(20))
    result = run(path, "--plot", str(tmp_path / "log.jsonl" / "picture.svg"))
    assert result.exit_code == 1
    assert "--plot" in result.output
    assert "--out" not in result.output
