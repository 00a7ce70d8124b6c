"""Does it help? Equal tokens at constant length, by truncation and by segmentation, at two settings, over seeds.

    python benchmarks/evidence.py FOLDER                               the runs of docs/evidence.md: 2 hours on 2 cores
    python benchmarks/evidence.py FOLDER --report                      the tables of the runs that are finished
    python benchmarks/evidence.py FOLDER --scale gpt2 --corpus 'text/*.jsonl.zst' --tokens 10000000000      on a GPU

In:  a folder, the corpus of evidence_corpus.py or your own.   Out: FOLDER/data and FOLDER/runs with a folder for each
run; the tables (Markdown) on stdout, with --plots DIR its pictures, with --json one object.
Guarantee: runs are the commands of evidence_matrix.py, each a process of its own, so many at once as --at-once. Finished
ones are kept; a killed one continues from its checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from evidence_corpus import corpus  # noqa: E402
from evidence_matrix import SCALES, Run, runs  # noqa: E402

CURRICULUM = [sys.executable, "-c", "from pipeline.cli import main; main(prog_name='curriculum')"]


def train(run: Run, folder: Path, paths: list[str], epochs: int) -> None:
    """Build the dataset of a run and train on it, or go on with it.

    Raises:
        SystemExit: one of the two commands failed; what it said is in the log that the message names.
    """
    out = folder / "runs" / run.name
    if (out / "cost.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    say(f"{run.name} ...")
    execute(run.build(folder, paths, epochs), out)
    seconds, cpu_seconds = execute(run.train(folder), out)
    cost = {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1), **spent_before(out)}
    note = out / "cost.json.partial"
    note.write_text(json.dumps(cost) + "\n")
    note.rename(out / "cost.json")
    say(f"{run.name}: {seconds:.0f} s")


def spent_before(out: Path) -> dict[str, Any]:
    """Whether a run was stopped and went on: its CPU seconds are then not all counted."""
    starts = (out / "starts").stat().st_size
    return {"starts": starts}


def execute(command: list[str], out: Path) -> tuple[float, float]:
    """Run a command of `curriculum`; seconds and CPU seconds."""
    if command[0] == "train":
        with open(out / "starts", "ab") as starts:
            starts.write(b".")
    began = time.perf_counter()
    with open(out / f"{command[0]}.log", "ab") as said:
        process = subprocess.Popen(
            [*CURRICULUM, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"`curriculum {' '.join(command)}` failed: see {said.name}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def say(message: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line, run what is not finished, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu")
    parser.add_argument("--tokens", type=int, help="trained tokens of a run  [default: 2 M; gpt2: 10 G]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time")
    parser.add_argument("--corpus", action="append", help="your own text, as `curriculum build` takes it; again for more")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the corpus that a run may take")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--plots", type=Path, help="write the pictures to this folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    scale = replace(scale, tokens=arguments.tokens or scale.tokens)
    matrix = runs(scale, arguments.seeds)
    folder = arguments.folder.resolve()
    if not arguments.report:
        run_all(matrix, folder, arguments.corpus, arguments.epochs, arguments.at_once)
    from evidence_report import markdown, results

    found = results([run for run in matrix if (folder / "runs" / run.name / "cost.json").exists()], folder)
    if arguments.plots:
        from evidence_plots import draw

        draw(found, arguments.plots)
    print(json.dumps(found) if arguments.json else markdown(found))


def run_all(matrix: list[Run], folder: Path, paths: list[str] | None, epochs: int, at_once: int) -> None:
    """All runs that are not finished; the first failure ends it, after the runs that are under way."""
    if paths is None:
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        corpus(folder / "corpus")
        paths = [str(folder / "corpus" / "*.jsonl")]
    execute_first = next((run for run in matrix if not (folder / "store").exists()), None)
    if execute_first:  # one build fills the token store that the others share
        out = folder / "runs" / execute_first.name
        out.mkdir(parents=True, exist_ok=True)
        execute(execute_first.build(folder, paths, epochs), out)
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(train, run, folder, paths, epochs) for run in matrix]
        try:
            for each in waiting:
                each.result()
        except SystemExit:
            pool.shutdown(cancel_futures=True)
            raise


if __name__ == "__main__":
    main()
