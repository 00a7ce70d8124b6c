"""The pictures of docs/evidence.md: validation loss, and what is unstable, by trained tokens.

In:  the finished runs' logs.   Out: `evidence-loss.png` and `evidence-stability.png` in a folder.
One colour for each arm, a solid, dashed or dotted line for a seed; a panel for each setting. Of a run that diverged
what was finite is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evidence_matrix import ARMS, Run
from evidence_measures import Records, finite
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
            axis.plot(*curve(records, "validation_loss"), **look(run))
        axis.set(title=setting, xlabel="M trained tokens", ylabel="validation loss, nats")
    name_arms(axes[0][0], logs)
    figure.savefig(into / "evidence-loss.png")

    figure, axes = plt.subplots(
        len(STABILITY), len(settings), figsize=(8, 5), squeeze=False, sharex="col", layout="constrained"
    )
    for column, setting in enumerate(settings):
        for axis, (key, name) in zip(axes[:, column], STABILITY, strict=True):
            for run, records in of_setting(logs, setting):
                axis.plot(*curve(records, key), **look(run))
            axis.set(ylabel=name, **({"yscale": "log"} if key == "variance_max" else {}))
        axes[0][column].set(title=setting)
        axes[-1][column].set(xlabel="M trained tokens")
    name_arms(axes[0][0], logs)
    figure.savefig(into / "evidence-stability.png")


def of_setting(logs: dict[Run, Records], setting: str) -> list[tuple[Run, Records]]:
    """Its runs, in the order of the arms."""
    return [(run, records) for run, records in logs.items() if run.setting.name == setting]


def curve(records: Records, key: str) -> tuple[list[float], list[float]]:
    """M trained tokens, and the values there that are finite."""
    known = [record for record in records if finite([record], key)]
    return [record["tokens"] / 1e6 for record in known], [record[key] for record in known]


def look(run: Run) -> dict[str, Any]:
    """Colour of the arm, dashes of the seed."""
    return {"color": COLOURS[run.arm], "linestyle": DASHES[run.seed % len(DASHES)], "linewidth": 0.8}


def name_arms(axis: Any, logs: dict[Run, Records]) -> None:
    """A legend of the arms that there are, whichever setting and seed they are of."""
    from matplotlib.lines import Line2D

    arms = dict.fromkeys(run.arm for run in logs)
    lines = [Line2D([], [], color=COLOURS[arm], linewidth=0.8, label=arm) for arm in arms]
    axis.legend(handles=lines, frameon=False)
