"""The zoo: every curriculum of this project, planned and built small on the default corpus, and verified.

The corpus, 8.6 M tokens of Python's standard library, is tokenized by one build, and all others take them from its
store. The files in `configs/` are planned at the size at which they were published, too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import curriculum
from curriculum.batch import IGNORED
from curriculum.plan import Plan
from default_build import DefaultBuild
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.planning import PlanRequest, plan_request
from pipeline.progress import Silent
from pipeline.requested_plan import compile_requested
from pipeline.verify import verify_dataset
from zoo_cases import CONFIGS, FROM_CONFIGS, FROM_FLAGS, IMPORTED, Case

CASES = {
    **FROM_CONFIGS,
    **FROM_FLAGS,
    **{f"from {name}": case for name, case in IMPORTED.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_every_curriculum_is_planned_built_and_verified(name: str, by_default: DefaultBuild, tmp_path: Path) -> None:
    """What `plan` announces is what `build` writes, `verify` proves it, every token is accounted for, and the steps
    have the lengths of the method."""
    case = CASES[name]
    options = case.resolve(tmp_path, config=CONFIGS / name if name in FROM_CONFIGS else None, store=by_default.store)
    announced = plan_request(PlanRequest(options=options), Silent()).plan
    result = build(options, Silent())
    report = verify_dataset(result.path, quick=False, workers=1, progress=Silent())
    assert report.id == result.manifest.id
    assert result.manifest.plan == announced
    check_accounting(result.path, curriculum.open(by_default.dataset).manifest.accounting.corpus_tokens)
    check_lengths(case, result.path)


def check_accounting(path: Path, corpus_tokens: int) -> None:
    """Tokens in = tokens out, and the labels that a trainer sees are as many as the manifest says."""
    reader = curriculum.open(path)
    accounting, plan = reader.manifest.accounting, reader.plan
    padding = accounting.padding_tokens or 0
    assert accounting.corpus_tokens == corpus_tokens
    assert corpus_tokens == accounting.trained_tokens + accounting.truncated_tokens + accounting.unused_tokens
    assert accounting.trained_tokens + padding == plan.total_tokens
    if plan.mode == "truncate":
        assert accounting.truncated_tokens == plan.dropped_tokens > 0
    else:
        assert plan.dropped_tokens == 0
    if plan.mode in ("document", "best-fit"):
        assert sum(int(np.sum(reader[step].labels == IGNORED)) for step in range(len(reader))) == padding


def check_lengths(case: Case, path: Path) -> None:
    """Literal lengths; and where every length comes back equally often, they grow within each cycle."""
    reader = curriculum.open(path)
    plan = reader.plan
    assert plan.num_shapes == case.shapes
    assert case.steps in (None, plan.total_steps)
    assert {step: reader[step].seq_len for step in case.lengths} == case.lengths
    if plan.schedule.get("balanced"):
        assert len({phase.num_steps for phase in plan.phases}) == 1
        assert early_share(plan, cycles=2) < 0.45


def early_share(plan: Plan, cycles: int) -> float:
    """Of all lengths summed, the share that lies in the first halves of the cycles: 0.5 if they did not grow."""
    lengths = np.repeat([plan.phases[phase].seq_len for phase, _ in plan.order], [steps for _, steps in plan.order])
    edges = np.linspace(0, len(lengths), 2 * cycles + 1).astype(int)
    halves = [int(part.sum()) for part in np.split(lengths, edges[1:-1])]
    return sum(halves[::2]) / sum(halves)


PUBLISHED = {  # steps, trained tokens, shapes
    "tiny.toml": (300, 524_160, 16),
    "constant.toml": (255, 522_240, 1),
    "gpt2-1.5b.toml": (58_768, 157_283_909_632, 121),
    "shape-budget.toml": (58_478, 157_284_073_472, 8),
    "gpt3-1.3b.toml": (339_168, 299_999_772_672, 247),
    "gpt3-1.3b-reshape.toml": (287_786, 299_999_729_152, 247),
    "bigscience-104b.toml": (89_032, 299_996_282_880, 249),
    "deepspeed-root.toml": (50_000, 23_582_879_744, 127),
    "composer.toml": (10_000, 4_477_157_376, 128),
    "shortformer.toml": (286_000, 21_086_208_000, 2),
    "growlength.toml": (60_000, 31_457_280_000, 6),
    "modded-nanogpt.toml": (1_285, 167_561_216, 2),
    "mamba-dna.toml": (19_140, 321_115_914_240, 11),
    "skyladder-linear.toml": (100_000, 103_846_109_184, 256),
    "skyladder-sine.toml": (100_000, 103_689_999_872, 256),
    "skyladder-exponential.toml": (100_000, 104_518_572_032, 256),
}

ROWS_PER_CYCLE = {256: 1_507_328, 512: 1_277_952, 1024: 794_624, 2048: 335_872, 4096: 137_216, 8192: 61_440}
"""--source-num-seq-per-epoch in the README of apple/ml-dataset-decomposition; its run has 8 such cycles."""

OF_DOCUMENTS = {"dataset-decomposition.toml": (55_040, 28_856_811_520), "olmo-vsl.toml": (6_880, 28_856_811_520)}
"""steps and slots for these documents: 8 x 3,607,101,440, as in that README."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_runs_are_planned_as_published(name: str) -> None:
    """`curriculum plan --config configs/NAME` shows the run of the paper, without any data."""
    plan = compile_requested(load_options(CONFIGS / name, {}), None)
    assert (plan.total_steps, plan.total_tokens, plan.num_shapes) == PUBLISHED[name]


@pytest.mark.parametrize("name", OF_DOCUMENTS)
def test_document_curricula_of_a_published_corpus(name: str) -> None:
    """The buckets of Dataset Decomposition's run give its number of steps: 6,880 in each of 8 cycles."""
    rows = {seq_len: 8 * num_rows for seq_len, num_rows in ROWS_PER_CYCLE.items()}
    plan = compile_requested(load_options(CONFIGS / name, {}), None, rows)
    assert (plan.total_steps, plan.total_tokens) == OF_DOCUMENTS[name]
    assert early_share(plan, 8) < 0.25


def test_best_fit_is_one_pass_over_the_corpus_that_it_is_given() -> None:
    """512 rows of 2,048: 10^9 tokens hold 953 steps."""
    plan = compile_requested(load_options(CONFIGS / "best-fit.toml", {"corpus_tokens": 10**9}), 10**9)
    assert (plan.total_steps, plan.total_tokens) == (953, 953 * 2**20)


def test_no_config_is_forgotten_and_each_names_its_source() -> None:
    """A file without a source or without a test is no published method."""
    files = {path.name: path.read_text("utf-8") for path in CONFIGS.glob("*.toml")}
    assert set(files) == set(FROM_CONFIGS) == {*PUBLISHED, *OF_DOCUMENTS, "best-fit.toml"}
    for name, text in files.items():
        assert "# Source: " in text, name


def test_the_warmup_of_the_paper_trains_half_of_what_it_loads() -> None:
    """64 -> 1024 over 45,000 steps of 4,096 rows trains 99.5 of the 188.7 billion tokens that it loads."""
    plan = compile_requested(load_options(CONFIGS / "gpt2-1.5b.toml", {}), None)
    assert plan.tokens_at(45_000) == 99_536_732_160
    assert plan.consumed_at(45_000) == 45_000 * 4_096 * 1_024 == 188_743_680_000
    assert [plan.phases[plan.locate(t - 1)[0]].seq_len for t in (1, 375, 750, 3000, 22_500, 44_999)] == [
        64,
        72,
        80,
        128,
        544,
        1016,
    ]
