"""Compressed on the way, plain where it is read; a signature that is asked for decides before anything moves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import curriculum
from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from pipeline.sharing.contents import shards_of
from remote.http_store import HttpStore, files_of
from ssh_keys import make_key
from travels import content, flip, pull, push, travelling


def test_compressed_there_and_plain_back(tiny: Path, tmp_path: Path) -> None:
    """The manifest is the same, so id and signature hold; a shard lies beside where the plain one would."""
    there = tmp_path / "there"
    push(tiny, there, compress=True)
    names = {shard.path for shard in shards_of(load_manifest(tiny))}
    found = content(there)
    assert {name for name in found if name.startswith(("phases/", "validation/"))} == {f"{name}.zst" for name in names}
    assert found["manifest.json"] == (tiny / "manifest.json").read_bytes()
    assert push(tiny, there, compress=True).files == ()
    assert push(tiny, there).files == ()  # each form will do
    pull(there, tmp_path / "back")
    assert content(tmp_path / "back") == travelling(tiny)


def test_each_shard_in_its_own_form(tiny: Path, tmp_path: Path) -> None:
    """A push that was interrupted may go on without --compress; --overwrite sends all in the form that is asked for."""
    there = tmp_path / "there"
    push(tiny, there, phases="0", compress=True)
    push(tiny, there)
    found = content(there)
    assert {name.endswith(".zst") for name in found if name.startswith("phases/00000")} == {True}
    assert {name.endswith(".zst") for name in found if name.startswith("phases/00001")} == {False}
    pull(there, tmp_path / "back")
    assert content(tmp_path / "back") == travelling(tiny)
    push(tiny, there, overwrite=True)
    assert content(there) == travelling(tiny)
    push(tiny, there, overwrite=True, compress=True)
    assert not any(name.endswith(".arrow") for name in content(there))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "bomb", "missing"])
def test_any_compressed_shard_damaged_at_the_place(tiny: Path, tmp_path: Path, damage: str) -> None:
    """Named in a sentence, whatever the decoder says of it; all others stay."""
    import zstandard

    there, back = tmp_path / "there", tmp_path / "back"
    push(tiny, there, compress=True)
    for shard in shards_of(load_manifest(tiny)):
        path = there / f"{shard.path}.zst"
        whole = path.read_bytes()
        if damage == "flipped":
            flip(path)
        elif damage == "missing":
            path.unlink()
        else:
            bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
            path.write_bytes({"truncated": whole[:-1], "empty": b"", "bomb": bomb}[damage])
        with pytest.raises(DataError) as refused:
            pull(there, back)
        assert shard.path in str(refused.value)
        assert "manifest.json" not in content(back)
        assert shard.path not in content(back)
        path.write_bytes(whole)
        pull(there, back)
        assert content(back) == travelling(tiny)
        shutil.rmtree(back)


def test_reading_compressed_shards_in_place_says_to_pull_them(tiny: Path, tmp_path: Path) -> None:
    """In a folder and in a store: not "missing", and not rows out of packed bytes."""
    push(tiny, tmp_path, compress=True)
    said = r"only as .zst, because the dataset was pushed with --compress.*`curriculum pull`"
    with pytest.raises(DataError, match=said):
        curriculum.open(tmp_path)[0]
    store = HttpStore(files_of(tmp_path))
    try:
        for verify in ("shard", "ranges"):
            with pytest.raises(DataError, match=said):
                curriculum.open(store.url, verify=verify)[0]
        with pytest.raises(DataError, match=said):
            curriculum.open(store.url, check=True)
    finally:
        store.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two private keys; the public ones lie beside."""
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder, "ours"), make_key(folder, "theirs")


def test_a_signature_decides_before_anything_moves(tiny: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """Of another key, missing, or of another manifest: nothing is fetched."""
    ours, theirs = keys
    push(tiny, tmp_path / "signed", sign_key=str(ours))
    push(tiny, tmp_path / "plain")
    back = tmp_path / "back"
    for place, key, said in (("signed", theirs, "signed by"), ("plain", ours, "not signed")):
        with pytest.raises(DataError, match=said):
            pull(tmp_path / place, back, verify_key=f"{key}.pub")
        assert not back.exists()
    moved = pull(tmp_path / "signed", back, verify_key=f"{ours}.pub")
    assert moved.signer is not None
    assert "SHA256:" in moved.signer
    assert pull(tmp_path / "signed", back, verify_key=f"{ours}.pub").files == ()
    # The signature goes on with the dataset.
    push(back, tmp_path / "again")
    pull(tmp_path / "again", tmp_path / "back-again", verify_key=f"{ours}.pub")
    assert content(tmp_path / "back-again") == content(back)


def test_a_signature_is_not_left_to_another_dataset(
    tiny: Path, other: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    """One that no longer fits would look like fraud."""
    push(tiny, tmp_path / "there", sign_key=str(keys[0]))
    pull(tmp_path / "there", tmp_path / "back")
    push(other, tmp_path / "there", overwrite=True)
    assert content(tmp_path / "there") == travelling(other)
    pull(tmp_path / "there", tmp_path / "back", overwrite=True)
    assert content(tmp_path / "back") == travelling(other)


@pytest.mark.parametrize("of", ["key", "page", "signature and more"])
def test_what_is_no_signature_is_not_pulled(tiny: Path, tmp_path: Path, keys: tuple[Path, Path], of: str) -> None:
    """No digest names it: a link to a secret, or a page of a stranger, would be in the folder and be pushed on."""
    there, key = tmp_path / "there", keys[0]
    push(tiny, there, sign_key=str(key))
    armored = (there / "manifest.json.sig").read_bytes()
    (there / "manifest.json.sig").unlink()
    if of == "key":
        (there / "manifest.json.sig").symlink_to(key)
    else:
        data = b"<script>alert(1)</script>"
        (there / "manifest.json.sig").write_bytes(data if of == "page" else armored + data)
    with pytest.raises(DataError):
        pull(there, tmp_path / "back", verify_key=f"{key}.pub")
    pull(there, tmp_path / "back")
    assert content(tmp_path / "back") == travelling(tiny)


def test_a_signature_in_a_cache_of_links(tiny: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """The cache of the Hub's client holds nothing else."""
    there, blob = tmp_path / "there", tmp_path / "blob"
    push(tiny, there, sign_key=str(keys[0]))
    (there / "manifest.json.sig").rename(blob)
    (there / "manifest.json.sig").symlink_to(blob)
    assert pull(there, tmp_path / "back", verify_key=f"{keys[0]}.pub").signer
    assert (tmp_path / "back" / "manifest.json.sig").read_bytes() == blob.read_bytes()
