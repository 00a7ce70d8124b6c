"""Document curricula become plans: published configurations exactly, budgets in proportion, refusals in words."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.document_order import document_runs
from curriculum.document_plan import (
    DocumentCurriculum,
    check_document_request,
    compile_document_plan,
    take_steps,
)
from curriculum.errors import PlanError
from curriculum.plan import Batch, Plan

README_ROWS = {256: 1507328, 512: 1277952, 1024: 794624, 2048: 335872, 4096: 137216, 8192: 61440}
OLMO_ROWS = {256: 20000, 512: 9000, 1024: 5000, 2048: 1700, 4096: 900}
SMALL = DocumentCurriculum(name="grow-p2", start_length=8, max_length=32, cycles=1)


def steps_by_length(plan: Plan) -> dict[int, int]:
    return {phase.seq_len: phase.num_steps for phase in sorted(plan.phases, key=lambda phase: phase.seq_len)}


def curriculum(name: str, top: int, **others: object) -> DocumentCurriculum:
    return DocumentCurriculum(name=name, start_length=256, max_length=top, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["natural", "grow-linear", "grow-p2"])
def test_the_readme_example_of_dataset_decomposition(name: str) -> None:
    """Its six buckets at 524,288 tokens a step: the steps per cycle and the total tokens that its tool prints."""
    plan = compile_document_plan(
        curriculum=curriculum(name, 8192), rows_by_length=README_ROWS, batch=Batch(tokens=524_288)
    )
    assert list(steps_by_length(plan).values()) == [736, 1248, 1552, 1312, 1072, 960]
    assert plan.total_steps == 6_880
    assert plan.total_tokens == 3_607_101_440
    assert {phase.num_rows for phase in plan.phases} == set(README_ROWS.values())


def test_the_example_of_olmo_core_keeps_its_remainders() -> None:
    """OLMo-core runs 312 of these 335 steps in 8 cycles, 240 of 265 balanced."""
    rows, batch = OLMO_ROWS, Batch(tokens=65_536)
    growing = compile_document_plan(curriculum=curriculum("grow-linear", 4096), rows_by_length=rows, batch=batch)
    assert steps_by_length(growing) == {256: 78, 512: 70, 1024: 78, 2048: 53, 4096: 56}
    balanced = compile_document_plan(
        curriculum=curriculum("grow-linear", 4096, balanced=True), rows_by_length=rows, batch=batch
    )
    assert steps_by_length(balanced) == dict.fromkeys(rows, 53)


def test_a_plan_by_hand() -> None:
    """20 rows of 8, 9 of 16 and 3 of 32 at 4 rows a step: 5 and 2 steps; the 32s do not fill one."""
    plan = compile_document_plan(curriculum=SMALL, rows_by_length={8: 20, 16: 9, 32: 3}, batch=Batch(rows=4))
    assert plan.mode == "document"
    assert plan.max_seq_len == 16
    assert steps_by_length(plan) == {8: 5, 16: 2}
    assert plan.total_tokens == 5 * 4 * 8 + 2 * 4 * 16
    assert plan.schedule == {
        "name": "grow-p2", "start_length": 8, "max_length": 32, "cycles": 1, "balanced": 0, "seed": 0,
    }  # fmt: skip
    natural = DocumentCurriculum(name="natural", start_length=8, max_length=32, seed=5)
    assert natural.describe() == {"name": "natural", "start_length": 8, "max_length": 32, "seed": 5}


def test_lengths_are_the_powers_of_two_between_the_ends() -> None:
    assert SMALL.lengths == (8, 16, 32)
    assert DocumentCurriculum(name="natural", start_length=1, max_length=4).lengths == (1, 2, 4)
    widest = DocumentCurriculum(name="natural", start_length=2**15, max_length=2**16)
    assert widest.lengths == (32768, 65536)  # OLMo-core's uint16 turns 65536 into 0


@pytest.mark.parametrize("name", ["natural", "grow-linear", "grow-p2"])
def test_the_order_can_be_recomputed_from_the_plan(name: str) -> None:
    """A reader needs the phases, the name, the cycles and the seed: no data."""
    request = DocumentCurriculum(
        name=name, start_length=8, max_length=64, cycles=None if name == "natural" else 3, seed=9
    )
    plan = compile_document_plan(
        curriculum=request, rows_by_length={8: 90, 16: 70, 32: 40, 64: 11}, batch=Batch(rows=2)
    )
    runs = document_runs(steps_by_length(plan), name=name, cycles=request.cycles, seed=9)
    assert tuple((plan.phases[index].seq_len, steps) for index, steps in plan.order) == runs
    assert Plan.from_json(plan.to_json()) == plan
    revisited = Counter(index for index, _ in plan.order)
    assert max(revisited.values()) > 1  # lengths come back


def first_steps_by_sorting(available: dict[int, int], num_steps: int) -> dict[int, int]:
    """The definition, word for word."""
    ranked = sorted((Fraction(2 * i + 1, n), seq_len) for seq_len, n in available.items() for i in range(n))
    return dict(Counter(seq_len for _, seq_len in ranked[:num_steps]))


@given(available=st.dictionaries(st.sampled_from([8, 16, 32, 64, 128]), st.integers(1, 25), min_size=1))
@settings(max_examples=100, deadline=None)
def test_a_budget_takes_its_part_of_every_length(available: dict[int, int]) -> None:
    """Every budget from one step to all: Webster's seats, and one step more never takes a step away."""
    total = sum(available.values())
    taken = [take_steps(available, num_steps) for num_steps in range(1, total + 1)]
    assert taken == [first_steps_by_sorting(available, num_steps) for num_steps in range(1, total + 1)]
    for fewer, more in pairwise(taken):
        assert all(fewer[seq_len] <= more[seq_len] for seq_len in fewer)


def test_half_of_the_readme_example() -> None:
    """3,440 of 6,880 steps are half of every length."""
    plan = compile_document_plan(
        curriculum=curriculum("grow-p2", 8192), rows_by_length=README_ROWS, batch=Batch(tokens=524_288), steps=3440
    )
    assert list(steps_by_length(plan).values()) == [368, 624, 776, 656, 536, 480]
    assert take_steps({8: 10**15, 16: 3 * 10**15}, 2 * 10**15) == {8: 5 * 10**14, 16: 15 * 10**14}  # at once


def test_a_budget_of_tokens_lands_on_the_largest_whole_step() -> None:
    """Constant rows: steps of 32, 64 and 128 tokens. Every budget is compared with trying all numbers of steps."""
    rows, batch = {8: 20, 16: 16, 32: 12}, Batch(rows=4)
    by_steps = [
        compile_document_plan(curriculum=SMALL, rows_by_length=rows, batch=batch, steps=steps) for steps in range(1, 13)
    ]
    assert by_steps[-1].total_tokens == 800
    for tokens in range(by_steps[0].total_tokens, 801):
        plan = compile_document_plan(curriculum=SMALL, rows_by_length=rows, batch=batch, tokens=tokens)
        assert plan == max((p for p in by_steps if p.total_tokens <= tokens), key=lambda p: p.total_steps)


def test_more_cycles_than_the_scarcest_length_has_steps() -> None:
    """One step of 32 in four cycles: one cycle has it, and nothing fails."""
    request = DocumentCurriculum(name="grow-linear", start_length=8, max_length=32, cycles=4)
    plan = compile_document_plan(curriculum=request, rows_by_length={8: 40, 16: 20, 32: 4}, batch=Batch(rows=4))
    assert steps_by_length(plan) == {8: 10, 16: 5, 32: 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "linear"}, "document schedule is 'linear'; choose one of natural, grow-linear, grow-p2"),
        ({"name": "natural"}, "cycles 2 does not apply to schedule 'natural'"),
        ({"name": "natural", "cycles": None, "balanced": True}, "balanced does not apply to schedule 'natural'"),
        ({"balanced": 1}, "balanced is 1; it must be true or false"),
        ({"start_length": 100}, "start_length 100 is not a power of two.*use 64 or 128"),
        ({"max_length": 1000}, "max_length 1000 is not a power of two.*use 512 or 1024"),
        ({"max_length": 2**31 - 1}, "use 1073741824[.]"),
        ({"start_length": 32}, "start_length 32 is not below max_length 32; choose a start_length of at most 16"),
        ({"start_length": 0}, "start_length is 0; choose a whole number from 1"),
        ({"cycles": 0}, "cycles is 0"),
        ({"seed": "x"}, "seed is 'x'; it must be a whole number"),
    ],
)
def test_a_curriculum_that_cannot_work_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {"name": "grow-p2", "start_length": 8, "max_length": 32, "cycles": 2} | change
    with pytest.raises(PlanError, match=words):
        DocumentCurriculum(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "budget", "words"),
    [
        (Batch(tokens=255), {}, "batch_tokens 255 holds no 8 rows .* of 32 tokens; use batch_tokens 256"),
        (Batch(rows=4), {"steps": 5, "tokens": 9}, "steps 5 and tokens 9 are two budgets"),
        (Batch(rows=4), {"steps": 0}, "steps is 0; choose a whole number from 1"),
        (Batch(rows=4), {"tokens": 1.5}, "tokens is 1.5; it must be a whole number"),
    ],
)
def test_what_needs_no_data_is_refused_without(batch: Batch, budget: dict[str, int], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        check_document_request(SMALL, batch, **budget)


def test_cycles_above_the_budget_are_refused_without_data() -> None:
    request = DocumentCurriculum(name="grow-p2", start_length=8, max_length=32)
    with pytest.raises(PlanError, match="cycles 8 is above the total of 7 steps; use cycles 7 or fewer"):
        check_document_request(request, Batch(rows=4), steps=7)
    check_document_request(request, Batch(rows=4), steps=8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows_by_length": {8: 3, 16: 2}}, "no length fills a step: length 8 comes nearest with 3 of the 4 rows"),
        ({"rows_by_length": {}}, "no length fills a step: length 8 comes nearest with 0 of the 4 rows"),
        ({"rows_by_length": {24: 9}}, "rows of length 24 do not belong .* its lengths are 8, 16, 32"),
        ({"rows_by_length": {8: -1}}, "rows of length 8 is -1"),
        ({"steps": 8}, r"steps 8 is above the 7 that the documents offer \(7 whole steps, 288 tokens\)"),
        ({"tokens": 289}, "tokens 289 is above the 288 .*use tokens 288 or less, more epochs or a larger corpus"),
        ({"tokens": 31}, "tokens 31 is too small: the first step has 32 tokens; use tokens 32 or more"),
    ],
)
def test_what_the_documents_do_not_hold_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {"curriculum": SMALL, "rows_by_length": {8: 20, 16: 9, 32: 3}, "batch": Batch(rows=4)} | change
    with pytest.raises(PlanError, match=words):
        compile_document_plan(**arguments)  # type: ignore[arg-type]


def test_absurd_numbers_are_refused_quickly() -> None:
    """2**62 rows of every length: no order of that size is written; a budget makes it a plan."""
    rows = dict.fromkeys(SMALL.lengths, 2**62)
    with pytest.raises(PlanError, match="has no order to write down"):
        compile_document_plan(curriculum=SMALL, rows_by_length=rows, batch=Batch(rows=1))
    plan = compile_document_plan(curriculum=SMALL, rows_by_length=rows, batch=Batch(rows=1), tokens=1000)
    assert plan.total_tokens == 17 * (8 + 16 + 32) + 8 + 16
