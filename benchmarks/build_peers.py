"""Building, next to other tools: wall and CPU time, memory, bytes and equal ids, in one run on the same real text.

    for tool in megatron datatrove litdata mds datasets; do
        python -m venv /tmp/peers/$tool && /tmp/peers/$tool/bin/pip install -r benchmarks/requirements-build-$tool.txt
    done
    git clone https://github.com/NVIDIA/Megatron-LM /tmp/Megatron-LM
    python benchmarks/build_peers.py --environments /tmp/peers --megatron /tmp/Megatron-LM [--corpus-mb 562] [--json]
    python benchmarks/build_peers.py --workers 1 --runs 5        ours alone: the builds, the re-cuts and the disk

In:  this machine's text, GPT-2's tokenizer, the other environments.   Out: tables in Markdown, or one JSON object.
Guarantee: everything runs on as many CPUs as it has workers, in fresh processes, one after the other, in turns; the
page cache holds the corpus. The ids of every tool are compared with those of the bare loop. A tool that is not there
or fails is a line that says so. 562 MB take 15 minutes a round and 6 GB of disk; `--slow-runs` limits the slow tools.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default="environments", help="folder with one for each tool")
    parser.add_argument("--megatron", type=Path, help="checkout of Megatron-LM, of 2026-08 or later")
    parser.add_argument("--corpus-mb", type=int, default=300, help="MB of text")
    parser.add_argument("--corpus", type=Path, help="a .jsonl file to use instead of this machine's text")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of every tool")
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--slow-runs", type=int, help="rounds of the tools that use `tokenizers`  [default: all]")
    parser.add_argument("--only", default="", help="other tools whose name contains this, for a quick look")
    parser.add_argument("--no-recuts", action="store_true", help="leave the re-cuts out, for a quick look")
    parser.add_argument("--disk-mb", type=int, default=512, help="MB written and read to measure the disk")
    parser.add_argument("--folder", type=Path, help="where to work, and keep the corpus  [default: a temporary folder]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    from build_inputs import prepare
    from build_peers_report import show
    from build_rounds import Setting, measure

    with tempfile.TemporaryDirectory(prefix="curriculum-benchmark-") as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        setting = Setting(
            folder=folder,
            environments=args.environments.absolute(),
            megatron=args.megatron.resolve() if args.megatron else None,
            workers=args.workers,
            runs=args.runs,
            slow_runs=args.runs if args.slow_runs is None else args.slow_runs,
            only=args.only,
            recuts=not args.no_recuts,
            disk_mb=args.disk_mb,
        )
        inputs = prepare(folder / "inputs", args.corpus or args.corpus_mb, args.workers)
        found = measure(setting, inputs)
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
