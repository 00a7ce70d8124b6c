"""Whether the labels, the mask and the loss of a run are right.

In:  a trace; only calls whose inputs are in their place are looked at, so labels are compared with the right rows.
Out: findings, at most one of each kind.
Guarantee: labels are compared by digest with `Batch.labels` of the same rows; a double shift is also found where labels
are right but the model shifts them again, by the loss.

    stored row  5 6 7 0 8     inputs 5 6 7 0     labels 6 7 0 8     shifted once too often: 7 0 8 -100
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

import numpy as np

from curriculum.batch import IGNORED, Batch
from curriculum.doctor.digests import row_digests
from curriculum.doctor.finding import Finding
from curriculum.doctor.run_log import Call, RunLog
from curriculum.doctor.run_trace import Trace

_MUCH_NEARER = 0.05
"""A loss is that of shifted labels if it is 20 times nearer to it than to plain cross-entropy."""
_ROUNDING = 0.02
"""A loss in bfloat16 has two digits."""


def label_findings(trace: Trace, run: int) -> Iterator[Finding]:
    """What is wrong with labels and masks."""
    reported: set[str] = set()
    for rank, calls in enumerate(trace.run.calls):
        for call, number in zip(calls, trace.expected[rank].tolist(), strict=True):
            if not trace.fits(call, number):
                break
            step, row = trace.planned.place(number)
            for kind, message in _faults(trace, call, step, row):
                if kind not in reported:
                    reported.add(kind)
                    yield Finding(kind=kind, run=run, step=step, rank=rank, message=message)


def _faults(trace: Trace, call: Call, step: int, row: int) -> Iterator[tuple[str, str]]:
    if call.mask_hides_pieces:
        yield (
            "mask-hides-pieces",
            f"At step {step} the batch has position_ids that start anew at documents, and an attention_mask of ones: "
            f"transformers then ignores the documents and lets tokens attend across them. Leave attention_mask out.",
        )
    if call.labels is None:
        keys = f" (it has {', '.join(call.keys)})" if call.keys else ""
        yield (
            "labels-missing",
            f"At step {step} the batch has no labels{keys}. Hugging Face Trainer removes columns that the model's "
            f"forward does not name: set remove_unused_columns=False; or give them to record as (inputs, labels).",
        )
        return
    rows = call.shape[0]
    spans = row + rows > trace.planned.rows_per_step(step)
    if not spans and not np.array_equal(call.labels, trace.planned.label_digests(step, row, rows)):
        kind, what = _cause(trace.planned.batch(step), call, row, trace.planned.reader.manifest.tokenizer.eos_id)
        yield kind, f"At step {step} {what}"


def _cause(batch: Batch, call: Call, row: int, eos_id: int) -> tuple[str, str]:
    rows = slice(row, row + call.shape[0])
    inputs, labels = batch.inputs[rows].astype(np.int64), batch.labels[rows]
    targets = batch.targets[rows].astype(np.int64)
    if _is(call, inputs):
        return "labels-not-shifted", (
            "the labels equal the inputs. A loop that compares logits and labels place by place then learns to copy; "
            "use the loader's labels, which are the next tokens already."
        )
    if any(_is(call, again) for again in _shifted_again(labels)):
        return "labels-shifted-twice", (
            "the labels are shifted once too often: each is the token after the next one. The loader's labels are "
            "shifted already: leave out logits[:, :-1], labels[:, 1:]."
        )
    if _is(call, targets):
        return "labels-unmasked", (
            "the labels lost their -100: inputs at the end of a piece and in the padding are trained on the next "
            "piece. Use batch.labels instead of batch.targets, or the adapter's labels."
        )
    masked = np.where(labels == eos_id, IGNORED, labels)
    if _is(call, masked):
        return "labels-masked", (
            f"every label {eos_id}, the end of a document, became -100: a collator takes it for padding, and the model "
            f"would never learn to end. Let the collator take the one item as it is."
        )
    return "labels-wrong", "the labels are not the tokens after the inputs. Use the loader's labels as they are."


def _shifted_again(
    labels: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """Labels shifted a second time, whatever is put at the end."""
    yield labels[:, 1:]
    yield np.roll(labels, -1, axis=1)
    for filled in (IGNORED, 0, -1):
        again = np.full_like(labels, filled)
        again[:, :-1] = labels[:, 1:]
        yield again


def _is(call: Call, labels: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bool:
    return call.labels is not None and np.array_equal(call.labels, row_digests(labels))


def loss_verdict(run: RunLog) -> str:
    """What the losses of a run are: "plain", "shifted", "other", "undecided", or "not recorded".

    Undecided: as near to plain cross-entropy as to that of shifted labels, as everything is where a model knows nothing
    yet and the loss is as coarse as bfloat16.
    """
    plain = shifted = divided = total = 0.0
    for call in (call for calls in run.calls for call in calls):
        if call.loss is None or call.cross_entropy is None or call.cross_entropy_of_shifted is None:
            continue
        if not all(map(isfinite, (call.loss, call.cross_entropy, call.cross_entropy_of_shifted))):
            continue  # one loss of nan must not hide the rest
        plain += abs(call.loss - call.cross_entropy)
        shifted += abs(call.loss - call.cross_entropy_of_shifted)
        # A sum over shifted labels that a trainer divides by the number of all labels.
        share = (call.num_labels_shifted or 0) / (call.num_labels or 1)
        divided += abs(call.loss - call.cross_entropy_of_shifted * share)
        total += abs(call.cross_entropy)
    if total == 0:
        return "not recorded"
    if min(shifted, divided) < _MUCH_NEARER * plain:
        return "shifted"
    if plain > _ROUNDING * total:
        return "other"
    return "plain" if plain < _MUCH_NEARER * shifted else "undecided"


def loss_findings(run: RunLog, index: int) -> Iterator[Finding]:
    """A double shift inside the model."""
    if loss_verdict(run) == "shifted":
        yield Finding(
            kind="double-shift",
            run=index,
            step=None,
            rank=None,
            message="The loss is the cross-entropy of labels shifted a second time: the model shifts labels itself and "
            "learns to predict the token after the next one. Models of Hugging Face transformers need the same labels "
            "as shift_labels too: model(input_ids=..., labels=l, shift_labels=l).",
        )
