"""Signed manifests, with real keys: what was signed by whom is known, and everything else is refused in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curriculum.errors import BuildError, ConfigError, CurriculumError, DataError
from pipeline.sharing import signature
from pipeline.sharing.signature import NAMESPACE, check_signature, sign
from ssh_keys import make_key

MANIFEST = b'{"format": "curriculum-dataset"}'
PLACE = "s3://bucket/ds"
PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `alice`, `bob` and `locked`, which has a passphrase, and their public halves."""
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder, "alice")
    make_key(folder, "bob")
    make_key(folder, "locked", PASSPHRASE)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path) -> bytes:
    """The manifest, signed by alice."""
    return sign(MANIFEST, str(keys / "alice"))


def fingerprint(key: Path) -> str:
    """`SHA256:...` as ssh-keygen shows it."""
    return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[1]


def test_any_form_of_the_public_key_proves_who_signed(keys: Path, signed: bytes, tmp_path: Path) -> None:
    """A .pub file, its text, many keys as GitHub gives them, and an allowed-signers file, whose name is told."""
    alice, bob = (keys / "alice.pub").read_text(), (keys / "bob.pub").read_text()
    (tmp_path / "user.keys").write_text(f"{bob}{alice}")
    (tmp_path / "allowed").write_text(f"# people\n\nbob@example.org {bob}al@example.org,a@example.org {alice}")
    shown = f"ED25519 key {fingerprint(keys / 'alice.pub')}"
    for key in (str(keys / "alice.pub"), alice, str(tmp_path / "user.keys")):
        assert check_signature(MANIFEST, signed, key, PLACE) == f"signer, {shown}"
    assert check_signature(MANIFEST, signed, str(tmp_path / "allowed"), PLACE) == f"al@example.org, {shown}"


def test_it_is_verified_without_this_project(keys: Path, signed: bytes, tmp_path: Path) -> None:
    """By the command that docs/format.md gives."""
    (tmp_path / "manifest.json.sig").write_bytes(signed)
    (tmp_path / "allowed").write_text(f"alice {(keys / 'alice.pub').read_text()}")
    check = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "alice", "-n", NAMESPACE, "-s", "manifest.json.sig"]
    assert subprocess.run(check, cwd=tmp_path, input=MANIFEST, capture_output=True).returncode == 0


def test_what_was_not_signed_is_refused(keys: Path, signed: bytes, tmp_path: Path) -> None:
    """Another manifest, key or purpose, no signature, a damaged one; each says which."""
    alice = str(keys / "alice.pub")
    sign_for_git = ["ssh-keygen", "-Y", "sign", "-f", keys / "alice", "-n", "git"]
    for_git = subprocess.run(sign_for_git, input=MANIFEST, capture_output=True, check=True).stdout
    lines = signed.split(b"\n")
    damaged = b"\n".join([*lines[:3], lines[3][:-1] + (b"A" if lines[3][-1:] != b"A" else b"B"), *lines[4:]])
    (tmp_path / "git only").write_text(f'a@example.org namespaces="git" {(keys / "alice.pub").read_text()}')
    (tmp_path / "expired").write_text(f'a@example.org valid-before="20200101" {(keys / "alice.pub").read_text()}')
    by_alice = f"is signed by ED25519 key {fingerprint(keys / 'alice.pub')}, which is not a key that"
    cases: list[tuple[bytes, bytes | None, str, str]] = [
        (MANIFEST + b" ", signed, alice, "is not one of this manifest as a dataset"),
        (MANIFEST, for_git, alice, "is not one of this manifest as a dataset"),
        (MANIFEST, damaged, alice, "is not one of this manifest as a dataset"),
        (MANIFEST, signed[:100], alice, "is no ssh signature: damaged"),
        (MANIFEST, signed, str(keys / "bob.pub"), by_alice),
        (MANIFEST, signed, str(tmp_path / "git only"), by_alice),
        (MANIFEST, signed, str(tmp_path / "expired"), by_alice),
        (MANIFEST, None, alice, "it is not signed, there is no manifest.json.sig"),
        (MANIFEST, b"untrusted comment: minisign", alice, "is no ssh signature"),
        (MANIFEST, signed + bytes(1 << 16), alice, "is no ssh signature"),
    ]
    for manifest, given, key, said in cases:
        with pytest.raises(DataError, match=r"^s3://bucket/ds: ") as refused:
            check_signature(manifest, given, key, PLACE)
        assert said in str(refused.value)
        assert is_a_sentence(refused.value)


def test_a_key_that_is_none_is_named(keys: Path, signed: bytes, tmp_path: Path) -> None:
    """A private key given away is worth a warning; the rest says what is expected."""
    (tmp_path / "notes").write_text("my key is in the drawer")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
    for key, said in (
        (keys / "alice", r"this is a private key. Give the public half, alice\.pub, and show this one to nobody\."),
        (tmp_path / "notes", "there is no public ssh key in it"),
        (tmp_path / "bytes", "it is no text"),
        (tmp_path / "nowhere", "No such file"),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            check_signature(MANIFEST, signed, str(key), PLACE)
        assert is_a_sentence(refused.value)
    for key, said in (
        (tmp_path / "nowhere", "there is no such key to sign with"),
        (tmp_path / "notes", "ssh-keygen cannot sign with it"),
        (keys / "locked", "it has a passphrase, which is never asked for. Run `ssh-add "),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            sign(MANIFEST, str(key))
        assert is_a_sentence(refused.value)


def is_a_sentence(error: CurriculumError) -> bool:
    """One line, with an end."""
    return str(error).endswith(".") and "\n" not in str(error)


def test_a_passphrase_is_not_asked_for_on_a_terminal_either(keys: Path) -> None:
    """A push at night must not wait for somebody: with a terminal of its own, too, it ends at once."""
    run = f"from pipeline.sharing.signature import sign; sign(b'', {str(keys / 'locked')!r})"
    code = f"import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', {run!r}]) != 0)"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert "it has a passphrase, which is never asked for" in done.stdout
    assert time.monotonic() - began < 30


def test_a_key_with_a_passphrase_signs_from_an_agent(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ssh-add` leaves it there; the public half alone is then enough."""
    socket = tmp_path / "agent"
    answer = tmp_path / "answer"
    answer.write_text(f"#!/bin/sh\necho '{PASSPHRASE}'\n")
    answer.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert agent.poll() is None
            time.sleep(0.01)
        asked = {**os.environ, "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", keys / "locked"], env=asked, check=True, stdin=subprocess.DEVNULL)
        for key in ("locked", "locked.pub"):
            made = sign(MANIFEST, str(keys / key))
            assert check_signature(MANIFEST, made, str(keys / "locked.pub"), PLACE).startswith("signer, ED25519 key")
    finally:
        agent.terminate()
        agent.wait()


def test_without_openssh_one_sentence_says_so(
    keys: Path, signed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare container has none; a signature that cannot be checked is no good one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="ssh-keygen is not installed"):
        sign(MANIFEST, str(keys / "alice"))
    with pytest.raises(BuildError, match="ssh-keygen is not installed"):
        check_signature(MANIFEST, signed, str(keys / "alice.pub"), PLACE)


def test_one_that_hangs_is_given_up(keys: Path, signed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that nobody touches."""
    (tmp_path / "ssh-keygen").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "ssh-keygen").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(signature, "WAIT_SECONDS", 0.1)
    with pytest.raises(BuildError, match=r"did not answer for 0 s\. Try again"):
        sign(MANIFEST, str(keys / "alice"))
