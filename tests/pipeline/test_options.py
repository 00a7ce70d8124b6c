"""Options from flags and TOML: exact numbers, unknown keys named, contradictions refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from curriculum.document_plan import DocumentCurriculum
from curriculum.errors import ConfigError, CurriculumError
from pipeline.build_identity import CHANGES_BYTES, CHANGES_NOTHING, build_identity
from pipeline.option_sources import load_options
from pipeline.options import Options
from pipeline.requested_plan import check_requested, curriculum_of, pacing_of, warmup_of


def write(folder: Path, text: str) -> Path:
    """A TOML file."""
    path = folder / "run.toml"
    path.write_text(text, "utf-8")
    return path


def test_numbers_of_a_file_are_exact(tmp_path: Path) -> None:
    """0.1 as a float times 10**16 steps would be a step off; as a decimal it is exact."""
    options = load_options(write(tmp_path, "frac = 0.1\ntokens = 157_286_400_000\n"), {})
    assert warmup_of(options) == Fraction(1, 10)
    assert options.tokens == 157_286_400_000


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """Also over a key that they contradict: --steps replaces tokens, --schedule constant the warmup."""
    path = write(
        tmp_path, 'tokens = 1000\nfrac = 0.5\nbatch_rows = 4\nstart_length = 16\nschedule = "root"\ndegree = 3\n'
    )
    options = load_options(path, {"steps": 7, "batch_tokens": 4096})
    assert (options.steps, options.tokens, options.batch_tokens, options.batch_rows) == (7, None, 4096, None)
    constant = load_options(path, {"schedule": "constant", "max_length": 64})
    assert (constant.frac, constant.start_length, pacing_of(constant).max_length) == (None, None, 64)


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    """Flags over the file over what was imported: a DeepSpeed schedule in another mode is one flag away."""
    imported = {"schedule": "linear", "start_length": 8, "length_warmup_steps": 100, "mode": "truncate"}
    options = load_options(write(tmp_path, "frac = 0.5\nmax_length = 512\n"), {"mode": "segment"}, imported)
    assert (options.schedule, options.length_warmup_steps, options.mode) == ("linear", None, "segment")
    assert (warmup_of(options), options.max_length) == (Fraction(1, 2), 512)
    document = load_options(None, {"mode": "document"}, imported)
    assert curriculum_of(document) == DocumentCurriculum(name="grow-p2", start_length=8, max_length=1024)
    back = load_options(write(tmp_path, 'mode = "document"\nschedule = "natural"\n'), {"mode": "best-fit"})
    assert (back.schedule_name, back.mode) == ("linear", "best-fit")
    paced = load_options(write(tmp_path, 'phases = "8:5,16:*"\n'), {"schedule": "linear", "max_length": 64})
    assert (paced.phases, paced.schedule_name) == (None, "linear")
    with pytest.raises(ConfigError, match="max_length is given together with phases"):  # not the default schedule
        load_options(write(tmp_path, 'phases = "8:5,16:*"\n'), {"max_length": 64})
    assert load_options(write(tmp_path, "tokens = 9\n"), {"phases": "8:5,16:*"}).tokens == 9
    assert load_options(write(tmp_path, 'phases = "8:5,16:*"\n'), {"steps": 9}).phases == "8:5,16:*"
    with pytest.raises(ConfigError, match="steps is given together with phases that say how many"):
        load_options(write(tmp_path, 'phases = "8:5,16:4"\n'), {"steps": 9})


def test_corpus_paths_of_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    """So a config works from any folder."""
    assert load_options(write(tmp_path, 'corpus = ["texts"]\n'), {}).corpus == (str(tmp_path / "texts"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_lenght = 512", r"unknown key 'max_lenght'; did you mean 'max_length'\?"),
        ("batch-rows = 4", r"unknown key 'batch-rows'; did you mean 'batch_rows'\?"),
        ("zzz = 1", r"unknown key 'zzz'; known keys are corpus, schedule"),
        ("steps = 1.5", r"steps is Decimal\('1.5'\), expected an integer"),
        ("steps = true", r"steps is True, expected an integer"),
        ('frac = "0.3"', r"frac is '0.3', expected a number"),
        ("mode = 3", r"mode is 3, expected a string"),
        ('corpus = "texts"', r"corpus is 'texts', expected a list of strings"),
        ('mode = "documents"', r"mode is 'documents'; allowed are segment, truncate, document, best-fit"),
        ("frac = 0.3\nlength_warmup_tokens = 3", r"frac and length_warmup_tokens are both given"),
        ('phases = "8:3"\nmax_length = 8', r"max_length is given together with phases"),
        ('schedule = "constant"\nmax_shapes = 4', r"max_shapes is given together with schedule 'constant'"),
        ("stages = 3", r"stages is given together with schedule 'linear'"),
        ("cycles = 3", r"cycles is given together with schedule 'linear'"),
        ('schedule = "grow-p2"', r"schedule is 'grow-p2' in mode 'segment'; .* use mode document"),
        ('mode = "document"\nfrac = 0.3', r"frac is given together with mode 'document'"),
        ('mode = "document"\nschedule = "natural"\ncycles = 2', r"cycles is given together with schedule 'natural'"),
        ("steps = [", r"not valid TOML"),
        ("frac = 0.3\nlength_warmup_steps = 3", r"frac and length_warmup_steps are both given"),
        ("steps = 3\ntokens = 3", r"steps and tokens are both given"),
        ("batch_rows = 3\nbatch_tokens = 3", r"batch_rows and batch_tokens are both given"),
        ('schedule = "constant"\nfrac = 0.3', r"frac is given together with schedule 'constant'"),
        ('phases = "8:3"\nsteps = 4', r"steps is given together with phases"),
        ("degree = 3", r"degree is given together with schedule 'linear'"),
        ("shard_bytes = 0", r"shard_bytes is 0; give 1 or more"),
        ("seed = -1", r"seed is -1; give an integer from 0"),
        ('store = "a"\nout = "a"', r"neither may lie in the other"),
        ('store = "a"\nkeep_store = false', r"a named store may serve other builds"),
    ],
)
def test_a_wrong_file_is_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    """The sentence names the file or the option, what was found and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        load_options(write(tmp_path, text), {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 1023}, "1016 or 1024"),
        ({"start_length": 12}, "8 or 16"),
        ({"schedule": "linnear"}, "linear, root, exponential"),
        ({"mode": "document", "schedule": "linear"}, "natural, grow-linear, grow-p2"),
        ({"mode": "document", "max_length": 1000}, "512 or 1024"),
        ({"schedule": "doubling", "max_length": 1000}, "512"),
        ({"max_shapes": 1}, "max_shapes is 1"),
        ({"start_length": 2048}, "start_length 2048"),
        ({"batch_rows": 10, "rows_multiple_of": 4}, "8 or 12"),
        ({"batch_tokens": 100}, "8,192"),
        ({"frac": Decimal("1.5")}, "frac"),
        ({"frac": Decimal("0")}, "frac"),
        ({"steps": 10, "length_warmup_steps": 20}, "20"),
        ({"phases": "8:0"}, "steps of phase 1 is 0"),
        ({"phases": "12:5"}, "8 or 16"),
        ({"validation_frac": Decimal("2")}, "frac"),
    ],
)
def test_what_cannot_work_is_refused_before_any_data(values: dict[str, Any], message: str) -> None:
    """DeepSpeed starts at length 0, Composer divides by zero: here it is a sentence with the nearest that works."""
    with pytest.raises(CurriculumError, match=message):
        check_requested(Options(**values))


def test_every_option_is_sorted_into_those_that_change_bytes_and_those_that_do_not() -> None:
    """A new option that is in neither list would let two different builds pass for the same."""
    assert set(CHANGES_BYTES) | CHANGES_NOTHING == set(Options.__dataclass_fields__)
    assert {"seed", "frac", "mode", "tokenizer", "shuffle_window", "validation_frac"} <= set(CHANGES_BYTES)
    assert {"workers", "backend", "unit_bytes", "out"} <= CHANGES_NOTHING


def test_saying_a_default_asks_for_the_same_build() -> None:
    """`curriculum build` and `curriculum build --frac 0.30 --max-length 1024` are one request."""
    said = Options(frac=Decimal("0.30"), max_length=1024, start_length=8, batch_rows=16, rows_multiple_of=1)
    assert build_identity(said) == build_identity(Options())
    assert build_identity(Options(frac=Decimal("0.31"))) != build_identity(Options())
