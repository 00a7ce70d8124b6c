"""`verify` passes what a build wrote, and names the first bad shard when files are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import curriculum
from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from forged_shards import (
    entry_of,
    open_shard_of,
    verify,
)
from hostile_dataset import change_manifest
from pipeline.build import BuildResult
from pipeline.card import explanations
from pipeline.tokenizer import byte_tokenizer

Build = Callable[..., BuildResult]
SHARD = "phases/00002-len0000024/shard-000000.arrow"
"""The damaged one: shards before and after it are good."""


@pytest.fixture(scope="module")
def bos_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Bytes, an EOS and another token as BOS."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(byte_tokenizer())
    tokenizer.add_special_tokens(["<s>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer.to_str(), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def bos_dataset(build_small: Build, bos_tokenizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truncate mode, two epochs, a BOS before each document; treat it as read-only."""
    out = tmp_path_factory.mktemp("bos") / "dataset"
    build_small(out, mode="truncate", epochs=2, bos="document", tokenizer=bos_tokenizer, validation_tokens=4_000)
    return out


@pytest.fixture
def damaged(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset, to be damaged."""
    shutil.copytree(small_dataset, tmp_path / "copy")
    return tmp_path / "copy"


# What a build wrote passes


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"epochs": 2}, id="epochs"),
        pytest.param({"mode": "truncate"}, id="truncate"),
        pytest.param({"phases": "8:60,64:60,8:60,16:40", "start_length": None, "max_length": None}, id="cyclic"),
        pytest.param({"schedule": "constant", "start_length": None}, id="constant"),
        pytest.param({"batch_rows": None, "batch_tokens": 512}, id="batch tokens"),
        pytest.param({"bos": "document"}, id="one token is EOS and BOS"),
        pytest.param({"eos": "e", "steps": 60}, id="an EOS that is also text"),
        pytest.param({"shard_bytes": 1, "steps": 60}, id="one step per shard"),
    ],
)
def test_what_a_build_wrote_passes(build_small: Build, tmp_path: Path, options: dict[str, Any]) -> None:
    """A verify that cries wolf would be switched off."""
    build_small(tmp_path / "out", **options)
    for quick in (True, False):
        assert verify(tmp_path / "out", quick=quick).extra_files == ()


def test_a_report_counts_everything(small_dataset: Path) -> None:
    """The numbers are those of the manifest, and of several windows and a validation split."""
    report = verify(small_dataset)
    reader = curriculum.open(small_dataset)
    found = report.to_json()
    assert json.loads(json.dumps(found)) == found
    assert reader.validation is not None
    assert (found["ok"], found["quick"], found["id"]) == (True, False, reader.id)
    assert found["rows"] == sum(len(reader[step]) for step in range(len(reader)))
    assert found["validation_rows"] == len(reader.validation)
    assert found["windows"] > 2
    shards = list(small_dataset.rglob("*.arrow"))
    assert (found["shards"], found["bytes"]) == (len(shards), sum(path.stat().st_size for path in shards))


def test_truncated_rows_with_bos_pass_on_two_workers(bos_dataset: Path) -> None:
    """What truncation hides is unknown, not wrong; and workers change nothing."""
    assert verify(bos_dataset, workers=2) == verify(bos_dataset)
    assert verify(bos_dataset, quick=True).documents is None


# Damage to files


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flip_token(root: Path) -> None:
    flip(root / SHARD, entry_of(root, SHARD).data_offset + 10)


def flip_offset(root: Path) -> None:
    """The low byte of the offset of the first row: found by its bytes, since no digest but ours would notice."""
    offset = open_shard_of(root, SHARD).offset
    flip(root / SHARD, (root / SHARD).read_bytes().index(offset.tobytes()))


def truncate(root: Path) -> None:
    (root / SHARD).write_bytes((root / SHARD).read_bytes()[:-1])


def delete(root: Path) -> None:
    (root / SHARD).unlink()


def delete_most(root: Path) -> None:
    for phase in load_manifest(root).phases[1:]:
        for shard in phase.shards:
            (root / shard.path).unlink()


def empty(root: Path) -> None:
    (root / SHARD).write_bytes(bytes((root / SHARD).stat().st_size))


def swap(root: Path) -> None:
    """Two shards of one length and size, in each other's place: each is a good shard by itself."""
    one, other = equal_shards(root)
    data = (root / one).read_bytes(), (root / other).read_bytes()
    (root / one).write_bytes(data[1])
    (root / other).write_bytes(data[0])


def equal_shards(root: Path) -> tuple[str, str]:
    for phase in load_manifest(root).phases:
        for i, shard in enumerate(phase.shards):
            for other in phase.shards[i + 1 :]:
                if (shard.num_rows, shard.num_bytes) == (other.num_rows, other.num_bytes):
                    return shard.path, other.path
    raise AssertionError("no two shards are equally large")


def edit_tokenizer(root: Path) -> None:
    path = root / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")


def delete_tokenizer(root: Path) -> None:
    (root / "tokenizer.json").unlink()


def edit_manifest(root: Path) -> None:
    path = root / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"seed": 0', '"seed": 1'), "utf-8")


DIGEST = r"its bytes have the sha256 [0-9a-f]{64}, the manifest says [0-9a-f]{64}.*Copy the shard again.*--overwrite"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_token, DIGEST),
        (flip_offset, DIGEST),
        (truncate, r"shard-000000.arrow: [\d,]+ bytes on disk, the manifest says [\d,]+.*copy it again"),
        (delete, r"shard-000000.arrow: the shard is missing, the manifest names \d+.*pulled in part"),
        (delete_most, r"the shard is missing \(the first of \d+ missing ones\)"),
        (empty, r"shard-000000.arrow: not a readable Arrow file"),
        (swap, DIGEST),
        (edit_tokenizer, r"tokenizer.json: its bytes have the sha256 .* the manifest says .*Copy it again"),
        (delete_tokenizer, r"tokenizer.json: cannot be read: No such file or directory"),
        (edit_manifest, r"manifest.json: id is sha256:.*, its content gives sha256:.*edited or damaged"),
    ],
)
def test_damaged_files_are_named(damaged: Path, damage: Callable[[Path], None], message: str) -> None:
    """Arrow has no checksum: without the digest a flipped bit would be trained on."""
    damage(damaged)
    with pytest.raises(DataError, match=message):
        verify(damaged)


@pytest.mark.parametrize(("damage", "found"), [(truncate, True), (delete, True), (empty, True), (flip_token, False)])
def test_quick_finds_what_sizes_and_footers_show(damaged: Path, damage: Callable[[Path], None], found: bool) -> None:
    """`--quick` is for incomplete copies; a flipped bit needs the whole check."""
    damage(damaged)
    if found:
        with pytest.raises(DataError, match=r"shard-000000\.arrow"):
            verify(damaged, quick=True)
    else:
        verify(damaged, quick=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_bad_shard_is_named_whatever_the_workers(damaged: Path, workers: int) -> None:
    """Two people who verify the same copy must read the same sentence."""
    paths = [shard.path for phase in load_manifest(damaged).phases for shard in phase.shards]
    bad = [paths[2], paths[9], paths[10], paths[20], paths[-1]]
    for path in reversed(bad):
        flip(damaged / path, entry_of(damaged, path).data_offset + 7)
    with pytest.raises(DataError) as caught:
        verify(damaged, workers=workers)
    sentence = str(caught.value)
    assert sentence.startswith(f"{damaged / bad[0]}: ")
    assert sentence.endswith(f"Bad shards besides: {bad[1]}, {bad[2]}, {bad[3]} and 1 more.")


HUB = {"name": "meta-llama/Llama-3.1-8B", "revision": "0" * 40}
CLAIMS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "nothing": (lambda root: None, ()),
    "a stranger's card": (
        lambda root: (root / "README.md").write_text("# Mine\n"),
        (
            "README.md is not what this release makes of the manifest: another release or somebody wrote it, and what "
            "it says was not checked.",
        ),
    ),
    "a card that goes on": (
        lambda root: (root / "README.md").write_text((root / "README.md").read_text() + "\npip install evil\n"),
        ("README.md is not what",),
    ),
    "an endless picture": (
        lambda root: ((root / "schedule.svg").unlink(), (root / "schedule.svg").symlink_to("/dev/zero")),
        ("schedule.svg is not what",),
    ),
    "card and picture": (
        lambda root: [(root / name).write_text("x") for name in ("README.md", "schedule.svg")],
        ("README.md and schedule.svg are not what this release makes of the manifest: ",),
    ),
    "no card": (lambda root: (root / "README.md").unlink(), ()),
    "a name on the Hub": (
        lambda root: _forge(root, lambda m: m["tokenizer"].update(hub=HUB)),
        (
            "That the tokenizer is meta-llama/Llama-3.1-8B of the Hub, at commit "
            "0000000000000000000000000000000000000000, is a claim: only its sha256 was compared.",
        ),
    ),
    "an algorithm of tomorrow": (
        lambda root: _forge(root, lambda m: m["build"].update(algorithm=99)),
        ("build.algorithm is 99, this release knows 1: that each row lies where the seed deals it was not checked.",),
    ),
}


def _forge(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    change_manifest(root, change)
    for name, text in explanations(load_manifest(root)).items():
        (root / name).write_bytes(text)


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("quick", [True, False])
def test_what_cannot_be_proven_is_said(damaged: Path, name: str, quick: bool) -> None:
    """Who reads "every byte was checked" believes the card, the tokenizer's name and the order too."""
    change, words = CLAIMS[name]
    change(damaged)
    notes = verify(damaged, quick=quick).notes
    assert len(notes) == len(words)
    for note, beginning in zip(notes, words, strict=True):
        assert note.startswith(beginning), note


def test_files_that_the_manifest_does_not_name_are_reported(damaged: Path) -> None:
    """load_dataset globs a phase's folder: a stray shard would be trained on there."""
    shutil.copy(damaged / SHARD, damaged / "phases" / "00002-len0000024" / "shard-000000 (1).arrow")
    (damaged / "validation" / "notes.txt").write_text("mine")
    report = verify(damaged)
    assert report.extra_files == ("phases/00002-len0000024/shard-000000 (1).arrow", "validation/notes.txt")
    assert any("2 files beside the shards" in note for note in report.notes)
