"""`curriculum.doctor.record`: free when it is off, and right about tensors, ranks and files when it is on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from curriculum.doctor.cross_entropy import plain_and_shifted
from curriculum.doctor.digests import row_digests, to_hex
from curriculum.doctor.recorder import close_logs
from curriculum.doctor.run_log import load_run
from curriculum.errors import ConfigError, DataError

IDS = np.array([[5, 6, 7], [8, 9, 1]])
LABELS = np.array([[6, 7, 2], [9, 1, -100]])


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that CURRICULUM_DOCTOR_LOG names; this process alone."""
    monkeypatch.setenv("CURRICULUM_DOCTOR_LOG", str(tmp_path / "log" / "1"))
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    yield tmp_path / "log" / "1"
    close_logs()


def lines(log: Path, rank: int = 0) -> list[dict[str, Any]]:
    """What was written."""
    return [json.loads(line) for line in (log / f"rank-{rank:05d}.jsonl").read_text("utf-8").splitlines()]


def test_off_it_looks_at_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left in a training loop for good, it costs a look at the environment: nothing is converted or written."""
    monkeypatch.delenv("CURRICULUM_DOCTOR_LOG", raising=False)
    monkeypatch.chdir(tmp_path)
    curriculum.doctor.record(object())
    assert list(tmp_path.iterdir()) == []


def test_it_imports_no_framework() -> None:
    """`import curriculum` stays free of numpy, and recording numpy arrays free of torch."""
    code = (
        "import sys, curriculum; curriculum.doctor.record({}); assert 'numpy' not in sys.modules;"
        "from curriculum.doctor.recorder import describe; describe(([[1, 2]], [[2, 3]]));"
        "assert not {'torch', 'jax', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def test_a_line_says_what_the_model_was_given(log: Path) -> None:
    """Literal: the whole line of one call."""
    curriculum.doctor.record({"input_ids": IDS, "labels": LABELS}, loss=np.float32(1.5))
    assert lines(log) == [
        {
            "version": 1,
            "call": 0,
            "rank": 0,
            "world_size": 1,
            "shape": [2, 3],
            "inputs": to_hex(row_digests(IDS)),
            "labels": to_hex(row_digests(LABELS)),
            "first_tokens": [5, 6, 7],
            "keys": ["input_ids", "labels"],
            "mask_hides_pieces": False,
            "loss": 1.5,
            "num_labels": 5,
            "num_labels_shifted": 3,
            "cross_entropy": None,
            "cross_entropy_of_shifted": None,
        }
    ]


def test_every_form_of_batch_is_understood(log: Path, small_dataset: Path) -> None:
    """Hugging Face, torchtitan, plain pairs, batches of the reader, leading dimensions: the same digests."""
    forms: list[Any] = [
        UserDict(input_ids=IDS, labels=LABELS),
        {"input": IDS, "labels": LABELS},
        {"input_ids": IDS, "labels": IDS, "shift_labels": LABELS},  # the loss compares with these
        {"input_ids": IDS, "labels": LABELS, "shift_labels": None},
        (IDS, LABELS),
        [IDS.tolist(), LABELS.astype(np.int32)],
        ({"input": IDS, "positions": IDS}, LABELS),
        (IDS[None], LABELS[None]),
    ]
    for form in forms:
        curriculum.doctor.record(form)
    assert {(line["inputs"], line["labels"]) for line in lines(log)} == {
        (to_hex(row_digests(IDS)), to_hex(row_digests(LABELS)))
    }
    batch = curriculum.open(small_dataset)[0]
    curriculum.doctor.record(batch)
    assert lines(log)[-1]["labels"] == to_hex(row_digests(batch.targets))
    assert load_run(log).calls[0][0].shape == (2, 3)


def test_tensors_of_torch_are_understood(log: Path) -> None:
    """With gradients, in bfloat16; losses are those of torch's own cross-entropy."""
    torch = pytest.importorskip("torch")
    logits = torch.randn(2, 3, 10, requires_grad=True, generator=torch.Generator().manual_seed(0))
    ids, labels = torch.from_numpy(IDS), torch.from_numpy(LABELS)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    curriculum.doctor.record((ids, labels), logits=logits, loss=loss)
    curriculum.doctor.record((ids, labels), logits=logits.bfloat16(), loss=loss.bfloat16())
    exact, rounded = lines(log)
    assert exact["loss"] == pytest.approx(exact["cross_entropy"])
    assert rounded["cross_entropy"] == pytest.approx(exact["cross_entropy"], rel=0.02)
    shifted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert exact["cross_entropy_of_shifted"] == pytest.approx(shifted.item())


def test_cross_entropy_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large vocabulary is widened piece by piece; logits that do not belong to the labels give nothing."""
    logits = np.random.Generator(np.random.Philox(0)).normal(size=(2, 3, 10)).astype(np.float16)
    whole = plain_and_shifted(logits, LABELS)
    monkeypatch.setattr("curriculum.doctor.cross_entropy._CHUNK_VALUES", 1)
    assert plain_and_shifted(logits, LABELS) == pytest.approx(whole)
    assert plain_and_shifted(logits[:, :2], LABELS) == (None, None)
    assert plain_and_shifted(logits[:, :, :5], LABELS) == (None, None)  # a vocabulary that ranks share
    assert plain_and_shifted(logits, np.full_like(LABELS, -100)) == (None, None)


def test_rank_and_world_size_are_those_of_torchrun(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank has a file of its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        curriculum.doctor.record((IDS, LABELS))
    run = load_run(log)
    assert run.world_size == 2
    assert [len(calls) for calls in run.calls] == [1, 1]
    assert run.missing_ranks == ()


def test_a_folder_of_an_earlier_process_is_refused(log: Path) -> None:
    """Appended to, two runs would look like one that trained everything twice."""
    curriculum.doctor.record((IDS, LABELS))
    close_logs()
    with pytest.raises(ConfigError, match=r"rank-00000.jsonl: the folder holds the log of an earlier process .* own"):
        curriculum.doctor.record((IDS, LABELS))
    assert len(lines(log)) == 1


def test_what_is_no_batch_is_refused(log: Path) -> None:
    """At the first call, with what to give instead."""
    with pytest.raises(ConfigError, match="a Tensor without token ids"):
        curriculum.doctor.record(type("Tensor", (), {})())
    with pytest.raises(ConfigError, match=r"float64 \[2, 3\] where token ids are expected"):
        curriculum.doctor.record((IDS / 2, LABELS))


def test_a_run_that_was_killed_leaves_all_but_its_last_line(log: Path) -> None:
    """Half a last line is ignored; anything else is refused with its place."""
    for _ in range(3):
        curriculum.doctor.record((IDS, LABELS))
    close_logs()
    path = log / "rank-00000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(load_run(log).calls[0]) == 2
    path.write_bytes(whole[:50] + whole[60:])
    with pytest.raises(DataError, match=r"rank-00000.jsonl, line 1: not a line"):
        load_run(log)
    path.write_bytes(whole.splitlines(keepends=True)[1])
    with pytest.raises(DataError, match="call 1 where 0 should be"):
        load_run(log)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the log is empty"):
        load_run(log)
    with pytest.raises(DataError, match=r"no log of a run .* It holds the runs 1: give each with its own --check"):
        load_run(log.parent)


def test_logs_of_several_runs_in_one_folder_are_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start with more processes would fill in the ranks that the first lacked."""
    curriculum.doctor.record((IDS, LABELS))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    curriculum.doctor.record((IDS, LABELS))
    with pytest.raises(DataError, match="lines of world sizes 1, 2; a log holds one run"):
        load_run(log)
