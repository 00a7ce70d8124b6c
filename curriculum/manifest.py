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
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curriculum.about_entry import NOTHING_SAID, About, read_about
from curriculum.accounting import Accounting as Accounting
from curriculum.accounting import read_accounting, require_adds_up
from curriculum.budget import FULL
from curriculum.errors import DataError
from curriculum.extension import Extension, added_sources, lone_sources, read_extensions
from curriculum.json_object import JsonObject
from curriculum.mixture import Mixture
from curriculum.mixture_entry import read_mixture, require_added_fit, require_mixture_fits
from curriculum.phase_entry import PhaseEntry as PhaseEntry
from curriculum.phase_entry import ShardEntry as ShardEntry
from curriculum.phase_entry import check_shards, read_phase, require_paths_differ
from curriculum.plan import Plan
from curriculum.printable import printable_text, shown
from curriculum.regular_file import MAX_JSON_BYTES, read_regular
from curriculum.shard_format import token_dtype, token_itemsize

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
class HubOrigin:
    """A repository of the Hugging Face Hub at a commit."""

    name: str
    revision: str
    """40 hexadecimal digits"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerEntry:
    """Identity of the tokenizer; `tokenizer.json` lies beside the manifest."""

    vocab_size: int
    """1 + the largest id, added tokens included"""
    bos_id: int | None
    eos_id: int
    sha256: str
    hub: HubOrigin | None = None
    """where it was taken from; None, and no key, of a file. For people: `sha256` says which tokenizer it is"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        return {name: value for name, value in asdict(self).items() if name != "hub" or value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceEntry:
    """One named part of the corpus and its place in the stream."""

    name: str
    documents: int
    """non-empty documents, held-out ones included"""
    tokens: int
    """tokens of those documents, EOS (and BOS) included"""
    offset: int
    """stream position where the source begins"""
    weight: float
    fingerprint: str
    """of the set of (path, position, text), whatever the order"""
    validation_tokens: int | None = None
    """of `tokens`, those of held-out documents; this and the next are None, and no keys, of a single source"""
    first_document: int | None = None
    """ordinal of the source's first document, which begins at `offset`"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}


OPTIONAL = ("fill", "mixture", "extensions")
"""Keys of `build` that are there only where they say something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildEntry:
    """Choices of the builder that change the bytes and are not part of the plan."""

    algorithm: int
    window_tokens: int
    shard_bytes: int
    bos: str
    """"none" or "document" """
    fill: tuple[int, ...] = ()
    """best-fit mode: parts per million of the slots of each phase that the stream was to fill; () and no key else"""
    mixture: Mixture | None = None
    """of several sources: the weight of each in every phase; None, and no key, of a single one"""
    extensions: tuple[Extension, ...] = ()
    """one for each time that the dataset was extended, the first one first; () and no key if it never was"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        values = asdict(self) | {
            "mixture": self.mixture.weights if self.mixture else (),
            "extensions": tuple(entry.to_json() for entry in self.extensions),
        }
        return {name: value for name, value in values.items() if value or name not in OPTIONAL}


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
        tokenizer=_tokenizer(top.object("tokenizer")),
        dtype=top.one_of("dtype", ("uint16", "uint32")),
        seed=top.integer("seed"),
        build=_build(top.object("build"), plan),
        phases=tuple(read_phase(phase) for phase in top.objects("phases", most=MAX_PHASES)),
        validation=read_phase(top.object("validation")) if top.value("validation") is not None else None,
        sources=tuple(_source(source) for source in top.objects("sources", most=MAX_SOURCES)),
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


def _tokenizer(o: JsonObject) -> TokenizerEntry:
    entry = TokenizerEntry(
        vocab_size=o.integer("vocab_size", least=1, most=2**32),
        bos_id=None if o.value("bos_id") is None else o.integer("bos_id"),
        eos_id=o.integer("eos_id"),
        sha256=o.string("sha256"),
        hub=_hub_origin(o.object("hub")) if "hub" in o.raw else None,
    )
    o.no_others()
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        raise DataError(f"{o.where}: sha256 is {shown(entry.sha256)}, expected 64 digits, 0 to 9 and a to f.")
    for name, token in (("eos_id", entry.eos_id), ("bos_id", entry.bos_id)):
        if token is not None and token >= entry.vocab_size:
            raise DataError(f"{o.where}: {name} is {token}, not below vocab_size {entry.vocab_size}.")
    return entry


def _hub_origin(o: JsonObject) -> HubOrigin:
    origin = HubOrigin(name=o.string("name"), revision=o.string("revision"))
    o.no_others()
    if not re.fullmatch(r"[0-9A-Za-z_][\w.-]{0,95}(/[\w.-]{1,96})?", origin.name, re.ASCII):
        raise DataError(f"{o.where}: name is {origin.name[:80]!r}, expected a repository such as org/name.")
    if not re.fullmatch(r"[0-9a-f]{40}", origin.revision):
        raise DataError(f"{o.where}: revision is {origin.revision[:80]!r}, expected 40 digits, 0 to 9 and a to f.")
    return origin


def _build(o: JsonObject, plan: Plan) -> BuildEntry:
    entry = BuildEntry(
        algorithm=o.integer("algorithm"),
        window_tokens=o.integer("window_tokens", least=1),
        shard_bytes=o.integer("shard_bytes", least=1),
        bos=o.one_of("bos", ("none", "document")),
        fill=tuple(o.integers("fill", least=1, most=FULL)) if plan.mode == "best-fit" and "fill" in o.raw else (),
        mixture=read_mixture(o, len(plan.phases)) if "mixture" in o.raw else None,
        extensions=read_extensions(o.objects("extensions") if "extensions" in o.raw else (), plan, o.where),
    )
    o.no_others()
    if entry.fill and len(entry.fill) != len(plan.phases):
        raise DataError(f"{o.where}: fill has {len(entry.fill)} entries, the plan {len(plan.phases)} phases.")
    return entry


def _source(o: JsonObject) -> SourceEntry:
    entry = SourceEntry(
        name=o.string("name"),
        documents=o.integer("documents"),
        tokens=o.integer("tokens"),
        offset=o.integer("offset"),
        weight=o.number("weight"),
        fingerprint=o.string("fingerprint"),
        validation_tokens=o.integer("validation_tokens") if "validation_tokens" in o.raw else None,
        first_document=o.integer("first_document") if "first_document" in o.raw else None,
    )
    o.no_others()
    return entry
