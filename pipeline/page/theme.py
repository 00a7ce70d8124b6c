"""The colours of the page, and how figures of matplotlib come to have them.

In:  names of colours.   Out: CSS variables for light and dark; for matplotlib a stand-in for each, which becomes
`var(--NAME)` in the finished figure, so that one figure serves both.
Guarantee: each name has a stand-in of its own. Inks are told from the paper by a contrast of 4.5 and more, shapes by 3.

    STAND_INS["ink"] is "#010203"; in the figure it becomes var(--ink): #1b1d22 by day, #eceae6 by night
"""

from __future__ import annotations

from typing import Any

PALETTE: dict[str, tuple[str, str]] = {
    # name: (by day, by night)
    "paper": ("#fcfbf9", "#121417"),
    "card": ("#ffffff", "#1a1d22"),
    "ink": ("#1b1d22", "#eceae6"),
    "soft": ("#5a606b", "#a9aeb8"),
    "line": ("#e2dfd8", "#31353d"),
    "accent": ("#2557c7", "#86abff"),
    "blue": ("#2f66d0", "#7199ff"),
    "orange": ("#b3580a", "#f0a04b"),
    "teal": ("#0f7b71", "#3fc1ae"),
    "pink": ("#b8448f", "#e57cc0"),
    "olive": ("#736f0e", "#c3c34f"),
    "violet": ("#7454c7", "#a98bf5"),
    "red": ("#c93a3a", "#f07070"),
    "steel": ("#54708c", "#8fadc9"),
    "grey": ("#83878f", "#7f848e"),
}
SERIES = ("blue", "orange", "teal", "pink", "olive", "violet", "red", "steel")
"""Things of one kind side by side, in this order."""
TINTS: tuple[tuple[str, str], ...] = (
    ("#dbe7ff", "#22345c"),
    ("#ffe6cb", "#55371a"),
    ("#d3f1eb", "#14453f"),
    ("#f8dbee", "#4d2440"),
    ("#ecebbd", "#41411c"),
)
"""Backgrounds of documents in a row."""
SYMBOLS = ("●", "▲", "■", "◆", "★")
"""Signs of documents, so that nobody needs the colour: one for each of `TINTS`."""
STAND_INS = {name: f"#0102{number:02x}" for number, name in enumerate(PALETTE, 3)}

RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; wider than what browsers show, so nothing overlaps
    "font.size": 12.0,
    "text.parse_math": False,
    "text.color": STAND_INS["ink"],
    "figure.facecolor": "none",
    "figure.dpi": 72,
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": STAND_INS["line"],
    "axes.labelcolor": STAND_INS["soft"],
    "axes.labelsize": 12.0,
    "axes.titlesize": 12.0,
    "axes.titlecolor": STAND_INS["soft"],
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 1.0,
    "xtick.color": STAND_INS["line"],
    "xtick.labelcolor": STAND_INS["soft"],
    "ytick.color": STAND_INS["line"],
    "ytick.labelcolor": STAND_INS["soft"],
    "ytick.major.size": 0.0,
    "ytick.minor.size": 0.0,
    "xtick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
}


def variables(by_night: bool) -> str:
    """The CSS declarations of all colours."""
    which = int(by_night)
    tints = {f"doc{number}": colours for number, colours in enumerate(TINTS)}
    return "".join(f"--{name}:{colours[which]};" for name, colours in (PALETTE | tints).items())


def with_variables(svg: str) -> str:
    """A figure whose stand-ins have become variables."""
    for name, stand_in in STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg
