"""Options of `plan` and `build`: one table of names, defaults, contradictions, and what is compared between two builds.

In:  values by name (`pipeline/option_sources.py` collects them from flags, TOML and imported configurations).
Out: `Options`, checked as far as that is possible without data, and the schedule, batch and budget they describe.
Guarantee: numbers are exact (`frac` is a decimal, never a float); options that contradict each other are refused before
anything is read.

    Options(frac=Decimal("0.3"), max_length=512).warmup()      Fraction(3, 10)
    Options(mode="document").curriculum()                      DocumentCurriculum(name="grow-p2", start_length=8, ...)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from curriculum.document_plan import DocumentCurriculum, check_document_request, compile_document_plan
from curriculum.errors import ConfigError, PlanError
from curriculum.manifest import PACKED_MODES
from curriculum.plan import Batch, Budget, Plan, check_request, compile_plan
from curriculum.request import Request
from curriculum.schedule import (
    DOCUMENT_CURRICULA,
    PACING_NAMES,
    ExplicitPhases,
    Pacing,
    TokenWarmup,
    parse_frac,
    parse_phases,
)
from pipeline.engines.local import num_cores
from pipeline.files.address import (
    check_url,
    check_writable,
    dataset_files,
    is_below,
    is_url,
    refuse_secret,
    store_files,
)
from pipeline.files.contract import Files
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.option_rules import (
    CHOICES,
    EXCLUSIVE,
    NOT_WITH_DOCUMENTS,
    NOT_WITH_PHASES,
    NOT_WITH_TOKENIZED,
    ONLY_FOR_SCHEDULE,
    ONLY_FOR_TOKENIZED,
    ONLY_GROWING,
    POSITIVE,
)
from pipeline.sources import CORPUS, NamedSource, check_weights, named_sources
from pipeline.tokenized.formats import Stored

DEFAULT_BATCH_ROWS = 16
DEFAULT_FRAC = "0.3"
DEFAULT_DEGREE = {"root": 2}
DEFAULT_STAGES = {"step": 2}
DEFAULT_MULTIPLE_OF = 8
DEFAULT_SHAPES_BY = "relative"
DEFAULT_START_LENGTH = 8
DEFAULT_MAX_LENGTH = 1024
DEFAULT_IDS_KEY = "input_ids"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Everything that can be said to `plan` and `build`; None means not said."""

    corpus: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    weight: tuple[str, ...] = ()
    source_epochs: tuple[str, ...] = ()
    schedule: str | None = None
    degree: int | None = None
    stages: int | None = None
    cycles: int | None = None
    balanced: bool = False
    frac: Decimal | None = None
    length_warmup_steps: int | None = None
    length_warmup_tokens: int | None = None
    start_length: int | None = None
    max_length: int | None = None
    multiple_of: int | None = None
    max_shapes: int | None = None
    shapes_by: str | None = None
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
    tokenized: str | None = None
    ids_dtype: str | None = None
    ids_key: str | None = None
    tokenizer_check: str = "stop"
    on_bad_record: str = "stop"
    seed: int = 0
    validation_tokens: int | None = None
    validation_frac: Decimal | None = None
    shuffle_window: int | None = None
    shard_bytes: int = 256 << 20
    unit_bytes: int | None = None
    backend: str = "auto"
    engine: str = "local"
    ray_address: str | None = None
    workers: int | None = None
    out: str = "curriculum-data"
    store: str | None = None
    keep_store: bool = True
    overwrite: bool = False
    storage_option: StorageOptions = NO_OPTIONS

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in (None, *allowed):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}.")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 2**62:
                raise ConfigError(f"{name} is {value}; give 1 or more, at most 2**62.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}; give an integer from 0 to 2**63 - 1.")
        self._check_folders()
        self._refuse_pairs()
        self._check_tokenized()
        self._check_sources()

    def _check_sources(self) -> None:
        if not self.is_mixture:
            self.sources()
            for name in ("weight", "source_epochs"):
                if getattr(self, name):
                    raise ConfigError(
                        f"{name} is given, and there is one source, {self.source_names[0]!r}; it fills every row, for "
                        f"as many epochs as epochs says: leave {name} out, or name another source."
                    )
            return
        if self.mode in PACKED_MODES:
            raise ConfigError(
                f"mode is {self.mode!r} and there are {len(self.source_names)} sources; rows of several sources are "
                f"cut in mode segment or truncate: use one of them, or one source."
            )
        if self.corpus_tokens is not None:
            raise ConfigError(
                "corpus_tokens is given together with several sources, of which it does not say how large each is: "
                "leave it out, and give steps or the sources themselves."
            )
        entries = None if self.phases is None else len(self.phases.split(","))
        check_weights(self.sources(), self.pacing().lengths, entries)

    def sources(self) -> tuple[NamedSource, ...]:
        """What the corpus consists of: one source called `corpus` unless sources are named."""
        return named_sources(self.corpus, self.source, self.weight, self.source_epochs, self.epochs)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources, in the order in which they were named."""
        return tuple(one.name for one in self.sources())

    @property
    def is_mixture(self) -> bool:
        """Whether there are several sources."""
        return len({entry.partition("=")[0] for entry in self.source or self.weight}) > 1

    def _check_tokenized(self) -> None:
        """Ids that exist need the tokenizer that made them."""
        if self.tokenized is not None and (self.tokenizer == "bytes" or self.tokenizer.startswith("train:")):
            raise ConfigError(
                f"tokenized is {self.tokenized!r} and tokenizer is {self.tokenizer!r}; the ids were made by a "
                f"tokenizer that exists: give the path of its tokenizer.json."
            )

    def _check_folders(self) -> None:
        if self.store == "" or self.out == "":
            raise ConfigError("out or store is empty; name a folder, `.` for the current one.")
        for what in ("corpus", "source"):
            for entry in getattr(self, what):
                refuse_secret(what, entry)
        for source in self.sources():
            for path in filter(is_url, source.paths):
                check_url("corpus" if self.corpus else f"source {source.name!r}", path)
        for name, folder in (("out", self.out), ("store", self.store or "")):
            if is_url(folder):
                check_writable(name, folder)
                continue
            value = os.path.abspath(folder) if "\0" not in folder else folder  # noqa: PTH100 - only the name counts
            if any("\ud800" <= char <= "\udfff" or char == "\0" for char in value):
                raise ConfigError(f"{name} is {value!r}, which is no UTF-8 name; give a folder with one.")
        self._refuse_nested()

    def _refuse_nested(self) -> None:
        out, store = self.out, self.store_address()
        if is_url(out) != is_url(store):
            return
        if is_url(out):
            nested = is_below(out, store) or is_below(store, out)
        else:
            out, store = (str(Path(folder).resolve()) for folder in (out, store))
            nested = Path(out).is_relative_to(store) or Path(store).is_relative_to(out)
        if nested:
            raise ConfigError(f"out is {out} and store is {store}; neither may lie in the other: give another --store.")

    def _refuse_pairs(self) -> None:
        if self.store is not None and not self.keep_store:
            raise ConfigError(
                "no_keep_store and store are both given; a named store may serve other builds: leave one out."
            )
        for one, other in EXCLUSIVE:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ConfigError(f"{one} and {other} are both given; they contradict each other: give one.")
        if self.ray_address is not None and self.engine != "ray":
            raise ConfigError(
                f"ray_address is given and engine is {self.engine!r}; give --engine ray, or leave the address out."
            )
        for what, names in self._useless():
            for name in names:
                if getattr(self, name) not in (None, False, DEFAULTS[name]):
                    raise ConfigError(
                        f"{name} is given together with {what}, which has no use for it: leave one of them out."
                    )

    def _useless(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Options without a meaning beside others, and what makes them so."""
        name = self.schedule_name
        if self.mode == "document":
            yield "mode 'document'", NOT_WITH_DOCUMENTS
        elif name in DOCUMENT_CURRICULA:
            raise ConfigError(
                f"schedule is {name!r} in mode {self.mode!r}; it orders whole documents: use mode document."
            )
        if name == "constant":
            yield "schedule 'constant'", ONLY_GROWING
        if self.phases is not None:
            yield "phases", NOT_WITH_PHASES
            if not parse_phases(self.phases, multiple_of=self.alignment).is_open:
                yield "phases that say how many steps there are (the last may be LEN:*)", ("steps", "tokens")
        for option, schedules in ONLY_FOR_SCHEDULE.items():
            if name not in schedules:
                yield f"schedule {name!r}", (option,)
        for option, formats in ONLY_FOR_TOKENIZED.items():
            if self.tokenized not in formats:
                yield "a corpus of texts" if self.tokenized is None else f"tokenized {self.tokenized!r}", (option,)
        if self.tokenized is not None:
            yield f"tokenized {self.tokenized!r}", NOT_WITH_TOKENIZED

    @property
    def schedule_name(self) -> str:
        """The schedule asked for: linear unless said otherwise, grow-p2 in document mode."""
        if self.schedule is not None:
            return self.schedule
        return "grow-p2" if self.mode == "document" else "linear"

    @property
    def alignment(self) -> int:
        """All lengths are multiples of this."""
        return DEFAULT_MULTIPLE_OF if self.multiple_of is None else self.multiple_of

    def curriculum(self) -> DocumentCurriculum | None:
        """The buckets and their order in document mode; None in the other modes."""
        if self.mode != "document":
            return None
        if self.schedule_name not in DOCUMENT_CURRICULA:
            raise PlanError(
                f"schedule is {self.schedule_name!r} in mode 'document'; choose one of {', '.join(DOCUMENT_CURRICULA)}."
            )
        return DocumentCurriculum(
            name=self.schedule_name,
            start_length=DEFAULT_START_LENGTH if self.start_length is None else self.start_length,
            max_length=DEFAULT_MAX_LENGTH if self.max_length is None else self.max_length,
            cycles=self.cycles,
            balanced=self.balanced,
            seed=self.seed,
        )

    def pacing(self) -> Pacing | ExplicitPhases:
        """The schedule without its duration, in all modes but document."""
        if self.phases is not None:
            separate = self.is_mixture and any(one.weight and one.weight.by_phase for one in self.sources())
            return parse_phases(self.phases, multiple_of=self.alignment, separate=separate)
        max_length = DEFAULT_MAX_LENGTH if self.max_length is None else self.max_length
        if self.schedule_name == "constant":
            return Pacing.constant(max_length, self.alignment)
        return Pacing(
            name=self.schedule_name,
            start_length=DEFAULT_START_LENGTH if self.start_length is None else self.start_length,
            max_length=max_length,
            multiple_of=self.alignment,
            degree=self.degree if self.degree is not None else DEFAULT_DEGREE.get(self.schedule_name, 1),
            stages=self.stages if self.stages is not None else DEFAULT_STAGES.get(self.schedule_name),
        )

    def warmup(self) -> Fraction | int | TokenWarmup | None:
        """Duration of the length warmup: a share of the steps, or a number of steps or trained tokens."""
        if self.phases is not None or self.schedule_name == "constant":
            return None
        if self.length_warmup_steps is not None:
            return self.length_warmup_steps
        if self.length_warmup_tokens is not None:
            return TokenWarmup(tokens=self.length_warmup_tokens)
        return parse_frac(str(DEFAULT_FRAC if self.frac is None else self.frac))

    def batch(self) -> Batch:
        """Rows or tokens per step; 16 rows if nothing is said."""
        rows = DEFAULT_BATCH_ROWS if self.batch_rows is None and self.batch_tokens is None else self.batch_rows
        return Batch(rows=rows, tokens=self.batch_tokens, rows_multiple_of=self.rows_multiple_of)

    def budget(self, corpus_tokens: int | None, fill: Mapping[int, int] | None = None) -> Budget:
        """What ends the run; `corpus_tokens` is the length of one epoch, None if unknown."""
        return Budget(steps=self.steps, tokens=self.tokens, corpus_tokens=corpus_tokens, epochs=self.epochs, fill=fill)

    def compile_plan(
        self,
        corpus_tokens: int | None,
        rows_by_length: Mapping[int, int] | None = None,
        fill: Mapping[int, int] | None = None,
    ) -> Plan:
        """The plan for a corpus of that many training tokens.

        Args:
            corpus_tokens: training tokens of one epoch, None if unknown.
            rows_by_length: rows that the documents give to each length, which document mode is planned by.
            fill: how full rows of each length get, which best-fit mode is planned by.

        Raises:
            PlanError: it cannot work.
        """
        curriculum = self.curriculum()
        if curriculum is not None:
            return compile_document_plan(
                curriculum=curriculum,
                rows_by_length=rows_by_length or {},
                batch=self.batch(),
                steps=self.steps,
                tokens=self.tokens,
            )
        return compile_plan(**self._request(corpus_tokens, fill))

    def check(self) -> None:
        """Refuse what cannot work whatever the corpus is."""
        curriculum = self.curriculum()
        if curriculum is not None:
            check_document_request(curriculum, self.batch(), steps=self.steps, tokens=self.tokens)
        else:
            check_request(**self._request(None))
        self.validation_share()

    def _request(self, corpus_tokens: int | None, fill: Mapping[int, int] | None = None) -> dict[str, Any]:
        return {
            "pacing": self.pacing(),
            "warmup": self.warmup(),
            "batch": self.batch(),
            "budget": self.budget(corpus_tokens, fill),
            "mode": self.mode,
            "max_shapes": self.max_shapes,
            "shapes_by": self.shapes_by or DEFAULT_SHAPES_BY,
        }

    def request(self, corpus_tokens: int | None) -> Request:
        """What `compile_plan` solves, in all modes but document."""
        return Request(**self._request(corpus_tokens))

    def validation_share(self) -> Fraction | None:
        """Share of the texts that is held out."""
        return None if self.validation_frac is None else parse_frac(str(self.validation_frac), name="validation_frac")

    def stored(self) -> Stored | None:
        """How the ids of a corpus that was tokenized elsewhere are stored; None for texts."""
        if self.tokenized is None:
            return None
        return Stored(format=self.tokenized, dtype=self.ids_dtype, key=self.ids_key or DEFAULT_IDS_KEY)

    def num_workers(self) -> int:
        """Worker processes: one per core unless said otherwise."""
        return self.workers or num_cores()

    def store_address(self) -> str:
        """Where the token store is: beside the output unless said otherwise; a path is absolute."""
        store = self.store
        if store is None:
            # "." has a name only as an absolute path, and links must stay links.
            out = self.out.rstrip("/") if is_url(self.out) else os.path.abspath(self.out)  # noqa: PTH100
            store = f"{out}.store"
        return store.rstrip("/") if is_url(store) else os.path.abspath(store)  # noqa: PTH100

    def store_files(self) -> Files:
        """The place of the token store."""
        return store_files(self.store_address(), self.storage_option)

    def out_files(self) -> Files:
        """The place of the dataset."""
        return dataset_files(self.out, self.storage_option)

    def identity(self) -> dict[str, Any]:
        """What two builds must have in common to be the same build, besides the corpus itself."""
        said = {name: getattr(self, name) for name in CHANGES_BYTES}
        return {**said, **self._resolved()}

    def _resolved(self) -> dict[str, Any]:
        """The schedule and the batch with their defaults: `--frac 0.3` asks for the same as saying nothing."""
        batch, curriculum = self.batch(), self.curriculum()
        warmup = self.warmup() if curriculum is None else None
        resolved: dict[str, Any] = {
            "schedule": None if self.phases is not None else self.schedule_name,
            "frac": str(warmup) if isinstance(warmup, Fraction) else None,
            "validation_frac": None if self.validation_frac is None else str(self.validation_share()),
            "batch_rows": batch.rows,
            "rows_multiple_of": batch.rows_multiple_of,
        }
        if self.is_mixture:
            resolved["sources"] = {
                one.name: {"weight": str(one.weight or ""), "epochs": one.epochs} for one in self.sources()
            }
        elif self.source_names != (CORPUS,):
            resolved["sources"] = self.source_names
        if curriculum is not None:
            return resolved | {name: getattr(curriculum, name) for name in ("start_length", "max_length", "cycles")}
        resolved |= {
            "multiple_of": self.alignment,
            "shapes_by": (self.shapes_by or DEFAULT_SHAPES_BY) if self.max_shapes is not None else None,
        }
        pacing = self.pacing()
        if isinstance(pacing, Pacing):
            resolved |= {name: getattr(pacing, name) for name in ("start_length", "max_length", "degree", "stages")}
            if pacing.name not in PACING_NAMES:  # the function behind a name may change
                arrivals = ",".join(map(str, pacing.arrivals(2**40)))
                resolved["curve"] = hashlib.sha256(arrivals.encode()).hexdigest()
        return resolved


DEFAULTS = {f.name: f.default for f in fields(Options)}


def phases_are_closed(phases: str | None) -> bool:
    """Whether these phases say themselves how many steps there are: the last one is not `LEN:*`."""
    return phases is not None and not phases.rstrip().endswith("*")


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
    )
)
"""Options that do not change the bytes of a dataset; the corpus is compared by its files."""
CHANGES_BYTES = tuple(f.name for f in fields(Options) if f.name not in CHANGES_NOTHING)
