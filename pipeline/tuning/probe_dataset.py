"""A dataset for one probe: the first window of a candidate's full plan, cut from the token store that all probes share.

In:  the options of a build, a candidate, a number of steps, a folder.   Out: `ProbeDataset` in that folder.
Guarantee: the full plan is that of a build with the candidate's start length and warmup; lengths, rows and tokens of
the probe's steps are those of its first steps. Their rows are dealt from as much text as in the full build, and where
that is one window and holds out no more, they are its very rows. The corpus is tokenized once, by the first plan.

    8 -> 64 in 700 of 1,000 steps, 120 steps asked for, a window of 300      steps 0 .. 299, and one step of 64

More steps than a probe trains are cut: of a window that is as small as 120 steps of 8 tokens, a few documents would be
all that it ever saw. A step of the full length comes last where they do not reach it: `max_seq_len` is the longest row
of a dataset, models take the size of their position table from it, and held-out rows have that length. Of the held-out
documents as many as fill `VALIDATION_ROWS` rows are cut, those that hash lowest: held-out documents of the full build.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from curriculum.errors import ConfigError, PlanError
from curriculum.plan import Plan
from pipeline.build import build, prepare_plan
from pipeline.corpus_plan import CorpusPlan
from pipeline.option_fields import DEFAULT_MAX_LENGTH
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.tokenized_corpus import TokenizedCorpus
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.when_free import when_store_is_free
from pipeline.windows import split_windows, window_size

VALIDATION_ROWS = 64
"""Rows of the full length that a probe is validated on, and those that are held out where nobody says how much; more by
the rest of the last document, as documents are held out whole.
The same rows each time tell a fluctuation of 1.3 times without more, and 1 % of a large corpus would be gigabytes,
copied for each probe; a trainer that goes through all of it would validate for longer than it trains."""
MAX_TOKENS = 40 << 20
"""Cut for a probe where nobody says how large a window is: what one of 32 Mi may have. Those of large builds have up to
160 Mi, which would take four times as long; from 32 Mi a step of 512 rows sees about as many documents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeDataset:
    """What one probe trains on."""

    path: Path
    full_plan: Plan
    """of which it holds the first steps"""

    @property
    def decay_tokens(self) -> int:
        """Targets of the full training, which the learning rate is to decay over in a probe too."""
        return self.full_plan.total_tokens


def tunable(options: Options, say: Callable[[str], None]) -> Options:
    """The options as all probes and the build after them take them: with a store of their own and held-out documents.

    Raises:
        ConfigError: their schedule has no start length and duration that could be searched.
    """
    for what, (is_it, instead) in _not_tunable(options).items():
        if is_it:
            raise ConfigError(
                f"{what}: a tune looks for the start length and the length warmup of a growing schedule. {instead}"
            )
    if options.validation_tokens is None and options.validation_frac is None:
        seq_len = DEFAULT_MAX_LENGTH if options.max_length is None else options.max_length
        options = replace(options, validation_tokens=VALIDATION_ROWS * seq_len + 1)
        say(
            f"Nothing says how much text is held out for validation: at least {options.validation_tokens:,} tokens "
            f"are, {VALIDATION_ROWS} rows of {seq_len:,}. --validation-tokens or --validation-frac say otherwise."
        )
    return replace(options, store=options.store_address(), keep_store=True)


def _not_tunable(options: Options) -> dict[str, tuple[bool, str]]:
    return {
        "phases is given, which says the length of every step": (
            options.phases is not None,
            "Leave it out, also of the file that --config names.",
        ),
        "mode is 'document', where documents decide the lengths": (
            options.mode == "document",
            "Give --mode segment, truncate or best-fit, or leave it out.",
        ),
        "schedule is 'constant', which has one length": (
            options.schedule_name == "constant",
            "Give --schedule linear, root or step, or leave it out.",
        ),
    }


def candidate_options(options: Options, candidate: Candidate) -> Options:
    """The options of a full build with the candidate's warmup."""
    return replace(
        options,
        start_length=candidate.start_length,
        length_warmup_steps=candidate.length_warmup_steps,
        frac=None,
        length_warmup_tokens=None,
    )


def full_plan(options: Options, candidate: Candidate, progress: Progress) -> CorpusPlan:
    """The plan of the full training; the corpus is tokenized for it where the store does not hold it yet.

    Raises:
        PlanError, ConfigError, BuildError: as `pipeline.build.build`.
    """
    return _prepared(candidate_options(options, candidate), progress)[0]


def plan_and_corpus(options: Options, progress: Progress) -> tuple[Plan, TokenizedCorpus]:
    """The same for options that say how long the warmup is, with what the store holds of the corpus.

    Raises:
        PlanError, ConfigError, BuildError: as `pipeline.build.build`.
    """
    planned, tokenized = _prepared(options, progress)
    return planned.plan, tokenized


def _prepared(options: Options, progress: Progress) -> tuple[CorpusPlan, TokenizedCorpus]:
    return when_store_is_free(options, lambda: prepare_plan(options, progress), progress)


def require_steps(plan: Plan, num_steps: int) -> None:
    """Refuse a probe that is longer than the full training.

    Raises:
        PlanError: says how many steps that has.
    """
    if not 1 <= num_steps <= plan.total_steps:
        raise PlanError(
            f"A probe of {num_steps:,} steps is asked for, and the full training has {plan.total_steps:,}. Give it "
            f"more text, --steps, --tokens or --epochs, or ask for shorter probes."
        )


def steps_to_cut(planned: CorpusPlan, num_steps: int, shuffle_window: int | None) -> int:
    """How many first steps of a plan are cut for a probe: those of the first window, and all that are asked for.

    Raises:
        PlanError: the plan has fewer steps than asked for.
    """
    plan = planned.plan
    require_steps(plan, num_steps)
    windows = split_windows(plan, window_size(plan, shuffle_window), planned.fill)
    stop_step = windows[0].stop_step
    if shuffle_window is None and len(windows) > 1:
        stop_step = bisect_left(range(stop_step), MAX_TOKENS, key=plan.consumed_at)
    return max(num_steps, stop_step)


def first_steps(plan: Plan, stop_step: int) -> tuple[tuple[int, int], ...]:
    """`(seq_len, number of steps)` runs of the first steps, and one step of the full length where they lack it."""
    runs = tuple((plan.phases[phase].seq_len, steps) for phase, steps in plan.runs_between(0, stop_step))
    reached = max(seq_len for seq_len, _ in runs) == plan.max_seq_len
    return runs if reached else (*runs, (plan.max_seq_len, 1))


def probe_options(options: Options, planned: CorpusPlan, num_steps: int, out: Path) -> Options:
    """The options that build the first steps of a plan.

    Raises:
        PlanError: the plan has fewer steps.
    """
    stop_step = steps_to_cut(planned, num_steps, options.shuffle_window)
    limit = VALIDATION_ROWS * planned.plan.max_seq_len + 1
    if planned.held_out.tokens > limit:
        options = replace(options, validation_tokens=limit, validation_frac=None)
    return replace(
        options,
        phases=",".join(f"{seq_len}:{steps}" for seq_len, steps in first_steps(planned.plan, stop_step)),
        schedule=None,
        degree=None,
        stages=None,
        frac=None,
        length_warmup_steps=None,
        length_warmup_tokens=None,
        start_length=None,
        max_length=None,
        max_shapes=None,
        shapes_by=None,
        steps=None,
        tokens=None,
        out=str(out),
        overwrite=True,
    )


def cut_probe(options: Options, candidate: Candidate, num_steps: int, out: Path, progress: Progress) -> ProbeDataset:
    """Cut the dataset of a probe into a folder, in place of what an earlier probe has left there.

    Args:
        options: those that `tunable` returned.
        candidate: whose first steps.
        num_steps: how many.
        out: its folder, on a disk.
        progress: where it is shown.

    Raises:
        PlanError, ConfigError, BuildError: as `pipeline.build.build`; or the full training has fewer steps.
    """
    planned = full_plan(options, candidate, progress)
    first = probe_options(options, planned, num_steps, out)
    when_store_is_free(first, lambda: build(first, progress), progress)
    return ProbeDataset(path=out, full_plan=planned.plan)
