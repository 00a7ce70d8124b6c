"""Where every token of the corpus went.

In:  a plan, the corpus, what is held out, and what the packing of rows counted.   Out: `Accounting`.
Guarantee: corpus = trained + truncated + validation + unused - repeated, whatever the mode.

    1,000 tokens, segment mode, 996 trained      truncated 0, unused 4 (of which 1 is the first input), repeated 0
"""

from __future__ import annotations

from collections.abc import Sequence

from curriculum.accounting import Accounting, left_over
from curriculum.manifest import PACKED, required_features
from curriculum.plan import Plan
from pipeline.tokenized_corpus import TokenizedCorpus
from pipeline.window_counts import WindowCounts


def account(
    plan: Plan,
    tokenized: TokenizedCorpus,
    held_out_tokens: int,
    counts: WindowCounts,
    taken: Sequence[tuple[int, int]] = (),
) -> Accounting:
    """The accounting of a finished build; of a mixture `taken` is (training tokens, tokens used up) of every source."""
    packed = PACKED in required_features(plan)
    trained = plan.total_tokens - counts.padding_tokens
    truncated = counts.dropped_tokens if packed else plan.dropped_tokens
    unused, repeated, context = left_over(taken or [(tokenized.tokens - held_out_tokens, trained + truncated)])
    return Accounting(
        corpus_tokens=tokenized.tokens,
        trained_tokens=trained,
        truncated_tokens=truncated,
        validation_tokens=held_out_tokens,
        unused_tokens=unused,
        repeated_tokens=repeated,
        context_tokens=counts.context_tokens if packed else context,
        documents=tokenized.documents,
        empty_documents=sum(part.empty_documents for part in tokenized.parts),
        skipped_records=sum(part.skipped_records for part in tokenized.parts),
        padding_tokens=counts.padding_tokens if packed else None,
    )
