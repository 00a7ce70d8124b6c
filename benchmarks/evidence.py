"""Does it help? Equal tokens at constant length, by truncation and by segmentation, at two settings, over seeds.

    python benchmarks/evidence.py FOLDER --at-once 2              the runs of docs/evidence.md: 7,200 CPU seconds
    python benchmarks/evidence.py FOLDER --report                 the tables of the runs that are finished
    python benchmarks/evidence.py FOLDER --scale gpt2 --corpus 'text/*.jsonl.zst' --tokens 10000000000      on a GPU

In:  a folder, and the corpus of evidence_corpus.py or your own.   Out: FOLDER/data and FOLDER/runs with a folder for
each run; the tables (Markdown) on stdout, with --plots DIR its pictures too, with --json one object.
Guarantee: runs are the commands of evidence_matrix.py, each a process of its own, --at-once of them at a time. Finished
ones are kept; one that was killed goes on from its checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from evidence_corpus import corpus  # noqa: E402
from evidence_matrix import SCALES, Run, runs  # noqa: E402

from curriculum import stability  # noqa: E402
from curriculum.stability_log import read_log  # noqa: E402

STORE = threading.Lock()
"""Builds hold the token store that all of them share; the next would be refused, so it waits."""
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
"""Memory that was freed is used again instead of given back: a fifth less time on a CPU (docs/training.md)."""
CURRICULUM = [sys.executable, "-c", "from pipeline.cli import main; main(prog_name='curriculum')"]


def main() -> None:
    """Read the command line, train what is not finished, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu")
    parser.add_argument("--tokens", type=int, help="trained tokens of a run  [default: 1.5 M; gpt2: 10 G]")
    parser.add_argument("--seeds", type=int, help="[default: 3; with --report those that are there]")
    parser.add_argument("--at-once", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--corpus", action="append", help="your own text, as `curriculum build` takes it; again for more"
    )
    parser.add_argument("--epochs", type=int, default=1, help="passes over the corpus that a run may take")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--plots", type=Path, help="write the pictures to this folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    scale = replace(scale, tokens=arguments.tokens or scale.tokens)
    folder = arguments.folder.resolve()
    matrix = runs(scale, arguments.seeds or (seeds_in(folder) if arguments.report else 3))
    if not arguments.report:
        train_all(matrix, folder, arguments.corpus or own_corpus(folder), arguments.epochs, arguments.at_once)
    refuse_others(matrix, folder)
    from evidence_report import markdown, results

    found = results(matrix, folder, say)
    if arguments.plots:
        from evidence_plots import draw

        draw(matrix, folder, arguments.plots)
    print(json.dumps(found, allow_nan=False) if arguments.json else markdown(found))


def seeds_in(folder: Path) -> int:
    """How many seeds the finished runs of a folder have."""
    return max(
        (int(path.parent.name.rpartition("-seed")[2]) + 1 for path in folder.glob("runs/*/cost.json")), default=0
    )


def refuse_others(matrix: list[Run], folder: Path) -> None:
    """Refuse to put runs into one table that were not meant for it.

    Raises:
        SystemExit: there is no finished run, or one was trained with other options or on another corpus.
    """
    finished = [run for run in matrix if (folder / "runs" / run.name / "cost.json").exists()]
    if not finished:
        raise SystemExit(f"{folder} holds no finished run: leave --report away to train them.")
    text = cost_of(folder / "runs" / finished[0].name / "cost.json")["text"]
    for run in finished:
        refuse_other(run, folder, text)


def refuse_other(run: Run, folder: Path, text: str) -> None:
    """Refuse the folder of a run that was trained with other options, or on another text.

    Raises:
        SystemExit: it was.
    """
    note = folder / "runs" / run.name / "cost.json"
    found = cost_of(note)
    for trained, asked in ((found["run"], run.identity), (found["text"], text)):
        if trained != asked:
            raise SystemExit(
                f"{note} is of another run: {trained}. Asked for: {asked}. Give the --scale, --tokens, --corpus and "
                f"--epochs that this folder was trained with, or another folder."
            )


def cost_of(note: Path) -> dict[str, Any]:
    """What the `cost.json` of a finished run says.

    Raises:
        SystemExit: it is damaged, or of a version that did not note the text.
    """
    try:
        found = json.loads(note.read_bytes())
        return {key: found[key] for key in ("cpu_seconds", "run", "text")}
    except (ValueError, KeyError, TypeError):
        raise SystemExit(
            f"{note} does not say what the run was trained on and what it took: it is damaged, or of an older version. "
            f"Remove it and give the same command without --report: what is trained is kept, and noted anew."
        ) from None


def text_of(run: Run, folder: Path, epochs: int) -> str:
    """What a built dataset was cut from: digests of its sources, and how many passes were allowed."""
    sources = json.loads((folder / "data" / run.name / "manifest.json").read_bytes())["sources"]
    return f"{' '.join(source['fingerprint'] for source in sources)}, {epochs} epochs"


def own_corpus(folder: Path) -> list[str]:
    """The text of pinned packages, fetched unless it is there."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    corpus(folder / "corpus")
    return [str(folder / "corpus" / "*.jsonl")]


def train_all(matrix: list[Run], folder: Path, paths: list[str], epochs: int, at_once: int) -> None:
    """All runs that are not finished. The first that fails ends it, once the others under way are through.

    Raises:
        SystemExit: names the command that failed and where its output is.
    """
    first = matrix[0]  # whose dataset fills the token store that all others share
    execute(first.build(folder, paths, epochs), folder / "runs" / first.name)
    text = text_of(first, folder, epochs)
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(train, run, folder, paths, epochs, text) for run in matrix]
        try:
            for each in waiting:
                each.result()
        except SystemExit:
            pool.shutdown(cancel_futures=True)
            raise


def train(run: Run, folder: Path, paths: list[str], epochs: int, text: str) -> None:
    """Build the dataset of a run and train on it, or go on with it; `cost.json` says that it is finished."""
    out = folder / "runs" / run.name
    if (out / "cost.json").exists():
        refuse_other(run, folder, text)
        return
    say(f"{run.name} ...")
    with STORE:
        execute(run.build(folder, paths, epochs), out)
    resumed = (out / "stability.jsonl").exists()
    seconds, cpu_seconds = execute(run.train(folder), out, or_diverged=True)
    seconds_known = None if resumed else round(cpu_seconds, 1)  # those before a stop are not known
    cost = {"cpu_seconds": seconds_known, "run": run.identity, "text": text}
    (out / "cost.json.partial").write_text(json.dumps(cost) + "\n")
    (out / "cost.json.partial").rename(out / "cost.json")
    say(f"{run.name}: {seconds:.0f} s")


def execute(command: list[str], out: Path, *, or_diverged: bool = False) -> tuple[float, float]:
    """Run a command of `curriculum`, what it says goes to a file in `out`; its seconds and CPU seconds.

    Raises:
        SystemExit: it failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with open(out / f"{command[0]}.out", "ab") as said:
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | ALLOCATOR
        process = subprocess.Popen(
            [*CURRICULUM, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 and not (or_diverged and diverged(out / "stability.jsonl")):
        raise SystemExit(f"`curriculum {' '.join(command)}` failed: see {said.name}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def diverged(log: Path) -> bool:
    """Whether a run ended with a loss that is no number: a result, though `curriculum train` calls it a failure."""
    return log.exists() and stability.diverged(read_log(log)[-1])


def say(message: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
