"""Reading, next to other libraries: tokens per second, microseconds per step, start, resume and memory, in one run.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install -r benchmarks/requirements-readers.txt
    python benchmarks/readers.py --peers /tmp/peers/bin/python [--rounds 5] [--steps 200] [--folder DIR] [--json]

In:  nothing but this machine: text that lies on it, GPT-2's tokenizer, and the libraries of the other environment.
Out: a table for each shape, or with --json one object, on stdout; progress on stderr. About five minutes, 1 GB of disk.
Guarantee: all readers run in that one environment, each in a process of its own, one at a time, over the same tokens.
Every window of a reader has its own window of the contiguous memmap slice right before it, and readers take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
BARE = "memmap slice"
SHAPES = ((64, 1024), (512, 128))
PEERS = (
    "HF datasets, arrow",
    "HF datasets, arrow, shuffled",
    "HF datasets, numpy",
    "HF datasets, torch",
    "litdata",
    "ArrayRecord",
    "Grain over ArrayRecord",
    "Megatron GPTDataset",
    "MosaicML streaming (MDS)",
)
OWN = (
    "memmap slice, reused buffer",
    "memmap gather of rows",
    "nanoGPT get_batch",
    "curriculum, uint16 views",
    "curriculum, int64",
    "curriculum, int64, reused buffer",
    "curriculum adapter",
    "curriculum adapter, reuse_buffer",
)


class Process:
    """A reader in its own process; see reader_process.py."""

    def __init__(self, python: str, name: str, folders: list[Path], environment: dict[str, str], log: Path) -> None:
        self.name = name
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python, str(ROOT / "benchmarks" / "reader_process.py"), name, *map(str, folders)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def ask(self, command: str) -> dict[str, Any]:
        """The answer; {"error": ...} also if the process is gone."""
        try:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(command, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        found: dict[str, Any] = json.loads(answer) if answer else {"error": "the process ended"}
        return found

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()


def measure(folder: Path, peers: str, steps: int, rounds: int, names: list[str]) -> dict[str, Any]:
    """Everything, shape by shape."""
    from read_speed import open_speed
    from reader_data import Shape, prepare
    from reader_report import environment, summarize
    from real_text import write_corpus

    from gpt2 import gpt2_tokenizer_json

    say("corpus and dataset ...")
    shapes = [Shape(rows=rows, seq_len=seq_len, steps=steps) for rows, seq_len in SHAPES]
    folders = [folder / shape.name for shape in shapes]
    write_corpus(folder / "corpus", max(20, round(steps * shapes[0].tokens_per_step * 6 / 1e6)))
    (folder / "gpt2").mkdir(exist_ok=True)
    tokenizer = Path(gpt2_tokenizer_json(folder / "gpt2"))
    env = environment(ROOT)
    for shape, to in zip(shapes, folders, strict=True):
        prepare(to, shape, folder / "corpus", tokenizer, folder / "store")
        say(f"formats of the others, {shape.name} ...")
        command = [peers, str(ROOT / "benchmarks" / "peer_formats.py"), str(to)]
        subprocess.run(command, env=env, check=False, stdout=sys.stderr)  # libraries print
    log = folder / "readers.log"
    processes = [Process(peers, name, folders, env, log) for name in (BARE, *names)]
    found: dict[str, Any] = {"steps": steps, "rounds": rounds, "shapes": {}}
    try:
        for number, shape in enumerate(shapes):
            samples = take_turns(processes, number, rounds, shape.name)
            found["shapes"][shape.name] = summarize(samples, shape.tokens_per_step, BARE)
    finally:
        for process in processes:
            process.close()
    found["opening_milliseconds"] = open_speed(folder / "many-shards")
    return found


def take_turns(processes: list[Process], number: int, rounds: int, shape: str) -> dict[str, dict[str, Any]]:
    """What each process answered: check, first start, and of each round window, the slice's window, start, resume."""
    samples: dict[str, dict[str, Any]] = {}
    bare, *others = processes
    for process in processes:
        say(f"{shape}: first batch and tokens of {process.name} ...")
        process.ask(f"open {number}")
        first = process.ask("start")
        samples[process.name] = {"first": first, "check": process.ask("check"), "rounds": []}
    for round_number in range(rounds + 1):  # one before is not counted
        say(f"{shape}: round {round_number} of {rounds} ...")
        for process in [bare, *others]:
            sample = {"bare": bare.ask("window"), **{each: process.ask(each) for each in ("window", "start", "resume")}}
            sample["memory"] = process.ask("memory")
            if round_number:
                samples[process.name]["rounds"].append(sample)
    return samples


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    from reader_report import show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="Python of the environment with the other libraries")
    parser.add_argument("--steps", type=int, default=200, help="steps of 65,536 tokens in each dataset")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each reader and shape")
    parser.add_argument("--only", help="readers whose name contains this, for a quick look")
    parser.add_argument("--folder", type=Path, help="where to work, and keep the data  [default: a temporary folder]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    names = [name for name in (*OWN, *PEERS) if not args.only or args.only in name]
    with tempfile.TemporaryDirectory(prefix="curriculum-benchmark-") as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, args.peers, args.steps, args.rounds, names)
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
