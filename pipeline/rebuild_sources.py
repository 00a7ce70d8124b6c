"""What of the command that rebuilds a dataset names its text: sources, weights, epochs; and its extensions.

In:  a manifest, and the plan before all extensions.   Out: words of a command, and what they do not say.
Guarantee: where the text lies no manifest says: `CORPUS` stands for it, and the card lists what tells whether it is the
same. Weights are whole numbers in the proportion of the manifest's.

    --source web=CORPUS-web --source code=CORPUS-code --weight web=7 --weight code=3
    curriculum extend rebuilt --total-steps 120 --source news=CORPUS-news
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from curriculum.errors import ConfigError
from curriculum.explicit_phases import SEPARATE
from curriculum.manifest import Manifest
from curriculum.mixture import Mixture
from curriculum.plan import Plan
from pipeline.mixed_windows import epochs_begun
from pipeline.source_use import consumed_of_sources
from pipeline.sources import CORPUS, mixture_of, named_sources
from pipeline.windows import tokens_per_step

PLACE = "CORPUS"
DIGITS = 15
"""Of a weight before the point, and behind it."""


def held_out_tokens(manifest: Manifest) -> int:
    """Tokens of the documents that the build held out; as a budget, they hold out the same ones.

    Held-out documents are those of the smallest hashes: the fewest that have so many tokens are just them.
    """
    if manifest.build.mixture is None:
        return manifest.accounting.validation_tokens
    return sum(source.validation_tokens or 0 for source in manifest.sources[: manifest.num_built_sources])


def source_said(manifest: Manifest, plan: Plan, epochs: int) -> tuple[list[str], list[str]]:
    """Words that name the text, those of a mixture on lines of their own.

    Args:
        manifest: of the dataset.
        plan: before all extensions.
        epochs: passes over a single source.
    """
    built = manifest.sources[: manifest.num_built_sources]
    names, notes = [source.name for source in built], []
    if len(built) == 1:
        words = [PLACE if names == [CORPUS] else f"--source {names[0]}={PLACE}"]
        words += [f"--epochs {epochs}"] if epochs > 1 else []
    else:
        mixture = Mixture(weights=tuple(row[: len(built)] for row in _built_weights(manifest, plan)))
        sources = [f"{name}={PLACE}-{name}" for name in names]
        weights = _weights(mixture, names, plan)
        passes = _passes(manifest, plan, mixture)
        words = [f"--source {sources[0]}", *(f"--source {source}" for source in sources[1:])]
        words += [" ".join(f"--weight {weight}" for weight in weights)]
        words += [" ".join(f"--source-epochs {one}" for one in passes)] if passes else []
        if not _gives(mixture, sources, weights, plan):
            notes.append("Weights of so many digits cannot be said: the shares are nearly those of the dataset.")
    if manifest.validation and manifest.num_built_sources < len(manifest.sources):
        notes.append(
            "Of text that was added later, what is held out goes by a threshold that is not recorded: if the build "
            "held out a share (`--validation-frac`), give that share instead of `--validation-tokens`."
        )
    return words, notes


def extension_words(manifest: Manifest) -> list[tuple[str, ...]]:
    """One command for each extension."""
    plan, known = manifest.plan, manifest.num_built_sources
    names, lone = [source.name for source in manifest.sources], manifest.lone_sources
    first = len(plan.phases) - plan.num_extensions
    commands: list[tuple[str, ...]] = []
    for number, entry in enumerate(manifest.build.extensions):
        phase = first + number
        words = ["curriculum extend rebuilt", f"--total-steps {entry.first_step + plan.phases[phase].num_steps}"]
        source = lone[phase]
        if entry.source is not None:
            is_new = names.index(entry.source) >= known
            words.append(f"--source {entry.source}{f'={PLACE}-{entry.source}' if is_new else ''}")
            words += ["--on-bad-record skip"] if is_new and manifest.accounting.skipped_records else []
            known += is_new
        if source is not None:
            before, after = (_begun(manifest, source, stop) for stop in (phase, phase + 1))
            words += [f"--epochs {after}"] if after > max(1, before) else []
        commands.append((" ".join(words),))
    return commands


def _begun(manifest: Manifest, source: int, stop: int) -> int:
    """Epochs of a source that phases before `stop`, cut from it alone, have begun."""
    plan, one = manifest.plan, manifest.sources[source]
    held_out = manifest.accounting.validation_tokens if one.validation_tokens is None else one.validation_tokens
    used = sum(
        tokens_per_step(plan, phase, manifest.build.fill) * plan.phases[phase].num_steps
        for phase in range(stop)
        if manifest.lone_sources[phase] == source
    )
    return epochs_begun(used, max(1, one.tokens - held_out))


def _built_weights(manifest: Manifest, plan: Plan) -> tuple[tuple[int, ...], ...]:
    mixture = manifest.build.mixture
    return mixture.weights[: len(plan.phases)] if mixture else ()


def _passes(manifest: Manifest, plan: Plan, mixture: Mixture) -> list[str]:
    """NAME=N of sources that are passed over more than once."""
    used, passes = consumed_of_sources(manifest, plan, mixture), []
    for source, tokens in zip(manifest.sources, used, strict=False):
        epochs = epochs_begun(tokens, max(1, source.tokens - (source.validation_tokens or 0)))
        passes += [f"{source.name}={epochs}"] if epochs > 1 else []
    return passes


def _weights(mixture: Mixture, names: Sequence[str], plan: Plan) -> list[str]:
    """NAME=WEIGHT: the same everywhere, one for each phase that stands by itself, or by length."""
    rows = mixture.weights
    digits = max(len(str(weight)) for row in rows for weight in row)
    if len(set(rows)) == 1:
        return [f"{name}={_decimal(weight, digits)}" for name, weight in zip(names, rows[0], strict=True)]
    if SEPARATE in plan.schedule:
        return [f"{name}={','.join(_decimal(row[k], digits) for row in rows)}" for k, name in enumerate(names)]
    by_length = sorted((phase.seq_len, row) for phase, row in zip(plan.phases, rows, strict=True))
    start = plan.schedule.get("start_length")
    first = min(start, by_length[0][0]) if isinstance(start, int) else by_length[0][0]
    changes = [(first, by_length[0][1])]
    changes += [entry for before, entry in pairwise(by_length) if entry[1] != before[1]]
    return [
        f"{name}={','.join(f'{length}:{_decimal(row[k], digits)}' for length, row in changes)}"
        for k, name in enumerate(names)
    ]


def _decimal(weight: int, digits: int) -> str:
    """A weight of more digits than an option has room for, all of them moved behind the point alike."""
    if digits <= DIGITS:
        return str(weight)
    whole, rest = divmod(weight, 10**DIGITS)
    return f"{whole}.{rest:0{DIGITS}}"


def _gives(mixture: Mixture, sources: Sequence[str], weights: Sequence[str], plan: Plan) -> bool:
    try:
        named = named_sources((), sources, weights, (), 1)
        return mixture_of(named, [phase.seq_len for phase in plan.phases], None) == mixture
    except ConfigError:
        return False
