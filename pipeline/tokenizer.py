"""What a tokenizer is here: a tokenizer.json on disk, its digest, vocabulary size, and EOS (and BOS) id.

Comes in:   what `--tokenizer` says: the path of a tokenizer.json (or its folder), `hf:ORG/NAME`, `train:N`, or `bytes`.
Goes out:   a `TokenizerInfo`; for `train:N` and `bytes`, the text of a tokenizer.json to put on disk first.
Guaranteed: `eos_id < vocab_size`; no special token can come out of corpus text (`load_tokenizer` refuses a
            tokenizer whose model would make one); equal training texts give equal bytes on any threads.

    >>> Path("tokenizer.json").write_text(byte_tokenizer())
    >>> load_tokenizer("tokenizer.json", eos=None, bos="none")
    TokenizerInfo(path='tokenizer.json', sha256='...', vocab_size=257, eos_id=256, bos_id=None,
                  eos_is_special=True)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from curriculum.errors import ConfigError
from curriculum.manifest import HubOrigin
from curriculum.shard_format import token_dtype
from pipeline.backends import load_reference, reference_ids
from pipeline.hub.names import is_hub_name, looks_like_repository, parse_hub_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT: Final = "<|endoftext|>"
EOS_NAMES: Final = (END_OF_TEXT, "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>", "</s>")
BOS_NAMES: Final = ("<|begin_of_text|>", "<s>", "<bos>", "<｜begin▁of▁sentence｜>")

MIN_TRAINED_VOCAB: Final = 257  # 256 bytes and EOS
MAX_TRAINED_VOCAB: Final = 1 << 20  # larger than any published vocabulary; the trainer allocates N entries at once

# Each merge walks through every word that holds its pair: one word of 300 kB made training take minutes, and gave
# tokens of 100 kB. So training, and only training, cuts what is longer than GPT-2's longest token.
_ENDLESS_WORD: Final = r"\S{128}|\s{128}"

_ACCEPTED: Final = (
    "Give the path of a tokenizer.json or of a folder that holds one, `hf:ORG/NAME` for one of the Hub, `train:N` to "
    "train a byte-level BPE of N entries on the corpus, or `bytes`."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerInfo:
    """All that the rest of the build needs to know about a tokenizer."""

    path: str
    sha256: str
    vocab_size: int  # 1 + the largest id, added tokens included
    eos_id: int
    bos_id: int | None  # None unless `--bos document`
    eos_is_special: bool  # True: corpus text never encodes to eos_id
    hub: HubOrigin | None = None  # where it was taken from by name

    @property
    def dtype(self) -> Literal["uint16", "uint32"]:
        """The stored width of one token."""
        return token_dtype(self.vocab_size)


def parse_tokenizer_spec(
    spec: str,
) -> tuple[Literal["train"], int] | tuple[Literal["bytes"], None] | tuple[Literal["file", "hub"], str]:
    """Read `--tokenizer`: "train:8192" is `("train", 8192)`. A file named `bytes` is reached as `./bytes`."""
    if is_hub_name(spec):
        return "hub", str(parse_hub_tokenizer(spec))
    if spec == "bytes":
        return "bytes", None
    if spec.startswith("train:"):
        digits = spec.removeprefix("train:")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
            raise ConfigError(f"--tokenizer {spec}: N in `train:N` must be a whole number. {_ACCEPTED}")
        return "train", _checked_vocab_size(int(digits))
    try:
        exists = spec != "" and Path(spec).exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        exists = False
    if not exists:
        hint = f"; `hf:{spec}` takes it from the Hub" if looks_like_repository(spec) else ""
        raise ConfigError(f"--tokenizer {spec!r}: there is no such file or folder{hint}. {_ACCEPTED}")
    return "file", spec


def named_tokenizer(spec: str, *, eos: str | None, bos: str) -> TokenizerInfo | None:
    """The tokenizer that `--tokenizer` names, if it exists before the corpus is looked at: a file, or one of the Hub.

    Raises:
        ConfigError: there is none, or it cannot be used.
        BuildError: the Hub cannot be asked.
    """
    kind, value = parse_tokenizer_spec(spec)
    if kind == "file":
        return load_tokenizer(str(value), eos=eos, bos=bos)
    if kind != "hub":
        return None
    from pipeline.hub.tokenizer import tokenizer_file  # its client loads only where it is used

    name = parse_hub_tokenizer(str(value))
    file = tokenizer_file(name)
    info = load_tokenizer(str(file), eos=eos, bos=bos)
    return replace(info, hub=HubOrigin(name=name.repository, revision=file.parent.name))


def load_tokenizer(path: str, *, eos: str | None, bos: str) -> TokenizerInfo:
    """Read a tokenizer.json and decide its EOS (`--eos`) and BOS (`--bos none|document`)."""
    if bos not in ("none", "document"):
        raise ConfigError(f"--bos {bos!r} is unknown; use `none` or `document`.")
    file = _tokenizer_file(Path(path))
    tokenizer = load_reference(str(file))
    ids = tokenizer.get_vocab(with_added_tokens=True)
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    eos_token, eos_id = _find_eos(file, ids, special, eos)
    _refuse_special_from_text(file, tokenizer, special)
    return TokenizerInfo(
        path=str(file),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        vocab_size=1 + max(ids.values()),
        eos_id=eos_id,
        bos_id=_find_bos(file, ids, special, eos_token) if bos == "document" else None,
        eos_is_special=eos_token in special,
    )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> str:
    """A tokenizer.json: byte-level BPE, GPT-2's word rule; id 0 is `<|endoftext|>`, then bytes, then merges.

    A corpus too small for `vocab_size` entries gives fewer. It depends on the texts and their order alone.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    _checked_vocab_size(vocab_size)
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    endless = pre_tokenizers.Split(Regex(_ENDLESS_WORD), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([endless, words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    tokenizer.pre_tokenizer = words
    return tokenizer.to_str()


def byte_tokenizer() -> str:
    """A tokenizer.json in which the id of a byte is its value and 256 is `<|endoftext|>`: BPE without merges.

    Text is not split into words: without merges that changes no id, and the reference is 2.4x faster.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # The byte-level alphabet shows printable bytes as themselves and the k-th other byte as chr(256 + k).
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    stand_ins = iter(range(256, 256 + 68))
    vocab = {chr(b) if chr(b) in alphabet else chr(next(stand_ins)): b for b in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer.to_str()


def _checked_vocab_size(vocab_size: int) -> int:
    if not MIN_TRAINED_VOCAB <= vocab_size <= MAX_TRAINED_VOCAB:
        raise ConfigError(
            f"A trained tokenizer of {vocab_size} entries is not possible: at least {MIN_TRAINED_VOCAB} "
            f"(256 bytes and EOS) and at most {MAX_TRAINED_VOCAB} are; 8192 to 65536 suit most corpora."
        )
    return vocab_size


def _tokenizer_file(path: Path) -> Path:
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"The tokenizer {file} does not exist. {_ACCEPTED}")
    return file


def _find_eos(file: Path, ids: dict[str, int], special: set[str], wanted: str | None) -> tuple[str, int]:
    if wanted is not None:
        return _wanted_eos(file, ids, wanted)
    configured = _configured_token(file, "eos_token")
    if configured is not None:
        if configured in ids:
            return configured, ids[configured]
        raise ConfigError(
            f"{file.with_name('tokenizer_config.json')} names the eos_token {configured!r}, which {file} "
            "does not have. Name the token that ends a document with --eos."
        )
    for among in (special, ids):
        for name in EOS_NAMES:
            if name in among:
                return name, ids[name]
    raise ConfigError(
        f"No token of {file} is known to end a document: there is no --eos, no eos_token in a "
        f"tokenizer_config.json beside it, and none of {' '.join(EOS_NAMES)} in its vocabulary. "
        "Name the token with --eos."
    )


def _wanted_eos(file: Path, ids: dict[str, int], wanted: str) -> tuple[str, int]:
    """`--eos 50256` is the token "50256" where there is one, else the id; `--eos id:50256` is always the id."""
    if wanted in ids and not wanted.startswith("id:"):
        return wanted, ids[wanted]
    wanted = wanted.removeprefix("id:")
    if wanted.isascii() and wanted.isdecimal() and len(wanted) < 20:
        for token, token_id in ids.items():
            if token_id == int(wanted):
                return token, token_id
    raise ConfigError(
        f"--eos {wanted!r} is neither a token nor the id of a token of {file}, whose ids go up to "
        f"{max(ids.values(), default=-1)}. Give a token of its vocabulary, as it is written there, or its id."
    )


def _find_bos(file: Path, ids: dict[str, int], special: set[str], eos_token: str) -> int:
    configured = _configured_token(file, "bos_token")
    if configured is not None:
        if configured in ids:
            return ids[configured]
        raise ConfigError(
            f"{file.with_name('tokenizer_config.json')} names the bos_token {configured!r}, which {file} "
            "does not have. Correct it there, or use --bos none."
        )
    for name in BOS_NAMES:
        if name in special:
            return ids[name]
    if eos_token == END_OF_TEXT:  # GPT-2 marks both ends with one token
        return ids[eos_token]
    raise ConfigError(
        f"--bos document: no token of {file} is known to begin a document: there is no bos_token in a "
        f"tokenizer_config.json beside it and none of {' '.join(BOS_NAMES)} among its special tokens. "
        "Add bos_token there, or use --bos none."
    )


def _configured_token(file: Path, key: str) -> str | None:
    """`eos_token` or `bos_token` of the tokenizer_config.json beside it: a string or {"content": string}."""
    import orjson

    config_file = file.with_name("tokenizer_config.json")
    if not config_file.is_file():
        return None
    try:
        config = orjson.loads(config_file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config_file} cannot be read as JSON: {error}. Repair it, or move it away.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{config_file} must hold a JSON object. Repair it, or move it away.")
    value = config.get(key)
    token = value.get("content") if isinstance(value, dict) else value
    if token is not None and not isinstance(token, str):
        raise ConfigError(f'{config_file}: {key} must be a string or {{"content": string}}, not {value!r}.')
    return token


def _refuse_special_from_text(file: Path, tokenizer: Tokenizer, special: set[str]) -> None:
    """Unigram and word-level models find a special token's text in their own vocabulary, although special
    tokens are read as text: a web page could then end a document. Unknown text may become `<unk>`, though."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    for token in sorted(special - {unknown}):
        token_id = tokenizer.token_to_id(token)
        contexts = [token, f" {token}", f"a {token} b", f"a{token}b"]
        if any(token_id in ids for ids in reference_ids(tokenizer, contexts, str(file))):
            kind = type(tokenizer.model).__name__
            raise ConfigError(
                f"{file}: the text {token!r} in a document would become the special token {token_id}, "
                f"because the {kind} model has that text in its own vocabulary. Use a byte-level BPE, "
                "or train one with train:N."
            )
