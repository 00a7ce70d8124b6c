"""The pictures of docs/evidence.md: validation loss, and what is unstable, by trained tokens.

In:  the finished runs' logs.   Out: `evidence-loss.png` and `evidence-stability.png` in a folder.
One colour for each arm, a solid, dashed or dotted line for a seed; a panel for each setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evidence_matrix import ARMS, Run
from evidence_measures import Records, validations
from evidence_report import read_logs

DASHES = ("-", "--", ":")
COLOURS = dict(zip(ARMS, ("#444444", "#c8562b", "#2b6cc8", "#3f9b57"), strict=True))
STABILITY = (("loss_ratio", "loss ratio"), ("variance_max", "Adam variance max"), ("seq_len", "row length"))


def draw(matrix: list[Run], folder: Path, into: Path) -> None:
    """Write both pictures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams |= {
        "savefig.dpi": 100,
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    logs = read_logs(matrix, folder)
    settings = list(dict.fromkeys(run.setting.name for run in logs))
    into.mkdir(parents=True, exist_ok=True)

    figure, axes = plt.subplots(1, len(settings), figsize=(8, 3), squeeze=False, layout="constrained")
    for axis, setting in zip(axes[0], settings, strict=True):
        for run, records in of_setting(logs, setting):
            points = [(tokens / 1e6, loss) for tokens, loss in validations(records)]
            axis.plot(*zip(*points, strict=True), **look(run))
        axis.set(title=setting, xlabel="M trained tokens", ylabel="validation loss, nats")
    axes[0][0].legend(frameon=False)
    figure.savefig(into / "evidence-loss.png")

    figure, axes = plt.subplots(
        len(STABILITY), len(settings), figsize=(8, 5), squeeze=False, sharex="col", layout="constrained"
    )
    for column, setting in enumerate(settings):
        for axis, (key, name) in zip(axes[:, column], STABILITY, strict=True):
            for run, records in of_setting(logs, setting):
                points = [(record["tokens"] / 1e6, record[key]) for record in records if record[key] is not None]
                axis.plot(*zip(*points, strict=True), **look(run))
            axis.set(ylabel=name, **({"yscale": "log"} if key == "variance_max" else {}))
        axes[0][column].set(title=setting)
        axes[-1][column].set(xlabel="M trained tokens")
    axes[0][0].legend(frameon=False)
    figure.savefig(into / "evidence-stability.png")


def of_setting(logs: dict[Run, Records], setting: str) -> list[tuple[Run, Records]]:
    """Its runs, in the order of the arms."""
    return [(run, records) for run, records in logs.items() if run.setting.name == setting]


def look(run: Run) -> dict[str, Any]:
    """Colour, dashes and, once for each arm, a name."""
    style = {"color": COLOURS[run.arm], "linestyle": DASHES[run.seed % len(DASHES)], "linewidth": 0.8}
    return {**style, "label": run.arm if run.seed == 0 else None}
