"""A probe trains what the full training would begin with, and costs a cut, not a tokenization."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import curriculum
from curriculum.errors import ConfigError, PlanError
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.options import Options
from pipeline.progress import Silent
from pipeline.store_names import STORE_ASIDE
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import (
    candidate_options,
    cut_probe,
    full_plan,
    probe_options,
    steps_to_cut,
    tunable,
)
from pipeline.verify import verify_dataset

SMALL: dict[str, Any] = {
    "tokenizer": "bytes",
    "max_length": 64,
    "batch_rows": 8,
    "workers": 1,
    "validation_tokens": 3_000,
}


def silent(message: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def options(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Of a tune over the small corpus; its store is made by the first test that plans."""
    out = tmp_path_factory.mktemp("tune") / "full"
    return tunable(load_options(None, {**SMALL, "corpus": (str(corpus),), "out": str(out)}), silent)


def steps_of(dataset: Path) -> list[tuple[int, int]]:
    """`(seq_len, rows)` of every step, as a trainer gets them."""
    return [batch.inputs.shape[::-1] for batch in curriculum.open(dataset).steps()]


def parts(store: Path) -> dict[str, tuple[int, int]]:
    """Every tokenized part with its inode and time: one that is written again has others."""
    files = [path for path in store.rglob("*") if path.is_file() and STORE_ASIDE not in path.parts]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(("mode", "num_steps"), [("segment", 1), ("segment", 90), ("truncate", 37), ("best-fit", 37)])
def test_a_probe_trains_on_what_the_full_build_begins_with(
    options: Options, tmp_path: Path, mode: str, num_steps: int
) -> None:
    """Where that is one window, token by token: a handful of documents would spike where the whole text does not."""
    candidate = Candidate(start_length=16, length_warmup_steps=80)
    options = replace(options, mode=mode, steps=90)
    probe = cut_probe(options, candidate, num_steps, tmp_path / "probe", Silent())
    build(replace(candidate_options(options, candidate), out=str(tmp_path / "full")), Silent())
    full, reader = curriculum.open(tmp_path / "full"), curriculum.open(probe.path)
    for step in range(90):
        assert (reader[step].tokens == full[step].tokens).all(), step
    assert reader.plan.tokens_at(num_steps) == probe.full_plan.tokens_at(num_steps)
    assert probe.decay_tokens == full.plan.total_tokens
    assert reader.plan.max_seq_len == 64
    assert reader.validation is not None
    assert 3_000 // 64 <= len(reader.validation) < 64 + 60  # whole documents
    verify_dataset(probe.path, quick=False, workers=1, progress=Silent())


def test_of_several_windows_a_probe_holds_the_first(tmp_path: Path) -> None:
    """Its steps have lengths and rows of the full build, and as many documents; one step of the full length is last."""
    corpus = tmp_path / "short.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"{number:050}"}) + "\n" for number in range(2_000)))
    candidate = Candidate(start_length=8, length_warmup_steps=150)
    given = {**SMALL, "corpus": (str(corpus),), "steps": 200, "shuffle_window": 17_000, "out": str(tmp_path / "full")}
    options = tunable(load_options(None, given), silent)
    probe = cut_probe(options, candidate, 9, tmp_path / "probe", Silent())
    build(candidate_options(options, candidate), Silent())
    full, cut = steps_of(tmp_path / "full"), steps_of(probe.path)
    assert (len(full), len(cut), cut[-1]) == (200, 94, (64, 8))
    assert cut[:-1] == full[:93]
    assert (documents(probe.path, 9), documents(tmp_path / "full", 9)) == (61, 63)  # in 72 rows


def documents(dataset: Path, num_steps: int) -> int:
    """Distinct ones in the first steps."""
    reader = curriculum.open(dataset)
    return len({int(one) for step in range(num_steps) for one in reader[step].document})


def test_no_more_than_a_small_window_is_cut_of_a_large_build(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of a build of 100 G tokens is 100 M tokens; a person who gives a window size gets it."""
    monkeypatch.setattr("pipeline.tuning.probe_dataset.MAX_TOKENS", 4_000)
    planned = full_plan(replace(options, steps=200), Candidate(start_length=8, length_warmup_steps=150), Silent())
    assert steps_to_cut(planned, 9, None) == 200  # one window: the very rows of the full build
    assert steps_to_cut(planned, 9, 17_000) == 93
    monkeypatch.setattr("pipeline.tuning.probe_dataset.window_size", lambda plan, asked: 17_000)
    stop_step = steps_to_cut(planned, 9, None)
    assert planned.plan.consumed_at(stop_step - 1) < 4_000 <= planned.plan.consumed_at(stop_step)
    assert steps_to_cut(planned, 70, None) == 70


def test_shapes_and_constant_tokens_are_those_of_the_full_plan(options: Options, tmp_path: Path) -> None:
    """A shape budget is solved over the whole warmup: over the first steps alone, other lengths would be chosen."""
    candidate = Candidate(start_length=8, length_warmup_steps=60)
    options = replace(options, batch_rows=None, batch_tokens=512, max_shapes=3, steps=100)
    full = full_plan(options, candidate, Silent()).plan
    shapes = [(full.phases[p].seq_len, full.phases[p].rows_per_step) for p, n in full.order for _ in range(n)]
    assert len(set(shapes)) == 3
    probe = cut_probe(options, candidate, 40, tmp_path / "probe", Silent())
    assert steps_of(probe.path)[:40] == shapes[:40]


def test_a_mixture_keeps_its_weights(options: Options, corpus: Path, tmp_path: Path) -> None:
    """By row length: short rows of one source, long ones of both."""
    weights = ("a=8:1,32:1", "b=8:0,32:1")
    source = (f"a={corpus / 'a.jsonl'}", f"b={corpus / 'sub'}")
    mixed = replace(options, corpus=(), source=source, weight=weights, steps=60)
    probe = cut_probe(mixed, Candidate(start_length=8, length_warmup_steps=50), 30, tmp_path / "probe", Silent())
    plan, mixture = probe.full_plan, curriculum.open(probe.path).manifest.build.mixture
    assert mixture is not None
    by_length = dict(zip((phase.seq_len for phase in plan.phases), mixture.weights, strict=False))
    assert (by_length[8], by_length[24], by_length[32]) == ((1, 0), (1, 0), (1, 1))


def test_the_corpus_is_tokenized_once(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten probes of 300 GB must not take ten tokenizations."""
    full_plan(options, Candidate(start_length=8, length_warmup_steps=60), Silent())
    store = Path(options.store_address())
    before = parts(store)

    def encode(*arguments: object) -> None:
        raise AssertionError("a unit is encoded again")

    monkeypatch.setattr("pipeline.tokenize_stage.encode_unit", encode)
    for start_length in (8, 24):
        cut_probe(options, Candidate(start_length=start_length, length_warmup_steps=60), 9, tmp_path / "p", Silent())
    after = parts(store)
    assert {name: after[name] for name in before if "parts" in name} == {
        n: f for n, f in before.items() if "parts" in n
    }
    assert any("parts" in name for name in before)


def test_held_out_rows_are_limited(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 % of a large corpus, copied for every probe, would fill the disk; fewer of the same documents do."""
    options = replace(options, validation_tokens=None, validation_frac=Decimal("0.2"), steps=90)
    planned = full_plan(options, Candidate(start_length=8, length_warmup_steps=60), Silent())
    assert planned.held_out.tokens > 100 * 64
    limited = probe_options(options, planned, 9, tmp_path)
    assert (limited.validation_tokens, limited.validation_frac) == (64 * 64 + 1, None)
    monkeypatch.setattr("pipeline.tuning.probe_dataset.VALIDATION_ROWS", 10_000)
    assert probe_options(options, planned, 9, tmp_path).validation_share() == Fraction(1, 5)


def test_without_a_word_about_validation_some_is_held_out(corpus: Path) -> None:
    """Perplexity of what was trained on shows no divergence; who tunes is told how much is taken away."""
    said: list[str] = []
    options = load_options(None, {"corpus": (str(corpus),), "max_length": 128, "out": "d"})
    assert tunable(options, said.append).validation_tokens == 64 * 128 + 1
    assert "8,193 tokens are, 64 rows of 128" in said[0]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"phases": "8:10,64:10"}, r"phases is given.* growing schedule\. Leave it out, also of the file"),
        ({"schedule": "constant"}, r"schedule is 'constant'.* growing schedule\. Give --schedule linear, root or step"),
        ({"mode": "document", "schedule": "linear"}, r"mode is 'document'.*\. Give --mode segment, truncate or best-"),
    ],
)
def test_without_a_growing_schedule_there_is_nothing_to_tune(given: dict[str, Any], sentence: str) -> None:
    """Refused before anything is tokenized."""
    with pytest.raises(ConfigError, match=sentence):
        tunable(load_options(None, given), silent)


def test_the_full_training_must_be_longer_than_a_probe(options: Options) -> None:
    """Else the search would judge another plan than the one that it proposes."""
    planned = full_plan(replace(options, steps=50), Candidate(start_length=8, length_warmup_steps=50), Silent())
    with pytest.raises(PlanError, match="A probe of 51 steps is asked for, and the full training has 50"):
        steps_to_cut(planned, 51, None)
