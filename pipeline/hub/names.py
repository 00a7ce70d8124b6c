"""Names on the Hub as they are typed: `hf:ORG/NAME[@REVISION][:[CONFIG/]SPLIT]`.

In:  a CORPUS argument, the path of a source, or `--tokenizer`.   Out: `HubName`.
Guarantee: what begins with `hf:` and is no address (`hf://`) is a name, never a path; a file of such a name is reached
as `./hf:...`. A name that was read prints as it is typed, and a name with a commit is what workers are sent.

    hf:org/books                     repository org/books, branch main, its default configuration, split train
    hf:org/books@v1.0:en/validation  tag v1.0, configuration en, split validation
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from curriculum.errors import ConfigError

PREFIX = "hf:"
DEFAULT_REVISION = "main"
DEFAULT_SPLIT = "train"
MAX_CHARS = 96
"""The Hub has no longer names."""
_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", re.ASCII)
_REVISION = re.compile(r"[^\s:@?#\\\x00-\x1f]+")
_WORD = re.compile(r"[^\s/:@?#\\\x00-\x1f]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubName:
    """A repository of the Hub, or a part of one; what was not said is None."""

    repository: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @property
    def commit(self) -> str | None:
        """The revision, if it is a commit: nothing changes under it."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def __str__(self) -> str:
        """As it is typed."""
        at = f"@{self.revision}" if self.revision else ""
        part = "/".join(word for word in (self.config, self.split) if word)
        return f"{PREFIX}{self.repository}{at}" + (f":{part}" if part else "")


def is_hub_name(text: str) -> bool:
    """Whether it names something on the Hub; `hf://...` is the address of a file there."""
    return text.startswith(PREFIX) and not text.startswith(f"{PREFIX}//")


def parse_hub_corpus(text: str) -> HubName:
    """Read the name of a split of a dataset.

    Raises:
        ConfigError: it is none.
    """
    where, colon, part = text.removeprefix(PREFIX).partition(":")
    config, slash, split = part.rpartition("/")
    words = [split, config] if slash else [split] if colon else []
    name = _parse_repository(where)
    if name is None or not all(_WORD.fullmatch(word) for word in words):
        raise ConfigError(
            f"{text[:200]!r} is no name of a dataset on the Hub: write hf:ORG/NAME, hf:ORG/NAME:SPLIT or "
            f"hf:ORG/NAME@REVISION:CONFIG/SPLIT. (A file of this name is reached by ./ before it.)"
        )
    return HubName(repository=name.repository, revision=name.revision, config=config or None, split=split or None)


def parse_hub_tokenizer(text: str) -> HubName:
    """Read the name of a repository with a tokenizer.

    Raises:
        ConfigError: it is none.
    """
    name = _parse_repository(text.removeprefix(PREFIX))
    if name is None:
        raise ConfigError(
            f"--tokenizer {text[:200]!r} is no name of a repository on the Hub: write hf:ORG/NAME or "
            f"hf:ORG/NAME@REVISION."
        )
    return name


def looks_like_repository(text: str) -> bool:
    """Whether a path that does not exist may have been meant as a name on the Hub: `gpt2`, `org/name`."""
    return len(text) <= MAX_CHARS and _REPOSITORY.fullmatch(text) is not None and not text.endswith(".json")


def _parse_repository(text: str) -> HubName | None:
    repository, at, revision = text.partition("@")
    if len(repository) > MAX_CHARS or not _REPOSITORY.fullmatch(repository):
        return None
    if at and not _REVISION.fullmatch(revision):
        return None
    return HubName(repository=repository, revision=revision or None)
