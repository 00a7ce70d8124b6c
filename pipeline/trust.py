"""Is the fast backend trusted with this tokenizer and corpus? Once it gave equal ids everywhere we look.

Comes in:   a `TokenizerInfo`, a deterministic sample of the corpus, and a function that shows a warning.
Goes out:   the name of the backend to use, `fastokens` or `tokenizers`.
Guaranteed: `fastokens` only if it loads the tokenizer and equals the reference on the hostile texts, on the
            added tokens of this tokenizer, on every code point below U+32400 in context, and on the sample.

What does not depend on the corpus takes about 2 s and is remembered per tokenizer digest, versions and
machine type under `$XDG_CACHE_HOME/curriculum`; a cache that cannot be read or written only costs time.
Where the verdict is remembered, this process loads the reference alone (0.2 s) and lets others, which have to
load the fast backend anyway (0.6 s), compare the sample with it: see `choose_backend(..., compare=...)`.

    >>> choose_backend(info, ["some text of the corpus"], warn=print)
    'fastokens'
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np

from curriculum.errors import BuildError, ConfigError
from pipeline.backends import (
    OPENERS,
    Encoder,
    IdArray,
    LengthArray,
    added_tokens,
    encode_documents,
    open_encoder,
)
from pipeline.hostile import CODE_POINTS_PER_TEXT, code_point_text, code_point_texts, hostile_texts
from pipeline.tokenizer import TokenizerInfo

CHECK_VERSION: Final = 1  # raise it whenever the texts or the comparison change: old verdicts then count no more
SAMPLE_BATCH_CHARS: Final = 64 << 10  # compared at a time, by one worker

Named = tuple[str, str]  # what a text is called in a warning, and the text


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Texts, and their ids by the reference."""

    named: tuple[Named, ...]
    ids: IdArray
    lengths: LengthArray


Compare = Callable[[str, list[Expected]], str | None]
"""From the path of a tokenizer and a sample to a clause that says what differs, if anything does."""


def choose_backend(
    info: TokenizerInfo,
    sample_texts: Iterable[str],
    *,
    warn: Callable[[str], None],
    wanted: str | None = None,
    compare: Compare | None = None,
    called: str | None = None,
) -> str:
    """The backend to encode with.

    `called` is what people call the tokenizer, of which `info` may name a copy.
    `wanted="tokenizers"` skips the check; `wanted="fastokens"` raises a BuildError where None falls back.
    `compare` may call `sample_difference` for each of the sample wherever it likes; None does it here.
    """
    if wanted == "tokenizers":
        return "tokenizers"
    if wanted not in (None, "fastokens"):
        raise ConfigError(f"There is no tokenizer backend {wanted!r}; use one of {', '.join(OPENERS)}.")
    difference = _first_difference(info, sample_texts, compare or _compare_here)
    if difference is None:
        return "fastokens"
    called = called or info.path
    difference = difference.replace(info.path, called)
    if wanted == "fastokens":
        raise BuildError(
            f"The backend fastokens is not trusted with {called}, because {difference}. Leave out --backend."
        )
    warn(f"Encoding {called} with the slow reference backend, because {difference}.")
    return "tokenizers"


def circumstances(info: TokenizerInfo) -> dict[str, str]:
    """Everything that a verdict depends on, but the corpus."""
    return {
        "check": str(CHECK_VERSION),
        "tokenizer": info.sha256,
        "backend": f"fastokens {_version('fastokens')}",
        "reference": f"tokenizers {_version('tokenizers')}",
        "machine": platform.machine(),  # other processors may run other code of a backend
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def sample_difference(path: str, expected: Expected) -> str | None:
    """A clause that says where the fast backend differs from the reference, if it does."""
    try:
        fast = open_encoder(path, "fastokens")
    except BuildError as error:
        return str(error).rstrip(".")
    found = _difference(fast, expected)
    return None if found is None else found[1]


def _compare_here(path: str, sample: list[Expected]) -> str | None:
    return next((found for each in sample if (found := sample_difference(path, each)) is not None), None)


def _first_difference(info: TokenizerInfo, sample_texts: Iterable[str], compare: Compare) -> str | None:
    reference = open_encoder(info.path, "tokenizers")
    key = circumstances(info)
    known, difference = _recall(key)
    if not known:
        try:
            fast = open_encoder(info.path, "fastokens")
        except BuildError as error:
            return str(error).rstrip(".")
        difference = _difference_anywhere(info.path, fast, reference)
        _remember(key, difference)
    return difference or compare(info.path, list(_sample(reference, sample_texts)))


def _difference_anywhere(path: str, fast: Encoder, reference: Encoder) -> str | None:
    """Over all texts that do not depend on the corpus."""
    named = [(f"the hostile text {name!r}", text) for name, text in hostile_texts().items()]
    named += _added_token_texts(path)
    named += [(f"the code points from U+{first:04X} on", text) for first, text in code_point_texts()]
    found = _compare(fast, reference, named)
    if found is None:
        return None
    name, difference = found
    for first, text in code_point_texts():
        if text == named[name][1]:  # say which of the 256 it is, unless it only shows in their company
            single = [
                (f"the code point U+{code:04X}", code_point_text(code))
                for code in range(first, first + CODE_POINTS_PER_TEXT)
            ]
            narrowed = _compare(fast, reference, single)
            return difference if narrowed is None else narrowed[1]
    return difference


def _added_token_texts(path: str) -> list[Named]:
    """The tokens that this tokenizer finds in text, or must not: alone, in words, in spaces, doubled, cut."""
    contexts = "{0}", "a{0}b", " {0} ", "{0}{0}\n{0}", "1 {0}\t{0}."
    return [
        (
            f"the added token {token!r}",
            "\n".join(c.format(token) for c in contexts) + f" {token[:-1]} {token[1:]}",
        )
        for token in added_tokens(path)
    ]


def _sample(reference: Encoder, texts: Iterable[str]) -> Iterator[Expected]:
    """The sample with its ids, in batches."""
    batch: list[Named] = []
    num_chars = 0
    for ordinal, text in enumerate(texts):
        batch.append((f"text {ordinal} of the corpus sample", text))
        num_chars += len(text)
        if num_chars >= SAMPLE_BATCH_CHARS:
            yield _expect(reference, batch)
            batch, num_chars = [], 0
    if batch:
        yield _expect(reference, batch)


def _expect(reference: Encoder, named: list[Named]) -> Expected:
    ids, lengths = encode_documents(reference, [text for _, text in named])
    return Expected(named=tuple(named), ids=ids, lengths=lengths)


def _compare(fast: Encoder, reference: Encoder, named: list[Named]) -> tuple[int, str] | None:
    return _difference(fast, _expect(reference, named))


def _difference(fast: Encoder, expected: Expected) -> tuple[int, str] | None:
    """The first of the texts that differs, and a clause that says how."""
    named, wanted, wanted_lengths = expected.named, expected.ids, expected.lengths
    texts = [text for _, text in named]
    got, got_lengths = encode_documents(fast, texts)
    if np.array_equal(got_lengths, wanted_lengths) and np.array_equal(got, wanted):
        return None
    if len(got_lengths) != len(texts) or got_lengths.sum() != len(got):
        return 0, f"{fast.name} returns {len(got_lengths)} lengths for {len(texts)} texts and they do not add up"
    got_split = np.split(got, np.cumsum(got_lengths)[:-1])
    wanted_split = np.split(wanted, np.cumsum(wanted_lengths)[:-1])
    which = next(i for i in range(len(texts)) if not np.array_equal(got_split[i], wanted_split[i]))
    a, b = got_split[which], wanted_split[which]
    shorter = min(len(a), len(b))
    at = int(np.append(np.flatnonzero(a[:shorter] != b[:shorter]), shorter)[0])
    ours, theirs = (f"id {x[at]}" if at < len(x) else "the end" for x in (a, b))
    return which, f"on {named[which][0]} {fast.name} gives {ours} at token {at} where tokenizers gives {theirs}"


def _recall(key: dict[str, str]) -> tuple[bool, str | None]:
    """Whether a verdict is remembered, and the difference that it names."""
    file = _cache_file(key)
    if file is None:
        return False, None
    try:
        verdict = json.loads(file.read_bytes())
        matches = all(verdict[name] == value for name, value in key.items())
        difference = verdict["difference"]
    except (OSError, ValueError, TypeError, KeyError):
        return False, None
    if not matches or not (difference is None or isinstance(difference, str)):
        return False, None
    return True, difference


def _remember(key: dict[str, str], difference: str | None) -> None:
    file = _cache_file(key)
    if file is None:
        return
    with contextlib.suppress(OSError):  # a read-only home only means that the next build checks again
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({**key, "difference": difference}, stream, indent=1)
            Path(aside).replace(file)
        except OSError:
            Path(aside).unlink(missing_ok=True)
            raise


def _cache_file(key: dict[str, str]) -> Path | None:
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        root = configured if configured.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no home: containers run as an unknown user
        return None
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return root / "curriculum" / f"backend-verdict-{digest[:32]}.json"
