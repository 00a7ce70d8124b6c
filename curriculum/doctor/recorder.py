"""Write a log: one JSON line for each micro-batch that reached the model.

In:  batches of any framework.   Out: FOLDER/rank-00000.jsonl, lines as `run_log` reads them.
Guarantee: each line is flushed, so a run that is killed leaves all but the last one; a folder never mixes two
processes of one rank. Tensors are converted by what they can do (`detach`, `__array__`); no framework is imported.

    {"version": 1, "call": 0, "rank": 1, "world_size": 2, "shape": [4, 8], "inputs": "3f0c...", "labels": "91aa...",
     "first_tokens": [5, 6, 7, 0], "keys": ["input_ids", "labels"], ...}
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from curriculum.doctor.cross_entropy import plain_and_shifted
from curriculum.doctor.digests import row_digests, to_hex
from curriculum.doctor.run_log import VERSION
from curriculum.errors import ConfigError

MAX_FIRST_TOKENS = 8
"""Of the first row, for people and to recognize rows that were cut or padded."""
_INPUT_KEYS = ("input_ids", "input", "inputs", "tokens")
_POSITION_KEYS = ("position_ids", "positions")

_files: dict[tuple[str, int, int], tuple[TextIO, list[int]]] = {}
"""Open logs and their number of calls, for (folder, rank, process): a forked child must not write into its parent's."""


def write_record(folder: str, batch: Any, *, logits: Any = None, loss: Any = None) -> None:
    """Append one line to this rank's file; see `curriculum.doctor.record`."""
    rank, world_size = _rank_and_world_size()
    line = describe(batch, logits=logits, loss=loss)
    file, calls = _file(folder, rank)
    line = {"version": VERSION, "call": calls[0], "rank": rank, "world_size": world_size, **line}
    file.write(json.dumps(line, separators=(",", ":")) + "\n")
    file.flush()
    calls[0] += 1


def close_logs() -> None:
    """Close every log of this process, as its end does; what is recorded afterwards needs another folder."""
    while _files:
        _files.popitem()[1][0].close()


def describe(batch: Any, *, logits: Any = None, loss: Any = None) -> dict[str, Any]:
    """What a line says about a micro-batch.

    Raises:
        ConfigError: there are no token ids in `batch`.
    """
    inputs, labels, fields = _parts(batch)
    ids = _rows(inputs)
    wanted = None if labels is None else _rows(labels)
    plain = shifted = None
    if logits is not None and wanted is not None:
        answered = as_array(logits)
        plain, shifted = plain_and_shifted(answered.reshape(-1, *answered.shape[-2:]), wanted)
    return {
        "shape": list(ids.shape),
        "inputs": to_hex(row_digests(ids)),
        "labels": None if wanted is None else to_hex(row_digests(wanted)),
        "first_tokens": ids[:1, :MAX_FIRST_TOKENS].reshape(-1).tolist(),
        "keys": sorted(map(str, fields)),
        "mask_hides_pieces": _mask_hides_pieces(fields),
        "loss": None if loss is None else _number(loss),
        "num_labels": None if wanted is None else int((wanted >= 0).sum()),
        "num_labels_shifted": None if wanted is None else int((wanted[:, 1:] >= 0).sum()),
        "cross_entropy": plain,
        "cross_entropy_of_shifted": shifted,
    }


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """A numpy array of whatever a framework calls an array; bfloat16, which numpy lacks, becomes float32."""
    if hasattr(value, "detach"):
        value = value.detach()
        if "bfloat16" in str(value.dtype):
            value = value.float()
        value = value.cpu().numpy()
    array = np.asarray(value)
    return array.astype(np.float32) if "bfloat16" in str(array.dtype) else array


def _number(loss: Any) -> float:
    array = as_array(loss)
    if array.size != 1:
        raise ConfigError(
            f"curriculum.doctor.record: loss has the shape {list(array.shape)}; give one number, the mean over the "
            f"micro-batch's labels."
        )
    return float(array.reshape(()))


def _rows(value: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64 [rows, length]; leading dimensions (devices, micro-batches) are laid end to end."""
    array = as_array(value)
    if array.dtype.kind not in "iu" or array.ndim == 0 or array.size == 0:
        raise ConfigError(
            f"curriculum.doctor.record: the batch has {array.dtype} {list(array.shape)} where token ids are expected, "
            f"integers [rows, seq_len]. Give it the ids that go into the model."
        )
    return array.reshape(-1, array.shape[-1]).astype(np.int64)


def _parts(batch: Any) -> tuple[Any, Any, Mapping[Any, Any]]:
    """`(inputs, labels or None, all fields)`; labels are those that the loss compares with."""
    first, second = batch, None
    if isinstance(batch, tuple | list) and len(batch) == 2:
        first, second = batch
    if isinstance(first, Mapping):
        inputs = next((first[key] for key in _INPUT_KEYS if key in first), None)
        of_batch = next((first[key] for key in ("shift_labels", "labels") if first.get(key) is not None), None)
        labels, fields = second if second is not None else of_batch, first
    elif second is not None:
        inputs, labels, fields = first, second, {}
    elif hasattr(batch, "inputs") and hasattr(batch, "labels"):
        inputs, labels, fields = batch.inputs, batch.labels, {}
    else:
        inputs, labels, fields = None, None, {}
    if inputs is None:
        raise ConfigError(
            f"curriculum.doctor.record: a {type(batch).__name__} without token ids. Give it a mapping with input_ids "
            f"and labels, a pair (inputs, labels), or a batch of the reader."
        )
    return inputs, labels, fields


def _mask_hides_pieces(fields: Mapping[Any, Any]) -> bool:
    """Positions start anew inside a row, and an attention_mask of ones keeps models from looking at them."""
    mask = fields.get("attention_mask")
    positions = next((fields[key] for key in _POSITION_KEYS if fields.get(key) is not None), None)
    if mask is None or positions is None:
        return False
    restarts = bool((as_array(positions)[..., 1:] == 0).any())
    return restarts and bool((as_array(mask) == 1).all())


def _file(folder: str, rank: int) -> tuple[TextIO, list[int]]:
    key = (folder, rank, os.getpid())
    if key not in _files:
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / f"rank-{rank:05d}.jsonl"
        try:
            _files[key] = (path.open("x", encoding="utf-8"), [0])
        except FileExistsError:
            raise ConfigError(
                f"{path}: the folder holds the log of an earlier process of rank {rank}. Give every run a folder of "
                f"its own, for example CURRICULUM_DOCTOR_LOG=log/2 for the second, or remove this one."
            ) from None
    return _files[key]


def _rank_and_world_size() -> tuple[int, int]:
    """From torchrun's variables, else from torch.distributed if the program uses it, else one process."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    return 0, 1
