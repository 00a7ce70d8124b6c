"""Three small sources, builds of them, and a slow model that lays out every row of a mixture by the book.

The model follows docs/format.md with plain lists. Of ours it takes the permutations, windows and shards, which have
tests of their own; apportionment, dealing, interleaving, numbering and cutting are its own.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import xxhash

from curriculum.manifest import Manifest
from pipeline.build import BuildResult, build
from pipeline.option_sources import load_options
from pipeline.order import permutation
from pipeline.progress import Silent
from pipeline.windows import lay_out_shards, split_windows

EOS = 256
SIZES = {"web": (120, 61), "code": (70, 83), "wiki": (30, 47)}
"""Documents of each source, and a number that makes their lengths differ."""
SETTINGS: dict[str, Any] = {
    "tokenizer": "bytes",
    "backend": "tokenizers",
    "start_length": 8,
    "max_length": 24,
    "batch_rows": 4,
    "shuffle_window": 1,
    "shard_bytes": 2_500,
    "seed": 5,
    "workers": 1,
}


def texts_of(name: str) -> list[str]:
    """Documents of 5 to about 100 letters; the first text of every source is the same one."""
    count, step = SIZES[name]
    lengths = [5 + i * step % 97 for i in range(count)]
    return [
        "the same text everywhere",
        *("".join(chr(97 + i * (j + step) % 26) for j in range(n)) for i, n in enumerate(lengths, 1)),
    ]


def write_sources(folder: Path) -> tuple[str, ...]:
    """A .jsonl for each source; the entries of --source."""
    for name in SIZES:
        lines = [json.dumps({"text": text}) + "\n" for text in texts_of(name)]
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return tuple(f"{name}={folder / name}.jsonl" for name in SIZES)


def build_mixture(out: Path, sources: tuple[str, ...], **options: Any) -> BuildResult:
    """Build the three sources; keyword arguments override `SETTINGS`."""
    return build(load_options(None, {**SETTINGS, "source": sources, "out": str(out), **options}), Silent())


def stream_of(name: str, seed: int, epochs: int) -> list[tuple[int, int, bool]]:
    """(token, document, begins it) of so many epochs of one source: documents by key, then permuted, EOS after each."""
    keyed = []
    position = 0
    for text in texts_of(name):
        key = xxhash.xxh3_128_intdigest(f"{name}\0{name}.jsonl\0{position}".encode())
        keyed.append((key, text))
        position += len(json.dumps({"text": text})) + 1
    keyed.sort()
    stream: list[tuple[int, int, bool]] = []
    for epoch in range(epochs):
        order = permutation(len(keyed), seed=seed, purpose=f"documents:{name}", index=(epoch, 0))
        for number, chosen in enumerate(order.tolist()):
            ids = [*keyed[chosen][1].encode(), EOS]
            stream += [(token, epoch * len(keyed) + number, i == 0) for i, token in enumerate(ids)]
    return stream


def model_rows(manifest: Manifest, names: tuple[str, ...], weights: list[list[int]]) -> dict[int, list[dict[str, Any]]]:
    """For each phase its rows in training order: tokens, doc_starts, offset, document."""
    plan, seed = manifest.plan, manifest.seed
    windows = split_windows(plan, manifest.build.window_tokens)
    layout = lay_out_shards(plan, windows, shard_bytes=manifest.build.shard_bytes, itemsize=2)
    counts = _counts(layout, weights)
    taken = dict.fromkeys(names, 0)
    rows: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for window, slots in zip(windows, layout, strict=True):
        dealt = {}
        for k, name in enumerate(names):
            dealt[name], taken[name] = _deal(plan, name, slots, counts, k, taken[name], seed, window.index)
        for slot in slots:
            laid = [
                (name, dealt[name][slot.phase].pop(0))
                for k, name in enumerate(names)
                for _ in range(counts[slot.path][k])
            ]
            order = permutation(len(laid), seed=seed, purpose="mix", index=(window.index, slot.phase, slot.first_row))
            rows[slot.phase] += [laid[i] for i in order.tolist()]
    return _cut(plan, names, rows, taken, seed)


def _counts(layout: Any, weights: list[list[int]]) -> dict[str, list[int]]:
    """Rows of each source in every shard: largest remainder of what is owed, which three sources never overdraw."""
    owed = [[Fraction(0)] * len(of_phase) for of_phase in weights]
    counts = {}
    for slot in (slot for slots in layout for slot in slots):
        of_phase, rows = weights[slot.phase], slot.stop_row - slot.first_row
        due = [o + Fraction(w * rows, sum(of_phase)) for o, w in zip(owed[slot.phase], of_phase, strict=True)]
        given = [max(0, d.numerator // d.denominator) for d in due]
        by_rest = sorted(range(len(due)), key=lambda k: given[k] - due[k])
        for k in by_rest[: rows - sum(given)]:
            given[k] += 1
        owed[slot.phase] = [d - g for d, g in zip(due, given, strict=True)]
        counts[slot.path] = given
    return counts


def _deal(
    plan: Any, name: str, slots: Any, counts: dict[str, list[int]], k: int, at: int, seed: int, window: int
) -> tuple[dict[int, list[int]], int]:
    """Positions of the rows of one source in a window, and where the next window begins."""
    of_phase: dict[int, int] = defaultdict(int)
    for slot in slots:
        of_phase[slot.phase] += counts[slot.path][k]
    listed = [phase for phase in sorted(of_phase) for _ in range(of_phase[phase])]
    order = permutation(len(listed), seed=seed, purpose=f"cut:{name}", index=(window,)).tolist()
    found: dict[int, list[int]] = defaultdict(list)
    for i in order:
        found[listed[i]].append(at)
        at += plan.consumed_per_row(listed[i])
    for phase, places in found.items():
        dealt = permutation(len(places), seed=seed, purpose=f"deal:{name}", index=(window, phase))
        found[phase] = [places[i] for i in dealt.tolist()]
    return found, at


def _cut(
    plan: Any, names: tuple[str, ...], rows: dict[int, list[tuple[str, int]]], taken: dict[str, int], seed: int
) -> dict[int, list[dict[str, Any]]]:
    streams, firsts = {}, {}
    offset = document = 0
    for name in names:
        one = stream_of(name, seed, 1)
        epochs = -(-(taken[name] + 1) // len(one)) if taken[name] else 0
        streams[name], firsts[name] = stream_of(name, seed, epochs), (offset, document)
        offset, document = offset + epochs * len(one), document + epochs * len(texts_of(name))
    cut: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for phase, of_phase in rows.items():
        for name, place in of_phase:
            inside = streams[name][place : place + plan.phases[phase].seq_len + 1]
            cut[phase].append(
                {
                    "tokens": [token for token, _, _ in inside],
                    "starts": [i for i, (_, _, begins) in enumerate(inside) if begins and i],
                    "offset": firsts[name][0] + place,
                    "document": firsts[name][1] + inside[0][1],
                }
            )
    return cut


def source_at(manifest: Manifest, offset: int) -> str:
    """Name of the source that a position of the common numbering belongs to."""
    return manifest.sources[bisect_right([source.offset for source in manifest.sources], offset) - 1].name
