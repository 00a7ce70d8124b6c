"""Whatever a stranger writes into a manifest, every command that reads it says one sentence and ends with 1."""

from __future__ import annotations

import shutil
from pathlib import Path
from time import process_time

import pytest
from click.testing import CliRunner

import curriculum
from curriculum.errors import DataError
from curriculum.json_object import JsonObject
from curriculum.manifest import parse_manifest
from curriculum.mixture import Mixture
from curriculum.mixture_entry import read_mixture
from hostile_dataset import ESCAPE, MANIFESTS, TEXTS, change_manifest, is_sentence, run_limited, signed
from pipeline.cli import main

COMMANDS = (
    ["verify", "--quick"],
    ["verify", "--workers", "1"],
    ["inspect"],
    ["inspect", "--json"],
    ["cat", "--step", "0"],
)


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A dataset of which only the manifest is there: it is refused before anything else is looked at."""
    (tmp_path / "dataset").mkdir()
    shutil.copy(small_dataset / "manifest.json", tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_refused_in_one_printable_sentence(dataset: Path, name: str) -> None:
    change, words = MANIFESTS[name]
    change_manifest(dataset, change)
    began = process_time()
    with pytest.raises(DataError) as refusal:
        curriculum.open(dataset)
    assert process_time() - began < 5
    assert words in str(refusal.value)
    assert str(refusal.value).startswith(str(dataset / "manifest.json")), "it says which file"
    assert is_sentence(str(refusal.value)), str(refusal.value)[:300]


@pytest.mark.parametrize("name", TEXTS)
def test_bytes_that_are_no_manifest_are_refused_soon(name: str) -> None:
    text, words = TEXTS[name]
    began = process_time()
    with pytest.raises(DataError) as refusal:
        parse_manifest(text, "manifest.json")
    assert process_time() - began < 5
    assert words in str(refusal.value)
    assert is_sentence(str(refusal.value)), str(refusal.value)[:300]


@pytest.mark.parametrize("name", ["escapes in a path", "a quintillion steps", "many sources"])
def test_every_command_ends_with_1_and_a_sentence(dataset: Path, name: str) -> None:
    change_manifest(dataset, MANIFESTS[name][0])
    for command in COMMANDS:
        outcome = CliRunner().invoke(main, [command[0], str(dataset), *command[1:]])
        assert outcome.exit_code == 1, command
        assert is_sentence(outcome.stderr.rstrip("\n")), command
        assert MANIFESTS[name][1] in outcome.stderr


def test_a_command_of_its_own_process_needs_little_for_it(dataset: Path) -> None:
    """As a user runs it: without a traceback, within 20 s of a processor and 4 GiB of addresses."""
    (dataset / "manifest.json").write_bytes(b"[" * (64 << 20))
    outcome = run_limited("inspect", str(dataset))
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert is_sentence(outcome.stderr.rstrip("\n")), outcome.stderr[-500:]


def test_windows_and_shards_that_nobody_listed_are_not_laid_out(tmp_path: Path) -> None:
    """`inspect` lays out the shards of a mixture to count the rows of each source: windows of one token of a plan of
    10**15 steps would fill any memory, and so would shards of one row."""
    from forged_shards import verify
    from small_mixture import build_mixture, write_sources

    build_mixture(tmp_path / "mix", write_sources(tmp_path))
    for change in ({"shard_bytes": 1}, {"window_tokens": 1}):
        dataset = shutil.copytree(tmp_path / "mix", tmp_path / next(iter(change)))
        change_manifest(dataset, lambda manifest, change=change: manifest["build"].update(change))
        for command in ("inspect", "verify"):
            outcome = CliRunner().invoke(main, [command, str(dataset)])
            assert outcome.exit_code == 1
            assert "shards" in outcome.stderr
            assert is_sentence(outcome.stderr.rstrip("\n"))
        with pytest.raises(DataError, match=r"plan and window size give|cannot have written"):
            verify(dataset)


def test_a_manifest_as_large_as_any_that_a_build_writes_is_read(tmp_path: Path) -> None:
    """100,000 shards with the longest paths that are allowed are 40 MB, far from the limits; here a tenth of them."""
    import json

    from many_shards import write_manifest_of

    folder = write_manifest_of(tmp_path / "many", seq_lens=[8], num_shards=10_000)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for number, shard in enumerate(manifest["phases"][0]["shards"]):
        shard["path"] = f"phases/{'x' * 230}{number:06d}.arrow"
    text = signed(manifest)
    assert 3_900_000 < len(text) < 4_100_000
    assert len(parse_manifest(text, "manifest.json").phases[0].shards) == 10_000


def test_what_is_shown_of_a_good_manifest_is_printable(dataset: Path) -> None:
    """A fingerprint may be any text; names and schedules may not."""
    change_manifest(dataset, lambda m: m["sources"][0].update(fingerprint=ESCAPE))
    for command in (["inspect"], ["inspect", "--json"]):
        outcome = CliRunner().invoke(main, [command[0], str(dataset), *command[1:]])
        assert outcome.exit_code == 0
        assert outcome.stdout.replace("\n", "").isprintable()


def test_weights_without_a_common_multiple_are_refused_soon() -> None:
    """The share of a source would be a fraction with a million digits, at a cost of hours."""
    weights = [[1, 2**61 + 2 * number] for number in range(5000)]
    began = process_time()
    with pytest.raises(DataError, match=r"without a common multiple below 2\*\*65536"):
        read_mixture(JsonObject({"mixture": weights}, "manifest.json: build"), 5000)
    assert process_time() - began < 5
    assert Mixture(weights=((1, 2), (3, 4))).share_of_all([10, 30], 0) == 17 / 42  # (10/3 + 90/7) / 40
