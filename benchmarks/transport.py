"""What compressing shards for their way saves and costs: levels, block sizes, byte planes, long windows, threads.

    python benchmarks/transport.py [--dataset DIR] [--corpus-mb 100] [--levels 1 3 9 19] [--json]

In:  finished datasets; without any, real text of this machine (real_text.py) is built into two: ids of GPT-2, and of a
tokenizer of 8,192 entries trained on the text.
Out: a table, or with --json one object, on stdout; progress on stderr. Rates are plain bytes per second of the time
that one core worked, so that others who work on the machine disturb little; where it says threads or disk, per second
of the wall. `planes`: all low bytes of the ids of a block first, then all high bytes. `ids`: 16-bit ids alone, without
the other columns; the same widened to 32 bits; the same in random order, which has no repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from curriculum.manifest import Manifest, load_manifest  # noqa: E402
from pipeline.engines.cores import num_cores  # noqa: E402
from pipeline.sharing.frames import BLOCK_BYTES, LEVEL, compress_file, decompress_file  # noqa: E402

MIB = 1 << 20
Packer = Callable[[bytes], bytes]


def build(folder: Path, corpus_mb: int) -> list[Path]:
    """Two datasets of real text."""
    from real_text import write_corpus

    from gpt2 import gpt2_tokenizer_json

    write_corpus(folder / "corpus", corpus_mb)
    (folder / "tokenizer").mkdir(exist_ok=True)
    found = []
    for name, tokenizer in (("gpt2", str(gpt2_tokenizer_json(folder / "tokenizer"))), ("trained", "train:8192")):
        out = folder / name
        command = [sys.executable, "-m", "pipeline.cli", "build", str(folder / "corpus"), "--tokenizer", tokenizer]
        say(f"building {name} ...")
        subprocess.run(
            [*command, "--batch-rows", "64", "--workers", "1", "--no-keep-store", "--out", str(out)],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        found.append(out)
    return found


def read_shards(root: Path, manifest: Manifest) -> tuple[list[bytes], list[bytes]]:
    """All shards, and of each the bytes of the ids alone."""
    shards, ids = [], []
    for phase in manifest.phases:
        for shard in phase.shards:
            shards.append((root / shard.path).read_bytes())
            size = shard.num_rows * (phase.seq_len + 1) * manifest.itemsize
            ids.append(shards[-1][shard.data_offset : shard.data_offset + size])
    return shards, ids


def planes(block: bytes, itemsize: int = 2) -> bytes:
    """The first bytes of all ids, then the second ones."""
    whole = len(block) // itemsize * itemsize
    return np.frombuffer(block[:whole], np.uint8).reshape(-1, itemsize).T.tobytes() + block[whole:]


def from_planes(data: bytes, itemsize: int = 2) -> bytes:
    """The block that `planes` was given."""
    whole = len(data) // itemsize * itemsize
    return np.frombuffer(data[:whole], np.uint8).reshape(itemsize, -1).T.tobytes() + data[whole:]


def cut(texts: list[bytes], block_bytes: int) -> list[bytes]:
    """Blocks of so many bytes; 0 for one block a text."""
    return [
        text[start : start + (block_bytes or len(text))]
        for text in texts
        for start in range(0, len(text), block_bytes or len(text))
    ]


def pack(blocks: list[bytes], packer: Packer, before: Packer | None, after: Packer | None) -> dict[str, float]:
    """Ratio and rates of one way, on one core; what comes out is compared."""
    plain = sum(map(len, blocks))
    began = time.process_time()
    packed = [packer(before(block) if before else block) for block in blocks]
    middle = time.process_time()
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    back = [after(unpacker.decompress(each)) if after else unpacker.decompress(each) for each in packed]
    ended = time.process_time()
    assert back == blocks
    return {
        "ratio": plain / sum(map(len, packed)),
        "pack_mb_per_s": plain / (middle - began) / 1e6,
        "unpack_mb_per_s": plain / (ended - middle) / 1e6,
    }


def level(number: int, *, long: bool = False) -> Packer:
    """One-shot zstd of a level, with a checksum as the pipeline writes; `long` finds repeats 128 MiB back."""
    chosen: dict[str, Any] = {"enable_ldm": True, "window_log": 27} if long else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(number, write_checksum=True, **chosen)
    return zstandard.ZstdCompressor(compression_params=parameters).compress


def ways(shards: list[bytes], ids: list[bytes], levels: list[int]) -> Iterator[tuple[str, dict[str, float]]]:
    """Every measured way, by its name."""
    blocks, split = cut(shards, BLOCK_BYTES), (planes, from_planes)
    for number in levels:
        yield f"level {number}", pack(blocks, level(number), None, None)
        yield f"level {number}, planes", pack(blocks, level(number), *split)
        whole = b"".join(shards)
        yield f"level {number}, all in one, --long=27", pack([whole], level(number, long=True), None, None)
    for size in (MIB // 4, MIB, 2 * MIB, 8 * MIB, 0):
        name = f"{size / MIB:g} MiB" if size else "whole shards"
        yield f"level {LEVEL}, blocks of {name}", pack(cut(shards, size), level(LEVEL), None, None)
    yield "level 3, blocks of whole shards", pack(shards, level(3), None, None)  # what `zstd` does by itself
    together = np.frombuffer(b"".join(ids), "<u2")
    wide, mixed = together.astype("<u4"), np.random.default_rng(0).permutation(together)
    of_4 = (lambda block: planes(block, 4), lambda block: from_planes(block, 4))
    for name, values, by in (("ids", together, split), ("ids of 32 bits", wide, of_4), ("ids, shuffled", mixed, split)):
        of_ids = cut([values.tobytes()], BLOCK_BYTES)
        yield f"level {LEVEL}, {name}", pack(of_ids, level(LEVEL), None, None)
        yield f"level {LEVEL}, {name}, planes", pack(of_ids, level(LEVEL), *by)


def beside_ids(shards: list[bytes], ids: list[bytes]) -> dict[str, float]:
    """Share of the columns beside the ids in the packed bytes, and what planes of 8-byte words would save of all."""
    packer = level(LEVEL)
    rests = [shard.replace(of_ids, b"", 1) for shard, of_ids in zip(shards, ids, strict=True)]
    alone = sum(len(packer(rest)) for rest in rests)
    in_planes = sum(len(packer(planes(rest, 8))) for rest in rests)
    whole = alone + sum(len(packer(block)) for block in cut(ids, BLOCK_BYTES))
    return {"beside_ids_percent": 100 * alone / whole, "planes_beside_save_percent": 100 * (alone - in_planes) / whole}


def limits(shards: list[bytes], folder: Path) -> dict[str, float]:
    """MB/s that nothing here can beat: a digest of one core, and writing to the disk of the folder."""
    size = sum(map(len, shards)) / 1e6
    began = time.process_time()
    for shard in shards:
        hashlib.sha256(shard).digest()
    hashing = time.process_time() - began
    began = time.perf_counter()
    with open(folder / "written", "wb") as file:
        for shard in shards:
            file.write(shard)
        os.fsync(file.fileno())
    writing = time.perf_counter() - began
    (folder / "written").unlink()
    return {"sha256_mb_per_s": size / hashing, "write_mb_per_s": size / writing}


def as_files(shards: list[bytes], folder: Path, threads: int) -> dict[str, float]:
    """The pipeline's own functions, from file to file, digest and fsync included."""
    plain, there, back = folder / "plain", folder / "there.zst", folder / "back"
    plain.write_bytes(b"".join(shards))
    size = plain.stat().st_size
    began = time.perf_counter()
    compress_file(plain, there, lambda amount: None, threads=threads)
    middle = time.perf_counter()
    decompress_file(there, back, size, lambda amount: None, threads=threads)
    ended = time.perf_counter()
    ratio = size / there.stat().st_size
    for path in (plain, there, back):
        path.unlink()
    return {
        "ratio": ratio,
        "pack_mb_per_s": size / (middle - began) / 1e6,
        "unpack_mb_per_s": size / (ended - middle) / 1e6,
    }


def measure(root: Path, levels: list[int], folder: Path) -> dict[str, Any]:
    """Everything of one dataset."""
    shards, ids = read_shards(root, load_manifest(root))
    found: dict[str, Any] = {"shards_mb": sum(map(len, shards)) / 1e6, **limits(shards, folder)}
    found |= {**beside_ids(shards, ids), "ways": {}}
    for name, each in ways(shards, ids, levels):
        say(f"{root.name}: {name}: {each['ratio']:.2f}")
        found["ways"][name] = each
    for threads in sorted({1, num_cores()}):
        found["ways"][f"compress_file, {threads} threads"] = as_files(shards, folder, threads)
    return found


def table(measured: dict[str, Any]) -> str:
    """The same for people."""
    lines = []
    for name, found in measured.items():
        lines.append(
            f"{name}: {found['shards_mb']:.0f} MB of shards; sha256 {found['sha256_mb_per_s']:.0f} MB/s, "
            f"write and fsync {found['write_mb_per_s']:.0f} MB/s; columns beside the ids "
            f"{found['beside_ids_percent']:.1f} % of what travels, "
            f"planes would save {found['planes_beside_save_percent']:.1f} %"
        )
        lines.append(f"  {'':<40}{'ratio':>8}{'pack MB/s':>12}{'unpack MB/s':>13}")
        for way, each in found["ways"].items():
            rates = f"{each['pack_mb_per_s']:>12.0f}{each['unpack_mb_per_s']:>13.0f}"
            lines.append(f"  {way:<40}{each['ratio']:>8.2f}{rates}")
    return "\n".join(lines)


def say(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, action="append", default=[])
    parser.add_argument("--corpus-mb", type=int, default=100)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 3, 9, 19])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        datasets = given.dataset or build(folder, given.corpus_mb)
        measured = {each.name: measure(each, given.levels, folder) for each in datasets}
    print(json.dumps(measured) if given.json else table(measured))


if __name__ == "__main__":
    main()
