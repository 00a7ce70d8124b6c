"""How the datasets in `format-1` were made, once. Not to be run again: later code would write later data.

    python tests/golden/make_format_1.py FOLDER [NAME...]

`tests/curriculum/test_golden_datasets.py` says what every later release has to find in them. Build logs are left out,
as `curriculum push` does: they tell of the machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.build import build
from pipeline.extend import extend
from pipeline.longer_plan import Extent
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.tokenizer import byte_tokenizer

SMALL: dict[str, Any] = {
    "tokenizer": "bytes",
    "backend": "tokenizers",
    "start_length": 8,
    "max_length": 32,
    "max_shapes": 3,
    "batch_rows": 2,
    "shard_bytes": 4_000,
    "shuffle_window": 1,
    "seed": 7,
    "workers": 1,
}
DATASETS: dict[str, dict[str, Any]] = {
    "segment": {"source": ("corpus=a",), "validation_tokens": 200},
    "best-fit": {"source": ("corpus=a",), "mode": "best-fit"},
    "document": {"source": ("corpus=a",), "mode": "document", "cycles": 1, "max_shapes": None},
    "mixture": {
        "source": ("a=a", "b=b"),
        "weight": ("a=8:3,32:1", "b=1"),
        "steps": 70,
        "license": "cc0-1.0",
        "language": ("en", "no"),
    },
    "extended": {"source": ("corpus=a",), "steps": 50, "validation_tokens": 200},
    "truncate": {
        "source": ("corpus=c",),
        "mode": "truncate",
        "tokenizer": "hf:lab/wide-bytes@0123456789abcdef0123456789abcdef01234567",
        "bos": "document",
        "max_length": 16,
        "max_shapes": None,
    },
    "separate": {
        "source": ("a=a", "new=new"),
        "weight": ("a=3,0,1", "new=1,1,1"),
        "source_epochs": ("new=2",),
        "phases": "8:10,16:10,16:20",
        "start_length": None,
        "max_length": None,
        "max_shapes": None,
    },
}


def write_texts(folder: Path, name: str, count: int) -> None:
    """Short texts, one of them twice, one empty, one beyond ASCII, one that looks like a special token."""
    things = ("row", "step", "phase", "shard", "window", "stream")
    parts = [[f"{things[(i + j) % 6]} {i * j}" for j in range(i % 5)] for i in range(count)]
    texts = [f"{name} {i}: {', '.join(words)}." for i, words in enumerate(parts)]
    texts += [texts[1], "", "Längen wachsen, 長くなる", "<|endoftext|> is text"]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")


def write_tokenizer(hub: Path) -> None:
    """Into the cache of `huggingface_hub`, since the script asks nobody: bytes from id 70,000 on, an EOS, a BOS."""
    tokenizer = json.loads(byte_tokenizer())
    (eos,) = tokenizer["added_tokens"]
    special = {eos["content"]: 70_256, "<s>": 70_257}
    tokenizer["added_tokens"] = [{**eos, "id": number, "content": name} for name, number in special.items()]
    wide = {name: 70_000 + number for name, number in tokenizer["model"]["vocab"].items()}
    tokenizer["model"]["vocab"] = wide | special
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": {"eos_token": eos["content"], "bos_token": "<s>"}}
    snapshot = hub / "models--lab--wide-bytes" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for name, value in files.items():
        (snapshot / name).write_text(json.dumps(value), "utf-8")


def main(out: Path, *names: str) -> None:
    """Write all of them, or those that are named, below `out`."""
    with tempfile.TemporaryDirectory() as name:
        texts = Path(name)
        os.environ |= {"HF_HUB_CACHE": f"{texts}/hub", "HF_HUB_OFFLINE": "1"}
        write_tokenizer(texts / "hub")
        for source, count in (("a", 140), ("b", 90), ("c", 60), ("new", 12)):
            write_texts(texts, source, count)
        wanted = {name: options for name, options in DATASETS.items() if name in (names or DATASETS)}
        for dataset, options in wanted.items():
            paths = tuple(one.replace("=", f"={texts}/") + ".jsonl" for one in options["source"])
            own = {**SMALL, **options, "source": paths, "out": str(out / dataset), "store": str(texts / "store")}
            build(load_options(None, {key: value for key, value in own.items() if value is not None}), Silent())
        if "extended" in wanted:
            longer = {"out": str(out / "extended"), "backend": "tokenizers", "workers": 1}
            extend(load_options(None, longer), Extent(total_steps=58), Silent())
            new = load_options(None, {**longer, "source": (f"new={texts}/new.jsonl",)})
            extend(new, Extent(steps=3), Silent())
    for dataset in wanted:
        (out / dataset / "build-log.json").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
