"""The benchmark of builds: no tool is left out silently, and other ids are seen. The tools themselves are not here."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TOOLS = [
    "Megatron-LM preprocess_data.py",
    "Megatron-LM preprocess_data_fast.py",
    "datatrove DocumentTokenizer",
    "litdata.optimize",
    "MDSWriter",
    "datasets.map",
]


def test_without_the_other_tools_each_is_called_missing_and_our_ids_are_those_of_the_bare_loop(tmp_path: Path) -> None:
    """A table that lacks a slow competitor without a word would lie; so would one that compares other tokens."""
    texts = [path.read_text("utf-8") for path in sorted(Path(json.__file__).parents[1].glob("[a-m]*.py"))]
    corpus = tmp_path / "corpus.jsonl"
    special = "a <|endoftext|> in the text"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, special]), "utf-8")
    command = [sys.executable, "benchmarks/build_peers.py", "--corpus", str(corpus), "--workers", "1", "--runs", "1"]
    command += ["--folder", str(tmp_path / "work"), "--disk-mb", "4", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sentences = {each["name"]: each["missing"] for each in found["tools"] if "missing" in each}
    assert list(sentences) == TOOLS
    assert "--megatron" in sentences[TOOLS[0]]
    assert "requirements-build-datatrove.txt" in sentences[TOOLS[2]]
    ours = [each for each in found["tools"] if "missing" not in each]
    assert [(each["name"], each["ids"]) for each in ours] == [
        ("bare loop, 1 thread", "equal"),
        ("curriculum build, 1 worker", "equal"),
    ]
    assert [each["name"] for each in found["recuts"]] == ["another seed, 1 worker", "another schedule, 1 worker"]
    assert found["reference"]["tokens"] > 500_000
    assert found["corpus"]["left_out"] == 1


def test_ids_are_read_back_in_order_and_one_other_id_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two documents, 5 6 and 7, in the layouts of three tools: the same two bytes per id everywhere."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from build_peer_ids import digest_of
    from build_peers_report import _compare

    ids = np.array([5, 6, 50256, 7, 50256], "<u2")
    expected = {"tokens": 5, "sha256": hashlib.sha256(bytes.fromhex("0500060050c4070050c4")).hexdigest()}
    for name in ("megatron", "datatrove", "litdata"):
        (tmp_path / name).mkdir()
    ids.astype("<i4").tofile(tmp_path / "megatron" / "corpus_text_document.bin")
    (tmp_path / "megatron" / "corpus_text_document.idx").write_bytes(b"MMIDIDX\0\0" + bytes(8) + b"\4" + bytes(9))
    ids[:3].tofile(tmp_path / "datatrove" / "00000_unshuffled.ds")
    ids[3:].tofile(tmp_path / "datatrove" / "00001_unshuffled.ds")
    index = {"config": {"data_format": ["no_header_tensor:20"]}, "chunks": [{"filename": "b"}, {"filename": "a"}]}
    (tmp_path / "litdata" / "index.json").write_text(json.dumps(index))
    (tmp_path / "litdata" / "b").write_bytes(np.array([1, 12, 18], "<u4").tobytes() + ids[:3].tobytes())
    (tmp_path / "litdata" / "a").write_bytes(np.array([1, 12, 16], "<u4").tobytes() + ids[3:].tobytes())
    for name in ("megatron", "datatrove", "litdata"):
        assert digest_of(name, tmp_path / name) == expected, name
    assert _compare(expected, expected) == "equal"
    ids[1] = 8
    ids.tofile(tmp_path / "megatron" / "corpus_text_document.bin")
    (tmp_path / "megatron" / "corpus_text_document.idx").write_bytes(b"MMIDIDX\0\0" + bytes(8) + b"\10" + bytes(9))
    assert _compare(digest_of("megatron", tmp_path / "megatron"), expected) == "DIFFER: as many ids, other digest"


def test_ranges_of_a_file_are_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool whose worker began inside a line would lose a document, and the ids with it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from peer_ranges import line_borders, ranges, texts

    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a", "bbbb", "", "c" * 50)))
    for count in range(1, 9):
        assert [text for each in ranges(str(path), count) for text in texts(each)] == ["a", "bbbb", "", "c" * 50]
    path.write_text("a\nbb\nc\n")
    assert line_borders(str(path), 2) == [0, 5, 7]
