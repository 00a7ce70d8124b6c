"""The manifest: the one file that says what a dataset is. Written last; its presence is the commit.

In:  `manifest.json`, possibly damaged or hostile.   Out: `Manifest`, checked completely.
Guarantee: no times, hosts or absolute paths, so equal builds have equal manifests. `id` is the sha256 of the canonical
JSON (sorted keys, no spaces, UTF-8) without `id`. A path that could leave the dataset, a number that does not add up or
a required feature that this version does not know is refused before any shard is opened.

    {"format": "curriculum-dataset", "version": 1, "requires": [], "id": "sha256:...", "plan": {...}, ...}

`requires` is how the format grows: a release that does not know a name in it refuses the dataset in one sentence,
instead of training on padding. It holds "packed" where rows are packed (mode document and best-fit), "mixture" where
they come from several sources, "extended" after an extension and "added-sources" if one of them brought new text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curriculum.about_entry import NOTHING_SAID, About, read_about
from curriculum.accounting import Accounting as Accounting
from curriculum.accounting import read_accounting, require_adds_up
from curriculum.build_entry import BuildEntry as BuildEntry
from curriculum.build_entry import read_build
from curriculum.errors import DataError
from curriculum.extension import added_sources, lone_sources
from curriculum.json_object import JsonObject
from curriculum.mixture_entry import require_added_fit, require_mixture_fits
from curriculum.phase_entry import PhaseEntry as PhaseEntry
from curriculum.phase_entry import ShardEntry as ShardEntry
from curriculum.phase_entry import check_shards, read_phase, require_paths_differ
from curriculum.plan import Plan
from curriculum.printable import printable_text, shown
from curriculum.regular_file import MAX_JSON_BYTES, read_regular
from curriculum.shard_format import token_dtype, token_itemsize
from curriculum.source_entry import SourceEntry as SourceEntry
from curriculum.source_entry import read_source
from curriculum.tokenizer_entry import HubOrigin as HubOrigin
from curriculum.tokenizer_entry import TokenizerEntry as TokenizerEntry
from curriculum.tokenizer_entry import read_tokenizer

FORMAT = "curriculum-dataset"
VERSION = 1
PACKED = "packed"
"""Rows are pieces of documents laid end to end, then padding: three more columns, inputs without a target."""
PACKED_MODES = ("document", "best-fit")
MIXTURE = "mixture"
"""Rows come from several sources: each has a stream of its own, and `build.mixture` says how many rows it gives."""
EXTENDED = "extended"
"""Steps were added to a finished dataset: windows begin anew there, `build.extensions` names the datasets before."""
ADDED = "added-sources"
"""An extension is of new text: `source` in its entry names it, and rows before it are dealt as if it were not there."""
MAX_SOURCES, MAX_PHASES = 4096, 1 << 17
"""A schedule has 65,536 phases at most, of sources there are hundreds: what is done for each pair has an end."""
MOST_NAMED = 8
"""Unknown features that a message names."""
KNOWN_FEATURES: frozenset[str] = frozenset({ADDED, EXTENDED, MIXTURE, PACKED})
"""Names that `requires` may hold; later versions of the format add some."""
FILE_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A dataset, described. `id` is derived from everything else."""

    plan: Plan
    tokenizer: TokenizerEntry
    dtype: str
    seed: int
    build: BuildEntry
    phases: tuple[PhaseEntry, ...]
    validation: PhaseEntry | None
    sources: tuple[SourceEntry, ...]
    accounting: Accounting
    requires: tuple[str, ...] = ()
    about: About = NOTHING_SAID
    """licence and languages; no key in the manifest if neither was said"""
    _id: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """`sha256:...` of everything else; of a manifest that was read, of the bytes that were read."""
        if self._id is None:
            object.__setattr__(self, "_id", content_id(self._body()))
        return self._id or ""

    @property
    def packed(self) -> bool:
        """Rows of the phases (never the held-out ones) are packed: not every input has a target."""
        return PACKED in self.requires

    @property
    def itemsize(self) -> int:
        """Bytes per stored token."""
        return token_itemsize(self.dtype)

    @property
    def num_built_sources(self) -> int:
        """The first so many sources are those that the dataset was built from; extensions added the others."""
        return len(self.sources) - len(added_sources(self.build.extensions))

    @property
    def lone_sources(self) -> tuple[int | None, ...]:
        """[num_phases] the source that all rows of a phase are cut from alone; None where several are mixed."""
        names = [source.name for source in self.sources]
        return lone_sources(self.build.extensions, names, len(self.plan.phases))

    def continues(self, dataset_id: str, step: int) -> bool:
        """Whether training that stands at a step of that dataset can go on here: it is this one, or one before."""
        parents = {entry.parent: entry.first_step for entry in self.build.extensions}
        return dataset_id == self.id or step <= parents.get(dataset_id, -1)

    @property
    def entries(self) -> tuple[PhaseEntry, ...]:
        """All phases, and the held-out rows after them if there are any."""
        return self.phases if self.validation is None else (*self.phases, self.validation)

    def to_json(self) -> dict[str, Any]:
        """The object that `manifest.json` holds."""
        body = self._body()
        head = {key: body.pop(key) for key in ("format", "version", "requires")}
        return {**head, "id": self.id, **body}

    def _body(self) -> dict[str, Any]:
        about = {"about": self.about.to_json()} if self.about else {}
        return {
            "format": FORMAT,
            "version": VERSION,
            "requires": list(self.requires),
            "plan": self.plan.to_json(),
            "tokenizer": self.tokenizer.to_json(),
            "dtype": self.dtype,
            "seed": self.seed,
            "build": self.build.to_json(),
            "phases": [asdict(phase) for phase in self.phases],
            "validation": asdict(self.validation) if self.validation else None,
            "sources": [source.to_json() for source in self.sources],
            "accounting": self.accounting.to_json(),
            **about,
        }


def required_features(plan: Plan, *, mixture: bool = False, added: bool = False) -> tuple[str, ...]:
    """What `requires` lists for a dataset of this plan, of several sources or one, some of them added or none."""
    needed = {
        ADDED: added,
        EXTENDED: plan.num_extensions > 0,
        MIXTURE: mixture,
        PACKED: plan.mode in PACKED_MODES,
    }
    return tuple(name for name, is_needed in needed.items() if is_needed)


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8: the one byte string of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_id(body: dict[str, Any]) -> str:
    """`sha256:...` of a manifest without its `id`."""
    return f"sha256:{hashlib.sha256(canonical_json(body)).hexdigest()}"


def load_manifest(root: Path) -> Manifest:
    """Read and check the manifest of the dataset at `root`.

    Raises:
        DataError: there is none, or it is damaged, contradictory, hostile or of a later version.
    """
    path = root / FILE_NAME
    try:
        text = read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{root}: not a curriculum dataset, it has no {FILE_NAME}. Give the folder that `curriculum build` wrote; "
            f"if that build was interrupted, run the same command again."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    return parse_manifest(text, str(path))


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Check the bytes of a manifest; `where` begins every message."""
    if len(text) > MAX_JSON_BYTES:
        raise DataError(f"{where}: {len(text):,} bytes, expected {MAX_JSON_BYTES:,} at most. Copy it again.")
    top = JsonObject.parse(text, where)
    if top.string("format") != FORMAT:
        raise DataError(f"{where}: format is {shown(top.string('format'))}, expected {FORMAT!r}: another kind of file.")
    if top.integer("version") != VERSION:
        raise DataError(
            f"{where}: format version {top.integer('version')}, this release reads version {VERSION}. "
            f"Install a newer seqlen-curriculum."
        )
    unknown = sorted(set(top.strings("requires")) - KNOWN_FEATURES)
    if unknown:
        raise DataError(
            f"{where}: the dataset requires {', '.join(map(shown, unknown[:MOST_NAMED]))}, which this release does not "
            f"know. Install a newer seqlen-curriculum."
        )
    claimed = top.string("id")
    try:
        found = content_id({key: value for key, value in top.raw.items() if key != "id"})
    except UnicodeEncodeError:
        raise DataError(f"{where}: it holds half a character (a lone surrogate). Copy the file again.") from None
    if claimed != found:
        raise DataError(
            f"{where}: id is {printable_text(claimed[:80])}, its content gives {found}. "
            f"The manifest was edited or damaged: copy it again, or build the dataset again."
        )
    requires = tuple(top.strings("requires"))
    plan = _plan(top, where)
    manifest = Manifest(
        plan=plan,
        tokenizer=read_tokenizer(top.object("tokenizer")),
        dtype=top.one_of("dtype", ("uint16", "uint32")),
        seed=top.integer("seed"),
        build=read_build(top.object("build"), plan),
        phases=tuple(read_phase(phase) for phase in top.objects("phases", most=MAX_PHASES)),
        validation=read_phase(top.object("validation")) if top.value("validation") is not None else None,
        sources=tuple(read_source(source) for source in top.objects("sources", most=MAX_SOURCES)),
        accounting=read_accounting(top.object("accounting"), packed=PACKED in requires),
        requires=requires,
        about=read_about(top.object("about")) if "about" in top.raw else NOTHING_SAID,
    )
    top.no_others()
    object.__setattr__(manifest, "_id", claimed)  # hashing 100,000 shards again would take a second
    check_consistent(manifest, where)
    return manifest


def check_consistent(manifest: Manifest, where: str) -> None:
    """Refuse a manifest whose parts contradict each other.

    Raises:
        DataError: names the first contradiction.
    """
    plan = manifest.plan
    build = manifest.build
    required = required_features(plan, mixture=build.mixture is not None, added=bool(added_sources(build.extensions)))
    if manifest.requires != required:
        raise DataError(
            f"{where}: requires is {shown(list(manifest.requires))}, but a dataset of mode {plan.mode!r} "
            f"{'of several sources ' if build.mixture else ''}requires {list(required)}"
            f"{f' after {plan.num_extensions} extensions' if plan.num_extensions else ''}. The manifest was "
            f"edited or damaged: copy it again."
        )
    require_mixture_fits(build.mixture, manifest.sources, where)
    require_added_fit(build.mixture, manifest.sources, build.extensions, where)
    if manifest.dtype != token_dtype(manifest.tokenizer.vocab_size):
        raise DataError(f"{where}: dtype {manifest.dtype} does not fit vocab_size {manifest.tokenizer.vocab_size}.")
    if len(manifest.phases) != len(plan.phases):
        raise DataError(f"{where}: {len(manifest.phases)} phases listed, the plan has {len(plan.phases)}.")
    for i, (entry, phase) in enumerate(zip(manifest.phases, plan.phases, strict=True)):
        if (entry.seq_len, entry.num_rows) != (phase.seq_len, phase.num_rows):
            raise DataError(
                f"{where}: phase {i} lists {entry.num_rows} rows of {entry.seq_len} tokens, "
                f"the plan has {phase.num_rows} rows of {phase.seq_len}."
            )
        check_shards(entry, f"{where}: phase {i}", manifest.itemsize, phase.rows_per_step)
    if manifest.validation:
        check_shards(manifest.validation, f"{where}: validation", manifest.itemsize, 1)
    require_paths_differ(manifest.entries, where)
    source_tokens = sum(source.tokens for source in manifest.sources)
    require_adds_up(manifest.accounting, plan, source_tokens=source_tokens, packed=manifest.packed, where=where)


def _plan(top: JsonObject, where: str) -> Plan:
    try:
        return Plan.from_json(top.value("plan"))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
