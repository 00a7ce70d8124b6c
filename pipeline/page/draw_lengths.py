"""How long the documents are: by number, and by the tokens that are in them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pipeline.page.document_lengths import DocumentLengths
from pipeline.page.inline_svg import draw, legend_above
from pipeline.page.theme import STAND_INS


def draw_lengths(lengths: DocumentLengths, max_seq_len: int, label: str) -> str:
    """The figure."""
    documents = np.array([one.documents for one in lengths.bins], np.float64)
    tokens = np.array([one.tokens for one in lengths.bins], np.float64)
    first = lengths.bins[0].low.bit_length() - 1

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        places = np.arange(len(documents)) + first + 0.5
        axes.bar(places - 0.2, documents / documents.sum(), width=0.38, color=STAND_INS["blue"], label=lengths.what)
        axes.bar(
            places + 0.2, tokens / tokens.sum(), width=0.38, color=STAND_INS["orange"], hatch="///",
            edgecolor=STAND_INS["paper"], linewidth=0, label="their tokens",
        )  # fmt: skip
        stop = first + len(documents)
        every = max(1, -(-(stop - first) // (5 if narrow else 9)))
        ticks = list(range(first, stop + 1, every))
        axes.set_xticks(ticks, [f"{2**power:,}" for power in ticks])
        axes.set_xlabel("tokens, axis in powers of two")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_title("share of all")
        longest = np.log2(max_seq_len)
        if first <= longest <= stop:
            axes.axvline(float(longest), color=STAND_INS["soft"], linewidth=1.2, linestyle=":")
            right = longest < (first + stop) / 2
            axes.text(
                float(longest) + (0.08 if right else -0.08), 0.98, f"longest row, {max_seq_len:,}", fontsize=11,
                transform=axes.get_xaxis_transform(), va="top", ha="left" if right else "right",
                color=STAND_INS["soft"],
            )  # fmt: skip
        axes.margins(y=0.12)
        legend_above(axes)

    return draw("lengths", label, 280, paint)
