"""Encoders: texts in, one flat array of ids and one length per text out. Every backend gives the same ids.

Comes in:   the path of a tokenizer.json, and batches of documents (str without lone surrogates).
Goes out:   `(ids uint32 [total_tokens], lengths int64 [len(texts)])`; text i owns the next `lengths[i]` ids.
Guaranteed: text is only text: `<|endoftext|>` inside a document becomes the ids of its characters.
            Post-processors, truncation, padding and BPE dropout of the file are removed before either backend
            sees it. A document above 16 MiB is encoded in pieces, cut by a rule without any backend in it.

    >>> encoder = open_encoder("bytes.json", "tokenizers")  # a file made by `tokenizer.byte_tokenizer`
    >>> encode_documents(encoder, ["hé", ""])
    (array([104, 195, 169], dtype=uint32), array([3, 0]))

`tokenizers` defines what is right. `fastokens` is 40 to 60 times faster, and is used once `pipeline.trust`
has seen it give equal ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from curriculum.errors import BuildError, ConfigError
from pipeline.tokenizer_limits import require_loadable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IdArray = npt.NDArray[np.uint32]
LengthArray = npt.NDArray[np.int64]

PIECE_BYTES: Final = 16 << 20  # part of the dataset format (docs/format.md): changing it changes ids
# The reference keeps about 145 bytes per byte of text: 76 MB for a batch of this many ASCII characters.
REFERENCE_BATCH_CHARS: Final = 512 << 10


class Encoder(Protocol):
    """One backend with one tokenizer loaded."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def encode(self, texts: list[str]) -> tuple[IdArray, LengthArray]:
        """Ids of all texts end to end, and the number of ids of each text."""
        ...


class ReferenceEncoder:
    """`tokenizers`: the definition of what a tokenizer.json means."""

    name: Final = "tokenizers"

    def __init__(self, path: str) -> None:
        self.version = version("tokenizers")
        self._path, self._tokenizer = path, load_reference(path)

    def encode(self, texts: list[str]) -> tuple[IdArray, LengthArray]:
        arrays: list[IdArray] = [np.empty(0, np.uint32)]
        for group in _groups(texts, REFERENCE_BATCH_CHARS):
            arrays += [np.array(ids, np.uint32) for ids in reference_ids(self._tokenizer, group, self._path)]
        lengths = np.fromiter((len(array) for array in arrays[1:]), np.int64, len(texts))
        return np.concatenate(arrays), lengths


class FastokensEncoder:
    """`fastokens`: equal ids, much sooner, for the tokenizers that it supports."""

    name: Final = "fastokens"

    def __init__(self, path: str) -> None:
        neutral = neutral_json(path)
        try:
            from fastokens import Tokenizer as FastTokenizer

            self.version = version("fastokens")
            self._tokenizer = FastTokenizer.from_json_str(neutral)
        except BaseException as error:
            if not is_backend_failure(error):
                raise
            raise BuildError(f"fastokens does not load {path}: {_first_line(error)}.") from error
        self._path = path

    def encode(self, texts: list[str]) -> tuple[IdArray, LengthArray]:
        try:
            ids, offsets = self._tokenizer.encode_batch_flat(texts, add_special_tokens=False, split_special_tokens=True)
        except BaseException as error:
            if not is_backend_failure(error):
                raise
            # A regex limit, say, on one odd document. The reference gives the same ids, only later.
            return open_encoder(self._path, "tokenizers").encode(texts)
        ends = np.frombuffer(offsets, "<u8").astype(np.int64)
        return np.frombuffer(ids, "<u4").astype(np.uint32, copy=False), ends[1:] - ends[:-1]


OPENERS: Final[dict[str, Callable[[str], Encoder]]] = {
    "tokenizers": ReferenceEncoder,
    "fastokens": FastokensEncoder,
}


def open_encoder(path: str, backend: str) -> Encoder:
    """The encoder of `path` in this process, loaded once as long as the file stays the same."""
    if backend not in OPENERS:
        raise ConfigError(f"There is no tokenizer backend {backend!r}; use one of {', '.join(OPENERS)}.")
    try:
        stat = Path(path).stat()
    except (OSError, ValueError) as error:
        raise ConfigError(f"The tokenizer {path} cannot be read: {error}.") from error
    return _open(OPENERS[backend], path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)
def _open(opener: Callable[[str], Encoder], path: str, stamp: tuple[int, int, int]) -> Encoder:
    return opener(path)


def encode_documents(
    encoder: Encoder, texts: list[str], *, piece_bytes: int = PIECE_BYTES
) -> tuple[IdArray, LengthArray]:
    """Ids end to end and one length per document, whatever the pieces; memory is bounded by one piece."""
    split = [split_pieces(text, piece_bytes) for text in texts]
    pieces = texts if len(split) == sum(map(len, split)) else [piece for parts in split for piece in parts]
    encoded = [encoder.encode(group) for group in _groups(pieces, piece_bytes)]
    if not encoded:
        return np.empty(0, np.uint32), np.empty(0, np.int64)
    if len(encoded) == 1 and pieces is texts:
        return encoded[0]
    lengths = np.concatenate([lengths for _, lengths in encoded])
    starts = np.cumsum([0, *map(len, split)])[:-1]
    return np.concatenate([ids for ids, _ in encoded]), np.add.reduceat(lengths, starts)


def split_pieces(text: str, limit: int = PIECE_BYTES) -> list[str]:
    """Cut a text whose UTF-8 is longer than `limit` bytes; the pieces put together are the text.

    A cut lies before the last newline at or before the border, so that the newline begins the next piece,
    else at the last character border at or before it:
    `split_pieces("ab\\ncd\\nefghij", 4) == ["ab", "\\ncd", "\\nefg", "hij"]`.
    """
    if limit < 4:
        raise ValueError(f"a piece of {limit} bytes cannot hold every character; 4 is the least")
    if len(text) * 4 <= limit or (len(text) <= limit and text.isascii()):
        return [text]
    data = text.encode()
    pieces, start = [], 0
    while len(data) - start > limit:
        border = start + limit
        cut = data.rfind(b"\n", start + 1, border + 1)
        if cut < 0:
            cut = border
            while data[cut] & 0xC0 == 0x80:  # inside a character
                cut -= 1
        pieces.append(data[start:cut].decode())
        start = cut
    pieces.append(data[start:].decode())
    return pieces


def _groups(texts: list[str], max_chars: int) -> Iterator[list[str]]:
    """Neighbouring texts together up to `max_chars` characters; a longer text goes alone."""
    group: list[str] = []
    num_chars = 0
    for text in texts:
        if group and num_chars + len(text) > max_chars:
            yield group
            group, num_chars = [], 0
        group.append(text)
        num_chars += len(text)
    if group:
        yield group


def load_reference(path: str) -> Tokenizer:
    """The file in `tokenizers`, without anything that adds, cuts or randomizes tokens."""
    try:
        return _reference(neutral_json(path))
    except BaseException as error:
        if isinstance(error, ConfigError) or not is_backend_failure(error):
            raise
        raise ConfigError(
            f"{path} cannot be loaded by `tokenizers` {version('tokenizers')}: {_first_line(error)}. "
            "Give a tokenizer.json written by the Hugging Face tokenizers library."
        ) from error


def reference_ids(tokenizer: Tokenizer, texts: list[str], path: str) -> list[list[int]]:
    """The ids of each text.

    Raises:
        BuildError: it cannot: a compiled map of its normalizer may point outside of itself, say, which is a panic.
    """
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    except BaseException as error:
        if not is_backend_failure(error):
            raise
        raise BuildError(
            f"{path}: `tokenizers` {version('tokenizers')} cannot encode a text with it: {_first_line(error)}. Give "
            f"another tokenizer."
        ) from error


@lru_cache(maxsize=2)
def _reference(neutral: str) -> Tokenizer:
    """Kept by content: a build asks for the same tokenizer three times, at 0.2 s for GPT-2's."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(neutral)
    tokenizer.encode_special_tokens = True  # this flag means: special tokens in a text are encoded as text
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def neutral_json(path: str) -> str:
    """The tokenizer.json with its post-processor, truncation, padding and BPE dropout taken out."""
    try:
        stat = Path(path).stat()
    except (OSError, ValueError) as error:
        raise _not_json(path, error) from error
    return _neutral(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=2)
def _neutral(path: str, stamp: tuple[int, int, int]) -> str:
    """Kept: a build asks for it four times, at 0.07 s for GPT-2's."""
    import orjson

    try:
        content = orjson.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise _not_json(path, error) from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ConfigError(
            f"{path} is JSON but not a tokenizer.json: it has no object named `model`. "
            "Give a file written by the Hugging Face tokenizers library."
        )
    try:
        require_loadable(content)
    except ValueError as error:
        raise ConfigError(f"The tokenizer {path} cannot be used: {error}. Give another one.") from error
    content.update(truncation=None, padding=None, post_processor=None)
    if "dropout" in content["model"]:
        content["model"]["dropout"] = None
    return orjson.dumps(content).decode()


def _not_json(path: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"The tokenizer {path} cannot be read as JSON: {error}. Give a tokenizer.json or a folder that holds one."
    )


def added_tokens(path: str) -> list[str]:
    """The texts that the file looks for before its model runs, special or not, in sorted order."""
    import orjson

    entries = orjson.loads(neutral_json(path)).get("added_tokens") or []
    return sorted({entry["content"] for entry in entries})


def is_backend_failure(error: BaseException) -> bool:
    """Rust panics reach Python as a `PanicException` that is no `Exception`; interrupts must pass."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
