"""What can be said to `plan` and `build`: the names, their defaults, and what follows from one or two of them.

In:  values by name.   Out: `OptionFields`, a value whose contradictions nobody has looked for; `Options` is checked.
Guarantee: numbers are exact (`frac` is a decimal, never a float); None means not said.

    OptionFields(out="a/b").store_address()         "<the current folder>/a/b.store"
    OptionFields(mode="document").schedule_name     "grow-p2"
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction

from curriculum.about_entry import About, said_about
from curriculum.schedule import parse_frac
from pipeline.engines.cores import num_cores
from pipeline.files.address import dataset_files, is_url, store_files
from pipeline.files.contract import Files
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.sources import NamedSource, named_sources
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
class OptionFields:
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
    license: str | None = None
    language: tuple[str, ...] = ()
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

    def stored(self) -> Stored | None:
        """How the ids of a corpus that was tokenized elsewhere are stored; None for texts."""
        if self.tokenized is None:
            return None
        return Stored(format=self.tokenized, dtype=self.ids_dtype, key=self.ids_key or DEFAULT_IDS_KEY)

    def about(self) -> About:
        """Licence and languages of the dataset."""
        return said_about(self.license, self.language)

    def validation_share(self) -> Fraction | None:
        """Share of the texts that is held out."""
        return None if self.validation_frac is None else parse_frac(str(self.validation_frac), name="validation_frac")

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


DEFAULTS = {f.name: f.default for f in fields(OptionFields)}
