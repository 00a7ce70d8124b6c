"""What two builds must have in common to be the same build, besides the corpus itself.

In:  options.   Out: plain JSON values, equal if and only if the options ask for the same bytes.
Guarantee: defaults are resolved, so that `--frac 0.3` asks for the same as saying nothing; workers, units, backend and
folders are no part of it.

    build_identity(Options(workers=8)) == build_identity(Options(frac=Decimal("0.3")))
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

from curriculum.schedule import PACING_NAMES, Pacing
from pipeline.option_fields import DEFAULT_SHAPES_BY, DEFAULTS
from pipeline.options import Options
from pipeline.requested_plan import batch_of, curriculum_of, pacing_of, warmup_of
from pipeline.sources import CORPUS

CHANGES_NOTHING = frozenset(
    (
        "corpus",
        "source",  # compared by their files, too; names, weights and epochs by `sources` of the identity
        "weight",
        "source_epochs",
        "corpus_tokens",
        "unit_bytes",
        "backend",
        "engine",
        "ray_address",
        "workers",
        "out",
        "store",
        "keep_store",
        "overwrite",
        "storage_option",
        "tokenizer_check",
        "license",  # bytes of the manifest, card and page alone: in the identity where they are said, so that what a
        "language",  # release before them built is still recognized
    )
)
"""Options that do not change the bytes of a dataset; the corpus is compared by its files."""
CHANGES_BYTES = tuple(name for name in DEFAULTS if name not in CHANGES_NOTHING)


def build_identity(options: Options) -> dict[str, Any]:
    """What two builds must have in common to be the same build, besides the corpus itself."""
    said = {name: getattr(options, name) for name in CHANGES_BYTES}
    return {**said, **_resolved(options)}


def _resolved(options: Options) -> dict[str, Any]:
    """The schedule and the batch with their defaults: `--frac 0.3` asks for the same as saying nothing."""
    batch, curriculum = batch_of(options), curriculum_of(options)
    warmup = warmup_of(options) if curriculum is None else None
    resolved: dict[str, Any] = {
        "schedule": None if options.phases is not None else options.schedule_name,
        "frac": str(warmup) if isinstance(warmup, Fraction) else None,
        "validation_frac": None if options.validation_frac is None else str(options.validation_share()),
        "batch_rows": batch.rows,
        "rows_multiple_of": batch.rows_multiple_of,
    }
    resolved |= options.about().to_json()
    if options.is_mixture:
        resolved["sources"] = {
            one.name: {"weight": str(one.weight or ""), "epochs": one.epochs} for one in options.sources()
        }
    elif options.source_names != (CORPUS,):
        resolved["sources"] = list(options.source_names)  # as it is read back from a log
    if curriculum is not None:
        return resolved | {name: getattr(curriculum, name) for name in ("start_length", "max_length", "cycles")}
    resolved |= {
        "multiple_of": options.alignment,
        "shapes_by": (options.shapes_by or DEFAULT_SHAPES_BY) if options.max_shapes is not None else None,
    }
    pacing = pacing_of(options)
    if isinstance(pacing, Pacing):
        resolved |= {name: getattr(pacing, name) for name in ("start_length", "max_length", "degree", "stages")}
        if pacing.name not in PACING_NAMES:  # the function behind a name may change
            arrivals = ",".join(map(str, pacing.arrivals(2**40)))
            resolved["curve"] = hashlib.sha256(arrivals.encode()).hexdigest()
    return resolved
