"""Datasets of a stranger: a good one with one thing changed, ids and digests made to fit as anybody can make them.

MANIFESTS["many sources"]     what is changed in a manifest, and the words that the refusal must have
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forged_shards import last_shard

Json = dict[str, Any]
ESCAPE = "\x1b[2J\x07\u202e"
"""Clears a terminal, rings, and turns the direction of writing."""
SECONDS, MEMORY_BYTES = 20, 4 << 30
"""What a command may take: seconds of a processor, and addresses, of which numpy and pyarrow alone reserve a third."""


def _schedule(**keys: Any) -> Callable[[Json], object]:
    return lambda m: m["plan"]["schedule"].update(keys)


MANIFESTS: dict[str, tuple[Callable[[Json], object], str]] = {
    "escapes in a format": (lambda m: m.update(format=ESCAPE), "another kind of file"),
    "escapes in a feature": (lambda m: m.update(requires=[ESCAPE]), "which this release does not know"),
    "escapes in a mode": (lambda m: m["plan"].update(mode=ESCAPE), "mode is"),
    "escapes in a key of a schedule": (_schedule(**{ESCAPE: 2**70}), "none that a schedule can have"),
    "escapes in a value of a schedule": (_schedule(stages=ESCAPE), "expected printable text"),
    "escapes in a source": (lambda m: m["sources"][0].update(name=ESCAPE), "a source is named"),
    "escapes in a path": (lambda m: last_shard(m).update(path=f"phases/{ESCAPE}.arrow"), "expected a relative path"),
    "escapes in a key": (lambda m: m.update({ESCAPE: 1}), "unknown key"),
    "many features": (lambda m: m.update(requires=[f"x{i}" for i in range(10**5)]), "requires 'x0'"),
    "a long mode": (lambda m: m["plan"].update(mode="x" * 10**6), "mode has 1,000,000 characters"),
    "a long path": (lambda m: last_shard(m).update(path=f"phases/{'x' * 300}.arrow"), "expected the name of a shard"),
    "the manifest as a shard": (lambda m: last_shard(m).update(path="manifest.json"), "expected the name of a shard"),
    "the card as a shard": (lambda m: last_shard(m).update(path="README.md"), "expected the name of a shard"),
    "a hidden file": (lambda m: last_shard(m).update(path=".build/x.arrow"), "expected the name of a shard"),
    "a shard in a shard": (lambda m: last_shard(m).update(path="a.arrow/b.arrow"), "expected the name of a shard"),
    "an option": (lambda m: last_shard(m).update(path="--delete.arrow"), "expected the name of a shard"),
    "a look-alike": (lambda m: last_shard(m).update(path="ph\u0430ses/x.arrow"), "expected the name of a shard"),
    "two shards of one path": (lambda m: last_shard(m).update(path=_first(m)), "two shards have the path"),
    "paths that differ in case": (lambda m: last_shard(m).update(path=_first(m).replace("s", "S")), "two shards have"),
    "tokens far into the file": (
        lambda m: last_shard(m).update(data_offset=2**40, num_bytes=2**50),
        "data_offset is 1099511627776",
    ),
    "a length that Arrow does not have": (lambda m: m["validation"].update(seq_len=2**31 - 1), "seq_len is 2147483647"),
    "a quintillion steps": (lambda m: m["plan"].update(order=[[0, 10**15]]), "order gives phase 0"),
    "a million runs": (
        lambda m: m["plan"].update(order=[[0, 1], [1, 1]] * (2**19 + 1)),
        "order has 1,048,578 runs, this release reads 1,048,576 at most",
    ),
    "a billion rows": (lambda m: m["plan"]["phases"][0].update(num_rows=10**18), "num_rows"),
    "many sources": (lambda m: m.update(sources=m["sources"] * 5000), "sources has 5,000 entries, expected 4,096"),
    "many phases": (lambda m: m.update(phases=[{"seq_len": 8, "shards": []}] * 140_000), "phases has 140,000 entries"),
    "many keys of a schedule": (_schedule(**{f"k{i}": 1 for i in range(99)}), "none that a schedule can have"),
    "a seed of 4,000 digits": (lambda m: m.update(seed=10**4000), "a number of 13288 bits"),
    "an infinite weight": (lambda m: m["sources"][0].update(weight=float("inf")), "not valid JSON (Infinity"),
    "an extension from nowhere": (
        lambda m: m["build"].update(extensions=[{"parent": ESCAPE, "first_step": 1}]),
        "extensions begin at steps",
    ),
}
"""All are refused when they are opened."""

TEXTS: dict[str, tuple[bytes, str]] = {
    "UTF-16": ("{}".encode("utf-16"), "byte 0 is not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "half a character": (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
    "20 million values": (b"[" + b"0," * (20 << 20) + b"0]", "values, expected 16,777,216 at most"),
    "a key of a megabyte": (
        b'{"format": "curriculum-dataset", "' + b"x" * (1 << 20) + b'": 1}',
        "'version' is missing",
    ),
    "1e400": (b'{"format": 1e400}', "format is inf, expected a string"),
    "escapes": (b'{"format": ' + ESCAPE.encode() + b"}", "Expecting value"),
    "a number of a megabyte": (b'{"version": ' + b"9" * (1 << 20) + b"}", "a number has thousands of digits"),
}
"""Bytes in place of a manifest."""


def _first(manifest: Json) -> str:
    path: str = manifest["phases"][0]["shards"][0]["path"]
    return path


def change_manifest(dataset: Path, change: Callable[[Json], object]) -> None:
    """Change it, and make its id fit."""
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(signed(manifest))


def signed(manifest: Json) -> bytes:
    """The bytes of a manifest whose id fits."""
    body = {key: value for key, value in manifest.items() if key != "id"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps({**body, "id": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}).encode()


def fit_shard(dataset: Path, name: str) -> None:
    """Make the manifest fit the bytes of a shard."""
    data = (dataset / name).read_bytes()

    def change(manifest: Json) -> None:
        entry = next(shard for phase in manifest["phases"] for shard in phase["shards"] if shard["path"] == name)
        entry.update(num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    change_manifest(dataset, change)


def fit_tokenizer(dataset: Path, tokenizer: Json) -> None:
    """Put another tokenizer.json there, and make the manifest fit it."""
    data = json.dumps(tokenizer).encode()
    (dataset / "tokenizer.json").write_bytes(data)
    change_manifest(dataset, lambda m: m["tokenizer"].update(sha256=hashlib.sha256(data).hexdigest()))


def run_limited(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of ours that may take only so much time and memory, in a process of its own."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=6 * SECONDS,  # of a wall clock: a machine may be busy
        preexec_fn=limit,
        env={**os.environ, "COLUMNS": "200", "RUST_BACKTRACE": "0"},
    )


def require_sentence(text: str) -> None:
    """Or else it fails, showing the beginning."""
    assert is_sentence(text), f"{len(text)} characters: {text[:300]!r}"


def is_sentence(text: str) -> bool:
    """One line, printable, not too long, with an end."""
    return text.isprintable() and 20 < len(text) < 1500 and text.rstrip().endswith((".", ")"))
