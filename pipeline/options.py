"""Options of `plan` and `build`: one table for flags, TOML keys, defaults and what is compared between two builds.

In:  flags, and a TOML file whose keys are the flags' names with underscores (flags win).
Out: `Options`, checked as far as that is possible without data.
Guarantee: numbers are exact (`frac` is a decimal, never a float); an unknown key is an error that suggests the nearest;
options that contradict each other are refused before anything is read.

    # small.toml
    schedule = "linear"
    frac = 0.3            ->  load_options(Path("small.toml"), {"max_length": 256}).warmup() == Fraction(3, 10)
    max_length = 512
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

from curriculum.errors import ConfigError
from curriculum.plan import Batch, Budget, Plan, check_request, compile_plan
from curriculum.schedule import ExplicitPhases, Pacing, parse_frac, parse_phases
from pipeline.engines.local import num_cores

DEFAULT_BATCH_ROWS = 16
DEFAULT_FRAC = "0.3"
DEFAULT_DEGREE = {"root": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Everything that can be said to `plan` and `build`; None means not said."""

    corpus: tuple[str, ...] = ()
    schedule: str = "linear"
    degree: int | None = None
    frac: Decimal | None = None
    length_warmup_steps: int | None = None
    start_length: int | None = None
    max_length: int | None = None
    multiple_of: int = 8
    phases: str | None = None
    batch_rows: int | None = None
    batch_tokens: int | None = None
    rows_multiple_of: int | None = None
    steps: int | None = None
    tokens: int | None = None
    epochs: int = 1
    corpus_tokens: int | None = None
    mode: str = "segment"
    tokenizer: str = "train:8192"
    eos: str | None = None
    bos: str = "none"
    text_key: str = "text"
    on_bad_record: str = "stop"
    seed: int = 0
    validation_tokens: int | None = None
    validation_frac: Decimal | None = None
    shuffle_window: int | None = None
    shard_bytes: int = 256 << 20
    unit_bytes: int | None = None
    backend: str = "auto"
    engine: str = "local"
    workers: int | None = None
    out: str = "curriculum-data"
    store: str | None = None
    keep_store: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}.")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 2**62:
                raise ConfigError(f"{name} is {value}; give 1 or more, at most 2**62.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; give an integer from 0 to 2**63 - 1.")
        self._check_folders()
        self._refuse_pairs()

    def _check_folders(self) -> None:
        if self.store == "" or self.out == "":
            raise ConfigError("out or store is empty; name a folder, `.` for the current one.")
        for name, folder in (("out", self.out), ("store", self.store or "")):
            value = os.path.abspath(folder) if "\0" not in folder else folder  # noqa: PTH100 - only the name counts
            if any("\ud800" <= char <= "\udfff" or char == "\0" for char in value):
                raise ConfigError(f"{name} is {value!r}, which is no UTF-8 name; give a folder with one.")
        out, store = Path(self.out).resolve(), self.store_folder().resolve()
        if out == store or out in store.parents or store in out.parents:
            raise ConfigError(f"out is {out} and store is {store}; neither may lie in the other: give another --store.")

    def _refuse_pairs(self) -> None:
        if self.store is not None and not self.keep_store:
            raise ConfigError(
                "no_keep_store and store are both given; a named store may serve other builds: leave one out."
            )
        for one, other in EXCLUSIVE:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ConfigError(f"{one} and {other} are both given; they contradict each other: give one.")
        if self.schedule == "constant":
            self._refuse_with("schedule 'constant'", *ONLY_GROWING)
        if self.phases is not None:
            self._refuse_with("phases", *NOT_WITH_PHASES)
        if self.schedule != "root":
            self._refuse_with(f"schedule {self.schedule!r}", "degree")

    def _refuse_with(self, what: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} is given together with {what}, which has no use for it: leave one of them out."
                )

    def pacing(self) -> Pacing | ExplicitPhases:
        """The schedule without its duration."""
        if self.phases is not None:
            return parse_phases(self.phases, multiple_of=self.multiple_of)
        max_length = 1024 if self.max_length is None else self.max_length
        if self.schedule == "constant":
            return Pacing.constant(max_length, self.multiple_of)
        return Pacing(
            name=self.schedule,
            start_length=8 if self.start_length is None else self.start_length,
            max_length=max_length,
            multiple_of=self.multiple_of,
            degree=self.degree if self.degree is not None else DEFAULT_DEGREE.get(self.schedule, 1),
        )

    def warmup(self) -> Fraction | int | None:
        """Duration of the length warmup: a share of the steps, or a number of them."""
        if self.phases is not None or self.schedule == "constant":
            return None
        if self.length_warmup_steps is not None:
            return self.length_warmup_steps
        return parse_frac(str(DEFAULT_FRAC if self.frac is None else self.frac))

    def batch(self) -> Batch:
        """Rows or tokens per step; 16 rows if nothing is said."""
        rows = DEFAULT_BATCH_ROWS if self.batch_rows is None and self.batch_tokens is None else self.batch_rows
        return Batch(rows=rows, tokens=self.batch_tokens, rows_multiple_of=self.rows_multiple_of)

    def budget(self, corpus_tokens: int | None) -> Budget:
        """What ends the run; `corpus_tokens` is the length of one epoch, None if unknown."""
        return Budget(steps=self.steps, tokens=self.tokens, corpus_tokens=corpus_tokens, epochs=self.epochs)

    def compile_plan(self, corpus_tokens: int | None) -> Plan:
        """The plan for a corpus of that many training tokens.

        Raises:
            PlanError: it cannot work.
        """
        return compile_plan(
            pacing=self.pacing(),
            warmup=self.warmup(),
            batch=self.batch(),
            budget=self.budget(corpus_tokens),
            mode=self.mode,
        )

    def check(self) -> None:
        """Refuse what cannot work whatever the corpus is."""
        check_request(
            pacing=self.pacing(),
            warmup=self.warmup(),
            batch=self.batch(),
            budget=self.budget(None),
            mode=self.mode,
        )
        self.validation_share()

    def validation_share(self) -> Fraction | None:
        """Share of the texts that is held out."""
        return None if self.validation_frac is None else parse_frac(str(self.validation_frac), name="validation_frac")

    def num_workers(self) -> int:
        """Worker processes: one per core unless said otherwise."""
        return self.workers or num_cores()

    def store_folder(self) -> Path:
        """Where the token store is: beside the output unless said otherwise."""
        out = Path(os.path.abspath(self.out))  # noqa: PTH100 - "." has a name only then, and links must stay links
        return Path(self.store) if self.store is not None else out.parent / f"{out.name}.store"

    def identity(self) -> dict[str, Any]:
        """What two builds must have in common to be the same build, besides the corpus itself."""
        said = {name: getattr(self, name) for name in CHANGES_BYTES}
        return {**said, **self._resolved()}

    def _resolved(self) -> dict[str, Any]:
        """The schedule and the batch with their defaults: `--frac 0.3` asks for the same as saying nothing."""
        pacing, batch, warmup = self.pacing(), self.batch(), self.warmup()
        resolved: dict[str, Any] = {
            "frac": str(warmup) if isinstance(warmup, Fraction) else None,
            "validation_frac": None if self.validation_frac is None else str(self.validation_share()),
            "batch_rows": batch.rows,
            "rows_multiple_of": batch.rows_multiple_of,
        }
        if isinstance(pacing, Pacing):
            resolved |= {name: getattr(pacing, name) for name in ("start_length", "max_length", "degree")}
        return resolved


CHOICES = {
    "schedule": ("linear", "root", "constant"),
    "mode": ("segment", "truncate"),
    "bos": ("none", "document"),
    "on_bad_record": ("stop", "skip"),
    "backend": ("auto", "tokenizers", "fastokens"),
    "engine": ("local",),
}
POSITIVE = (
    "shuffle_window",
    "shard_bytes",
    "unit_bytes",
    "workers",
    "validation_tokens",
    "epochs",
    "corpus_tokens",
)
EXCLUSIVE = (
    ("frac", "length_warmup_steps"),
    ("batch_rows", "batch_tokens"),
    ("steps", "tokens"),
    ("validation_tokens", "validation_frac"),
    ("corpus_tokens", "validation_tokens"),  # corpus_tokens counts what is trained on
    ("corpus_tokens", "validation_frac"),
)
ONLY_GROWING = ("frac", "length_warmup_steps", "start_length", "degree", "phases")
"""Options without a meaning for a constant length."""
NOT_WITH_PHASES = ("frac", "length_warmup_steps", "start_length", "max_length", "degree", "steps", "tokens")
"""Options without a meaning for explicit phases."""
CHANGES_NOTHING = frozenset(
    (
        "corpus",
        "corpus_tokens",
        "unit_bytes",
        "backend",
        "engine",
        "workers",
        "out",
        "store",
        "keep_store",
        "overwrite",
    )
)
"""Options that do not change the bytes of a dataset; the corpus is compared by its files."""
CHANGES_BYTES = tuple(f.name for f in fields(Options) if f.name not in CHANGES_NOTHING)


def load_options(config: Path | None, flags: Mapping[str, Any]) -> Options:
    """Options from a TOML file (or none) and flags; flags win.

    Raises:
        ConfigError: a key is unknown or has the wrong type, or two options contradict each other.
    """
    values = _read_toml(config) if config else {}
    # A flag also wins over the key that it contradicts: --steps on the command line replaces tokens of the file.
    for one, other in (*EXCLUSIVE, *(pair[::-1] for pair in EXCLUSIVE)):
        if one in flags:
            values.pop(other, None)
    for name in _contradicted(flags):
        values.pop(name, None)
    return Options(**{**values, **flags})


def _contradicted(flags: Mapping[str, Any]) -> set[str]:
    """Keys of a file that make no sense beside these flags."""
    contradicted: set[str] = set()
    if flags.get("schedule") == "constant":
        contradicted |= set(ONLY_GROWING)
    elif "schedule" in flags and flags["schedule"] != "root":
        contradicted |= {"degree"}
    if "phases" in flags:
        contradicted |= set(NOT_WITH_PHASES)
    elif set(NOT_WITH_PHASES) & set(flags):
        contradicted |= {"phases"}
    return contradicted - set(flags)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None
    hints = get_type_hints(Options)
    values = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key.replace("-", "_"), hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(hints)}."
            raise ConfigError(f"{path}: unknown key {key!r}; {hint}")
        values[key] = _typed(path, key, value, hints[key])
    return values


def _typed(path: Path, key: str, value: Any, hint: Any) -> Any:
    """The value as the option's type; booleans are not integers, integers are decimals."""
    wanted = (
        [kind for kind in get_args(hint) if kind is not type(None)] if isinstance(hint, types.UnionType) else [hint]
    )
    kind = wanted[0]
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(str(path.parent / item) for item in value)
    if kind is Decimal and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    name = {int: "an integer", str: "a string", bool: "true or false", Decimal: "a number"}.get(
        kind, "a list of strings"
    )
    raise ConfigError(f"{path}: {key} is {value!r}, expected {name}.")
