"""Advice on mode and maximum length from the lengths of the documents: rules of thumb, and said to be that.

In:  a plan, the census of the corpus.   Out: `Recommendation`: a mode, a maximum length, a few plain sentences.
Guarantee: a pure function of the numbers; the thresholds are the constants below, and nothing else decides. The papers
show that the effects exist; where one begins to matter is this project's judgement, measured by nobody.

    Rules, at the plan's maximum length L; the first that applies names the mode that suits L:
    1. more than MOST_CROSSING of the attention joins two documents, or the plan says document     document
    2. best-fit keeps CUTS_SAVED or more of the documents whole that rows of a stream cut           best-fit
    3. the plan says truncate and the corpus is large enough for what that drops                    truncate
    4. else                                                                                        segment
    The maximum length for that mode is L; for document, the longest power of two between the plan's lengths that
    LEAST_LONG of the tokens are in documents long enough for, or the shortest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from curriculum.plan import Plan
from pipeline.census import BucketShares, Census

MOST_CROSSING = Fraction(1, 2)
"""Above it, most of what attention may look at is another document's text: rows are longer than the texts support.
Dataset BucketShares (arXiv 2405.13226) calls cross-document attention neither a desirable signal nor a good use of
compute, and keeps rows within documents. The half is ours."""
LEAST_LONG = Fraction(1, 20)
"""Below it, too few tokens are in documents that fill the longest rows of mode document to make up batches of them. The
twentieth is ours."""
CUTS_SAVED = Fraction(1, 4)
"""Share of the documents that a stream of rows cuts and best-fit keeps whole. Fewer Truncations (arXiv 2404.10830)
reports +4.7 % in reading comprehension, +16.8 % in context following and +9.2 % in program synthesis, relative, from
keeping documents whole. The quarter is ours."""
MOST_LEFTOVERS = Fraction(1, 20)
"""Above it, a shorter start length would turn leftovers of mode document, which are packed, into rows. The twentieth is
ours."""
HEAD_TO_HEAD = "43.4 against 43.0 on average zero-shot, GPT-3 1.3B, DeepSpeed Data Efficiency, arXiv 2212.03597"
"""The one published comparison of truncating with reshaping (segment) at equal trained tokens: truncating is ahead."""
CAVEAT = (
    "These are rules of thumb: the thresholds are this project's judgement, not measurements. Train a small model both "
    "ways before you rely on one."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """A mode, the maximum length to use with it, and why."""

    mode: str
    max_length: int
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"mode": self.mode, "max_length": self.max_length, "sentences": list(self.sentences)}


def recommend(plan: Plan, census: Census, document: BucketShares, *, mean_crossing: float) -> Recommendation:
    """Apply the rules.

    Args:
        plan: the plan.
        census: lengths of the training documents.
        document: what rows within documents come to.
        mean_crossing: cross-document attention of rows of a stream, averaged over the trained tokens of the plan.
    """
    mode = _mode(plan, census)
    max_length = _document_length(census, document) if mode == "document" else plan.max_seq_len
    sentences = [_on_lengths(plan, census)]
    if plan.mode == "document":
        sentences += _on_documents(plan, census, document, max_length)
    else:
        sentences += _on_crossing(plan, census, max_length, mean_crossing)
        sentences += _on_cuts(plan, census)
    if plan.mode == "truncate":
        sentences += _on_dropping(plan, census)
    return Recommendation(mode=mode, max_length=max_length, sentences=(*sentences, CAVEAT))


def percent(share: Fraction | float) -> str:
    """A share from 0 to 1 for people: "0.4 %", "12 %"; neither 0 nor 100 % unless it is."""
    value = 100 * share
    if 0 < value < 0.05:
        return "<0.1 %"
    if 99.5 <= value < 100:
        return ">99 %"
    return f"{float(value):.1f} %" if 0 < value < 9.95 else f"{float(value):.0f} %"


def _mode(plan: Plan, census: Census) -> str:
    longest = plan.max_seq_len
    if plan.mode == "document" or census.cross_document_attention(longest) > MOST_CROSSING:
        return "document"
    if _cuts_saved(census, longest) >= CUTS_SAVED:
        return "best-fit"
    return "truncate" if plan.mode == "truncate" and not _runs_out(plan, census) else "segment"


def _document_length(census: Census, document: BucketShares) -> int:
    """The longest bucket that enough documents fill."""
    enough = LEAST_LONG * census.tokens
    filled = (n for n in document.rows if census.tokens_in_documents_of_at_least(n) >= enough)
    return max(filled, default=min(document.rows))


def _stream_length(plan: Plan, census: Census) -> int | None:
    """The longest halving of the maximum at which rows of a stream do not cross documents too much."""
    return next((n for n in _halvings(plan) if census.cross_document_attention(n) <= MOST_CROSSING), None)


def _halvings(plan: Plan) -> Iterator[int]:
    """The maximum length, and halves of it that the alignment and the schedule's shortest length allow."""
    said, start = plan.schedule.get("multiple_of"), plan.schedule.get("start_length")
    multiple = said if isinstance(said, int) else 1
    least = start if isinstance(start, int) else min(phase.seq_len for phase in plan.phases)
    least = multiple if least == plan.max_seq_len else least  # a constant length may be any other
    seq_len = plan.max_seq_len
    yield seq_len
    while (seq_len := seq_len // 2 // multiple * multiple) >= max(least, 1):
        yield seq_len


def _cuts_saved(census: Census, seq_len: int) -> Fraction:
    return census.documents_cut(seq_len) - Fraction(census.documents_too_long(seq_len), census.documents)


def _runs_out(plan: Plan, census: Census) -> bool:
    return plan.consumed_tokens >= census.tokens


def _on_lengths(plan: Plan, census: Census) -> str:
    longest = plan.max_seq_len
    share = Fraction(census.tokens_in_documents_of_at_least(longest), census.tokens)
    return (
        f"{percent(share)} of the tokens are in documents that fill a row of {longest:,} on their own; half of the "
        f"tokens are in documents of at most {census.percentile(50, by_tokens=True):,} tokens."
    )


def _on_crossing(plan: Plan, census: Census, max_length: int, mean_crossing: float) -> Iterator[str]:
    longest = plan.max_seq_len
    crossing = census.cross_document_attention(longest)
    rows = "If best-fit mixes documents as a stream does," if plan.mode == "best-fit" else f"In mode {plan.mode}"
    found = (
        f"{rows} {percent(crossing)} of the attention at length {longest:,} joins different documents "
        f"({percent(mean_crossing)} averaged over the run)"
    )
    if crossing <= MOST_CROSSING:
        yield f"{found}, no more than {percent(MOST_CROSSING)}: {longest:,} fits these documents."
        return
    documents = "--mode document" if max_length == longest else f"--mode document {_up_to(plan, max_length)}"
    shorter = _stream_length(plan, census)
    stream = ""
    if shorter is not None:
        there = percent(census.cross_document_attention(shorter))
        stream = f"mode {plan.mode} {_up_to(plan, shorter)} ({there} there), or "
    yield (
        f"{found}, more than {percent(MOST_CROSSING)}: consider {documents}, whose rows never cross a document, or "
        f"{stream}a trainer that masks attention at doc_starts."
    )


def _on_cuts(plan: Plan, census: Census) -> Iterator[str]:
    longest = plan.max_seq_len
    split = Fraction(census.documents_too_long(longest), census.documents)
    counts = (
        f"Rows of {longest:,} from a stream cut {percent(census.documents_cut(longest))} of the documents, best-fit "
        f"has to split {percent(split)}"
    )
    if _cuts_saved(census, longest) >= CUTS_SAVED:
        advice = "it suits them" if plan.mode == "best-fit" else "consider --mode best-fit"
        yield f"{counts}: {advice} (Fewer Truncations, arXiv 2404.10830)."
    elif plan.mode == "best-fit":
        yield f"{counts}: it saves few cuts here, and --mode segment needs no padding."


def _on_dropping(plan: Plan, census: Census) -> Iterator[str]:
    dropped = percent(Fraction(plan.dropped_tokens, plan.consumed_tokens))
    if _runs_out(plan, census):
        yield (
            f"Truncation drops {dropped} of {plan.consumed_tokens:,} consumed tokens and thereby repeats a corpus of "
            f"{census.tokens:,}: --mode segment trains on every token before it repeats one."
        )
    else:
        yield (
            f"Truncation drops {dropped} of the consumed tokens, which the corpus can spare; at equal trained tokens "
            f"it was slightly ahead of segment in the one published comparison ({HEAD_TO_HEAD})."
        )


def _on_documents(plan: Plan, census: Census, document: BucketShares, max_length: int) -> Iterator[str]:
    longest, shortest = max(document.rows), min(document.rows)
    yield (
        f"No row crosses a document but those of leftovers: {percent(document.leftover_share)} of the targets are in "
        f"pieces below {shortest:,}, packed; {percent(document.share(longest))} are in rows of {longest:,}."
    )
    if document.leftover_share > MOST_LEFTOVERS:
        yield f"More than {percent(MOST_LEFTOVERS)} is packed: consider a shorter --start-length, or --mode best-fit."
    if max_length < plan.max_seq_len:
        yield (
            f"Less than {percent(LEAST_LONG)} of the tokens are in documents that fill the longest rows: consider "
            f"--max-length {max_length}."
        )


def _up_to(plan: Plan, max_length: int) -> str:
    return f"with phases up to {max_length}" if plan.schedule.get("name") == "phases" else f"--max-length {max_length}"
