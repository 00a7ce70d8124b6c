"""Composer's SeqLengthWarmup: golden lengths of its defaults, its early end, and what it fails on."""

from __future__ import annotations

from pathlib import Path

import pytest

from curriculum.errors import ConfigError
from imported_lengths import imported_lengths, written
from pipeline.importers import Imported, import_composer


def composer_length(batch: int, total: int, duration: float, least: int, most: int, step: int) -> int:
    """The three lines of `SeqLengthWarmup.apply`, for one batch."""
    every = int(total * duration) // ((most - least) // step)
    return min(max(step * (batch // every) + least, least), most)


def imported(folder: Path, warmup: str, duration: str = "1000ba", rest: str = "") -> Imported:
    text = f"max_duration: {duration}\nalgorithms:\n  seq_length_warmup: {{{warmup}}}\n{rest}"
    return import_composer(written(folder, "train.yaml", text))


GOLDEN = {
    ("", "1000ba"): {0: 8, 1: 8, 2: 16, 50: 208, 100: 408, 150: 608, 200: 808, 250: 1008, 252: 1016, 254: 1024},
    ("", "10000ba"): {
        **dict(zip(range(0, 3000, 500), (8, 176, 352, 528, 696, 872), strict=True)),
        **dict(zip((100, 2800, 2900, 2920, 2921, 3000, 9999), (40, 976, 1016, 1016, 1024, 1024, 1024), strict=True)),
    },
    ("", "424ba"): {0: 8, 1: 16, 126: 1016, 127: 1024},
    ("", "100000ba"): {235: 8, 236: 16, 29971: 1016, 29972: 1024},
    ("min_seq_length: 10", "1000ba"): {0: 10, 2: 18, 252: 1018, 254: 1024, 999: 1024},
    ("max_seq_length: 1020", "1000ba"): {0: 8, 251: 1008, 252: 1016, 254: 1020},
    ("duration: 1.0", "1000ba"): {888: 1016, 889: 1024},
}


@pytest.mark.parametrize(("warmup", "duration"), GOLDEN)
def test_lengths_are_the_golden_ones(warmup: str, duration: str, tmp_path: Path) -> None:
    """Batches count from 0, as our steps do; double flooring ends before duration x total."""
    expected = GOLDEN[warmup, duration]
    lengths = imported_lengths(imported(tmp_path, warmup, duration), 0)
    assert len(lengths) == int(duration[:-2])
    assert {batch: lengths[batch] for batch in expected} == expected


@pytest.mark.parametrize("total", [424, 425, 999, 1000, 1270, 2600])
@pytest.mark.parametrize("duration", [0.3, 0.5, 1.0])
@pytest.mark.parametrize(
    ("least", "most", "step"), [(8, 1024, 8), (10, 1024, 8), (8, 1020, 8), (8, 100, 24), (5, 19, 14)]
)
def test_every_batch_has_composers_length(
    total: int, duration: float, least: int, most: int, step: int, tmp_path: Path
) -> None:
    """All batches of the run, also where the maximum is never reached (1270 batches, duration 1.0)."""
    keys = f"duration: {duration}, min_seq_length: {least}, max_seq_length: {most}, step_size: {step}"
    lengths = imported_lengths(imported(tmp_path, keys, f"{total}ba"), 0)
    assert lengths == [composer_length(batch, total, duration, least, most, step) for batch in range(total)]


@pytest.mark.parametrize(("duration", "percent"), [("1000ba", 87.3), ("10000ba", 85.4)])
def test_share_of_tokens_kept(duration: str, percent: float, tmp_path: Path) -> None:
    """The whole run at once: truncation keeps this share of what is loaded."""
    lengths = imported_lengths(imported(tmp_path, "", duration), 0)
    assert round(100 * sum(lengths) / (1024 * len(lengths)), 1) == percent


def test_it_is_our_linear_schedule_where_the_ends_are_aligned(tmp_path: Path) -> None:
    """127 changes, 2 batches apart: linear over 255 steps."""
    found = imported(tmp_path, "truncate: true", rest="global_train_batch_size: 512\n")
    assert found.options == {
        "mode": "truncate",
        "steps": 1000,
        "schedule": "linear",
        "start_length": 8,
        "max_length": 1024,
        "multiple_of": 8,
        "length_warmup_steps": 255,
        "batch_rows": 512,
    }
    assert found.differs.startswith(
        "Equal at every step (Composer floors twice: the maximum comes at batch 254 of 1,000)."
    )
    assert imported(tmp_path, "min_seq_length: 10").options["phases"].startswith("10:2,18:2,26:2,")


def test_segments_keep_the_tokens_of_a_full_batch(tmp_path: Path) -> None:
    """truncate: false makes more rows and not shorter batches; rows cannot be longer than max_seq_len."""
    rest = "max_seq_len: 512\nvariables: {rows: 64}\nglobal_train_batch_size: ${variables.rows}\n"
    found = imported(tmp_path, "truncate: false, max_seq_length: 1024", rest=rest)
    assert found.options["mode"] == "segment"
    assert (found.options["batch_tokens"], found.options["rows_multiple_of"]) == (64 * 512, 1)
    lengths = imported_lengths(found, 0)
    assert lengths == [min(512, composer_length(batch, 1000, 0.3, 8, 1024, 8)) for batch in range(1000)]


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    """preserve_end_of_sequence rewrites tokens, which no cut of a corpus does."""
    found = imported(tmp_path, "preserve_end_of_sequence: true")
    assert "preserve_end_of_sequence is not kept" in found.differs
    assert "\n" not in found.differs


def test_epochs_need_their_length(tmp_path: Path) -> None:
    """A number without a unit counts epochs, as in Composer."""
    with pytest.raises(ConfigError, match="number of batches of an epoch is not in the file"):
        imported(tmp_path, "", "2ep")
    assert imported(tmp_path, "", "2", rest="train_subset_num_batches: 500\n").options["steps"] == 1000


def test_the_list_form_of_older_files(tmp_path: Path) -> None:
    """`algorithms` was a list of one-key mappings, and an algorithm without settings has none below it."""
    text = "max_duration: 1000ba\nalgorithms:\n- alibi: {}\n- seq_length_warmup:\n"
    found = import_composer(written(tmp_path, "old.yaml", text))
    assert found.options["length_warmup_steps"] == 255


REFUSED = {
    "fewer than the 127 changes of length, and Composer divides by zero": ("", "423ba"),
    "duration 0.0 of 1000 batches is 0": ("duration: 0.0", "1000ba"),
    "less than one step_size 8 apart": ("min_seq_length: 1024", "1000ba"),
    "less than one step_size 2048 apart": ("step_size: 2048", "1000ba"),
    "max_seq_length 4 is below min_seq_length 8": ("max_seq_length: 4", "1000ba"),
    "duration is 1.5": ("duration: 1.5", "1000ba"),
    "step_size is 0": ("step_size: 0", "1000ba"),
    "unknown key 'min_length'": ("min_length: 8", "1000ba"),
    "batches and epochs only .its #226": ("", "300e9tok"),
    "max_duration is 'soon'": ("", "soon"),
    "max_duration is None": ("", "null"),
    "truncate is 'maybe'": ("truncate: maybe", "1000ba"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_composer_fails_on_is_a_sentence(message: str, tmp_path: Path) -> None:
    """Composer raises during training, at the first batch or later; the importer before any data is read."""
    with pytest.raises(ConfigError, match=message) as refused:
        imported(tmp_path, *REFUSED[message])
    assert str(refused.value).endswith(".")


def test_a_file_without_the_algorithm(tmp_path: Path) -> None:
    """Most Composer files have none."""
    with pytest.raises(ConfigError, match="algorithms has 0 entries seq_length_warmup"):
        import_composer(written(tmp_path, "none.yaml", "max_duration: 10ba\n"))
    with pytest.raises(ConfigError, match="not valid YAML"):
        import_composer(written(tmp_path, "bad.yaml", "a: [1\nb: 2"))
