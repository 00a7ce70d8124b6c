"""A corpus that was tokenized elsewhere gives what its texts would have given here, or is refused in one sentence."""

from __future__ import annotations

import filecmp
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import curriculum
from curriculum.errors import BuildError, ConfigError
from pipeline.backends import ReferenceEncoder
from pipeline.build import BuildResult, build
from pipeline.cli import main
from pipeline.endings import endings
from pipeline.files.address import store_files
from pipeline.inputs import find_inputs
from pipeline.layout import read_build_log
from pipeline.option_sources import load_options
from pipeline.options import Options
from pipeline.part_index import read_index, read_tokens
from pipeline.progress import Silent
from pipeline.tokenized.formats import Stored
from pipeline.tokenized.take import take_unit
from pipeline.tokenizer import load_tokenizer, train_tokenizer
from pipeline.units import split_units
from small_corpus import dataset_files, real_texts
from stored_corpora import Documents, flat, write_datatrove, write_llm_c, write_megatron

EOS = 0
"""<|endoftext|> of a tokenizer that is trained here."""
SMALL: dict[str, Any] = {
    "start_length": 8,
    "max_length": 64,
    "batch_rows": 8,
    "shuffle_window": 30_000,
    "shard_bytes": 20_000,
    "workers": 1,
}


class Said(Silent):
    """Keeps what a build says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass(frozen=True)
class Work:
    """A tokenizer, texts with their ids, and the dataset that is made of the texts here."""

    folder: Path
    tokenizer: Path
    documents: list[list[int]]
    """each with its EOS"""
    from_texts: BuildResult

    def build(self, out: Path, corpus: Path, progress: Silent | None = None, **options: Any) -> BuildResult:
        """Build from stored ids."""
        values = {**SMALL, "tokenizer": str(self.tokenizer), "corpus": (str(corpus),), "out": str(out), **options}
        return build(load_options(None, values), progress or Silent())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """122 texts (one empty, two equal, two that look like special tokens) in a column."""
    folder = tmp_path_factory.mktemp("stored")
    texts = real_texts()
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(train_tokenizer(texts, 500), "utf-8")
    ids, lengths = ReferenceEncoder(str(tokenizer)).encode(texts)
    documents = [[*part.tolist(), EOS] for part in np.split(ids, np.cumsum(lengths)[:-1])]
    (folder / "texts").mkdir()
    pq.write_table(pa.table({"text": texts}), folder / "texts" / "a.parquet")
    options = {**SMALL, "tokenizer": str(tokenizer), "corpus": (str(folder / "texts"),), "out": str(folder / "out")}
    return Work(folder, tokenizer, documents, build(load_options(None, options), Silent()))


def stored_documents(result: BuildResult) -> Counter[tuple[int, ...]]:
    """The documents of the token store of a build."""
    log = read_build_log(result.files, result.manifest.id)
    assert log is not None
    store, found = store_files(log["store"]), Counter[tuple[int, ...]]()
    for part in log["parts"]:
        index = read_index(store, part)
        tokens = np.empty(int(index.num_tokens.sum()), result.manifest.dtype)
        read_tokens(store, part, 0, tokens)
        for start, count in zip(index.start.tolist(), index.num_tokens.tolist(), strict=True):
            found[tuple(tokens[start : start + count].tolist())] += 1
    return found


def parquet(path: Path, documents: Documents, kind: Any = None, key: str = "input_ids") -> None:
    """A column of lists of ids."""
    lists = pa.array([list(document) for document in documents], kind or pa.list_(pa.int32()))
    pq.write_table(pa.table({key: lists}), path, row_group_size=50)


def write_saved_dataset(folder: Path, documents: Documents) -> None:
    """What `datasets.map(tokenize).save_to_disk` leaves, other columns included."""
    import datasets

    rows = {"input_ids": [list(d) for d in documents], "attention_mask": [[1] * len(d) for d in documents]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows).save_to_disk(folder / "saved")


def write_arrow(path: Path, documents: Documents) -> None:
    """An Arrow file of large lists."""
    table = pa.table({"ids": pa.array([list(document) for document in documents], pa.large_list(pa.uint16()))})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


Write = Callable[[Path, Documents], object]
FORMATS: dict[str, tuple[dict[str, Any], Write]] = {
    "megatron": ({"tokenized": "megatron"}, lambda f, d: write_megatron(f / "a.bin", d)),
    "megatron int32": ({"tokenized": "megatron"}, lambda f, d: write_megatron(f / "a.bin", d, "int32")),
    "datatrove": ({"tokenized": "datatrove"}, lambda f, d: write_datatrove(f / "a.ds", d)),
    "datatrove uint32": ({"tokenized": "datatrove"}, lambda f, d: write_datatrove(f / "a.ds", d, "uint32")),
    "nanoGPT": ({"tokenized": "raw", "ids_dtype": "uint16"}, lambda f, d: flat(d, "uint16").tofile(f / "a.bin")),
    "OLMo": ({"tokenized": "raw", "ids_dtype": "uint32"}, lambda f, d: flat(d, "uint32").tofile(f / "a.npy")),
    "numpy": ({"tokenized": "raw"}, lambda f, d: np.save(f / "a.npy", flat(d, "int64"))),
    "llm.c": ({"tokenized": "raw"}, lambda f, d: write_llm_c(f / "a.bin", d)),
    "parquet": ({"tokenized": "input_ids"}, lambda f, d: parquet(f / "a.parquet", d)),
    "arrow": ({"tokenized": "input_ids", "ids_key": "ids"}, lambda f, d: write_arrow(f / "a.arrow", d)),
    "datasets": ({"tokenized": "input_ids"}, write_saved_dataset),
}


@pytest.mark.parametrize("name", FORMATS)
def test_ids_give_what_their_texts_gave(name: str, work: Work, tmp_path: Path) -> None:
    """Encoded here or elsewhere: the same documents, each ended by one EOS, and the same accounting to the token."""
    options, write = FORMATS[name]
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus", work.documents)
    said = Said()
    result = work.build(tmp_path / "out", tmp_path / "corpus", said, **options)
    assert stored_documents(result) == stored_documents(work.from_texts)
    assert result.manifest.accounting == work.from_texts.manifest.accounting
    assert result.manifest.accounting.empty_documents == 1
    assert [line for line in said.lines if "left out" in line or "Warning" in line] == []
    assert re.search(r"Tokenizer check: ([\d,]+) of \1 ids \(100\.0 %\)", said.lines[-1])


def test_a_column_of_ids_gives_the_very_bytes_of_its_texts(work: Work, tmp_path: Path) -> None:
    """The key of a document is made of file and row: where those are equal, so is every shard; only what is said of the
    corpus differs (fingerprints are of texts, or of ids)."""
    parquet(tmp_path / "a.parquet", work.documents)
    work.build(tmp_path / "out", tmp_path / "a.parquet", tokenized="input_ids")
    shards = [name for name in dataset_files(tmp_path / "out") if name.endswith(".arrow")]
    assert len(shards) > 10
    assert filecmp.cmpfiles(tmp_path / "out", work.folder / "out", shards, shallow=False)[1:] == ([], [])


@pytest.mark.parametrize("name", ["megatron", "nanoGPT", "datatrove", "arrow"])
def test_units_and_workers_change_nothing(name: str, work: Work, tmp_path: Path) -> None:
    """Documents that straddle units belong to the one in which they begin."""
    options, write = FORMATS[name]
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus", work.documents)
    work.build(tmp_path / "one", tmp_path / "corpus", **options)
    work.build(tmp_path / "many", tmp_path / "corpus", **options, unit_bytes=20_000)
    files = dataset_files(tmp_path / "one")
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "many", files, shallow=False)[1:] == ([], [])
    log = json.loads((tmp_path / "many" / "build-log.json").read_text())
    assert len(log["parts"]) > 5


def test_an_eos_is_added_where_it_is_missing_and_never_doubled(work: Work, tmp_path: Path) -> None:
    """Without EOS, with one, padded with EOS: the same documents. Each further one counts as an empty document."""
    plain = [document[:-1] for document in work.documents]
    padded = [[*document, EOS, EOS] for document in work.documents]
    for name, documents, empty in (("plain", plain, 1), ("padded", padded, 1 + 2 * len(padded))):
        (tmp_path / name).mkdir()
        write_megatron(tmp_path / name / "a.bin", documents)
        result = work.build(tmp_path / f"{name}-out", tmp_path / name, tokenized="megatron")
        assert stored_documents(result) == stored_documents(work.from_texts)
        assert result.manifest.accounting.empty_documents == empty


def test_a_bos_that_is_there_is_not_doubled(work: Work, tmp_path: Path) -> None:
    """--bos document: ids with and without it give the same documents, each with one. This tokenizer's is its EOS."""
    found = []
    for name, documents in (("without", work.documents), ("with", [[EOS, *d] for d in work.documents if len(d) > 1])):
        (tmp_path / name).mkdir()
        parquet(tmp_path / name / "a.parquet", documents)
        result = work.build(tmp_path / f"{name}-out", tmp_path / name, tokenized="input_ids", bos="document")
        found.append(stored_documents(result))
    assert found[0] == found[1]
    assert all(document[0] == EOS and document[-1] == EOS for document in found[0])


def test_equal_ids_are_held_out_together(work: Work, tmp_path: Path) -> None:
    """Duplicates must not straddle the split, and there are no texts to tell them by: the ids do."""
    tokenizer = load_tokenizer(str(work.tokenizer), eos=None, bos="none")
    write_megatron(tmp_path / "a.bin", [[5, 6, EOS], [7], [5, 6], [5, 6, 7]])
    stored = Stored(format="megatron", dtype=None, key="input_ids")
    (unit,) = split_units(find_inputs([str(tmp_path)], endings("megatron")).files, None, stored)
    (documents,) = take_unit(unit, stored, tokenizer, "corpus")
    hashes = documents.text_hashes
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3
    dataset = tmp_path / "out"
    write_megatron(tmp_path / "b.bin", work.documents * 2)
    work.build(dataset, tmp_path / "b.bin", tokenized="megatron", validation_tokens=3_000)
    assert 3_000 <= curriculum.open(str(dataset)).manifest.accounting.validation_tokens < 20_000


def test_a_file_that_changes_is_told_from_a_damaged_one(work: Work, tmp_path: Path) -> None:
    """An index that is being written contradicts its .bin, but that is not what is the matter."""
    tokenizer = load_tokenizer(str(work.tokenizer), eos=None, bos="none")
    write_megatron(tmp_path / "a.bin", work.documents)
    stored = Stored(format="megatron", dtype=None, key="input_ids")
    (unit,) = split_units(find_inputs([str(tmp_path)], endings("megatron")).files, None, stored)
    content = (tmp_path / "a.idx").read_bytes()
    (tmp_path / "a.idx").write_bytes(content[:-8])
    with pytest.raises(BuildError, match=r"a\.bin changed while being read"):
        list(take_unit(unit, stored, tokenizer, "corpus"))
    (tmp_path / "a.idx").write_bytes(content)
    os.utime(tmp_path / "a.idx", ns=(0, 0))
    with pytest.raises(BuildError, match=r"a\.bin changed while being read"):
        list(take_unit(unit, stored, tokenizer, "corpus"))


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("int32", 500, r"a\.parquet, row 7: its id number 3 is 500, and ids of the tokenizer are 0 to 499"),
        ("int64", -1, r"a\.parquet, row 7: its id number 3 is -1, and ids of the tokenizer are 0 to 499"),
        ("uint64", 2**63, r"row 7: its id number 3 is 9,223,372,036,854,775,808"),
    ],
)
def test_ids_that_the_tokenizer_does_not_have(kind: str, bad: int, message: str, work: Work, tmp_path: Path) -> None:
    """Narrowed to 16 bits they would silently become others."""
    documents = [list(document) for document in work.documents]
    documents[7][3] = bad
    parquet(tmp_path / "a.parquet", documents, pa.list_(getattr(pa, kind)()))
    with pytest.raises(BuildError, match=message):
        work.build(tmp_path / "out", tmp_path / "a.parquet", tokenized="input_ids")


def test_the_wrong_width_of_ids_is_named(work: Work, tmp_path: Path) -> None:
    """uint16 read as uint32 is out of range; uint32 read as uint16 is not, but every other id is 0."""
    documents = work.documents[:120]
    flat([*documents, [EOS] * (sum(map(len, documents)) % 2)], "uint16").tofile(tmp_path / "narrow.bin")
    with pytest.raises(BuildError, match=r"narrow\.bin, token 0: .* or has ids of uint16, not uint32, by which all"):
        work.build(tmp_path / "out", tmp_path / "narrow.bin", tokenized="raw", ids_dtype="uint32")
    flat(documents, "uint32").tofile(tmp_path / "wide.bin")
    with pytest.raises(BuildError, match=r"wide\.bin: read as uint16, its ids from 0 on .* Give --ids-dtype uint32\."):
        work.build(tmp_path / "out", tmp_path / "wide.bin", tokenized="raw", ids_dtype="uint16")


def test_another_tokenizer_is_refused_with_figures(work: Work, tmp_path: Path) -> None:
    """Every id is in range, every text is nonsense: only decoding and encoding again shows it. Made of the same texts
    with fewer entries, so that many ids even mean nearly the same."""
    other = tmp_path / "other.json"
    other.write_text(train_tokenizer(real_texts()[:15], 450), "utf-8")
    ids, lengths = ReferenceEncoder(str(other)).encode(real_texts())
    documents = [[*part.tolist(), EOS] for part in np.split(ids, np.cumsum(lengths)[:-1])]
    write_megatron(tmp_path / "a.bin", documents)
    message = (
        r"tokenizer\.json does not give these ids back: of [\d,]+ ids in 85 sampled documents, [\d,]+ \(\d+\.\d %\)"
    )
    with pytest.raises(BuildError, match=message + r".*--tokenizer-check warn"):
        work.build(tmp_path / "out", tmp_path / "a.bin", tokenized="megatron")
    said = Said()
    result = work.build(tmp_path / "out", tmp_path / "a.bin", said, tokenized="megatron", tokenizer_check="warn")
    assert stored_documents(result) == Counter(tuple(document) for document in documents if len(document) > 1)
    assert re.search("Warning: .*" + message, said.lines[-1])


def test_another_eos_is_refused(work: Work, tmp_path: Path) -> None:
    """With the wrong EOS a bare array is one document, and documents of other formats get a second ending."""
    tokenizer = json.loads(work.tokenizer.read_text("utf-8"))
    size = len(tokenizer["model"]["vocab"])
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append({"id": size, "content": "</s>", **added})
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer), "utf-8")
    documents = [[*document[:-1], size] for document in work.documents]
    write_megatron(tmp_path / "a.bin", documents)
    with pytest.raises(
        BuildError, match=r"Nearly all of 92 sampled documents end with '</s>', and the EOS of the build is '<\|endof"
    ):
        work.build(tmp_path / "out", tmp_path / "a.bin", tokenized="megatron", tokenizer=str(path))
    raw = {"tokenized": "raw", "ids_dtype": "uint16", "tokenizer": str(path)}
    with pytest.raises(BuildError, match=r"The EOS id 0 does not occur in the first [\d,]+ ids of the corpus.*--eos"):
        work.build(tmp_path / "out", tmp_path / "a.bin", **raw)
    result = work.build(tmp_path / "out", tmp_path / "a.bin", **raw, eos="</s>")
    assert stored_documents(result) == Counter(tuple(document) for document in documents if len(document) > 1)


def test_packed_rows_are_remarked_upon(work: Work, tmp_path: Path) -> None:
    """Rows of a fixed length hold several documents; their borders inside are not known, and somebody should say so."""
    ids = flat(work.documents, "int32")
    rows = ids[: len(ids) // 512 * 512].reshape(-1, 512).tolist()
    parquet(tmp_path / "a.parquet", rows)
    said = Said()
    work.build(tmp_path / "out", tmp_path / "a.parquet", said, tokenized="input_ids")
    assert any("hold the EOS '<|endoftext|>' inside: they may be packed rows" in line for line in said.lines)


def test_padding_with_eos_is_no_sign_of_packed_rows(work: Work, tmp_path: Path) -> None:
    """Rows that were padded to one length end with many EOS ids, and hold none inside."""
    rows = [(document + [EOS] * 600)[:600] for document in work.documents if len(document) < 600]
    assert len(rows) > 40
    parquet(tmp_path / "a.parquet", rows)
    said = Said()
    work.build(tmp_path / "out", tmp_path / "a.parquet", said, tokenized="input_ids")
    assert not any("inside" in line for line in said.lines)


def test_a_corpus_of_ids_without_any_holds_no_text(work: Work, tmp_path: Path) -> None:
    """Not a division by zero, and not an EOS that was not found."""
    for name in ("rows", "lists", "raw"):
        (tmp_path / name).mkdir()
    parquet(tmp_path / "rows" / "a.parquet", [])
    parquet(tmp_path / "lists" / "a.parquet", [[], []])
    (tmp_path / "raw" / "a.bin").touch()
    column: dict[str, Any] = {"tokenized": "input_ids"}
    for name, how in (("rows", column), ("lists", column), ("raw", {"tokenized": "raw", "ids_dtype": "uint16"})):
        with pytest.raises(BuildError, match="holds no text"):
            work.build(tmp_path / "out", tmp_path / name, **how)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenized": "raw"}, r"tokenizer is 'train:8192'; the ids were made by a tokenizer that exists"),
        ({"tokenized": "raw", "tokenizer": "bytes"}, r"tokenized is 'raw' and tokenizer is 'bytes'"),
        (
            {"tokenized": "npy", "tokenizer": "x"},
            r"tokenized is 'npy'; allowed are megatron, raw, datatrove, input_ids",
        ),
        ({"tokenized": "megatron", "ids_dtype": "uint16"}, r"ids_dtype is given together with tokenized 'megatron'"),
        ({"tokenized": "raw", "ids_key": "x"}, r"ids_key is given together with tokenized 'raw'"),
        ({"ids_key": "x"}, r"ids_key is given together with a corpus of texts, which has no use for it"),
        ({"tokenizer_check": "warn"}, r"tokenizer_check is given together with a corpus of texts"),
        ({"tokenized": "raw", "ids_dtype": "float32"}, r"ids_dtype is 'float32'; allowed are uint8, uint16"),
        ({"tokenized": "raw", "text_key": "body"}, r"text_key is given together with tokenized 'raw'"),
        ({"tokenized": "raw", "on_bad_record": "skip"}, r"on_bad_record is given together with tokenized 'raw'"),
        ({"tokenized": "raw", "backend": "fastokens"}, r"backend is given together with tokenized 'raw'"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is read, and in one sentence."""
    if "backend" in options or "text_key" in options or "on_bad_record" in options or "ids_key" in options:
        options = {"tokenizer": "tokenizer.json", **options}
    with pytest.raises(ConfigError, match=message):
        Options(**options)


def test_a_file_of_options_says_it_by_the_same_names(work: Work, tmp_path: Path) -> None:
    """TOML keys are the flags' names, and a flag wins over what it contradicts."""
    config = tmp_path / "c.toml"
    config.write_text(f'tokenizer = "{work.tokenizer}"\ntokenized = "raw"\nids_dtype = "uint16"\n')
    assert load_options(config, {}).stored() == Stored(format="raw", dtype="uint16", key="input_ids")
    flags = {"tokenized": "input_ids", "ids_key": "tokens"}
    assert load_options(config, flags).stored() == Stored(format="input_ids", dtype=None, key="tokens")
    config.write_text(f'tokenizer = "{work.tokenizer}"\ntext_key = "body"\n')
    assert load_options(config, {"tokenized": "datatrove"}).text_key == "text"


def test_the_command_line_builds_verifies_and_says_what_is_missing(work: Work, tmp_path: Path) -> None:
    """A build, the same again, its verification; then a pair whose index is gone, a corpus of texts, and none at
    all."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_megatron(corpus / "a.bin", work.documents)
    options = ["--tokenizer", work.tokenizer, "--tokenized", "megatron", "--max-length", "64", "--workers", "1"]

    def run(*arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        return result.exit_code, result.output

    command = ("build", corpus, *options, "--out", tmp_path / "out")
    assert run(*command)[0] == 0
    code, output = run(*command, "--json")
    assert code == 0
    assert json.loads(output.splitlines()[-1])["already_finished"]
    assert run("verify", tmp_path / "out")[0] == 0
    code, output = run("build", work.folder / "texts", *options, "--out", tmp_path / "other")
    assert (code, "holds no file that can be read" in output, "read are .bin" in output) == (2, True, True)
    code, output = run("build", *options, "--out", tmp_path / "other")
    assert (code, "no corpus is given" in output) == (2, True)
    (corpus / "a.idx").unlink()
    code, output = run("build", corpus, *options, "--out", tmp_path / "other")
    assert (code, "a.idx cannot be read (No such file or directory)" in output) == (2, True)
