"""`curriculum train`: the reference trainer with a progress bar, and what it says at the end.

In:  settings by name.   Out: an `Outcome`, and its text.
Guarantees: of the processes of torchrun, one speaks; what libraries print meanwhile goes to stderr (DeepSpeed, where it
is installed, warns on stdout as transformers loads it); who interrupts a run is told whether the same command continues
it, and who continues one, from which step.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Any

import curriculum
from curriculum.errors import ConfigError, CurriculumError
from pipeline.interruption import AGAIN, continued_by
from pipeline.progress import Advance, Progress, Silent

if TYPE_CHECKING:
    from curriculum.stability_log import Record
    from curriculum.training import Outcome


def is_first_process() -> bool:
    """Whether this process speaks: the only one, or the first of torchrun's."""
    from curriculum.training.processes import rank_of_torchrun

    return not rank_of_torchrun()


def train_model(given: Mapping[str, Any], progress: Progress) -> Outcome:
    """Train as `curriculum.training.train`.

    Raises:
        CurriculumError: as it; and ConfigError, where torch or transformers is missing.
    """
    with redirect_stdout(sys.stderr):
        return _train(given, progress)


def _train(given: Mapping[str, Any], progress: Progress) -> Outcome:
    try:
        from curriculum.training import Settings, train
    except ImportError as error:
        raise ConfigError(f"{error}.") from None
    settings = Settings(**given)
    reader = curriculum.open(settings.dataset)
    watched = progress if is_first_process() else Silent()
    if reader.validation is None:
        _require_none_wanted(given, settings.dataset)
        watched.say(f"{settings.dataset}: no held-out rows, so nothing is validated; build with --validation-tokens N.")
    stop = settings.steps or reader.plan.total_steps
    if not is_first_process():
        continued_by("The first process says how it continues.")
    elif not settings.checkpoint_path.exists():
        first_saved = min(settings.save_every, stop)
        continued_by(f"Nothing is saved before step {first_saved:,} (--save-every), so the same command begins anew.")
    with ExitStack() as until_end:
        advance: Advance | None = None
        done = 0

        def watch(record: Record) -> None:
            nonlocal advance, done
            if advance is None:  # not before: neither the loading of a model nor steps of an earlier call are a rate
                if record["step"]:
                    watched.say(f"{settings.checkpoint_path}: goes on at step {record['step']:,}.")
                advance = until_end.enter_context(watched.stage("train", total=stop, unit="steps"))
            advance(record["step"] + 1 - done)
            done = record["step"] + 1
            if done == stop or done % settings.save_every == 0:
                continued_by(AGAIN)
            if math.isfinite(record.get("validation_loss", math.nan)):
                watched.say(
                    f"step {record['step']}: length {record['seq_len']}, loss {record['loss']:.4f}, "
                    f"{record['validation_loss']:.4f} on held-out rows"
                )

        return train(settings, watch)


def _require_none_wanted(given: Mapping[str, Any], dataset: str) -> None:
    """Refuse options of a validation that cannot be.

    Raises:
        ConfigError: names the first.
    """
    for name in ("validate_every", "validation_rows"):
        if name in given:
            raise ConfigError(
                f"--{name.replace('_', '-')}: {dataset} has no held-out rows to validate on; build it with "
                f"--validation-tokens N, or leave out the option."
            )


def require_finite(outcome: Outcome) -> None:
    """End the command with a failure where the loss did.

    Raises:
        CurriculumError: the run diverged.
    """
    if outcome.diverged:
        raise CurriculumError(
            f"Loss, gradients or weights of step {outcome.steps - 1} are not finite: the run diverged. {outcome.log} "
            f"has how it came to "
            f"that (curriculum stability {outcome.log}); a lower --lr, or a longer --lr-warmup-steps, may hold."
        )


def outcome_text(outcome: Outcome) -> str:
    """A few lines for people."""
    lines = [f"trained  {outcome.steps:,} steps, {outcome.tokens:,} tokens, {outcome.parameters:,} parameters"]
    if outcome.loss is None:
        lines.append("         all of them before: nothing was left to train")
    else:
        lines.append(f"loss     {outcome.loss:.4f} in the last step")
    if outcome.validation_loss is not None and not outcome.diverged:
        lines.append(f"         {outcome.validation_loss:.4f} on held-out rows of full length")
    return "\n".join([*lines, f"log      {outcome.log}"])
