"""What would end the process while `tokenizers` loads a file, or keep it busy for minutes.

In:  the parsed tokenizer.json, maybe of a stranger: a dataset that is verified, a repository of the Hub.
Out: nothing, or a `ValueError` that names what is out of proportion.
Guarantee: a Unigram model, which is a tree with a level for each character of an entry and recurses through it, stays
shallow and small; the compiled map of a normalizer, which says itself how much memory it wants, is as long as it says.

    require_loadable({"model": {"type": "Unigram", "vocab": [["b" * 2_000_000, -1.0]]}})      ValueError
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

MAX_ENTRY = 4096
"""Characters. The longest of GPT-2, Llama 3 and DeepSeek are runs of 128 to 256 spaces or signs."""
MAX_TREE = 1 << 23
"""Characters of all entries of a Unigram model: those of 250,000 entries come to 2 million."""
MAX_ADDED = 1 << 17
"""Added tokens, which may take more than proportional time: 131,072 take 0.5 s, 300,000 took 5 s. Models of speech add
65,536 codes to a base that has 256 of its own."""
_MAP = "precompiled_charsmap"


def require_loadable(top: dict[str, Any]) -> None:
    """Refuse a tokenizer.json that no tool has written.

    Args:
        top: the file. Whatever else is wrong in it, `tokenizers` says.

    Raises:
        ValueError: what is wrong, without a full stop.
    """
    model, added = top.get("model"), top.get("added_tokens")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    entries = list(vocab) if isinstance(vocab, dict) else []
    if isinstance(vocab, list):
        entries = [pair[0] for pair in vocab if isinstance(pair, list) and pair and isinstance(pair[0], str)]
        if (total := sum(map(len, entries))) > MAX_TREE:
            raise ValueError(f"its entries have {total:,} characters, at most {MAX_TREE:,} are possible")
    if isinstance(added, list):
        if len(added) > MAX_ADDED:
            raise ValueError(f"it has {len(added):,} added tokens, at most {MAX_ADDED:,} are possible")
        entries += [str(token["content"]) for token in added if isinstance(token, dict) and "content" in token]
    if (longest := max(map(len, entries), default=0)) > MAX_ENTRY:
        raise ValueError(f"an entry of its vocabulary has {longest:,} characters, at most {MAX_ENTRY:,} are possible")
    waiting = [top.get("normalizer")]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get(_MAP) is not None:
                _require_map(part[_MAP])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _require_map(text: object) -> None:
    """Its head is the size of its first part in bytes, of 4 each; text follows, each piece ended by a zero."""
    try:
        data = b64decode(str(text), validate=True)
    except ValueError:
        raise ValueError(f"the {_MAP} of its normalizer is not base64") from None
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or size > len(data) - 4:
        raise ValueError(f"the {_MAP} of its normalizer says {size:,} bytes and has {max(0, len(data) - 4):,}")
