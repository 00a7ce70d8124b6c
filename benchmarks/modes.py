"""What each mode costs: cutting the same token store in every mode, on this machine in one run.

    python benchmarks/modes.py [--corpus-mb 400] [--runs 3] [--folder DIR] [--json]

In:  nothing but this machine; corpus and tokenizer as in main_job.py, tokenized once.
Out: a table, or with --json one object, on stdout; progress on stderr. Every cut is the stage `cut` of a whole
`curriculum build` (read, lay out, hash, fsync, publish), with one worker; modes take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

LINEAR = ("--schedule", "linear", "--frac", "0.3")
MODES = {
    "segment": LINEAR,
    "truncate": ("--mode", "truncate", *LINEAR),
    "segment, 8 shapes": (*LINEAR, "--max-shapes", "8"),
    "best-fit": ("--mode", "best-fit", *LINEAR),
    "best-fit, constant": ("--mode", "best-fit", "--schedule", "constant"),
    "document": ("--mode", "document"),
    "document, 256 up": ("--mode", "document", "--start-length", "256"),
}


def measure(folder: Path, corpus_mb: int, runs: int) -> dict[str, Any]:
    """Seconds of the stages `plan` and `cut` of every mode, and what its rows lost."""
    from real_text import write_corpus

    from gpt2 import gpt2_tokenizer_json

    corpus, store = folder / "corpus", folder / "store"
    write_corpus(corpus, corpus_mb)
    (folder / "gpt2").mkdir(exist_ok=True)
    tokenizer = gpt2_tokenizer_json(folder / "gpt2")
    arguments = [str(corpus), "--tokenizer", str(tokenizer), "--batch-rows", "64", "--workers", "1"]
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in MODES}
    found: dict[str, dict[str, Any]] = {}
    for number in range(runs + 1):  # the first one tokenizes and fills the page cache
        for name, options in MODES.items():
            say(f"run {number} of {runs}: {name} ...")
            log, accounting = build(folder / "modes", store, [*arguments, *options])
            if number:
                seconds[name].append((log["seconds"]["plan"], log["seconds"]["cut"]))
            found[name] = {"accounting": accounting, "packing": log["packing"]}
    return {
        name: {
            "plan_seconds": median(plan for plan, _ in times),
            "cut_seconds": median(cut for _, cut in times),
            "tokens_per_second": round(found[name]["accounting"]["trained_tokens"] / median(cut for _, cut in times)),
            **found[name],
        }
        for name, times in seconds.items()
    }


def build(out: Path, store: Path, arguments: list[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """Build anew from the store; the build log and the accounting."""
    shutil.rmtree(out, ignore_errors=True)
    code = "from pipeline.cli import main; main(prog_name='curriculum')"
    command = [sys.executable, "-c", code, "build", *arguments, "--out", str(out), "--store", str(store)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    return json.loads((out / "build-log.json").read_text("utf-8")), manifest["accounting"]


def table(measured: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{'mode':<20}{'plan s':>8}{'cut s':>8}{'M tokens/s':>12}{'padding':>10}{'dropped':>12}{'docs/row':>10}"]
    for name, each in measured.items():
        packing = each["packing"]
        padding = f"{100 * packing['padding_ratio']:.3f} %" if packing else "-"
        rows = f"{packing['concatenation_ratio']:.2f}" if packing else "-"
        lines.append(
            f"{name:<20}{each['plan_seconds']:>8.2f}{each['cut_seconds']:>8.2f}{each['tokens_per_second'] / 1e6:>12.1f}"
            f"{padding:>10}{each['accounting']['truncated_tokens']:>12,}{rows:>10}"
        )
    return "\n".join(lines)


def say(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus-mb", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measured = measure(folder, given.corpus_mb, given.runs)
    print(json.dumps(measured) if given.json else table(measured))


if __name__ == "__main__":
    main()
