"""New text for small datasets, and a slow model that lays out every row cut from it by the book.

The model follows docs/format.md with plain lists: keys, what is held out, the order of documents, windows and the deal
are its own; of ours it takes the permutation, which has tests of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from curriculum.manifest import Manifest
from pipeline.build import BuildResult
from pipeline.extend import extend
from pipeline.longer_plan import Extent
from pipeline.option_sources import load_options
from pipeline.order import permutation
from pipeline.progress import Silent

EOS = 256
STEPS = 60
"""Of each dataset that is extended."""
READING = ("text_key", "on_bad_record", "tokenized", "ids_key", "ids_dtype", "unit_bytes", "backend", "tokenizer")


def new_texts(count: int = 130, step: int = 71) -> list[str]:
    """Documents of 20 to about 300 letters that no other corpus of the tests has, one of them empty, one twice."""
    lengths = [20 + i * step % 283 for i in range(count)]
    texts = ["".join(chr(97 + (i * j + step + j // 7) % 26) for j in range(n)) for i, n in enumerate(lengths, 1)]
    return [*texts, "", texts[3]]


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """A .jsonl."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def grow(
    dataset: Path,
    *sources: str,
    workers: int = 1,
    store: Path | None = None,
    reading: dict[str, Any] | None = None,
    **extent: Any,
) -> BuildResult:
    """`curriculum extend DATASET --source ...`; of sources with `=` the files are read."""
    own: dict[str, Any] = {"out": str(dataset), "workers": workers, "backend": "tokenizers", **(reading or {})}
    own |= {"store": str(store)} if store else {}
    paths, names = (tuple(one for one in sources if ("=" in one) == has_path) for has_path in (True, False))
    own |= {"source": paths} if paths else {}
    return extend(load_options(None, own), Extent(**extent), Silent(), sources=names)


def bytes_of(dataset: Path) -> dict[str, bytes]:
    """Every file that two equal datasets share."""
    files = (path for path in sorted(dataset.rglob("*")) if path.is_file() and path.name != "build-log.json")
    return {path.relative_to(dataset).as_posix(): path.read_bytes() for path in files}


def shards_of(dataset: Path) -> dict[str, bytes]:
    """The shards alone."""
    return {name: data for name, data in bytes_of(dataset).items() if name.endswith(".arrow")}


def copy_of(dataset: Path, folder: Path) -> Path:
    """A copy, whose build log names the store of the original."""
    return Path(shutil.copytree(dataset, folder))


@dataclass(frozen=True, kw_only=True)
class Token:
    """One place of a stream."""

    token: int
    document: int
    begins: bool


def stream_of(path: Path, name: str, *, seed: int, below: int, epochs: int = 1) -> list[Token]:
    """The stream of a small source (one partition): documents by key, then permuted, EOS after each."""
    keyed, position = [], 0
    for line in path.read_text("utf-8").splitlines(keepends=True):
        text = json.loads(line)["text"].encode()
        if text and xxhash.xxh3_64_intdigest(text) >= below:
            keyed.append((xxhash.xxh3_128_intdigest(f"{name}\0{path.name}\0{position}".encode()), text))
        position += len(line.encode())
    keyed.sort()
    stream = []
    for epoch in range(epochs):
        order = permutation(len(keyed), seed=seed, purpose=f"documents:{name}", index=(epoch, 0)).tolist()
        for number, chosen in enumerate(order, epoch * len(keyed)):
            ids = [*keyed[chosen][1], EOS]
            stream += [Token(token=one, document=number, begins=i == 0) for i, one in enumerate(ids)]
    return stream


def rows_of_extension(
    manifest: Manifest, phase: int, stream: list[Token], *, used: int, offset: int, document: int
) -> list[dict[str, Any]]:
    """The rows of a phase that is an extension by one source, in training order.

    Args:
        manifest: of the longer dataset.
        phase: index of the phase.
        stream: of the source.
        used: tokens of it that earlier phases have used up.
        offset, document: where the source begins in the common numbering.
    """
    plan, size = manifest.plan, manifest.build.window_tokens
    length, per_step, num_steps = plan.max_seq_len, plan.phases[phase].rows_per_step, plan.phases[phase].num_steps
    windows_before = len(_borders(plan, manifest, phase))
    total = length * per_step * num_steps
    count = max(1, round(total / size))
    borders = [-(-(k * total) // (count * length * per_step)) for k in range(count)] + [num_steps]
    rows = []
    for number in range(count):
        first, stop = (border * per_step for border in borders[number : number + 2])
        deal = permutation(stop - first, seed=manifest.seed, purpose="deal", index=(windows_before + number, phase))
        for i in deal.tolist():
            place = used + (first + i) * length
            inside = stream[place : place + length + 1]
            rows.append(
                {
                    "tokens": [one.token for one in inside],
                    "starts": [i for i, one in enumerate(inside) if one.begins and i],
                    "offset": offset + place,
                    "document": document + inside[0].document,
                }
            )
    return rows


def _borders(plan: Any, manifest: Manifest, phase: int) -> list[int]:
    """One entry for each window before the phase: every run of phases that were planned together has its own."""
    first_extension = len(plan.phases) - plan.num_extensions
    groups = [range(first_extension), *([number] for number in range(first_extension, phase))]
    windows = []
    for group in groups:
        consumed = sum(plan.consumed_per_row(number) * plan.phases[number].num_rows for number in group)
        windows += [consumed] * max(1, round(consumed / manifest.build.window_tokens))
    return windows


def found_rows(reader: Any, steps: range) -> list[dict[str, Any]]:
    """The rows of some steps, as the model writes them."""
    rows = []
    for step in steps:
        batch = reader[step]
        positions, edges = batch.doc_starts
        for row in range(len(batch.tokens)):
            rows.append(
                {
                    "tokens": batch.tokens[row].tolist(),
                    "starts": positions[edges[row] : edges[row + 1]].tolist(),
                    "offset": int(batch.offset[row]),
                    "document": int(batch.document[row]),
                }
            )
    return rows


def cut_from(dataset: Path) -> Path:
    """The token store that a dataset was cut from."""
    return Path(json.loads((dataset / "build-log.json").read_bytes())["store"])


def held_out_below(dataset: Path) -> int:
    """The threshold of the text hash that its build had."""
    return int(json.loads((dataset / "build-log.json").read_bytes())["held_out_below"])
