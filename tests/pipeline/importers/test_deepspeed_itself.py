"""Imported schedules against DeepSpeed's own class, release by release, step by step."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import ConfigError
from deepspeed_package import curriculum_scheduler
from imported_lengths import imported_lengths
from pipeline.importers import import_deepspeed

RELEASES = {"0.19.6": False, "0.19.8": True}
"""Whether the release has the lower clamp of PR #8334."""
NUM_CONFIGS = 300


def random_curriculum(rng: random.Random) -> dict[str, Any]:
    """Linear, root and discrete; aligned and not; ends above and below one difficulty step."""
    step = rng.choice([1, 3, 8, 8, 8, 16, 64])
    least = rng.choice([rng.randint(1, 100), step * rng.randint(1, 8)])
    most = rng.choice([least + rng.randint(0, 500), (least // step + 1 + rng.randint(0, 60)) * step])
    kind = rng.choice(["fixed_linear", "fixed_root", "fixed_root", "fixed_discrete"])
    schedule: dict[str, Any]
    if kind == "fixed_discrete":
        ends = sorted(rng.sample(range(1, 200), rng.randint(1, 6)))
        if rng.random() < 0.2:
            rng.shuffle(ends)
        lengths = [rng.randint(1, 600) for _ in range(len(ends) + 1)]
        least, most = min(lengths), max(max(lengths) - rng.choice([0, 0, 50]), min(lengths) + 1)
        schedule = {"difficulty": lengths, "max_step": ends}
    else:
        schedule = {"total_curriculum_step": rng.randint(1, 300), "difficulty_step": step}
        if kind == "fixed_root":
            schedule["root_degree"] = rng.choice([1, 2, 2, 3, 5, 1.5, 0.5])
    return {"min_difficulty": least, "max_difficulty": most, "schedule_type": kind, "schedule_config": schedule}


def test_the_random_configurations_cover_what_they_should() -> None:
    """A comparison that never met an unaligned end or a shrinking list would prove little."""
    configs = [random_curriculum(random.Random(seed)) for seed in range(NUM_CONFIGS)]
    grown = [c for c in configs if c["schedule_type"] != "fixed_discrete"]
    steps = [c["schedule_config"]["difficulty_step"] for c in grown]
    assert sum(c["min_difficulty"] < step for c, step in zip(grown, steps, strict=True)) > 10
    assert sum(c["max_difficulty"] % step > 0 for c, step in zip(grown, steps, strict=True)) > 30
    assert (
        sum(c["min_difficulty"] % step == c["max_difficulty"] % step == 0 for c, step in zip(grown, steps, strict=True))
        > 30
    )
    lists = [c["schedule_config"]["difficulty"] for c in configs if c["schedule_type"] == "fixed_discrete"]
    assert sum(lengths != sorted(lengths) for lengths in lists) > 30


@pytest.mark.parametrize("release", RELEASES)
def test_every_length_is_the_one_of_the_real_scheduler(release: str, tmp_path: Path) -> None:
    """A DeepSpeed user gets the lengths of the release that trained the original run, at every step and after."""
    scheduler_class, path = curriculum_scheduler(release), tmp_path / "ds_config.json"
    num_refused = 0
    for seed in range(NUM_CONFIGS):
        section = random_curriculum(random.Random(seed))
        legacy = {"enabled": True, "curriculum_type": "seqlen", **section}
        path.write_text(json.dumps({"train_batch_size": 4, "curriculum_learning": legacy}))
        scheduler = scheduler_class(section)
        expected = [scheduler.update_difficulty(t) for t in range(1, 400)]
        if 0 in expected:
            assert not RELEASES[release]
            with pytest.raises(ConfigError, match="#8334"):
                import_deepspeed(path, clamped=False)
            num_refused += 1
            continue
        imported = import_deepspeed(path, clamped=RELEASES[release])
        lengths = imported_lengths(imported, len(expected))
        expected += [scheduler.update_difficulty(t) for t in range(400, len(lengths) + 1)]
        assert lengths == expected, section
    assert (num_refused > 5) is (release == "0.19.6")


def test_only_the_newer_release_has_the_lower_clamp() -> None:
    """Which releases `clamped` stands for: the words in the importer's line name 0.19.7."""
    config = {
        "min_difficulty": 4,
        "max_difficulty": 64,
        "schedule_type": "fixed_linear",
        "schedule_config": {"total_curriculum_step": 100, "difficulty_step": 8},
    }
    first = {release: curriculum_scheduler(release)(config).update_difficulty(1) for release in RELEASES}
    assert first == {"0.19.6": 0, "0.19.8": 8}
