"""What an extension is asked for: how far, and from which text; and whether it was done already.

In:  options and an extent, the dataset as it is.
Out: `Request`, which is remembered beside an unfinished extension and in the log of a finished one.
Guarantee: two requests are equal if they ask for the same of the same files. The same command again finds that nothing
is left to do.

    {"extends": "sha256:...", "steps": 100, "total_steps": null, "tokens": null, "epochs": null}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from curriculum.errors import ConfigError
from curriculum.extension import added_sources
from curriculum.manifest import Manifest
from pipeline.built_streams import SOURCE_STORES
from pipeline.corpus import Corpus
from pipeline.files.contract import Files
from pipeline.layout import EXTENSIONS
from pipeline.longer_plan import Extent, going_on, steps_left
from pipeline.option_fields import DEFAULTS
from pipeline.options import Options
from pipeline.store_names import index_name
from pipeline.tokenized_corpus import TokenizedSource

READING = ("text_key", "on_bad_record", "tokenized", "ids_dtype", "ids_key")
"""Options that say how a new source is read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked for."""

    extent: Extent
    known: str | None
    """the name of a source that the dataset has, to go on in it alone"""
    corpus: Corpus | None
    """the files of a new source"""
    reading: dict[str, Any]
    """how they are read"""

    @property
    def is_new(self) -> bool:
        """Whether it brings new text: that is not done twice."""
        return self.corpus is not None

    def to_json(self, parent: str) -> dict[str, Any]:
        """As it is remembered beside the dataset that it extends."""
        request = {"extends": parent, **self.extent.to_json()}
        if self.known is not None:
            request["source"] = self.known
        if self.corpus is not None:
            # The same files under the same name, read in the same way.
            request |= {"source": self.corpus.sources[0].name, "corpus": self.corpus.digest, **self.reading}
        return request


def extension_request(options: Options, extent: Extent, sources: tuple[str, ...], corpus: Corpus | None) -> Request:
    """What options, extent and the names of known sources ask for.

    Raises:
        ConfigError: they contradict each other.
    """
    given = [name for name in ("steps", "total_steps", "tokens") if getattr(extent, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given; they contradict each other: give one.")
    if len({*sources, *(options.source_names if options.source else ())}) > 1:
        raise ConfigError("several sources are given; an extension is of one: give it, and extend again by the next.")
    reading = {name: getattr(options, name) for name in READING}
    useless = [name for name, value in reading.items() if corpus is None and value != DEFAULTS[name]]
    if useless:
        raise ConfigError(
            f"{useless[0]} is given, which says how new text is read, and there is none: add --source NAME=PATH, or "
            f"leave it out."
        )
    return Request(extent=extent, known=sources[0] if sources else None, corpus=corpus, reading=reading)


def is_finished(manifest: Manifest, log: dict[str, Any], request: Request) -> bool:
    """Whether the dataset has what is asked for: the same command again, after a kill or a requeue, does nothing.

    New text is added once. A number of steps in all is there or not. A number of steps more cannot be told from the
    wish for as many again: it is done if it is what was asked for last. All that there is was taken if it was asked for
    once and nothing is left.
    """
    done, total = log["request"].get(EXTENSIONS, []), request.extent.total_steps
    if not request.is_new and total is not None:
        names = [source.name for source in manifest.sources]
        return manifest.plan.total_steps >= total and request.known in (None, *names)
    asked = [entry == request.to_json(entry["extends"]) for entry in done]
    if not any(asked):
        return False
    return request.is_new or asked[-1] or _has_all(manifest, request)


def _has_all(manifest: Manifest, request: Request) -> bool:
    """Whether all that there is was asked for, and there is no step more: other extensions may have come after it."""
    extent = request.extent
    if extent.steps is not None or extent.tokens is not None:
        return False
    # Of the epochs that were begun: where other sources lie behind it, a source cannot begin one.
    return steps_left(going_on(manifest, source_number(manifest, request)), replace(extent, epochs=None)) == 0


def source_number(manifest: Manifest, request: Request) -> int | None:
    """The source that the new steps are of, as an index; None for several that are mixed.

    Raises:
        ConfigError: there is no such source, or there is one already.
    """
    names = [source.name for source in manifest.sources]
    built = manifest.num_built_sources
    if request.corpus is not None:
        _require_new_name(manifest, request.corpus.sources[0].name)
        return len(names)
    if request.known is None:
        return 0 if built == 1 else None
    if request.known not in names:
        raise ConfigError(
            f"The dataset has no source {request.known!r}, but {', '.join(names)}; new text is --source "
            f"{request.known}=PATH."
        )
    number = names.index(request.known)
    if number < built and built > 1:
        raise ConfigError(
            f"Source {request.known!r} is one of {built} that the dataset was built from, and they go on together; "
            f"leave --source out."
        )
    return number


def _require_new_name(manifest: Manifest, name: str) -> None:
    names = [source.name for source in manifest.sources]
    if name in names:
        if name in added_sources(manifest.build.extensions):
            unused = f"its unused tokens are asked for with --source {name}"
        else:
            unused = "its unused tokens are asked for without --source"
        raise ConfigError(
            f"The dataset has a source {name!r} already (of {', '.join(names)}); {unused}. Give new text another name."
        )


def longer_log(
    log: dict[str, Any],
    longer: Manifest,
    parent: Manifest,
    request: Request,
    added: TokenizedSource | None,
    store: Files,
) -> dict[str, Any]:
    """The log goes on: a build of the original request must not take the longer dataset for its own, and who looks for
    tokens finds them where they were now."""
    requested = dict(log["request"])
    requested[EXTENSIONS] = [*requested.get(EXTENSIONS, []), request.to_json(parent.id)]
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {**log, "id": longer.id, "request": requested, "finished": finished, "packing": None}
    if added is not None and request.corpus is not None:
        parts = [part.name for part in added.parts]
        facts |= {
            "corpus": f"{log['corpus']} {request.corpus.name}",
            "parts": [*log["parts"], *parts],
            "source_parts": {**log["source_parts"], added.name: parts},
        }
    name = request.known if added is None else added.name
    return facts | _stores(log, added_sources(longer.build.extensions), name, store)


def _stores(log: dict[str, Any], added: tuple[str, ...], name: str | None, store: Files) -> dict[str, Any]:
    """Where the tokens are, given that those of a source are in `store`: of one that was added, or of all others."""
    of_source, before = dict(log.get(SOURCE_STORES, {})), log["store"]
    if name in added:
        return {SOURCE_STORES: {**of_source, name: store.where}}
    if store.where == before:
        return {}
    for other in added:
        if of_source.get(other, before) == before:
            parts = [index_name(str(part)) for part in log["source_parts"][other]]
            of_source[other] = before if None in store.facts_of(parts) else store.where  # left behind, or moved too
    return {"store": store.where, SOURCE_STORES: of_source}
