"""What `plan` says about a corpus: numbers that add up, advice that follows its rules, tables that fit a terminal."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from curriculum.flops import ModelSize, plan_flops
from curriculum.phase import Phase
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, parse_phases
from curriculum.shape_budget import ShapeRow
from pipeline.analysis import Analysis, analyse, bucket_ends, group_phases
from pipeline.census import Census
from pipeline.recommendation import CAVEAT, percent
from pipeline.report_analysis import (
    LEGEND,
    advice_lines,
    analysis_table,
    bar,
    census_facts,
    census_table,
    flops_facts,
    shape_budget_table,
)

WEB = Census.of({400: 1000, 2000: 100})
"""Short documents: half of the tokens in documents of 400."""
BOOKS = Census.of({100_000: 10})


def explicit(text: str, mode: str = "segment") -> Plan:
    """A plan of explicit phases."""
    pacing = parse_phases(text, multiple_of=1)
    return compile_plan(pacing=pacing, warmup=None, batch=Batch(rows=2), budget=Budget(), mode=mode)


def growing(max_length: int, mode: str = "segment", steps: int = 200) -> Plan:
    """A linear plan from 8, with every length in between."""
    pacing = Pacing(name="linear", start_length=8, max_length=max_length, multiple_of=8)
    return compile_plan(
        pacing=pacing, warmup=steps * 3 // 4, batch=Batch(rows=2), budget=Budget(steps=steps), mode=mode
    )


def packed(mode: str, seq_len: int) -> Plan:
    """A plan of one phase in a mode whose rows are packed."""
    return Plan(
        mode=mode,
        max_seq_len=seq_len,
        schedule={"name": "natural", "start_length": 8},
        phases=(Phase(seq_len=seq_len, rows_per_step=1, num_steps=1),),
        order=((0, 1),),
    )


def test_the_example_of_the_module() -> None:
    """100 documents of 9 tokens and rows of 8: each fits a row, and a stream cuts most of them."""
    analysis = analyse(explicit("8:3"), Census.of({9: 100}))
    (phase,) = analysis.phases
    assert (phase.longest, phase.num_steps, phase.num_rows, phase.num_tokens) == (8, 3, 6, 48)
    shares = phase.shares
    assert (shares.long_enough, shares.documents_split, shares.tokens_split) == (1, 0, 0)
    assert shares.documents_cut == 7 / 8
    assert shares.documents_per_row == pytest.approx(1 + 700 / 900)
    assert (shares.tokens_dropped, shares.documents_reached) == (0, 1)
    assert phase.bucket == 1  # 8 targets each
    assert analysis.totals == shares


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=1, max_size=6),
    st.lists(st.integers(1, 90), min_size=1, max_size=8),
)
def test_totals_are_those_of_the_plan(phases: list[tuple[int, int]], lengths: list[int]) -> None:
    """What is said to be dropped is what the plan drops, and every target is in a row or a leftover."""
    plan = explicit(",".join(f"{seq_len}:{steps}" for seq_len, steps in phases), "truncate")
    analysis = analyse(plan, Census.of(lengths))
    totals = analysis.totals
    assert totals.tokens_dropped == pytest.approx(plan.dropped_tokens / plan.consumed_tokens)
    weighed = sum(p.shares.cross_document * p.num_tokens for p in analysis.phases) / plan.total_tokens
    assert totals.cross_document == pytest.approx(weighed)
    assert 0 <= totals.cross_document < 1
    assert analysis.document.targets == sum(lengths) - len(lengths)
    assert [(p.longest, p.num_tokens) for p in analysis.phases] == [(p.seq_len, p.num_tokens) for p in plan.phases]


def test_buckets_span_the_lengths_of_the_plan() -> None:
    """What mode document would do is told for the lengths that were asked for; one length alone says nothing about the
    shortest row."""
    assert bucket_ends(growing(1024)) == (8, 1024)
    assert bucket_ends(explicit("24:1,100:1")) == (32, 64)
    assert bucket_ends(explicit("20:1,28:1")) == (16, 16)
    assert bucket_ends(explicit("1024:1")) == (256, 1024)
    assert bucket_ends(explicit("64:1")) == (64, 64)
    assert bucket_ends(packed("document", 512)) == (8, 512)


def test_long_tables_are_grouped_and_the_longest_length_stays_alone() -> None:
    """128 lines are no table; the longest length is what most is trained at."""
    analysis = analyse(growing(1024, steps=2000), WEB)
    assert len(analysis.phases) == 128
    groups = group_phases(analysis.phases, 12)
    assert len(groups) == 12
    assert (groups[0].shortest, groups[-1].shortest, groups[-1].longest) == (8, 1024, 1024)
    assert all(one.longest < other.shortest for one, other in pairwise(groups))
    for name in ("num_phases", "num_steps", "num_rows", "num_tokens"):
        assert sum(getattr(g, name) for g in groups) == sum(getattr(p, name) for p in analysis.phases)
    whole = sum(group.bucket for group in groups if group.bucket is not None)
    assert whole == pytest.approx(1 - float(analysis.document.leftover_share))
    assert group_phases(analysis.phases, 128) == analysis.phases


def _advice(plan: Plan, census: Census) -> tuple[str, int, str]:
    advice = analyse(plan, census).recommendation
    assert advice.sentences[-1] == CAVEAT
    return advice.mode, advice.max_length, " ".join(advice.sentences[:-1])


def test_short_documents_in_long_rows_are_said_to_cross() -> None:
    """Rows of 4,096 hold six web pages: that is told, with a length that does not and a mode that cannot."""
    mode, max_length, text = _advice(growing(4096), WEB)
    assert (mode, max_length) == ("document", 1024)  # no document fills 2,048
    assert "0 % of the tokens are in documents that fill a row of 4,096" in text
    assert "80 % of the attention at length 4,096 joins different documents" in text
    assert "consider --mode document --max-length 1024, whose rows never cross a document, or mode segment" in text
    assert "mode segment --max-length 1024 (50 % there), or a trainer that masks" in text
    # Rows of mode document are powers of two, whatever the maximum of this plan is.
    assert _advice(growing(3000), Census.of({2500: 40, 100: 10_000}))[:2] == ("document", 2048)
    # Phases have no --max-length.
    assert "--max-length" not in _advice(explicit("512:1,1024:1,4096:1"), WEB)[2]
    assert "with phases up to 1024" in _advice(explicit("512:1,1024:1,4096:1"), WEB)[2]


def test_long_documents_suit_segment() -> None:
    """Nothing fits a row, little crosses: advice to change anything would be wrong."""
    mode, max_length, text = _advice(growing(1024), BOOKS)
    assert (mode, max_length) == ("segment", 1024)
    assert "0.3 % of the attention at length 1,024 joins different documents" in text
    assert "1,024 fits these documents" in text
    assert "best-fit" not in text


def test_documents_as_long_as_rows_suit_best_fit() -> None:
    """A stream cuts 94 % of documents that would fit: the case that Fewer Truncations is about."""
    pages = Census.of({962: 100})
    mode, max_length, text = _advice(growing(1024), pages)
    assert (mode, max_length) == ("best-fit", 1024)
    assert "Rows of 1,024 from a stream cut 94 % of the documents, best-fit has to split 0 %" in text
    assert "consider --mode best-fit (Fewer Truncations, arXiv 2404.10830)" in text
    assert "it suits them" in _advice(packed("best-fit", 1024), pages)[2]
    mode, _, text = _advice(packed("best-fit", 1024), BOOKS)
    assert mode == "segment"
    assert "it saves few cuts here" in text


def test_truncation_is_kept_while_the_corpus_lasts() -> None:
    """The one published comparison has it ahead; repeating a corpus while dropping half of it has nobody."""
    plan = growing(1024, "truncate")
    mode, _, text = _advice(plan, BOOKS)
    assert plan.consumed_tokens < BOOKS.tokens
    assert mode == "truncate"
    assert "which the corpus can spare" in text
    assert "43.4 against 43.0" in text
    mode, _, text = _advice(growing(1024, "truncate", steps=2000), BOOKS)
    assert mode == "segment"
    assert "thereby repeats a corpus of 1,000,000" in text


def test_document_mode_hears_of_leftovers_and_of_empty_lengths() -> None:
    """Its rows cross nothing, so its advice is about what is packed and what is never filled."""
    mode, max_length, text = _advice(packed("document", 4096), WEB)
    assert (mode, max_length) == ("document", 1024)
    assert "1.3 % of the targets are in pieces below 8, packed; 0 % are in rows of 4,096" in text
    assert "joins different documents" not in text
    assert "consider --max-length 1024" in text
    _, _, text = _advice(packed("document", 64), Census.of({13: 10}))  # 8 + 4 targets
    assert "33 % of the targets are in pieces below 8" in text
    assert "consider a shorter --start-length" in text


def test_json_has_every_phase_and_every_mode() -> None:
    """`plan --json` is what scripts read: plain numbers under fixed names."""
    found = json.loads(json.dumps(analyse(growing(64), WEB).to_json()))
    assert set(found) == {"census", "phases", "modes", "long_enough", "recommendation"}
    assert set(found["modes"]) == {"segment", "truncate", "document", "best-fit"}
    assert [phase["seq_len"] for phase in found["phases"]] == list(range(8, 65, 8))
    assert found["phases"][-1]["bucket"] == found["modes"]["document"]["rows"]["64"] * 64 / (600_000 - 1100)
    assert found["modes"]["best-fit"]["least_splits_at_max"] == 1000 * 6 + 100 * 31
    assert found["census"]["tokens"] == 600_000
    assert found["census"]["histogram"][0] == {"from": 256, "below": 512, "documents": 1000, "tokens": 400_000}
    assert found["recommendation"]["max_length"] == 64


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1e-9, "<0.1 %"), (0.004, "0.4 %"), (0.12, "12 %"), (0.9949, "99 %"), (0.9999, ">99 %"), (1, "100 %")],
)
def test_shares_are_neither_none_nor_all_unless_they_are(share: float, shown: str) -> None:
    """ "0 %" of a large corpus may be a million documents."""
    assert percent(share) == shown


def _print(*tables: Table) -> list[str]:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def _large() -> Analysis:
    """A corpus of 10**13 tokens and a plan of 1,000 lengths up to 131,072."""
    pacing = Pacing(name="linear", start_length=128, max_length=131_072, multiple_of=128)
    plan = compile_plan(pacing=pacing, warmup=10**5, batch=Batch(rows=4096), budget=Budget(steps=10**6))
    return analyse(plan, Census.of({n: 10**12 // n for n in (3, 40, 700, 3_000, 20_000, 10**6, 10**8)}))


def test_tables_fit_80_columns() -> None:
    """A number that ends in an ellipsis is no number."""
    large = _large()
    lines = _print(
        census_table(large.census), analysis_table(large), census_table(WEB), analysis_table(analyse(growing(64), WEB))
    )
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    text = "\n".join(lines)
    assert re.search(r"^ +131,072 +\d+ % .* 0 % ", text, re.MULTILINE)
    assert "1,000,000,000,000" in text or "999,999,999,999" in text
    assert max(map(len, [*LEGEND.splitlines(), *advice_lines(large)])) <= 80
    assert not any(line.startswith("%") for line in advice_lines(large))
    assert "\xa0" not in "".join(advice_lines(large))
    assert census_facts(WEB) == {
        "documents": "1,100 with 600,000 tokens, EOS included",
        "document length": "mean 545, median 400, 95 % up to 2,000 tokens",
    }


def test_all_phases_are_shown_on_request() -> None:
    """The groups are for reading; whoever wants each length gets it."""
    analysis = analyse(growing(1024, steps=2000), WEB)
    assert analysis_table(analysis).row_count == 13
    assert analysis_table(analysis, all_phases=True).row_count == 129


def test_bars_are_as_long_as_their_share() -> None:
    """A bin that holds something is seen, a full one fills its columns."""
    assert [bar(share, 4) for share in (0, 1e-6, 0.5, 0.53125, 1)] == ["", "▏", "██", "██▏", "████"]


def test_shapes_and_flops_are_shown_as_they_are() -> None:
    """People choose K by these lines."""
    row = ShapeRow(
        num_shapes=8, mean_deviation=0.0356, worst_deviation=1.0, largest_jump=6.0, relative_length_sum=1.0028
    )
    (line,) = [line.split("  ") for line in _print(shape_budget_table([row])) if " x" in line]
    assert [cell.strip() for cell in line if cell] == ["8", "3.56 %", "100 %", "6.00 x", "100.28 %"]
    (line,) = [text for text in _print(shape_budget_table([row], by="absolute")) if " x" in text]
    assert "1.0 tokens" in line
    flops = plan_flops(explicit("512:1,1024:1"), ModelSize(params=10**6, layers=2, hidden=64))
    # 1,024 and 2,048 tokens at 6e6 + 1,536 s each, against 3,072 tokens at s = 1,024.
    assert flops_facts(flops) == {
        "training FLOPs": "2.25e+10, 18 % of them attention",
        "at constant length": "2.33e+10: the plan saves 3.5 %",
    }
