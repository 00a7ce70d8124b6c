"""`push --compress --sign` and `pull --verify-key` as people call them; what else reads the place, or attacks it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from click.testing import CliRunner

import curriculum
from curriculum.manifest import content_id, load_manifest
from pipeline.cli import main
from pipeline.sharing.seek_table import seek_table
from ssh_keys import make_key
from travels import content, travelling

MIB = 1 << 20


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The private key of who pushes, and another one."""
    folder = tmp_path_factory.mktemp("keys")
    return str(make_key(folder, "ours")), str(make_key(folder, "theirs"))


@pytest.fixture(scope="module")
def pushed(tiny: Path, keys: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with the compressed and signed dataset; treat it as read-only."""
    there = tmp_path_factory.mktemp("place") / "ds"
    run("push", tiny, there, "--compress", "zstd", "--sign", keys[0])
    return there


def run(*arguments: Any, fails: bool = False) -> str:
    """What the command says; on stdout, or of its failure."""
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == (1 if fails else 0), done.output
    return done.stderr if fails else done.stdout


def test_the_two_commands(tiny: Path, pushed: Path, keys: tuple[str, str], tmp_path: Path) -> None:
    """Every byte comes back, who signed is told; another key or manifest stops before anything is written."""
    back = tmp_path / "back"
    said = json.loads(run("pull", pushed, back, "--verify-key", f"{keys[0]}.pub", "--json"))
    assert said["signer"].startswith("signer, ED25519 key SHA256:")
    assert {name: data for name, data in content(back).items() if name != "manifest.json.sig"} == travelling(tiny)
    run("verify", back)
    refused = run("pull", pushed, tmp_path / "none", "--verify-key", f"{keys[1]}.pub", fails=True)
    assert "is signed by ED25519 key SHA256:" in refused
    changed = tmp_path / "changed"
    shutil.copytree(pushed, changed)
    manifest = json.loads((changed / "manifest.json").read_bytes())
    manifest["seed"] += 1  # a manifest that is sound in itself
    manifest["id"] = content_id({key: value for key, value in manifest.items() if key != "id"})
    (changed / "manifest.json").write_text(json.dumps(manifest))
    refused = run("pull", changed, tmp_path / "none", "--verify-key", f"{keys[0]}.pub", fails=True)
    assert "the signature is not one of this manifest" in refused
    assert not (tmp_path / "none").exists()


def test_what_lies_there_needs_no_code_of_ours(tiny: Path, pushed: Path, tmp_path: Path) -> None:
    """`datasets` opens a compressed shard by a chained address, streaming and not; `zstd -d` gives the shard."""
    import datasets

    first = load_manifest(tiny).phases[0].shards[0]
    plain, path = tiny / first.path, pushed / f"{first.path}.zst"
    with zstandard.open(path) as file:
        assert file.read() == plain.read_bytes()
    if shutil.which("zstd"):
        assert subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout == plain.read_bytes()
    rows = curriculum.open(tiny)[0].tokens
    for streaming in (True, False):
        loaded = datasets.load_dataset(
            "arrow",
            data_files=f"zstd://{plain.name}::{path}",
            split="train",
            streaming=streaming,
            cache_dir=str(tmp_path),
        )
        found = [row["tokens"] for row in loaded.take(len(rows))]
        assert np.array_equal(found, rows)


@pytest.mark.parametrize("said", ["nothing", "the size of the manifest", "its own size"])
def test_a_bomb_at_the_place_fills_no_disk_and_no_memory(tiny: Path, pushed: Path, tmp_path: Path, said: str) -> None:
    """A gigabyte of zeros in a few kilobytes, in the form that a push writes, whatever its seek table claims."""
    there, back = tmp_path / "there", tmp_path / "back"
    shutil.copytree(pushed, there)
    shard = load_manifest(tiny).phases[1].shards[0]
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    table = {"nothing": b"", "the size of the manifest": seek_table([(len(frame), shard.num_bytes)])}
    table["its own size"] = seek_table([(len(frame), 1 << 30)])
    (there / f"{shard.path}.zst").write_bytes(frame + table[said])
    tracemalloc.start()
    refused = run("pull", there, back, fails=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{shard.path}.zst" in refused
    assert refused.rstrip().endswith(".")
    assert peak < 32 * MIB
    assert sum(map(len, content(back).values())) < sum(map(len, travelling(tiny).values()))
    assert "manifest.json" not in content(back)
