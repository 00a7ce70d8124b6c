"""`curriculum stability`: numbers and a picture of any log, or a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main
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
            "variance_sqrt_l1": 2000.0 - step,
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
        "variance L1 norm at most 1, in step 200; largest element at most 0.01, in step 0",
        "its root L1 norm at most 2,000, in step 0 correlation",
        "with the loss ratio over 299 steps: norm +0.995, root norm -0.035; max: it or the loss ratio is the same in",
        "not in it variance_sqrt_max",
        "best 2.5083 in step 299; last 2.5083",
    ):
        assert said in text
    assert "then" not in text, "no other step is above the lowest threshold"
    found = json.loads(run(path, "--json", "--threshold", "1.3").output)
    assert found["logs"][0]["variances"]["variance_sqrt_l1"] == {"value": 2000.0, "step": 0, "seq_len": 8}
    assert set(found["logs"][0]["correlations"]) == {
        f"variance_{name}" for name in ("l1", "max", "sqrt_l1", "sqrt_max")
    }
    assert found["logs"][0]["steps_above"] == {"1.3": 1}
    assert found["logs"][0]["worst"][0] == {"value": pytest.approx(1.4202, abs=1e-4), "step": 200, "seq_len": 16}
    assert found["plot"] is None


def test_all_spikes_above_a_threshold_are_listed(tmp_path: Path) -> None:
    """The highest first; 1.05 is above no threshold that was given."""
    losses = [4.0, 6.0, 4.0, 5.0, 4.0, 4.2, 4.0, 8.0, 4.0]
    path = write(tmp_path / "log.jsonl", [{"step": step, "loss": loss} for step, loss in enumerate(losses)])
    text = run(path, "--threshold", "1.2500001", "--threshold", "1.2").output
    assert "highest 2.0000 in step 7; above 1.2500001 in 2 steps, above 1.2 in 3" in " ".join(text.split())
    assert [line.strip() for line in text.splitlines() if "then" in line] == [
        "then 1.5000 in step 1",
        "then 1.2500 in step 3",
    ]


def test_several_runs_are_set_side_by_side(tmp_path: Path) -> None:
    """One line a run in tables that fit a terminal; a measure that a run lacks is a dash."""
    whole = write(tmp_path / "whole.jsonl", whole_run())
    bare = write(tmp_path / "bare.jsonl", [{"step": 0, "variance_sqrt_l1": 1234567.0}])
    lines = run(whole, bare).output.splitlines()
    tables = lines[lines.index(next(line for line in lines if "diverged" in line)) :]
    assert [" ".join(line.split()) for line in tables[:8]] == [
        "steps tokens diverged ratio >1.1 >1.2 >1.5 >2 score validation",
        "1 300 19,200 0 1.420 1 1 0 0 0.33 % 2.5083",
        "2 1 - 0 - 0 0 0 0 - -",
        "",
        "highest variance correlation with the loss ratio",
        "norm max root norm root max norm max root norm root max",
        "1 1 0.01 2,000 - +0.995 - -0.035 -",
        "2 - - 1,234,567 - - - - -",
    ]
    assert max(map(len, tables[:8])) <= 80


def test_the_picture_has_the_panels_of_what_was_logged(tmp_path: Path) -> None:
    """Two logs, of which one has losses alone, and a name that would be mathematics or markup."""
    whole = write(tmp_path / "whole.jsonl", whole_run())
    plain = write(tmp_path / "a$_{<b>&.jsonl", [{"step": step, "loss": 3.0} for step in range(0, 100, 10)])
    picture = tmp_path / "runs.svg"
    result = run(whole, plain, "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert "not every step was logged" in " ".join(result.output.split())
    text = picture.read_text("utf-8")
    for panel in (
        "loss ratio",
        ">Adam's variance, L1 norm",
        "square root of Adam's variance, L1 norm",
        "largest element",
        "gradient norm",
        "tokens in a row",
    ):
        assert panel in text
    assert "square root of Adam's variance, largest element" not in text
    assert "a$_{&lt;b&gt;&amp;.jsonl" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a$_{<b>&.jsonl", "runs.svg", "whole.jsonl"]
    assert "tokens trained" not in text
    assert run(whole, "--plot", str(picture), "--over", "tokens").exit_code == 0
    assert "tokens trained" in picture.read_text("utf-8")


def test_equal_logs_are_equal_pictures(tmp_path: Path) -> None:
    records = [{"step": step, "loss": 3.0, "validation_loss": 2.0} for step in range(3)]
    pictures = []
    for name in ("one", "two"):
        log, picture = write(tmp_path / f"{name}.jsonl", records), tmp_path / f"{name}.svg"
        assert run(log, "--plot", str(picture)).exit_code == 0
        pictures.append(picture.read_bytes())
    assert pictures[0] == pictures[1]


def test_diverged_and_short_runs_are_reported(tmp_path: Path) -> None:
    """One step; nothing but NaN; weights that broke after their loss: no measure is made up, a picture is drawn."""
    nothing = [{"step": step, "loss": "NaN", "grad_norm": "Infinity"} for step in range(3)]
    broken = [{"step": step, "loss": 4.0, "validation_loss": loss} for step, loss in enumerate((3.0, "NaN"))]
    for records, said in (
        (nothing, "diverged loss, validation loss or variance is NaN or infinite in 3 steps, first in step 0"),
        (nothing, "not finite gradient norm in 3 steps, first in step 0"),
        (broken, "NaN or infinite in 1 step, first in step 1 loss ratio"),
        (broken, "validation best 3.0000 in step 0; last nan"),
        (broken[1:], "validation last nan"),
        ([{"step": 0, "loss": 2.0}], "none: no step has a loss, finite and with one before it"),
    ):
        path = write(tmp_path / "log.jsonl", records)
        result = run(path, "--plot", str(tmp_path / "log.png"))
        assert result.exit_code == 0, result.output
        assert said in " ".join(result.output.split())
        assert (tmp_path / "log.png").read_bytes()[:4] == b"\x89PNG"
        (tmp_path / "log.png").unlink()


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
        ((path, "--threshold", "0.5"), "--threshold is 0.5; a loss ratio is high from 1 on, so give at least 1"),
        ((*[path] * 33, "--plot", str(tmp_path / "a.png")), "33 logs, of which a picture tells 32 apart"),
        ((path, "--plot", path), "a picture is one of .svg, .png"),
        ((path, "--over", "tokens"), "--over tokens says what a picture goes along; say with --plot where"),
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
    """It counts from 1, its evaluations are entries of their own, and by default it says 0 for NaN."""
    history = [
        {"loss": 3.0, "grad_norm": 1.0, "learning_rate": 0.1, "epoch": 0.1, "step": 10},
        {"eval_loss": 3.5, "epoch": 0.1, "step": 10},
        {"loss": 0.0, "grad_norm": math.nan, "seq_len": 16, "tokens_seen": 640, "epoch": 0.2, "step": 20},
        {"train_runtime": 1.0, "train_loss": 3.0, "step": 20},
    ]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history}), "utf-8")
    found = read_run(str(path))
    assert [record["step"] for record in found.records] == [9, 19]
    assert found.records[0]["validation_loss"] == 3.5
    assert (found.summary.divergences, found.summary.tokens) == (1, 640)
    said = " ".join(run(str(path)).output.split())
    assert (
        "infinite in 1 step, first in step 19; in 1 of them the loss is a 0 beside a gradient norm that is not finite"
        in said
    )
    assert (
        "caution Trainer reports another loss in place of NaN unless logging_nan_inf_filter is off; a loss of 0" in said
    )
    assert "is in 1, first in step 19; a loss here is the mean of up to 10 steps" in said
    for step, said in ((1, "is off"), (7, "is off; a loss here is the mean of up to 7 steps, in which")):
        path.write_text(json.dumps({"log_history": [{"loss": 3.0, "step": step, "tokens_seen": 0.5}]}), "utf-8")
        found = read_run(str(path))
        assert f"unless logging_nan_inf_filter {said}" in f"{found.caution}"
        assert ("mean" in f"{found.caution}", found.summary.tokens) == (step > 1, None), "billions, of somebody else"
    path.write_text("{}", "utf-8")
    assert "there is no log_history in it" in run(str(path)).output
    path.write_text('{"log_history": [{"step": 1, "loss": "x"}]}', "utf-8")
    assert "log_history[0]: loss is 'x', which is no number" in run(str(path)).output


def test_of_several_evaluation_sets_the_report_says_that_none_is_taken(tmp_path: Path) -> None:
    """Beside "not in it validation_loss" alone, who sees the losses in the file looks for a defect of the reader."""

    def read(*names: str) -> tuple[dict[str, Any], str]:
        history = [{"loss": 3.0, "step": 1}, *({name: 2.0 + place, "step": 1} for place, name in enumerate(names))]
        path = tmp_path / "trainer_state.json"
        path.write_text(json.dumps({"log_history": history}), "utf-8")
        return json.loads(run(str(path), "--json").output)["logs"][0], " ".join(run(str(path)).output.split())

    found, said = read("eval_books_loss", "eval_code_loss", "eval_runtime")
    assert (found["not_taken"], found["last_validation"]) == (["eval_books_loss", "eval_code_loss"], None)
    assert "not taken eval_books_loss, eval_code_loss (several evaluation sets)" in said
    for names, loss in ((("eval_books_loss",), 2.0), (("eval_books_loss", "eval_loss"), 3.0)):
        found, said = read(*names)
        assert (found["not_taken"], found["last_validation"]["value"]) == ([], loss)
        assert "not taken" not in said
    history = [{"eval_books_loss": 2.0, "eval_code_loss": 3.0, "step": 1}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}), "utf-8")
    assert "['eval_books_loss', 'eval_code_loss'] are of several" in run(str(tmp_path / "trainer_state.json")).output


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


def test_steps_without_a_ratio_are_not_passed_over(tmp_path: Path) -> None:
    """A single loss of 0 silences all that follows: "above 2 in 0 steps" is no praise then."""
    losses = [4.0, 3.0, 0.0, 9.0, 9.0]
    path = write(tmp_path / "log.jsonl", [{"step": step, "loss": loss} for step, loss in enumerate(losses)])
    assert "above 2 in 0 steps; none in 2 steps, as a loss before was 0 or less" in " ".join(run(path).output.split())


def test_a_picture_that_cannot_be_written_is_a_sentence_about_it(tmp_path: Path) -> None:
    """Not the advice of a build, to give another --out."""
    path = write(tmp_path / "log.jsonl", [{"step": 0, "loss": 2.0}])
    result = run(path, "--plot", str(tmp_path / "log.jsonl" / "picture.svg"))
    assert result.exit_code == 1
    assert "--plot" in result.output
    assert "--out" not in result.output
