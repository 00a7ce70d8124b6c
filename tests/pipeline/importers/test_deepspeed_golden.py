"""Lengths of DeepSpeed's schedules, run once with the real class and written down; and what cannot be imported."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import ConfigError
from imported_lengths import imported_lengths, written
from pipeline.importers import Imported, import_deepspeed
from pipeline.importers.deepspeed import Curve
from pipeline.option_sources import load_options
from pipeline.requested_plan import compile_requested


def section(least: int, most: int, steps: int, multiple: int = 8, degree: float | None = None) -> dict[str, Any]:
    schedule = {"total_curriculum_step": steps, "difficulty_step": multiple}
    root = {} if degree is None else {"root_degree": degree}
    return {
        "enabled": True,
        "curriculum_type": "seqlen",
        "min_difficulty": least,
        "max_difficulty": most,
        "schedule_type": "fixed_linear" if degree is None else "fixed_root",
        "schedule_config": {**schedule, **root},
    }


def discrete(lengths: list[int], ends: list[int], most: int | None = None) -> dict[str, Any]:
    return {
        **section(min(lengths), most or max(lengths), 1),
        "schedule_type": "fixed_discrete",
        "schedule_config": {"difficulty": lengths, "max_step": ends},
    }


def imported(folder: Path, legacy: dict[str, Any], **rest: Any) -> Imported:
    return import_deepspeed(written(folder, "ds_config.json", json.dumps({"curriculum_learning": legacy, **rest})))


GOLDEN = {
    "linear 8 -> 1024 over 1000": (
        section(8, 1024, 1000),
        "1:8 7:8 8:16 16:24 50:56 100:104 125:128 200:208 250:256 333:344 400:408 500:512 600:616 700:712 750:768 "
        "800:816 900:920 990:1008 992:1008 993:1016 999:1016 1000:1024 2000:1024",
    ),
    "root 2": (
        section(8, 1024, 1000, degree=2),
        "1:40 2:48 7:88 8:96 9:104 15:128 16:136 50:232 100:328 125:360 200:456 250:512 333:592 400:648 500:720 "
        "600:792 700:856 750:880 800:912 900:968 990:1016 999:1016 1000:1024",
    ),
    "root 3": (
        section(8, 1024, 1000, degree=3),
        "1:104 10:224 100:472 250:648 500:808 750:928 900:984 999:1016 1000:1024",
    ),
    "discrete 1 2 3": (discrete([1, 2, 3], [5, 10]), "1:1 5:1 6:2 10:2 11:3 50:3"),
    "discrete doubling": (
        discrete([128, 256, 512, 1024], [100, 300, 600]),
        "1:128 100:128 101:256 300:256 301:512 600:512 601:1024",
    ),
    "discrete one each two": (discrete([1, 2, 3, 4, 5], [2, 4, 6, 8]), "1:1 2:1 3:2 4:2 5:3 6:3 7:4 8:4 9:5 10:5"),
    "discrete that falls: the maximum is never left": (discrete([1024, 128], [10]), "1:1024 10:1024 11:1024 500:1024"),
    "paper, GPT-2 1.5B": (
        section(64, 1024, 45_000),
        "1:64 374:64 375:72 750:80 1000:80 3000:128 10000:272 22500:544 30000:704 44999:1016 45000:1024",
    ),
    "tutorial, GPT-2 1.5B": (
        section(8, 1024, 15_000),
        "1:8 118:8 119:16 1000:72 3000:208 7500:512 10000:680 14999:1016 15000:1024",
    ),
    "BigScience 104B": (
        section(64, 2048, 36_000),
        "145:64 146:72 1000:112 9000:560 18000:1056 27000:1552 35999:2040 36000:2048",
    ),
    "DeepSpeed's own unit test": (section(2, 10, 8, 2), "1:2 2:4 3:4 4:6 5:6 6:8 7:8 8:10 9:10 10:10"),
    "unaligned top": (section(10, 1020, 1000), "1:16 990:1008 1000:1016 1003:1016 1004:1020 1500:1020"),
}
"""t:length with t = step + 1, as DeepSpeed counts."""


@pytest.mark.parametrize("case", GOLDEN)
def test_lengths_are_the_golden_ones(case: str, tmp_path: Path) -> None:
    """The published schedules and DeepSpeed's own examples, through options and plan."""
    legacy, golden = GOLDEN[case]
    expected = {int(t): int(length) for t, length in (pair.split(":") for pair in golden.split())}
    lengths = imported_lengths(imported(tmp_path, legacy), max(expected))
    assert {t: lengths[t - 1] for t in expected} == expected


@pytest.mark.parametrize(
    ("legacy", "num_steps", "total", "num_lengths"),
    [
        (section(8, 1024, 1000), 1000, 512_512, 128),
        (section(8, 1024, 1000, degree=2), 1000, 681_856, 123),
        (section(64, 1024, 45_000), 45_000, 24_300_960, 121),
        (section(64, 2048, 36_000), 36_000, None, 249),
    ],
)
def test_sums_and_numbers_of_lengths(
    legacy: dict[str, Any], num_steps: int, total: int | None, num_lengths: int, tmp_path: Path
) -> None:
    """Tokens per sequence over the whole warmup: one step off anywhere would show."""
    lengths = imported_lengths(imported(tmp_path, legacy), num_steps)[:num_steps]
    assert len(set(lengths)) == num_lengths
    assert total in (None, sum(lengths))


@pytest.mark.parametrize(
    ("legacy", "batch_rows", "tokens", "num_steps"),
    [
        (section(64, 1024, 45_000), 4096, 157_286_400_000, 58_769),
        (section(64, 2048, 36_000), 2048, 300_000_000_000, 89_033),
        (section(80, 2048, 110_000), 512, 300_000_000_000, 339_169),
    ],
)
def test_steps_that_a_token_budget_takes(
    legacy: dict[str, Any], batch_rows: int, tokens: int, num_steps: int, tmp_path: Path
) -> None:
    """GPT-2 1.5B, BigScience 104B and GPT-3 1.3B: the step that crosses the budget is the golden one."""
    options = imported(tmp_path, legacy, train_batch_size=batch_rows).options
    plan = compile_requested(load_options(None, {"tokens": tokens}, options), None)
    assert plan.total_steps == num_steps - 1  # a plan stays within the budget
    assert tokens - batch_rows * legacy["max_difficulty"] < plan.total_tokens < tokens


def test_where_the_length_changes(tmp_path: Path) -> None:
    """First and last changes, and how long each length is held: 110 of 8 steps, 17 of 7, and the last step."""
    lengths = imported_lengths(imported(tmp_path, section(8, 1024, 1000)), 1000)
    starts, held = [], []
    for length, group in groupby(lengths):
        starts.append((sum(held) + 1, length))
        held.append(len(list(group)))
    assert starts[:12] == [
        *[(1, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 48)],
        *[(48, 56), (56, 64), (63, 72), (71, 80), (79, 88), (87, 96)],
    ]
    assert starts[-5:] == [(969, 992), (977, 1000), (985, 1008), (993, 1016), (1000, 1024)]
    assert {steps: held.count(steps) for steps in set(held)} == {8: 110, 7: 17, 1: 1}


@pytest.mark.parametrize(
    ("least", "multiple", "before", "after"),
    [
        (8, 8, [8, 16, 24, 32, 48, 56], [8, 16, 24, 32, 48, 56]),
        (8, 16, [0, 16, 16, 32, 48, 48], [16, 16, 16, 32, 48, 48]),
        (64, 16, [64, 64, 80, 80, 96, 112], [64, 64, 80, 80, 96, 112]),
        (1, 8, [0, 8, 16, 24, 40, 48], [8, 8, 16, 24, 40, 48]),
        (10, 8, [8, 16, 24, 40, 48, 56], [16, 16, 24, 40, 48, 56]),
    ],
)
def test_before_and_after_the_lower_clamp(
    least: int, multiple: int, before: list[int], after: list[int], tmp_path: Path
) -> None:
    """t = 0..5 of DeepSpeed PR #8334; the file's run starts at t = 1, of either release."""
    for clamped, expected in ((False, before), (True, after)):
        curve = Curve(
            min_length=least,
            max_length=1024,
            difficulty_step=multiple,
            warmup_steps=100,
            root_degree=1.0,
            clamped=clamped,
        )
        assert [curve.length(t) for t in range(6)] == expected
        config = json.dumps({"curriculum_learning": section(least, 1024, 100, multiple)})
        path = written(tmp_path, "ds_config.json", config)
        if expected[1] > 0:
            assert imported_lengths(import_deepspeed(path, clamped=clamped), 100)[:5] == expected[1:]


def test_equal_schedules_are_named_and_others_are_phases(tmp_path: Path) -> None:
    """A schedule of ours can be changed afterwards (another frac, another maximum); phases cannot."""
    equal = imported(tmp_path, section(8, 1024, 1000), train_batch_size=512)
    assert equal.options == {
        "mode": "truncate",
        "schedule": "linear",
        "start_length": 8,
        "max_length": 1024,
        "multiple_of": 8,
        "length_warmup_steps": 1000,
        "batch_rows": 512,
    }
    assert equal.differs == "Equal at every step."
    assert imported(tmp_path, section(64, 64, 10), train_batch_size=2).options["schedule"] == "constant"

    floats = imported(tmp_path, section(8, 808, 100))
    assert floats.options["phases"].startswith("16:1,24:1,")
    assert floats.options["phases"].endswith(",800:1,808:*")
    assert "off the exact schedule at 3 of 100 steps" in floats.differs  # t = 29, 57, 58: an exact landing
    assert "give batch_rows" in floats.differs
    unaligned = imported(tmp_path, section(10, 1020, 1000))
    assert unaligned.options["multiple_of"] == 4
    assert "1020 is reached at step 1,004" in unaligned.differs
    assert (
        "Releases before 0.19.7 start at length 8 instead (DeepSpeed PR #8334), as --from-deepspeed-unclamped does."
        in unaligned.differs
    )


def data_efficiency(metric: str, **inner: Any) -> dict[str, Any]:
    entry = {**section(80, 2048, 1000), "difficulty_type": "value", "clustering_type": "single_cluster", **inner}
    curriculum = {"enabled": True, "curriculum_metrics": {metric: entry}}
    sampling = {"enabled": True, "num_workers": 0, "curriculum_learning": curriculum}
    return {"enabled": True, "seed": 1234, "data_sampling": sampling}


def test_data_efficiency_sections(tmp_path: Path) -> None:
    """seqlen_truncate cuts rows; seqlen_reshape keeps the tokens of a full batch in every step."""
    config = {"train_batch_size": 512, "data_efficiency": data_efficiency("seqlen_truncate")}
    truncated = import_deepspeed(written(tmp_path, "a.json", json.dumps(config)))
    assert truncated.options["mode"] == "truncate"
    assert truncated.options["batch_rows"] == 512
    assert "#8405" in truncated.differs
    config["data_efficiency"] = data_efficiency("seqlen_reshape")
    reshaped = import_deepspeed(written(tmp_path, "b.json", json.dumps(config)))
    assert reshaped.options["mode"] == "segment"
    assert (reshaped.options["batch_tokens"], reshaped.options["rows_multiple_of"]) == (512 * 2048, 1)
    assert "repeats the end of every sample" in reshaped.differs
    assert imported_lengths(reshaped, 1000) == imported_lengths(truncated, 1000)


CURRICULUM = "curriculum_learning"
REFUSED = {
    "not valid JSON": '{"curriculum_learning": {} // off\n}',
    "a key stands twice": '{"curriculum_learning": {}, "curriculum_learning": {}}',
    "expected a mapping": "[]",
    "is missing": json.dumps({"train_batch_size": 4}),
    "is not enabled": json.dumps({CURRICULUM: {**section(8, 64, 10), "enabled": False}}),
    "both enabled": json.dumps({CURRICULUM: section(8, 64, 10), "data_efficiency": data_efficiency("seqlen_truncate")}),
    "curriculum_type is 'vocab'": json.dumps({CURRICULUM: {**section(8, 64, 10), "curriculum_type": "vocab"}}),
    "custom function": json.dumps({CURRICULUM: {**section(8, 64, 10), "schedule_type": "custom"}}),
    "DeepSpeed would stay at 64": json.dumps({CURRICULUM: section(64, 8, 10)}),
    "total_curriculum_step is 0": json.dumps({CURRICULUM: section(8, 64, 0)}),
    "difficulty_step is 0": json.dumps({CURRICULUM: section(8, 64, 10, 0)}),
    "min_difficulty is 8.5": json.dumps({CURRICULUM: {**section(8, 64, 10), "min_difficulty": 8.5}}),
    "root_degree is 0": json.dumps({CURRICULUM: section(8, 64, 10, degree=0)}),
    "difficulty has 2 entries and max_step 2": json.dumps({CURRICULUM: discrete([8, 16], [1, 2])}),
    "never look at the difficulty list": json.dumps({CURRICULUM: discrete([8, 16], [1], most=8)}),
    "exactly one of seqlen": json.dumps({"data_efficiency": data_efficiency("vocabularyrarity")}),
    "difficulty_type is 'percentile'": json.dumps(
        {"data_efficiency": data_efficiency("seqlen_truncate", difficulty_type="percentile")}
    ),
    "clustering_type is 'schedule_based'": json.dumps(
        {"data_efficiency": data_efficiency("seqlen", clustering_type="schedule_based")}
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_imported_is_a_sentence(message: str, tmp_path: Path) -> None:
    """Nothing is guessed: a wrong curriculum costs a whole run."""
    path = written(tmp_path, "ds_config.json", REFUSED[message])
    with pytest.raises(ConfigError, match=message) as refused:
        import_deepspeed(path)
    assert str(refused.value).startswith(f"{path}")
    assert str(refused.value).endswith(".")


def test_length_0_of_older_releases_is_refused(tmp_path: Path) -> None:
    """4 -> 64 in steps of 8 starts at an empty row before PR #8334, for t = 1..6 of 100."""
    path = written(tmp_path, "ds_config.json", json.dumps({CURRICULUM: section(4, 64, 100)}))
    with pytest.raises(ConfigError, match=r"length 0 at its first 6 steps.*#8334"):
        import_deepspeed(path, clamped=False)
    assert imported_lengths(import_deepspeed(path), 100)[:8] == [8] * 8
