"""Cut full-length batches at run time: the two length operations of sequence length warmup, on numpy or torch alike.

In:  a mapping of names to arrays [rows, length] (input_ids, labels, attention_mask ...), and a length.
Out: a new dictionary with arrays [rows, seq_len] (truncate) or [more rows, seq_len] (segment). Nothing passed in is
written to; results are views where slicing and reshaping give views.
Guarantees: truncate keeps a prefix of each row; segment keeps every token but a tail, which `num_dropped_tokens`
counts; all arrays of a batch are cut alike, and one that cannot be is refused. No torch is imported here.

    batch   input_ids [[1, 2, 3, 4, 5],    truncate(batch, 2)   [[1, 2], [6, 7]]                       6 tokens dropped
                       [6, 7, 8, 9, 0]]    segment(batch, 2)    [[1, 2], [3, 4], [5, 6], [7, 8], [9, 0]]          none
    cross_rows=False                       segment(batch, 2, cross_rows=False) [[1, 2], [3, 4], [6, 7], [8, 9]]   2

What each entry of a batch becomes:

    [rows, length]        cut                                           [rows, length, ...]  (inputs_embeds) cut as well
    [rows]                a value of a row: truncate passes it on, segment refuses (one row becomes several)
    [], number, text, None    passed on
    anything else         refused, masks of three and more dimensions included: they would need two cuts

The semantics are those of Composer's `set_batch_sequence_length` (algorithms/seq_length_warmup, 0.33), so a loop can
change its import; what differs is said at each function. Hugging Face models shift `labels` inside, so there a row of
`seq_len` tokens trains `seq_len - 1` targets (7 of 8 at length 8), and the first token of a row is never a target. A
compiled dataset stores `seq_len + 1` tokens a row and loses none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any

from curriculum.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from curriculum.plan import Plan

__all__ = ["num_dropped_tokens", "segment", "seq_len_at", "truncate"]

Array = Any
"""numpy.ndarray, torch.Tensor: whatever has `shape`, slices and `reshape`."""


def seq_len_at(plan: Plan, step: int) -> int:
    """The sequence length of a step, counted from 0.

    Raises:
        CursorError: the plan has no such step.
    """
    return plan.phases[plan.locate(step)[0]].seq_len


def truncate(batch: Mapping[str, Array], seq_len: int, *, preserve_end_of_sequence: bool = False) -> dict[str, Array]:
    """The first `seq_len` columns. A batch that is not longer comes back with its own arrays.

    `preserve_end_of_sequence` writes what stood at a row's last attended position (attention_mask not 0: its EOS, as a
    rule) over the last kept position, in every entry but `position_ids`; these entries are copies then:

        input_ids [[10, 11, 12, 13, 14, 15]], all attended, to 3:    [[10, 11, 12]]    preserved: [[10, 11, 15]]

    It leaves alone a row that ends within the cut, which still has its end, and a row with nothing attended in it.
    Composer takes the *sum* of the mask for the last position. That is the same for rows padded on the right; in rows
    padded on the left it overwrites the wrong position with the wrong token. It also moves position_ids, so that a
    row of 3 would count 0, 1, 5, and writes into the caller's tensors if the batch has one row. Labels that are -100
    at the end stay so: the end is then input only. Rows padded on the left lose their text first in either case.

    Args:
        batch: names and arrays; see the module.
        seq_len: columns to keep, at least 1.
        preserve_end_of_sequence: needs `attention_mask` and labels that are not shifted yet.

    Raises:
        PlanError: `seq_len` is no positive integer.
        ConfigError: the batch has no array to cut, arrays that do not fit each other, or no attention_mask.
    """
    seq_len = _positive(seq_len)
    rows, length = _shape(batch)
    for name, value in batch.items():
        if len(getattr(value, "shape", ())) == 1 and value.shape[0] != rows:
            raise ConfigError(
                f"batch[{name!r}] has {value.shape[0]} values for {rows} rows; an entry of one dimension must hold "
                f"one value a row. Take it out of the batch before cutting."
            )
    if preserve_end_of_sequence:
        _require_ends(batch)
    if seq_len >= length:
        return dict(batch)
    cut = {name: value[:, :seq_len] if _is_cut(value) else value for name, value in batch.items()}
    return _with_ends(batch, cut, seq_len) if preserve_end_of_sequence else cut


def segment(batch: Mapping[str, Array], seq_len: int, *, cross_rows: bool = True) -> dict[str, Array]:
    """Rows of `seq_len` tokens made of all rows, in order. A batch that is not longer comes back with its own arrays.

    Where `seq_len` divides the length, every token is kept and no new row crosses an old border, whatever `cross_rows`
    says. Elsewhere:

    - `cross_rows=True`, Composer's semantics: the rows are laid end to end and cut, so a new row can hold the end of
      one old row and the beginning of the next. Dropped: at most `seq_len - 1` tokens of each batch on each rank.
    - `cross_rows=False`: each row is cut by itself and loses `length % seq_len` tokens at its end.

    `num_dropped_tokens` counts both. position_ids keep their values: leave them out of the batch for a model that
    should number each new row from 0.

    Raises:
        PlanError: `seq_len` is no positive integer.
        ConfigError: the batch has no array to cut, or one that cannot be cut like the others.
    """
    seq_len = _positive(seq_len)
    rows, length = _shape(batch)
    for name, value in batch.items():
        if len(getattr(value, "shape", ())) == 1:
            raise ConfigError(
                f"batch[{name!r}] holds one value a row, and segment makes several rows of each; take it out of the "
                f"batch and repeat its values yourself, or use truncate."
            )
    if seq_len >= length:
        return dict(batch)
    per_row = length // seq_len
    total = rows * length // seq_len if cross_rows else rows * per_row

    def pieces(value: Array) -> Array:
        inner = tuple(value.shape[2:])
        flat = value.reshape((rows * length, *inner)) if cross_rows else value
        kept = flat[: total * seq_len] if cross_rows else flat[:, : per_row * seq_len]
        return kept.reshape((total, seq_len, *inner))

    return {name: pieces(value) if _is_cut(value) else value for name, value in batch.items()}


def num_dropped_tokens(*, rows: int, length: int, seq_len: int, mode: str, cross_rows: bool = True) -> int:
    """Tokens of a [rows, length] batch that `truncate` or `segment` leave out: arithmetic, so count them.

    truncate: rows * (length - seq_len). segment: rows * length mod seq_len, or rows * (length mod seq_len) row by row.
    """
    seq_len = _positive(seq_len)
    if mode not in ("truncate", "segment"):
        raise ConfigError(f"mode is {mode!r}; batches are cut by 'truncate' or 'segment'.")
    if seq_len >= length:
        return 0
    if mode == "truncate":
        return rows * (length - seq_len)
    return rows * length % seq_len if cross_rows else rows * (length % seq_len)


def _positive(seq_len: int) -> int:
    try:
        value = index(seq_len)
    except TypeError:
        value = 0
    if value < 1 or isinstance(seq_len, bool):
        raise PlanError(f"seq_len is {seq_len!r}; a row needs an integer of at least 1.")
    return value


def _is_cut(value: Array) -> bool:
    return len(getattr(value, "shape", ())) >= 2


def _shape(batch: Mapping[str, Array]) -> tuple[int, int]:
    """`(rows, length)` of a batch all of whose entries can be cut alike."""
    if not isinstance(batch, Mapping):
        raise ConfigError(f"batch is a {type(batch).__name__}; give a mapping of names to [rows, length] arrays.")
    for name, value in batch.items():
        if not hasattr(value, "shape") and not isinstance(value, str | int | float | None):
            raise ConfigError(f"batch[{name!r}] is a {type(value).__name__}; make it a numpy array or a torch tensor.")
    shapes = {name: tuple(value.shape) for name, value in batch.items() if _is_cut(value)}
    if not shapes:
        raise ConfigError("batch has no [rows, length] array, as input_ids is; there is nothing to cut.")
    first = "input_ids" if "input_ids" in shapes else next(iter(shapes))
    rows, length = shapes[first][:2]
    for name, shape in shapes.items():
        if shape[:2] != (rows, length) or (name.endswith("mask") and len(shape) > 2):
            raise ConfigError(
                f"batch[{name!r}] has shape {list(shape)}, but {first!r} has {rows} rows of {length}; every array of "
                f"two and more dimensions must be [rows, length, ...] (a mask just [rows, length]) to be cut alike."
            )
    return rows, length


def _require_ends(batch: Mapping[str, Array]) -> None:
    if not _is_cut(batch.get("attention_mask")):
        raise ConfigError(
            "preserve_end_of_sequence finds the end of each row in batch['attention_mask'], which is not there; "
            "add a [rows, length] mask that is not 0 on text, or drop the option."
        )
    if "shift_labels" in batch:
        raise ConfigError(
            "preserve_end_of_sequence moves the end of a row, and shift_labels would still name the token that stood "
            "there; give labels that are not shifted yet, or drop the option."
        )


def _with_ends(batch: Mapping[str, Array], cut: dict[str, Array], seq_len: int) -> dict[str, Array]:
    """`cut` with the last attended column of every row that goes on after the cut as its last kept column."""
    attended = (batch["attention_mask"] != 0).cumsum(1)  # how many up to here
    last = attended.argmax(1)  # the first position that has counted them all
    moved = (last >= seq_len) & (attended[:, seq_len - 1] > 0)
    for name, value in batch.items():
        if _is_cut(value) and name != "position_ids":
            copy = cut[name].clone() if hasattr(value, "clone") else cut[name].copy()
            copy[moved, seq_len - 1] = value[moved, last[moved]]
            cut[name] = copy
    return cut
