"""How good are the final models of docs/evidence.md? On documents that none of the runs has read.

    python benchmarks/evidence_documents.py FOLDER                   of evidence.py: 1,000 documents, 13 CPU minutes
    python benchmarks/evidence_documents.py FOLDER --documents 100 --json

In:  the folder of `evidence.py`: the datasets, their token store, and the models of the finished runs.
Out: the loss of each run, and by how much each curriculum is lower than the baseline of its seed: a table (Markdown) on
stdout, or one object.
Guarantee: runs without a model, as those that diverged, are left out, and named. A document counts if it is in the
stream of every dataset (so it is not held out) and begins behind the last row of each. Of each that was drawn one
window is evaluated, at most 256 targets, at a place drawn once: the same for all models. The loss of a run is the mean
over documents of the mean over the targets of a window. Errors are standard errors over documents, those of a gain of
the differences document by document: they say nothing of other seeds.

    losses of three documents: baseline 5 4 3, curriculum 4.5 4 2.5      gain 0.333, standard error 0.167
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from curriculum.manifest import load_manifest  # noqa: E402
from pipeline.built_streams import built_stream, training_tokens  # noqa: E402
from pipeline.files.address import dataset_files, store_files  # noqa: E402
from pipeline.files.contract import Files  # noqa: E402
from pipeline.layout import read_build_log  # noqa: E402
from pipeline.part_index import read_tokens  # noqa: E402
from pipeline.stream import lay_out_stream, piece_documents  # noqa: E402

BASELINE = "constant"
FEWEST_TARGETS = 32
"""Shorter documents are left out: their few targets are mostly noise."""
BATCH = 16

Document = tuple[str, int, int]
"""Its part of the token store, where it begins there, and its number of tokens."""
Tokens = np.ndarray[Any, Any]
Model = Callable[..., Any]


def main() -> None:
    """Read the command line, evaluate each model, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--targets", type=int, default=256, help="of a window, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.documents < 2:
        raise SystemExit(f"--documents is {arguments.documents}; give at least 2, for an error.")
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(arguments.threads)
    names, left_out = models_of(arguments.folder)
    if not names:
        raise SystemExit(f"{arguments.folder}/runs holds no model of a run: train some with benchmarks/evidence.py.")
    store = store_files(arguments.folder / "store")
    datasets = sorted(path.parent for path in arguments.folder.glob("data/*/manifest.json"))
    if not datasets:
        raise SystemExit(f"{arguments.folder}/data holds no dataset: it tells what the runs have read.")
    drawn = draw([unread(dataset, store) for dataset in datasets], arguments.documents)
    dtype = load_manifest(datasets[0]).dtype
    windows = [window(store, dtype, document, arguments.targets) for document in drawn]
    losses = {}
    for name in names:
        model = GPT2LMHeadModel.from_pretrained(arguments.folder / "runs" / name / "model").eval()
        losses[name] = evaluate(model, windows)
        print(f"{name}: {losses[name].mean():.4f}", file=sys.stderr, flush=True)
    found = {"targets": sum(len(each) - 1 for each in windows), "left_out": left_out, **compare(losses)}
    print(json.dumps(found) if arguments.json else markdown(found))


def models_of(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the finished runs that have a model, and of those that have none: one that diverged has none."""
    finished = sorted(path.parent.name for path in folder.glob("runs/*/cost.json"))
    names = [name for name in finished if (folder / "runs" / name / "model").is_dir()]
    return names, [name for name in finished if name not in names]


def unread(dataset: Path, store: Files) -> set[Document]:
    """The documents of a dataset's stream that begin behind all that its rows consume, in its first epoch."""
    root, manifest = dataset_files(dataset), load_manifest(dataset)
    offsets = []
    for shard in (shard for phase in manifest.phases for shard in phase.shards):
        with pa.memory_map(str(dataset / shard.path)) as file:
            offsets.append(pa.ipc.open_file(file).read_all()["offset"].to_numpy().max())
    stop = int(max(offsets)) + max(phase.seq_len for phase in manifest.phases) + 1
    log = read_build_log(root, manifest.id)
    if log is None or len(manifest.sources) > 1:
        raise SystemExit(f"{dataset}: only datasets of one source, with their build-log.json, can be compared here.")
    spec = built_stream(root, manifest, 0, log, store)
    found: set[Document] = set()
    for piece in lay_out_stream(spec, training_tokens(manifest, 0)):
        documents = piece_documents(spec, piece)
        index = documents.index
        begins = piece.offset + np.cumsum(index.num_tokens) - index.num_tokens
        places = zip(
            begins.tolist(), documents.part.tolist(), index.start.tolist(), index.num_tokens.tolist(), strict=True
        )
        found |= {(spec.parts[part], start, tokens) for begin, part, start, tokens in places if begin >= stop}
    return found


def draw(unread_by_each: Sequence[set[Document]], number: int) -> list[Document]:
    """Some of the documents that no run has read, the same at every call.

    Raises:
        SystemExit: there are too few.
    """
    common = set.intersection(*unread_by_each)
    eligible = sorted(document for document in common if document[2] > FEWEST_TARGETS)
    if len(eligible) < number:
        raise SystemExit(
            f"Only {len(eligible):,} documents of more than {FEWEST_TARGETS} tokens were read by none of the runs, "
            f"{number:,} were asked for: give a smaller --documents, or train on a larger corpus."
        )
    return random.Random(0).sample(eligible, number)


def window(store: Files, dtype: str, document: Document, targets: int) -> Tokens:
    """At most `targets` + 1 tokens that follow one another, from a place that only the document decides."""
    part, start, tokens = document
    length = min(tokens, targets + 1)
    out = np.empty(length, dtype)
    read_tokens(store, part, start + random.Random(f"{part} {start}").randint(0, tokens - length), out)
    return out.astype(np.int64)


def evaluate(model: Model, windows: Sequence[Tokens]) -> Tokens:
    """Mean loss over the targets of each window, nats. Shorter ones are padded behind, which no token before sees."""
    import torch
    from torch.nn.functional import cross_entropy

    losses = np.empty(len(windows))
    by_length = sorted(range(len(windows)), key=lambda number: len(windows[number]))
    for numbers in (by_length[first : first + BATCH] for first in range(0, len(windows), BATCH)):
        rows = [torch.from_numpy(windows[number]) for number in numbers]
        inputs = torch.nn.utils.rnn.pad_sequence([row[:-1] for row in rows], batch_first=True)
        labels = torch.nn.utils.rnn.pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=-100)
        with torch.no_grad():
            each = cross_entropy(model(inputs).logits.float().transpose(1, 2), labels, reduction="none")
        losses[numbers] = (each.double().sum(1) / (labels >= 0).sum(1)).numpy()
    return losses


def compare(losses: dict[str, Tokens]) -> dict[str, Any]:
    """The loss of each run, and its gain over the baseline of its setting and seed, each as (mean, standard error)."""
    runs = []
    for name, each in losses.items():
        cell, seed = name.rsplit("-seed", 1)
        setting, arm = cell.split("-", 1)
        baseline = losses.get(f"{setting}-{BASELINE}-seed{seed}")
        gain = None if baseline is None or arm == BASELINE else mean_error(baseline - each)
        runs.append({"setting": setting, "seed": int(seed), "arm": arm, "loss": mean_error(each), "gain": gain})
    return {"documents": len(next(iter(losses.values()))), "runs": runs}


def mean_error(values: Tokens) -> tuple[float, float]:
    """Mean, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def markdown(found: dict[str, Any]) -> str:
    """A row for each setting and seed."""
    cells = {(run["setting"], run["seed"], run["arm"]): run for run in found["runs"]}
    arms = sorted({run["arm"] for run in found["runs"]} - {BASELINE}, reverse=True)
    gains = [f"{arm} lower by" for arm in arms]
    lines = [f"{found['documents']:,} documents, {found['targets']:,} targets; loss in nats ± standard error.", ""]
    lines += [line(["setting, seed", BASELINE, *arms, *gains]), "| --- |" + " ---: |" * (1 + 2 * len(arms))]
    for setting, seed in sorted({(setting, seed) for setting, seed, _ in cells}):
        own = [cells.get((setting, seed, arm), {"loss": None, "gain": None}) for arm in [BASELINE, *arms]]
        lines.append(
            line(
                [
                    f"{setting}, {seed}",
                    *(shown(run["loss"], ".3f") for run in own),
                    *(shown(run["gain"], "+.3f") for run in own[1:]),
                ]
            )
        )
    if found["left_out"]:
        lines += ["", f"Left out, without a model (those that diverged have none): {', '.join(found['left_out'])}."]
    return "\n".join(lines)


def line(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def shown(value: tuple[float, float] | None, form: str) -> str:
    """A mean with its standard error; nothing of a run that is not finished, or diverged."""
    return "" if value is None else f"{value[0]:{form}} ± {value[1]:.3f}"


if __name__ == "__main__":
    main()
