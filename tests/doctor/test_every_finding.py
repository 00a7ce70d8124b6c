"""Each thing that can go wrong has a finding of its own, which names the place and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from curriculum.cursor import Cursor
from curriculum.doctor.check import DoctorReport
from curriculum.doctor.finding import KINDS
from curriculum.errors import ConfigError
from curriculum.reader import Reader
from doctor.fake_runs import Example, Ranks, changed, check, kinds, ranks_of
from packed_dataset import write_packed_dataset


@pytest.fixture(scope="module")
def reader(small_dataset: Path) -> Reader:
    """8 rows per step, lengths 8, 16, ..., 64."""
    return curriculum.open(small_dataset)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """4 rows per step of several pieces each; 3 steps of 8, 3 of 16, 2 of 8 again."""
    root = tmp_path_factory.mktemp("packed") / "dataset"
    root.mkdir()
    write_packed_dataset(root)
    return curriculum.open(root)


def _joined(examples: list[Example], count: int) -> list[Example]:
    groups = [examples[i : i + count] for i in range(0, len(examples), count)]
    return [{key: np.concatenate([x[key] for x in group]) for key in group[0]} for group in groups]


def _halved(examples: list[Example]) -> list[Example]:
    return [dict(zip(x, halves, strict=True)) for x in examples for halves in _halves(x)]


def _halves(example: Example) -> list[tuple[Any, ...]]:
    return list(zip(*(np.split(array, 2) for array in example.values()), strict=True))


def _padded(array: Any) -> Any:
    return np.pad(array, ((0, 0), (0, 64 - array.shape[1])))


def _without(ranks: Ranks, index: int) -> Ranks:
    return [examples[:index] + examples[index + 1 :] for examples in ranks]


def _one_row_masked(ranks: Ranks) -> Ranks:
    ranks[1][5]["input_ids"][2, 3] ^= 1
    return ranks


def _filled_up(reader: Reader) -> Ranks:
    """The last rank's last batch is the first one again, as even_batches does."""
    ranks = ranks_of(reader)
    ranks[1][-1] = ranks[1][0]
    return ranks


def _beyond(reader: Reader) -> Ranks:
    """All of the plan, then its beginning again."""
    ranks = ranks_of(reader, stop=len(reader))
    return [examples + examples[:1] for examples in ranks]


def _dealt_twice(reader: Reader) -> Ranks:
    """What accelerate does to rank-aware loaders: of each rank's batches it takes every second."""
    ranks = ranks_of(reader, stop=9)
    return [ranks[0][0::2], [*ranks[1][1::2], ranks[1][0]]]


def _shuffled_steps(reader: Reader) -> Ranks:
    order = np.random.Generator(np.random.Philox(3)).permutation(8)
    return [[examples[i] for i in order] for examples in ranks_of(reader)]


def _shuffled_rows(reader: Reader) -> Ranks:
    """Rows of one length, dealt to batches at random."""
    [whole] = ranks_of(reader, world_size=1, start=len(reader) - 6, stop=len(reader))
    rows = {key: np.concatenate([x[key] for x in whole]) for key in whole[0]}
    order = np.random.Generator(np.random.Philox(3)).permutation(48)
    return [[{key: array[order[i : i + 8]] for key, array in rows.items()} for i in range(0, 48, 8)]]


WRONG: dict[str, tuple[str, Callable[[Reader], Ranks]]] = {
    "a rank's file is missing": ("missing-rank", lambda reader: [ranks_of(reader)[0], []]),
    "another dataset": ("other-dataset", lambda r: changed(ranks_of(r), keys=["input_ids"], by=lambda x: x ^ 1)),
    "truncated to 4": ("wrong-length", lambda r: changed(ranks_of(r), keys=["input_ids"], by=lambda x: x[:, :4])),
    "padded to 64": ("wrong-length", lambda r: changed(ranks_of(r), keys=["input_ids", "labels"], by=_padded)),
    "both ranks are 0": ("same-rows", lambda r: [ranks_of(r)[0]] * 2),
    "each rank takes all": ("same-rows", lambda r: ranks_of(r, world_size=1) * 2),
    "ranks swapped": ("other-rank", lambda r: ranks_of(r)[::-1]),
    "recorded twice": ("recorded-twice", lambda r: [[x for x in each for _ in "ab"] for each in ranks_of(r)]),
    "rank 1 of 4 is 0": ("other-rank", lambda r: [ranks_of(r, world_size=4)[i] for i in (0, 0, 2, 3)]),
    "loader of 4 ranks": ("world-size", lambda r: ranks_of(r, world_size=4)[:2]),
    "alone, loader of 2": ("world-size", lambda r: ranks_of(r)[1:]),
    "micro-batches halved": ("micro-batches", lambda r: [_halved(x) for x in ranks_of(r)]),
    "micro-batches joined": ("micro-batches", lambda r: [_joined(x, 2) for x in ranks_of(r, micro_batches=2)]),
    "steps joined": (
        "micro-batches",
        lambda r: [_joined(x, 2) for x in ranks_of(r, world_size=1, start=len(r) - 6, stop=len(r))],
    ),
    "random sampler": ("shuffled", _shuffled_steps),
    "random sampler of rows": ("shuffled", _shuffled_rows),
    "two batches swapped": ("shuffled", lambda r: [[*x[:2], x[3], x[2], *x[4:]] for x in ranks_of(r)]),
    "every second batch": ("dropped", _dealt_twice),
    "one step left out": ("skipped", lambda r: _without(ranks_of(r), 3)),
    "one step twice": ("repeated", lambda r: [x[:4] + x[3:] for x in ranks_of(r)]),
    "begins at step 2": ("skipped", lambda r: ranks_of(r, start=2)),
    "beyond the plan": ("padding", _beyond),
    "last batch filled up": ("padding", _filled_up),
    "a row changed": ("changed-rows", lambda r: _one_row_masked(ranks_of(r))),
    "a rank ends early": ("uneven-ranks", lambda r: [ranks_of(r)[0], ranks_of(r)[1][:-1]]),
    "labels missing": ("labels-missing", lambda r: [[{"input_ids": x["input_ids"]} for x in y] for y in ranks_of(r)]),
    "labels are inputs": (
        "labels-not-shifted",
        lambda r: [[{**x, "labels": x["input_ids"]} for x in y] for y in ranks_of(r)],
    ),
    "labels cut": ("labels-shifted-twice", lambda r: changed(ranks_of(r), keys=["labels"], by=lambda x: x[:, 1:])),
    "labels rolled": (
        "labels-shifted-twice",
        lambda r: changed(ranks_of(r), keys=["labels"], by=lambda x: np.roll(x, -1, 1)),
    ),
    "labels random": ("labels-wrong", lambda r: changed(ranks_of(r), keys=["labels"], by=lambda x: x[:, ::-1])),
}
BEGINS = {"random sampler of rows": -6, "steps joined": -6}


@pytest.mark.parametrize("name", WRONG)
def test_what_went_wrong_is_named(name: str, reader: Reader) -> None:
    """One cause, one finding, with the kind that scripts may rely on."""
    kind, spoil = WRONG[name]
    report = check(reader, spoil(reader), start_step=BEGINS[name] + len(reader) if name in BEGINS else 0)
    assert kinds(report) == [kind]
    assert not report.ok
    assert report.findings[0].message.endswith((".", ")."))


def test_a_finding_says_where_and_what_to_do(reader: Reader) -> None:
    """The step, the rank, and the setting that helps."""
    [same] = check(reader, [ranks_of(reader)[0]] * 2).findings
    assert (same.step, same.rank) == (0, None)
    assert "All 2 ranks were given the same rows, the rows of one rank, from step 0 on." in same.message
    assert "world_size=WORLD_SIZE" in same.message
    [skipped] = check(reader, _without(ranks_of(reader), 3)).findings
    assert skipped.step == 3
    assert "at rank 0, micro-batch 3 (step 3, row 0) came step 4, 8 rows of the plan later" in skipped.message
    [swapped] = check(reader, ranks_of(reader)[::-1]).findings
    assert swapped.rank == 0
    assert "Rank 0 was given the rows of rank 1" in swapped.message
    [one] = check(reader, [ranks_of(reader)[0], _without(ranks_of(reader)[1:], 2)[0]]).findings[:1]
    assert (one.kind, one.step, one.rank) == ("skipped", 2, 1)
    [truncated] = check(reader, changed(ranks_of(reader), keys=["input_ids"], by=lambda x: x[:, :4])).findings
    assert "truncated from 8 inputs to 4" in truncated.message
    [other] = check(reader, changed(ranks_of(reader), keys=["input_ids"], by=lambda x: x ^ 1)).findings
    assert reader.id in other.message


RESUMES: dict[str, tuple[str, dict[str, Any], Callable[[Reader], tuple[Ranks, Ranks]]]] = {
    "from 0 again": ("restart", {}, lambda r: (ranks_of(r, stop=4), ranks_of(r))),
    "from 0 again, checkpoint known": ("restart", {"resumed_at": [4]}, lambda r: (ranks_of(r, stop=4), ranks_of(r))),
    "one step left out": ("skipped-at-resume", {}, lambda r: (ranks_of(r, stop=4), ranks_of(r, start=5))),
    "after the checkpoint": (
        "skipped-at-resume",
        {"resumed_at": [3]},
        lambda r: (ranks_of(r, stop=6), ranks_of(r, start=4)),
    ),
    "before the checkpoint": (
        "repeated-at-resume",
        {"resumed_at": [4]},
        lambda r: (ranks_of(r, stop=4), ranks_of(r, start=3)),
    ),
    "inside a micro-batch": (
        "resume-place",
        {},
        lambda r: (ranks_of(r, stop=4), ranks_of(r, start=Cursor(r.id, 3, 4), micro_batches=2)),
    ),
    "all ranks resume as rank 0": ("same-rows", {}, lambda r: (ranks_of(r, stop=4), [ranks_of(r, start=4)[0]] * 2)),
    "ends too early": (
        "ended-early",
        {"stop_steps": [4, 8]},
        lambda r: (ranks_of(r, stop=4), ranks_of(r, start=4, stop=7)),
    ),
    "goes on": ("ran-on", {"stop_steps": [4, 8]}, lambda r: (ranks_of(r, stop=4), ranks_of(r, start=4, stop=9))),
}


@pytest.mark.parametrize("name", RESUMES)
def test_what_went_wrong_at_a_resume_is_named(name: str, reader: Reader) -> None:
    """It belongs to the second run."""
    kind, options, spoil = RESUMES[name]
    report = check(reader, *spoil(reader), **options)
    assert kinds(report) == [kind]
    assert report.findings[0].run == 1


def test_lost_minus_100_is_named(packed: Reader) -> None:
    """Labels of packed rows: the next stored token instead of -100, and the other way round."""
    ranks = ranks_of(packed)
    assert kinds(check(packed, ranks)) == []
    for rank, examples in enumerate(ranks):
        for example, batch in zip(examples, packed.steps(0, rank, 2), strict=True):
            example["labels"] = batch.targets
    assert kinds(check(packed, ranks)) == ["labels-unmasked"]
    eos = packed.manifest.tokenizer.eos_id
    masked = changed(ranks_of(packed), keys=["labels"], by=lambda x: np.where(x == eos, -100, x))
    assert kinds(check(packed, masked)) == ["labels-masked"]


def test_a_mask_that_hides_documents_is_named(packed: Reader) -> None:
    """transformers ignores positions that start anew if there is a mask, even one of ones."""
    ranks = ranks_of(packed, world_size=1)
    for example, batch in zip(ranks[0], packed.steps(0), strict=True):
        example["position_ids"] = batch.varlen.position_ids
    assert kinds(check(packed, ranks)) == []
    for example in ranks[0]:
        example["attention_mask"] = np.ones_like(example["input_ids"])
    assert kinds(check(packed, ranks)) == ["mask-hides-pieces"]
    for example in ranks[0]:
        del example["position_ids"]
    assert kinds(check(packed, ranks)) == []  # a mask of ones alone hides nothing


def _with_losses(reader: Reader, shift: int, *, divisor: Callable[[Any], int] | None = None) -> DoctorReport:
    return check(reader, _losses_of(reader, shift, divisor=divisor))


def _losses_of(reader: Reader, shift: int, *, divisor: Callable[[Any], int] | None = None) -> Ranks:
    """Losses of a model with random logits, over labels that it shifts again or not."""
    ranks = ranks_of(reader, world_size=1, stop=3)
    random = np.random.Generator(np.random.Philox(0))
    for example in ranks[0]:
        labels = example["labels"]
        logits = random.normal(size=(*labels.shape, 300))
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        seen, wanted = probabilities[:, : labels.shape[1] - shift], labels[:, shift:]
        losses = -np.log(np.take_along_axis(seen, wanted[..., None], -1))
        example["loss"] = losses.sum() / (divisor(labels) if divisor else losses.size)
        example["logits"] = logits.astype(np.float32)
    return ranks


def test_a_double_shift_inside_the_model_is_named(reader: Reader) -> None:
    """The labels are right; only the loss shows it."""
    assert kinds(_with_losses(reader, shift=1)) == ["double-shift"]
    assert kinds(_with_losses(reader, shift=1, divisor=np.size)) == ["double-shift"]  # as Trainer divides
    other = _with_losses(reader, shift=0, divisor=lambda labels: 2 * labels.size)
    assert (other.runs[0].loss, other.ok) == ("other", True)  # an auxiliary loss is no fault of the data
    right = _with_losses(reader, shift=0)
    assert right.ok
    assert right.runs[0].loss == "plain"
    assert check(reader, ranks_of(reader)).runs[0].loss == "not recorded"


def test_a_loss_as_coarse_as_its_difference_decides_nothing(reader: Reader) -> None:
    """Near the beginning all losses are about ln(vocabulary): in bfloat16 a double shift must not be called plain."""
    for shift, right in ((0, "plain"), (1, "shifted")):
        ranks = _losses_of(reader, shift)
        assert check(reader, ranks).runs[0].loss == right
        for example in ranks[0]:
            example["logits"] = example["logits"] / 100
            example["loss"] = 5.6875  # ln(300) is 5.70, and bfloat16 has 1/32 there
        assert check(reader, ranks).runs[0].loss == "undecided"


def test_a_loss_of_nan_hides_nothing(reader: Reader) -> None:
    """One overflow in a run of thousands of steps must not make a double shift invisible."""
    ranks = _losses_of(reader, shift=1)
    ranks[0][0]["loss"] = float("nan")
    assert kinds(check(reader, ranks)) == ["double-shift"]


def test_every_kind_has_a_test() -> None:
    """A kind that no test shows might never be reported."""
    shown = {kind for kind, _ in WRONG.values()} | {kind for kind, _, _ in RESUMES.values()}
    elsewhere = {"labels-unmasked", "labels-masked", "mask-hides-pieces", "double-shift"}
    assert shown | elsewhere == set(KINDS)


def test_steps_that_the_dataset_lacks_are_refused(reader: Reader) -> None:
    """A typing mistake in --start-step or --saved-at must not look like a broken run."""
    with pytest.raises(ConfigError, match=r"step 100000 is outside .*, which has \d+ steps"):
        check(reader, ranks_of(reader), start_step=100_000)
    with pytest.raises(ConfigError, match="resumed_at has 2 steps for 2 runs; give 1"):
        check(reader, ranks_of(reader, stop=4), ranks_of(reader, start=4), resumed_at=[4, 4])
