"""Moving batches to a GPU: the arithmetic on the CPU, the order of events against a recorded stand-in of torch.cuda.

The stand-in never finishes a copy before somebody waits for it on the host, which is the latest that CUDA may: what
would be overwritten or freed too early there is so here, every time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import curriculum
from curriculum.adapters import device as device_module
from curriculum.adapters.device import example_of, on_device, parts_of
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.widened import Example, Wanted, widened
from curriculum.batch import Batch
from packed_dataset import write_packed_dataset

CPU = torch.device("cpu")
EVERYTHING = Wanted(attention="varlen", shift_labels=True, contiguous=True)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of pieces with boundaries and padding; treat it as read-only."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return root


def block_of(batch: Batch, wanted: Wanted) -> tuple[torch.Tensor, Any]:
    """The bytes that would travel."""
    parts = parts_of(batch, wanted)
    memory = np.full(parts.offsets[-1], 255, np.uint8)
    parts.write(memory)
    return torch.from_numpy(memory), parts


def assert_equal(found: Example, expected: Example) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype, name
            assert torch.equal(found[name], value), name
        else:
            assert found[name] == value


@pytest.mark.parametrize(
    "wanted", [Wanted(), Wanted(attention="position_ids"), Wanted(shift_labels=True), EVERYTHING], ids=str
)
def test_what_is_widened_on_the_device_is_what_numpy_widens(small_dataset: Path, packed: Path, wanted: Wanted) -> None:
    """Ids, -100, positions and pieces: the same keys, dtypes and values, whichever way a batch took."""
    for root in (small_dataset, packed):
        for batch in curriculum.open(root).steps(0, 1, 2, 2):
            found = example_of(*block_of(batch, wanted), wanted)
            assert_equal(found, widened(batch, wanted))
            assert all(value.is_contiguous() for value in found.values() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_the_largest_ids_stay_positive(dtype: type) -> None:
    """Bytes are viewed as signed integers, because torch has few kernels for unsigned ones: 65535 is then -1."""
    top = np.iinfo(dtype).max
    tokens = np.array([[top, 0, top - 1, 1], [1, top // 2 + 1, top // 2, top]], dtype)
    none = np.empty(0, np.int32)
    parts = device_module.Parts(tokens=tokens, without_target=none, cu_seqlens=none, max_seqlen=0)
    memory = np.empty(parts.offsets[-1], np.uint8)
    parts.write(memory)
    example = example_of(torch.from_numpy(memory), parts, Wanted())
    assert example["input_ids"].tolist() == tokens[:, :-1].tolist()
    assert example["labels"].tolist() == tokens[:, 1:].tolist()


def test_bytes_that_travel_are_the_stored_ones(small_dataset: Path) -> None:
    """A quarter of int64 inputs, and one copy, not two: 8 rows of 9 stored uint16 are 144 bytes, not 1,024."""
    parts = parts_of(curriculum.open(small_dataset)[0], Wanted())
    assert parts.offsets == (0, 144, 144, 144)


def test_kernels_read_no_value_on_the_host(packed: Path) -> None:
    """On a meta device nothing can be read: a size that depends on a value would make the host wait for the GPU."""
    batch = next(curriculum.open(packed).steps())
    block, parts = block_of(batch, EVERYTHING)
    example = example_of(block.to("meta"), parts, EVERYTHING)
    expected = widened(batch, EVERYTHING)
    for name in ("input_ids", "labels", "shift_labels", "position_ids", "cu_seqlens"):
        assert example[name].is_meta
        assert example[name].shape == expected[name].shape


def test_any_other_device_gets_each_batch_when_it_is_asked_for(small_dataset: Path) -> None:
    """The path without streams: what a CPU test and other accelerators use."""
    batches = list(curriculum.open(small_dataset).steps())
    found = list(on_device(batches, CPU, Wanted()))
    assert [cursor for cursor, _ in found] == [batch.cursor for batch in batches]
    for (_, example), batch in zip(found, batches, strict=True):
        assert_equal(example, widened(batch, Wanted()))
    meta = next(iter(CurriculumDataset(small_dataset, device="meta")))
    assert meta["input_ids"].is_meta
    assert meta["input_ids"].shape == (8, 8)


class FakeCuda:
    """torch.cuda with two streams, and a log of what was queued and waited for."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.copies: list[FakeStream] = []
        """the stream on which each was queued"""
        self.under_way: list[tuple[FakeEvent | FakeStream, torch.Tensor, torch.Tensor]] = []
        """(first event recorded on the stream after the copy, else the stream; pinned memory; what it held) of copies
        that the host did not wait for"""
        self.compute = FakeStream(self, "compute")
        self.now = self.compute

    def Stream(self, device: torch.device) -> FakeStream:
        return FakeStream(self, "side")

    def Event(self) -> FakeEvent:
        return FakeEvent(self)

    def current_stream(self, device: torch.device) -> FakeStream:
        return self.now

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.now = self.now, stream
        yield
        self.now = before

    def require_intact(self) -> None:
        """Nothing that a copy under way reads was written since."""
        for _, source, content in self.under_way:
            assert torch.equal(source, content), "pinned memory was written while it was being copied"


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_event(self, event: FakeEvent) -> None:
        self.cuda.log.append(("wait", self.name, event.after_copy))


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.after_copy = -1

    def record(self, stream: FakeStream) -> None:
        """It says something of the copies that were queued before it on the same stream, and of no others."""
        self.after_copy = max((number for number, on in enumerate(self.cuda.copies) if on is stream), default=-1)
        copies = self.cuda.under_way
        copies[:] = [(self if after is stream else after, source, content) for after, source, content in copies]

    def synchronize(self) -> None:
        self.cuda.require_intact()
        self.cuda.log.append(("host waits", self.after_copy))
        self.cuda.under_way = [entry for entry in self.cuda.under_way if entry[0] is not self]


class Recording(TorchFunctionMode):
    """Sees the calls of tensors: pinned memory on a machine without a GPU, copies, and who claims memory."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self.cuda = cuda
        self.pinned: list[torch.Tensor] = []

    def __enter__(self) -> Recording:
        def claim(tensor: torch.Tensor, stream: FakeStream) -> None:
            self.cuda.log.append(("claim", stream.name, tensor.data_ptr()))

        # Its arguments are checked before a mode is asked, and a stand-in is no stream of torch.
        self.claims = patch.object(torch.Tensor, "record_stream", claim)
        self.claims.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.claims.stop()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.pop("pin_memory", False):
            self.pinned.append(func(*args, **kwargs))
            return self.pinned[-1]
        if func is torch.Tensor.copy_:
            assert kwargs == {"non_blocking": True}
            assert self.cuda.now.name == "side"
            assert any(args[1].data_ptr() == memory.data_ptr() for memory in self.pinned), "out of pinned memory"
            self.cuda.log.append(("copy", args[1].untyped_storage().data_ptr()))
            self.cuda.copies.append(self.cuda.now)
            self.cuda.under_way.append((self.cuda.now, args[1], args[1].clone()))
        return func(*args, **kwargs)


FAKE_GPU = torch.device("cpu")


@pytest.fixture
def cuda() -> FakeCuda:
    """Streams of nothing."""
    return FakeCuda()


def run_ahead(batches: Any, cuda: FakeCuda, wanted: Wanted) -> Iterator[tuple[Any, Example]]:
    """The path that `device="cuda"` takes, on the CPU's memory."""
    return device_module._Ahead(FAKE_GPU, wanted, cuda).examples(batches)


def test_each_batch_arrives_with_its_own_cursor_though_the_next_is_under_way(
    small_dataset: Path, packed: Path, cuda: FakeCuda
) -> None:
    """A state that counted the batch under way would skip it after a restart."""
    for root in (small_dataset, packed):
        batches = list(curriculum.open(root).steps(0, 0, 2, 2))[-50:]
        with Recording(cuda):
            found = list(run_ahead(batches, cuda, EVERYTHING))
        assert [cursor for cursor, _ in found] == [batch.cursor for batch in batches]
        for (_, example), batch in zip(found, batches, strict=True):
            assert_equal(example, widened(batch, EVERYTHING))
        cuda.require_intact()


def test_one_copy_per_batch_begun_before_the_batch_before_it_is_handed_out(small_dataset: Path, cuda: FakeCuda) -> None:
    """Copied when it is needed, a batch would hold up the GPU; copied two ahead, it would hold memory for nothing."""
    batches = list(curriculum.open(small_dataset).steps())[:6]
    copies = []
    with Recording(cuda):
        for _ in run_ahead(batches, cuda, Wanted()):
            copies.append(sum(entry[0] == "copy" for entry in cuda.log))
    assert copies == [2, 3, 4, 5, 6, 6]


def test_compute_waits_for_its_batch_and_not_for_the_next(small_dataset: Path, cuda: FakeCuda) -> None:
    """`wait_stream` would wait for the copy that was just begun, and nothing would overlap."""
    with Recording(cuda):
        for number, _ in zip(range(6), run_ahead(curriculum.open(small_dataset).steps(), cuda, Wanted()), strict=False):
            assert [entry for entry in cuda.log if entry[0] == "wait"][-1] == ("wait", "compute", number)
    assert sum(entry[0] == "wait" for entry in cuda.log) == 6


def test_compute_claims_every_tensor_before_it_gets_it(packed: Path, cuda: FakeCuda) -> None:
    """Memory of the side stream that is freed in Python would otherwise be given to the next copy while it is read."""
    with Recording(cuda):
        for _, example in run_ahead(curriculum.open(packed).steps(), cuda, EVERYTHING):
            claimed = [entry for entry in cuda.log if entry[0] == "claim"]
            tensors = [value for value in example.values() if isinstance(value, torch.Tensor)]
            assert claimed == [("claim", "compute", tensor.data_ptr()) for tensor in tensors]
            assert len(tensors) == 5
            cuda.log.clear()


def test_pinned_memory_is_written_again_only_after_its_copy(small_dataset: Path, cuda: FakeCuda) -> None:
    """Two memories take turns, each waits for its own last copy only; the batches show that none was overwritten."""
    batches = list(curriculum.open(small_dataset).steps())
    with Recording(cuda) as recording:
        for _ in run_ahead(batches, cuda, Wanted()):
            cuda.require_intact()
    sources = [entry[1] for entry in cuda.log if entry[0] == "copy"]
    assert all(one != other for one, other in pairwise(sources)), "they take turns"
    assert len({memory.data_ptr() for memory in recording.pinned}) == len(recording.pinned)
    assert len(recording.pinned) <= 2 * 4, "144 to 1,040 bytes: each grows by doubling"
    waits = [entry[1] for entry in cuda.log if entry[0] == "host waits"]
    assert waits == list(range(len(batches) - 2)), "the copy two batches before, no later one"


def test_the_stand_in_notices_memory_that_is_reused_too_early(small_dataset: Path, cuda: FakeCuda) -> None:
    """The tests above can fail: without the wait the second use of a memory is seen."""
    batches = list(curriculum.open(small_dataset).steps())
    pinned = device_module._Pinned()
    with Recording(cuda):
        ahead = device_module._Ahead(FAKE_GPU, Wanted(), cuda)
        for batch in batches[:2]:
            ahead._begin(batch, pinned)
            pinned.copied = None
    with pytest.raises(AssertionError, match="written while it was being copied"):
        cuda.require_intact()


def test_the_stand_in_notices_an_event_that_is_not_of_the_stream_of_the_copy(
    small_dataset: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded on the stream that computes, it passes at once, and pinned memory is written while it is copied."""
    record = FakeEvent.record
    monkeypatch.setattr(FakeEvent, "record", lambda event, stream: record(event, cuda.compute))
    with Recording(cuda), pytest.raises(AssertionError, match="written while it was being copied"):
        list(run_ahead(curriculum.open(small_dataset).steps(), cuda, Wanted()))


def test_a_dataset_on_cuda_resumes_after_the_batch_it_handed_out(
    small_dataset: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset itself, not only its parts: its state while one batch is ahead."""
    monkeypatch.setattr(
        "curriculum.adapters.pytorch.on_device", lambda batches, device, wanted: run_ahead(batches, cuda, wanted)
    )
    everything = [example["input_ids"].tolist() for example in CurriculumDataset(small_dataset, micro_batches=2)][:20]
    dataset = CurriculumDataset(small_dataset, micro_batches=2, device="cuda")
    with Recording(cuda):
        iterator = iter(dataset)
        seen = [next(iterator)["input_ids"].tolist() for _ in range(7)]
        assert dataset.state_dict() == {"dataset_id": dataset.reader.id, "step": 3, "row": 4}
        resumed = CurriculumDataset(small_dataset, micro_batches=2, device="cuda")
        resumed.load_state_dict(dataset.state_dict())
        seen += [example["input_ids"].tolist() for _, example in zip(range(13), resumed, strict=False)]
    assert seen == everything
