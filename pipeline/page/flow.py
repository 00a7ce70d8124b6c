"""Where each token went, as a flow: widths to scale, laid out in numbers before anything is drawn.

In:  the accounting of a manifest, and its sources.
Out: `Flow`: nodes (bars) in columns and links (ribbons) between them, in tokens and in places on a page.
Guarantee: what enters a node leaves it. Heights are to scale but for flows thinner than `THINNEST`, which are drawn
that thick so that they can be seen; `is_thin` says which. Nothing of 0 tokens is drawn.

    1000 of the corpus, 640 trained, 100 held out, 260 unused       corpus -> trained, validation, unused
    several sources, or text read again                             sources, repeated -> tokens read -> the same
    packed rows                                                     padding, of no source -> a bar below trained
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curriculum.accounting import Accounting
from curriculum.manifest import SourceEntry

THINNEST = 2.0
MOST_SOURCES = 6
PADDING = "padding"
REPEATED = "repeated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A bar."""

    key: str
    label: str
    tokens: int
    column: int
    top: float
    height: float
    is_thin: bool
    """drawn thicker than to scale"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A ribbon, as thick as `height`, from one node's right side to another's left side."""

    source: int
    """index of a node"""
    target: int
    tokens: int
    height: float
    source_top: float
    target_top: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """The whole picture."""

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    num_columns: int


def destinations(a: Accounting) -> list[tuple[str, str, int]]:
    """(key, label, tokens) of every place that tokens of the corpus go to."""
    return [
        ("trained", "trained", a.trained_tokens),
        ("truncated", "cut off", a.truncated_tokens),
        ("validation", "validation", a.validation_tokens),
        ("unused", "unused", a.unused_tokens),
    ]


def origins(a: Accounting, sources: Sequence[SourceEntry]) -> list[tuple[str, str, int]]:
    """(key, label, tokens) of where they come from; sources beyond the largest few are one."""
    if len(sources) == 1:
        found = [("corpus", "corpus", a.corpus_tokens)]
    else:
        found = [(f"source-{k}", source.name, source.tokens) for k, source in enumerate(sources)]
        if len(found) > MOST_SOURCES:
            largest = sorted(found, key=lambda entry: -entry[2])[: MOST_SOURCES - 1]
            rest = [entry for entry in found if entry not in largest]
            found = [entry for entry in found if entry in largest]
            found.append(("source-others", f"{len(rest)} others", sum(tokens for *_, tokens in rest)))
    return [*found, (REPEATED, "read again", a.repeated_tokens)]


def lay_out_flow(a: Accounting, sources: Sequence[SourceEntry], *, height: float, gap: float) -> Flow:
    """The flow of a dataset on a page so high, with `gap` between the bars of a column."""
    left = [entry for entry in origins(a, sources) if entry[2]]
    right = [entry for entry in destinations(a) if entry[2]]
    total = sum(tokens for *_, tokens in right)
    read = [("read", "tokens read", total)] if len(left) > 1 else []
    columns = [left, read, right] if read else [left, right]
    padding = [(PADDING, "padding", a.padding_tokens)] if a.padding_tokens else []
    columns[-1] = [*right[:1], *padding, *right[1:]]
    most = max(len(column) for column in columns)
    scale = (height - (most - 1) * gap) / max(1, total + (a.padding_tokens or 0))
    nodes: list[Node] = []
    for number, column in enumerate(columns):
        nodes += _stack(column, number, scale, height, gap)
    return Flow(nodes=tuple(nodes), links=tuple(_links(nodes, len(columns))), num_columns=len(columns))


def _stack(column: Sequence[tuple[str, str, int]], number: int, scale: float, height: float, gap: float) -> list[Node]:
    """The bars of a column, one below the other, in the middle of the height."""
    heights = [max(THINNEST, tokens * scale) for *_, tokens in column]
    top = (height - sum(heights) - gap * (len(column) - 1)) / 2
    nodes = []
    for (key, label, tokens), high in zip(column, heights, strict=True):
        thin = tokens * scale < THINNEST
        nodes.append(Node(key=key, label=label, tokens=tokens, column=number, top=top, height=high, is_thin=thin))
        top += high + gap
    return nodes


def _links(nodes: Sequence[Node], num_columns: int) -> list[Link]:
    """Every bar has one ribbon to the bar that all tokens pass, or from it."""
    hub = next(number for number, node in enumerate(nodes) if node.column == num_columns - 2 and node.key != PADDING)
    links = []
    entering = leaving = nodes[hub].top
    for number, node in enumerate(nodes):
        if number == hub or node.key == PADDING:
            continue
        share = node.tokens / max(1, nodes[hub].tokens) * nodes[hub].height
        inward = node.column < nodes[hub].column
        links.append(
            Link(
                source=number if inward else hub,
                target=hub if inward else number,
                tokens=node.tokens,
                height=node.height,
                source_top=node.top if inward else leaving,
                target_top=entering if inward else node.top,
            )
        )
        if inward:
            entering += share
        else:
            leaving += share
    return links
