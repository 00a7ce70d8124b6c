"""The sources of a mixture as people see them: tokens, share and epochs, and by phase where phases differ.

In:  `MixtureUse`, or the manifest of a dataset.   Out: lines for 80 columns.

     source              training tokens        trained   share   epochs
     web                         160,002         87,296  52.5 %     0.55
     code                         73,478         46,848  28.2 %     0.64
"""

from __future__ import annotations

from collections.abc import Iterator

from curriculum.manifest import PACKED_MODES, Manifest
from pipeline.source_use import MixtureUse, use_of

NAME_COLUMNS = 20
SHOWN_PHASES = 16
"""More rows of a table than that are shortened to the first and last eight."""


def source_lines(use: MixtureUse, *, all_phases: bool = False) -> Iterator[str]:
    """A table of the sources; where shares differ between phases, one more of phases and sources."""
    trained = _trained(use)
    yield f"{'source':<{NAME_COLUMNS}}{'training tokens':>20}{trained:>20}{'share':>9}{'epochs':>9}"
    for source, name in enumerate(use.names):
        size = "?" if use.sizes is None else f"{use.sizes[source]:,}"
        yield (
            f"{_short(name):<{NAME_COLUMNS}}{size:>20}{use.trained(source):>20,}{100 * use.share(source):>7.1f} %"
            f"{_epochs(use.epochs(source)):>9}"
        )
    if use.mixture.varies:
        yield ""
        yield from _phase_lines(use, all_phases)


def source_sentences(manifest: Manifest) -> Iterator[str]:
    """A line for each source of a dataset that has several."""
    use, what = use_of(manifest), "slots" if manifest.packed else "trained tokens"
    for source, name in enumerate(use.names if use else ()):
        assert use is not None
        share, epochs = 100 * use.share(source), _epochs(use.epochs(source))
        yield f"{name}: {use.trained(source):,} {what} ({share:.1f} %), {epochs} epochs"


def _phase_lines(use: MixtureUse, all_phases: bool) -> Iterator[str]:
    """A line for each phase and source that has rows of it."""
    yield f"{'phase':>7}{'length':>10}  {'source':<{NAME_COLUMNS}}{_trained(use):>18}{'share':>9}{'epochs':>9}"
    hidden = 0 if all_phases else max(0, len(use.rows) - SHOWN_PHASES)
    half = SHOWN_PHASES // 2
    for phase, rows in enumerate(use.rows):
        if hidden and half <= phase < half + hidden:
            if phase == half:
                yield f"{'...':>7}{f'{hidden:,} more phases, in --json':>36}"
            continue
        for source, name in enumerate(use.names):
            if not rows[source]:
                continue
            share = 100 * rows[source] / sum(rows)
            yield (
                f"{phase:>7,}{use.plan.phases[phase].seq_len:>10,}  {_short(name):<{NAME_COLUMNS}}"
                f"{use.trained(source, phase):>18,}{share:>7.1f} %{_epochs(use.epochs(source, phase)):>9}"
            )


def _trained(use: MixtureUse) -> str:
    """What is counted by source: where rows are packed, slots, some of which have no target."""
    return "slots" if use.plan.mode in PACKED_MODES else "trained"


def _epochs(epochs: float | None) -> str:
    return "?" if epochs is None else f"{epochs:,.2f}"


def _short(name: str) -> str:
    return name if len(name) < NAME_COLUMNS else f"{name[: NAME_COLUMNS - 4]}..."
