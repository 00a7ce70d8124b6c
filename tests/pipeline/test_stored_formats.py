"""Ids that Megatron, datatrove, numpy and llm.c wrote: every document once, whole, and no damage unnoticed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curriculum.errors import BadRecordError, BuildError, ConfigError
from pipeline.tokenized import raw
from pipeline.tokenized.datatrove import open_datatrove, read_datatrove
from pipeline.tokenized.id_array import IdBlock
from pipeline.tokenized.lists import read_lists
from pipeline.tokenized.megatron import open_megatron, read_megatron
from pipeline.tokenized.raw import open_raw, read_raw
from stored_corpora import flat, write_datatrove, write_llm_c, write_megatron

DOCUMENTS = [[5, 6, 7, 0], [], [300, 0], [8, 9, 0]]

# Written by megatron-core 0.16.1: add_document(DOCUMENTS[0], [2, 2]), end_document(), add_item, add_document; uint16.
MEGATRON_IDX = (
    "4d4d494449445800000100000000000000080400000000000000050000000000000002000000020000000200000003000000"
    "0000000000000000040000000000000008000000000000000c00000000000000"
    "00000000000000000200000000000000020000000000000003000000000000000400000000000000"
)
# Written by datatrove 0.10.1: MegatronTokenizedFile(token_size=4), TokenizedFile(token_size=2), a write per document.
DATATROVE_MEGATRON_IDX = (
    "4d4d494449445800000100000000000000040400000000000000050000000000000004000000000000000200000003000000"
    "0000000000000000100000000000000010000000000000001800000000000000"
    "00000000000000000100000000000000020000000000000003000000000000000400000000000000"
)
DATATROVE_INDEX = "0400000000000000040000000000000006000000000000000900000000000000"
UINT16_IDS = "05000600070000002c010000080009000000"

Read = Callable[[int, int, int], Iterator[IdBlock]]


def documents_of(blocks: Iterator[IdBlock]) -> tuple[list[list[int]], list[int]]:
    """Documents and their positions."""
    documents, positions = [], []
    for block in blocks:
        assert int(block.lengths.sum()) == len(block.ids)
        for document in np.split(block.ids, np.cumsum(block.lengths)[:-1]):
            documents.append(document.tolist())
        positions += block.positions.tolist()
    return documents, positions


def check_every_cut(read: Read, num_tokens: int, documents: list[list[int]], positions: list[int]) -> None:
    """Two stretches that meet anywhere, read in blocks of any size, give every document once and in order."""
    for cut in range(num_tokens + 1):
        for block_tokens in (1, 2, 5, 1000):
            first = documents_of(read(0, cut, block_tokens)) if cut else ([], [])
            second = documents_of(read(cut, num_tokens, block_tokens))
            assert (first[0] + second[0], first[1] + second[1]) == (documents, positions), (cut, block_tokens)


def test_what_megatron_itself_wrote_is_read(tmp_path: Path) -> None:
    """A document of two sequences, one without any, and two of one."""
    (tmp_path / "m.bin").write_bytes(bytes.fromhex(UINT16_IDS))
    (tmp_path / "m.idx").write_bytes(bytes.fromhex(MEGATRON_IDX))
    file = open_megatron(str(tmp_path / "m.bin"))
    assert (file.num_documents, file.num_sequences, file.ids.num_tokens) == (4, 4, 9)
    check_every_cut(lambda *stretch: read_megatron(file, *stretch), 9, DOCUMENTS, [0, 1, 2, 3])


def test_our_megatron_fixtures_are_what_the_tools_write(tmp_path: Path) -> None:
    """All other tests stand on them."""
    write_megatron(tmp_path / "k.bin", DOCUMENTS, "int32")
    assert (tmp_path / "k.idx").read_bytes().hex() == DATATROVE_MEGATRON_IDX
    check_every_cut(
        lambda *stretch: read_megatron(open_megatron(str(tmp_path / "k.bin")), *stretch), 9, DOCUMENTS, [0, 1, 2, 3]
    )


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_what_datatrove_wrote_is_read(dtype: str, tmp_path: Path) -> None:
    """The width of an id is nowhere said: the two sizes tell it."""
    write_datatrove(tmp_path / "a.ds", DOCUMENTS, dtype)
    assert (tmp_path / "a.ds.index").read_bytes().hex() == DATATROVE_INDEX
    if dtype == "uint16":
        assert (tmp_path / "a.ds").read_bytes().hex() == UINT16_IDS
    file = open_datatrove(str(tmp_path / "a.ds"))
    assert file.ids.itemsize == np.dtype(dtype).itemsize
    check_every_cut(lambda *stretch: read_datatrove(file, *stretch), 9, DOCUMENTS, [0, 1, 2, 3])


def raw_files(folder: Path, documents: list[list[int]]) -> list[tuple[Path, str | None]]:
    """The same ids with and without headers, and the dtype that has to be said."""
    flat(documents, "uint16").tofile(folder / "nano.bin")
    flat(documents, "uint32").tofile(folder / "olmo.npy")
    np.save(folder / "numpy.npy", flat(documents, "int64"))
    np.save(folder / "big.npy", flat(documents, ">i4"))
    write_llm_c(folder / "gpt2.bin", documents)
    write_llm_c(folder / "llama3.bin", documents, 20240801, 7)
    names = {"nano.bin": "uint16", "olmo.npy": "uint32", "numpy.npy": None, "big.npy": None}
    return [(folder / name, dtype) for name, dtype in {**names, "gpt2.bin": None, "llama3.bin": None}.items()]


def test_bare_arrays_are_cut_at_every_eos(tmp_path: Path) -> None:
    """nanoGPT, OLMo, numpy in any byte order, llm.c; EOS before the first document, twice in a row, none at the end."""
    documents = [[0], [5, 6, 7, 0], [0], [300, 0], [8, 9]]
    for path, dtype in raw_files(tmp_path, documents):
        array = open_raw(str(path), dtype)
        assert array.num_tokens == 10
        check_every_cut(lambda *stretch, of=array: read_raw(of, 0, *stretch), 10, documents, [0, 1, 5, 6, 8])


@pytest.mark.parametrize("ends_with_eos", [True, False])
def test_long_documents_and_many_units(ends_with_eos: bool, tmp_path: Path) -> None:
    """Documents much longer than a block, and units much shorter than a document."""
    chosen = random.Random(7)
    documents = [[chosen.randrange(1, 500) for _ in range(chosen.choice([0, 1, 3, 700]))] + [0] for _ in range(40)]
    if not ends_with_eos:
        documents[-1] = [4, 5, 6]
    flat(documents, "uint16").tofile(tmp_path / "a.bin")
    array = open_raw(str(tmp_path / "a.bin"), "uint16")
    for size in (1, 17, 400, 10**6):
        found: list[list[int]] = []
        for start in range(0, array.num_tokens, size):
            found += documents_of(read_raw(array, 0, start, start + size, 64))[0]
        assert found == documents


def test_a_document_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the wrong EOS id a whole file of 100 GB would be one document in memory."""
    monkeypatch.setattr(raw, "MAX_DOCUMENT_TOKENS", 50)
    np.arange(1, 200, dtype=np.uint16).tofile(tmp_path / "a.bin")
    array = open_raw(str(tmp_path / "a.bin"), "uint16")
    with pytest.raises(BuildError, match=r"a\.bin: no document ends within 80 tokens from token 0 on, .*--eos"):
        list(read_raw(array, 0, 0, 199, 20))


@pytest.mark.parametrize("block_tokens", [7, 20, 49, 64, 1000])
@pytest.mark.parametrize("last", [True, False])
def test_how_a_file_is_read_does_not_decide_how_long_a_document_may_be(
    block_tokens: int, last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose end came with the last block that was read was let through at any length."""
    monkeypatch.setattr(raw, "MAX_DOCUMENT_TOKENS", 50)
    monkeypatch.setattr(raw, "READ_ON_TOKENS", 16)
    rest = [] if last else [7, 0]
    for size, fits in ((50, True), (51, False), (59, False)):
        np.array([*range(3, 23), 0, *[5] * (size - 1), 0, *rest], np.uint16).tofile(tmp_path / "a.bin")
        array = open_raw(str(tmp_path / "a.bin"), "uint16")
        read = read_raw(array, 0, 0, array.num_tokens, block_tokens)
        if fits:
            assert sum(len(block.lengths) for block in read) == 2 + bool(rest)
        else:
            with pytest.raises(BuildError, match=r"no document ends within \d+ tokens from token 21 on"):
                list(read)


def test_lists_of_any_layout(tmp_path: Path) -> None:
    """list, large_list and fixed_size_list of any integer, sliced or not, give the same ids."""
    lists = [[1, 2], [], [3], [70000], []]
    for kind in (pa.list_(pa.int64()), pa.large_list(pa.uint32())):
        array = pa.array([[9, 9], *lists, [9]], kind).slice(1, 5)
        assert documents_of(read_lists("a", "input_ids", 10, array)) == (lists, [10, 11, 12, 13, 14])
    fixed = pa.array([[9, 9], [1, 2], [3, 4]], pa.list_(pa.int32(), 2)).slice(1, 2)
    assert documents_of(read_lists("a", "input_ids", 0, fixed)) == ([[1, 2], [3, 4]], [0, 1])


@pytest.mark.parametrize(("lists", "what"), [([[1], None], "is null"), ([[1], [2, None]], "holds a null")])
def test_null_lists_are_refused(lists: list[Any], what: str) -> None:
    """A missing id would shift every id behind it."""
    with pytest.raises(BadRecordError, match=rf'^a, row 8: its list in column "ids" {what}'):
        list(read_lists("a", "ids", 7, pa.array(lists, pa.list_(pa.int32()))))


def read_all_megatron(path: Path) -> None:
    """Everything that a build would read."""
    file = open_megatron(str(path))
    list(read_megatron(file, 0, file.ids.num_tokens))


def put(path: Path, at: int, data: bytes) -> None:
    """Overwrite bytes."""
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(bytes(content))


MEGATRON_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda p: p.with_suffix(".idx").unlink(), r"m\.idx: cannot be read"),
    "cut .bin": (lambda p: p.write_bytes(p.read_bytes()[:-2]), r"m\.idx: contradicts .* by it .*m\.bin has 18 bytes"),
    "longer .bin": (lambda p: p.write_bytes(p.read_bytes() + b"\1\0"), r"has 18 bytes, and the file has 20"),
    "cut .idx": (lambda p: put_size(p.with_suffix(".idx"), -8), r"it has 122 bytes, and the file has 114"),
    "head of .idx": (lambda p: p.with_suffix(".idx").write_bytes(b"MMIDIDX\0\0\1"), r"no index of Megatron"),
    "magic": (lambda p: put(p.with_suffix(".idx"), 0, b"X"), r"no index of Megatron.*MMIDIDX"),
    "old magic": (lambda p: put(p.with_suffix(".idx"), 0, b"TNTIDX\0\0"), r"old TNTIDX format"),
    "version": (lambda p: put(p.with_suffix(".idx"), 9, b"\2"), r"has version 2; version 1 is read"),
    "float ids": (
        lambda p: put(p.with_suffix(".idx"), 17, b"\6"),
        r"dtype code 6 \(float64 in Megatron, uint16 in Deep",
    ),
    "unknown ids": (
        lambda p: put(p.with_suffix(".idx"), 17, b"\x63"),
        r"dtype code 99 \(unknown\); read are 1 \(uint8\)",
    ),
    "other width": (lambda p: put(p.with_suffix(".idx"), 17, b"\4"), r"m\.idx: contradicts itself or its \.bin"),
    "a length": (lambda p: put(p.with_suffix(".idx"), 34, b"\3"), r"sequence 1 begins at byte 8, and by .* at byte 6"),
    "negative": (lambda p: put(p.with_suffix(".idx"), 38, b"\xff" * 4), r"sequence 1 has the length -1\."),
    "a pointer": (lambda p: put(p.with_suffix(".idx"), 34 + 16 + 16, b"\6"), r"sequence 2 begins at byte 6"),
    "odd pointer": (lambda p: put(p.with_suffix(".idx"), 34 + 16 + 16, b"\7"), r"sequence 2 begins at byte 7"),
    "borders": (lambda p: put(p.with_suffix(".idx"), 34 + 48 + 8, b"\3"), r"of documents 0 to 3 are not in order"),
    "first border": (lambda p: put(p.with_suffix(".idx"), 34 + 48, b"\1"), r"made of sequences 1 to 4, and it lists 4"),
    "last border": (lambda p: put(p.with_suffix(".idx"), 34 + 48 + 32, b"\3"), r"made of sequences 0 to 3"),
}


def put_size(path: Path, change: int) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[:change])


@pytest.mark.parametrize("name", MEGATRON_FAULTS)
def test_a_damaged_megatron_pair_is_refused(name: str, tmp_path: Path) -> None:
    """One sentence that names the file; never other documents."""
    path = tmp_path / "m.bin"
    write_megatron(path, DOCUMENTS)
    damage, message = MEGATRON_FAULTS[name]
    damage(path)
    with pytest.raises(BuildError, match=message) as refused:
        read_all_megatron(path)
    assert re.search(r"[.)]$", str(refused.value))


def test_any_changed_byte_of_an_index_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Every byte of the .idx, changed: a refusal, or the same ids in other documents (a border that moved)."""
    path = tmp_path / "m.bin"
    write_megatron(path, DOCUMENTS)
    index = path.with_suffix(".idx").read_bytes()
    silent = []
    for at in range(len(index)):
        path.with_suffix(".idx").write_bytes(index)
        put(path.with_suffix(".idx"), at, bytes([index[at] ^ 1]))
        try:
            read_all_megatron(path)
        except BuildError:
            continue
        silent.append(at)
    borders = 34 + 12 * 4
    # The inner borders of documents are said once, in their low bytes; all other facts are said twice.
    assert set(silent) <= {borders + 8, borders + 16, borders + 24}


def test_multimodal_indexes_are_refused(tmp_path: Path) -> None:
    """Images as token ids are no text."""
    write_megatron(tmp_path / "m.bin", DOCUMENTS, extra=b"\0\1\0\0")
    with pytest.raises(BuildError, match=r"is multimodal \(a mode is stored for each of its 4 sequences\)"):
        open_megatron(str(tmp_path / "m.bin"))


def test_damaged_datatrove_pairs_are_refused(tmp_path: Path) -> None:
    """A cut file, a cut index, ends that go back."""
    path, index = tmp_path / "a.ds", tmp_path / "a.ds.index"
    for cut, message in (
        (path, r"end with token 9, and .*a\.ds has 17 bytes, which is neither 2 nor 4"),
        (index, r"a\.ds\.index: has 31 bytes, no multiple of 8"),
    ):
        write_datatrove(path, DOCUMENTS)
        put_size(cut, -1)
        with pytest.raises(BuildError, match=message):
            open_datatrove(str(path))
    write_datatrove(path, DOCUMENTS)
    put(index, 0, b"\7")
    with pytest.raises(BuildError, match=r"document 1 begins at token 7 and ends before token 4 of 9"):
        list(read_datatrove(open_datatrove(str(path)), 0, 9))


def test_bare_arrays_that_are_not_what_they_are_said_to_be(tmp_path: Path) -> None:
    """Headers and sizes are compared with the option and with each other."""
    ids = np.arange(1, 100, dtype=np.uint16)
    ids.tofile(tmp_path / "a.bin")
    with pytest.raises(
        ConfigError, match=r"a\.bin: does not say .*--ids-dtype \(uint8, uint16, int32, uint32, int64\)"
    ):
        open_raw(str(tmp_path / "a.bin"), None)
    with pytest.raises(BuildError, match=r"has 198 bytes of ids, no multiple of the 4 of uint32"):
        open_raw(str(tmp_path / "a.bin"), "uint32")
    np.save(tmp_path / "b.npy", ids)
    with pytest.raises(ConfigError, match=r"its header says that ids are uint16, and --ids-dtype int32 is given"):
        open_raw(str(tmp_path / "b.npy"), "int32")
    put_size(tmp_path / "b.npy", -2)
    with pytest.raises(BuildError, match=r"its header counts 99 ids, and there are 98"):
        open_raw(str(tmp_path / "b.npy"), None)
    np.save(tmp_path / "c.npy", ids.reshape(9, 11))
    with pytest.raises(BuildError, match=r"holds uint16 of shape \(9, 11\), and ids are integers in one row"):
        open_raw(str(tmp_path / "c.npy"), None)
    np.save(tmp_path / "d.npy", np.ones(4))
    with pytest.raises(BuildError, match=r"holds float64"):
        open_raw(str(tmp_path / "d.npy"), None)
    (tmp_path / "e.npy").write_bytes(b"\x93NUMPY\1\0\xff")
    with pytest.raises(BuildError, match=r"e\.npy: its \.npy header cannot be read"):
        open_raw(str(tmp_path / "e.npy"), None)
    write_llm_c(tmp_path / "f.bin", [[1, 2, 3]], version=2)
    with pytest.raises(BuildError, match=r"magic 20240520 version 2; read are 20240520 version 1, 20240801 version 7"):
        open_raw(str(tmp_path / "f.bin"), None)
    write_llm_c(tmp_path / "g.bin", [[1, 2, 3]])
    put(tmp_path / "g.bin", 8, struct.pack("<i", 4))
    with pytest.raises(BuildError, match=r"its header counts 4 ids, and there are 3"):
        open_raw(str(tmp_path / "g.bin"), None)
