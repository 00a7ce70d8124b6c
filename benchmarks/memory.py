"""Peak memory of builds of 1, 4 and 16 times as much text.

In:  nothing but this machine; documents are drawn from the text that lies on it, the tokenizer is GPT-2's.
Out: a table of peaks of the process tree, the driver and the workers; exit status 1 if one grows by more than 15 %.
Guarantee: every size is several windows, in files of one size, as corpora are; each build begins with an empty store.

    python benchmarks/memory.py --largest-mb 4096 --workers 2
    python benchmarks/memory.py --compressed --largest-mb 2048        one .jsonl.zst, which cannot be divided
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from process_memory import MemoryPeaks, run_watched
from real_text import write_corpus

ROOT = Path(__file__).parents[1]
POOL_MB = 150
"""Real documents to draw from."""
FILE_BYTES = 64_000_000
WINDOW_TOKENS = 8 << 20
"""Of 256 MB of text that is nine windows; the default, 32 Mi, would be two."""
ALLOWED = 1.15
SIZES = (1, 4, 16)


def main() -> None:
    """Build each size and compare."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--largest-mb", type=int, default=4096)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--compressed", action="store_true")
    options.add_argument("--mode", default="segment")
    options.add_argument("--folder", type=Path, default=None)
    asked = options.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from gpt2 import gpt2_tokenizer_json

    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        folder = Path(place)
        write_corpus(folder / "pool", POOL_MB)
        tokenizer = gpt2_tokenizer_json(folder)
        peaks = {}
        for size in SIZES:
            num_bytes = asked.largest_mb * 1_000_000 * size // SIZES[-1]
            corpus = draw_corpus(folder / "pool", folder / "corpus", num_bytes, compressed=asked.compressed)
            out = folder / "out"
            command = [sys.executable, "-m", "pipeline.cli", "build", str(corpus), "--out", str(out)]
            command += ["--tokenizer", str(tokenizer), "--workers", str(asked.workers), "--mode", asked.mode]
            command += ["--shuffle-window", str(WINDOW_TOKENS), "--store", str(folder / "store")]
            peaks[size], seconds = run_watched(command, {**os.environ, "PYTHONPATH": str(ROOT)})
            windows = json.loads((out / "manifest.json").read_bytes())["plan"]["total_tokens"] / WINDOW_TOKENS
            print(row(size, num_bytes, windows, peaks[size], seconds), flush=True)
            for old in (out, folder / "store", corpus):
                shutil.rmtree(old)
    worst = max(getattr(peaks[size], name) / getattr(peaks[1], name) for size in SIZES for name in ("tree", "worker"))
    grown = peaks[SIZES[-1]].driver_own - peaks[1].driver_own
    print(f"largest growth of tree or worker: {worst:.2f} (allowed {ALLOWED}); driver's own: {grown / 1e6:+.1f} MB")
    sys.exit(worst > ALLOWED)


def row(size: int, num_bytes: int, windows: float, peaks: MemoryPeaks, seconds: float) -> str:
    """A line of the table."""
    sizes = " | ".join(f"{value / 1e6:,.0f} MB" for value in (peaks.tree, peaks.worker, peaks.driver, peaks.driver_own))
    return f"| {size}x | {num_bytes / 1e6:,.0f} MB | {windows:.0f} windows | {sizes} | {seconds:.0f} s |"


def draw_corpus(pool: Path, folder: Path, num_bytes: int, *, compressed: bool) -> Path:
    """Documents of the pool, drawn with replacement, in files of `FILE_BYTES`, or in one compressed file."""
    lines = [line for path in sorted(pool.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]
    sizes = np.array([len(line) for line in lines])
    random = np.random.Generator(np.random.Philox(5))
    folder.mkdir()
    if compressed:
        import zstandard

        with zstandard.open(folder / "all.jsonl.zst", "wb", cctx=zstandard.ZstdCompressor(level=1)) as file:
            while num_bytes > 0:
                drawn = random.integers(len(lines), size=1000)
                file.write(b"".join(lines[i] for i in drawn.tolist()))
                num_bytes -= int(sizes[drawn].sum())
        return folder
    number = 0
    while num_bytes > 0:
        drawn = random.integers(len(lines), size=2 * min(num_bytes, FILE_BYTES) // int(sizes.mean()) + 100)
        count = int(np.searchsorted(np.cumsum(sizes[drawn]), min(num_bytes, FILE_BYTES))) + 1
        (folder / f"{number:04d}.jsonl").write_bytes(b"".join(lines[i] for i in drawn[:count].tolist()))
        num_bytes -= int(sizes[drawn[:count]].sum())
        number += 1
    return folder


if __name__ == "__main__":
    main()
