"""Read exports with the libraries they are meant for, in an environment that has them, and print what was found.

    python export_probe.py megatron FOLDER...      python export_probe.py mds FOLDER...

Each FOLDER is that of a phase. Prints one JSON object: for each folder its rows, in the order of the library.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def read_megatron(folder: str) -> list[list[int]]:
    """Every sequence of `IndexedDataset`; each is one document."""
    rows = import_indexed_dataset()(f"{folder}/rows")
    assert rows.document_indices.tolist() == list(range(len(rows) + 1))
    return [rows[i].tolist() for i in range(len(rows))]


def import_indexed_dataset() -> Any:
    """`IndexedDataset` as it is, without what `megatron.core` imports beside it: models and optimizers, for seconds."""
    core = Path(importlib.util.find_spec("megatron").submodule_search_locations[0]) / "core"  # type: ignore[union-attr,index]
    for name in ("megatron.core", "megatron.core.datasets"):
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = [str(core.joinpath(*name.split(".")[2:]))]
    importlib.import_module("megatron.core.parallel_state")  # it and `utils` import each other
    return importlib.import_module("megatron.core.datasets.indexed_dataset").IndexedDataset


def read_mds(folder: str) -> list[dict[str, Any]]:
    """Every sample of `StreamingDataset`, by iteration and by number."""
    from streaming_import import import_streaming  # type: ignore[import-not-found]

    streaming = import_streaming()
    rows = streaming.StreamingDataset(local=folder, shuffle=False, num_canonical_nodes=1, batch_size=4)
    found = [_plain(row) for row in rows]
    assert len(found) == len(rows)
    assert [_plain(rows[i]) for i in range(len(rows))] == found
    return found


def rewrite_mds(folder: str, out: Path) -> None:
    """The samples of the first .mds of a folder once more, by `MDSWriter` itself."""
    from streaming_import import import_streaming

    streaming = import_streaming()
    (first, *_) = json.loads((Path(folder) / "index.json").read_text())["shards"]
    columns = dict(zip(first["column_names"], first["column_encodings"], strict=True))
    rows = streaming.StreamingDataset(local=folder, shuffle=False, batch_size=1)
    with streaming.MDSWriter(out=str(out), columns=columns) as writer:
        for i in range(first["samples"]):
            writer.write(rows[i])


def first_row_by_readme(out: Path, world_size: int = 2) -> list[list[int]]:
    """Inputs and targets of the first row, by the lines of Python that README.md shows."""
    code = (out / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0].replace("PATH", str(out))
    names: dict[str, Any] = {"first_row": 0, "rows_per_step": 8, "world_size": world_size}
    exec(code, names)
    return [np.atleast_2d(names[name])[0].tolist() for name in ("inputs", "targets")]


def batches_are_steps(
    num_steps: int = 6, rows_per_step: int = 8, num_nodes: Iterable[int] = (1, 2), num_ranks: Iterable[int] = (1, 2, 4)
) -> bool:
    """What `StreamingDataset` gives all ranks together is one step after the other, by its own arithmetic."""
    from streaming_import import import_streaming

    import_streaming()
    from streaming.base.partition import get_partitions  # type: ignore[import-not-found]

    for nodes, ranks, workers in itertools.product(num_nodes, num_ranks, (1, 2)):
        batch_size = rows_per_step // (nodes * ranks)
        order = get_partitions("relaxed", num_steps * rows_per_step, 1, nodes, ranks, workers, batch_size)
        batches = [sorted(order[:, :, w, b].ravel()) for b in range(order.shape[3]) for w in range(workers)]
        steps = np.arange(num_steps * rows_per_step).reshape(num_steps, rows_per_step).tolist()
        if batches != steps:
            return False
    return True


def readme_refuses(out: Path, world_size: int) -> bool:
    """Whether the lines of README.md stop where so many ranks would not get steps."""
    try:
        first_row_by_readme(out, world_size)
    except AssertionError:
        return True
    return False


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    starts = np.frombuffer(row.pop("doc_starts"), np.uint32)
    return {name: value.tolist() for name, value in {**row, "doc_starts": starts}.items()}


def main(kind: str, *folders: str) -> None:
    """Print what the library finds."""
    read = {"megatron": read_megatron, "mds": read_mds}[kind]
    found: dict[str, Any] = {"rows": {folder: read(folder) for folder in folders}}
    outs = sorted({Path(folder).parent for folder in folders})
    found["by_readme"] = {str(out): first_row_by_readme(out) for out in outs}
    if kind == "mds":
        for folder in folders:
            rewrite_mds(folder, Path(f"{folder}-again"))
        found["batches_are_steps"] = batches_are_steps()
        found["batches_of_3_ranks_are_steps"] = batches_are_steps(num_nodes=(1,), num_ranks=(3,))
        found["refuses_3_ranks"] = [readme_refuses(out, 3) for out in outs]
    print(json.dumps(found))  # noqa: T201 - the result


if __name__ == "__main__":
    main(*sys.argv[1:])
