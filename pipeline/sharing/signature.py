"""Who vouches for a dataset: a signature of its manifest with an ssh key, made and checked by `ssh-keygen`.

In:  the bytes of `manifest.json` and a key.   Out: the bytes of `manifest.json.sig` (armored SSHSIG); or who signed.
Guarantee: a signature counts only for these very bytes, this namespace and the keys that were given. The manifest names
the sha256 of every shard and of the tokenizer, so it covers all rows; README.md and `build-log.json` it does not cover.
Nothing ever asks for a passphrase, so that nothing waits where nobody sits: a key that has one is used from an agent.

    signature = sign(manifest, "~/.ssh/id_ed25519")
    check_signature(manifest, signature, "alice.pub", "s3://bucket/ds")     'signer, ED25519 key SHA256:mVPwvezndP...'

A key to check with is a file of public keys, one a line, as `id_ed25519.pub` and https://github.com/USER.keys are; or
an allowed-signers file (`man ssh-keygen`), of which the names are told too; or a public key itself.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from curriculum.errors import BuildError, ConfigError, DataError
from pipeline.sharing.contents import MAX_SIGNATURE_BYTES, SIGNATURE

NAMESPACE = "curriculum-dataset"
"""A signature that the same key made for an e-mail or a commit is none of a dataset."""
NAME_OF_PLAIN_KEYS = "signer"
WAIT_SECONDS = 120.0
"""A key on a token waits for a touch."""
_PUBLIC_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ +[A-Za-z0-9+/=]+")
_ARMOR = b"-----BEGIN SSH SIGNATURE-----"
_WHOLE = re.compile(_ARMOR + rb"\r?\n([A-Za-z0-9+/=]+\r?\n)+-----END SSH SIGNATURE-----\s*")


def sign(manifest_bytes: bytes, key: str) -> bytes:
    """The signature of a manifest by a private key; or by a key of an agent, given by its public half.

    Raises:
        ConfigError: there is no such key, or it has a passphrase and no agent holds it.
        BuildError: `ssh-keygen` is missing.
    """
    path = Path(key).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{key}: there is no such key to sign with. Give a private ssh key, as `ssh-keygen` makes one."
        )
    done = _ssh_keygen("sign", "-f", str(path), "-n", NAMESPACE, stdin=manifest_bytes)
    if done.returncode == 0 and done.stdout.startswith(_ARMOR):
        return done.stdout
    said = _said(done)
    if "passphrase" in said:
        raise ConfigError(
            f"{key}: it has a passphrase, which is never asked for. Run `ssh-add {key}`, then this again."
        )
    raise ConfigError(
        f"{key}: ssh-keygen cannot sign with it ({said}). Give a private ssh key, or a public one that an agent holds."
    )


def check_signature(manifest_bytes: bytes, signature: bytes | None, key: str, where: str) -> str:
    """Who signed: a name and the fingerprint of the key.

    Args:
        signature: what lies at the place as `manifest.json.sig`; None if nothing does.
        where: the place; begins messages about it.

    Raises:
        DataError: there is no signature, or none of this manifest by one of the keys.
        ConfigError: `key` holds no public key.
        BuildError: `ssh-keygen` is missing.
    """
    keys = _allowed_signers(key)
    if signature is None:
        raise DataError(
            f"{where}: it is not signed, there is no {SIGNATURE}. Ask who pushed it to sign it with "
            f"`curriculum push --sign KEY`, or pull without --verify-key."
        )
    if not is_armored(signature):
        raise DataError(
            f"{where}: its {SIGNATURE} is no ssh signature: damaged, or of another tool. Have it signed again."
        )
    with TemporaryDirectory(prefix="curriculum-signature-") as temporary:
        signers, signed = Path(temporary) / "signers", Path(temporary) / "signature"
        signers.write_text(keys, "utf-8")
        signed.write_bytes(signature)
        by = ("-n", NAMESPACE, "-s", str(signed))
        made = _ssh_keygen("check-novalidate", *by, stdin=manifest_bytes)  # by whomever
        if made.returncode:
            raise DataError(
                f"{where}: the signature is not one of this manifest as a dataset ({_said(made)}). One of the two was "
                f"changed, or something else was signed: do not use the dataset."
            )
        fingerprint = _said(made).rpartition(" with ")[2]
        found = _ssh_keygen("find-principals", "-f", str(signers), "-s", str(signed))
        name = found.stdout.decode("utf-8", "replace").split("\n")[0].split(",")[0]
        allowed = found.returncode == 0
        if allowed:  # the file may allow the key for other purposes only
            allowed = not _ssh_keygen("verify", "-f", str(signers), "-I", name, *by, stdin=manifest_bytes).returncode
    if not allowed:
        raise DataError(
            f"{where}: it is signed by {fingerprint}, which is not a key that {_short(key)} allows. Ask whose key that "
            f"is; do not use the dataset if you expected another one."
        )
    return f"{name}, {fingerprint}"


def is_armored(data: bytes) -> bool:
    """Whether bytes are the armor of a signature and nothing else: what may move though no digest names it.

    Links to one are followed: the cache of the Hub's client is a folder of links.
    """
    return len(data) <= MAX_SIGNATURE_BYTES and _WHOLE.fullmatch(data) is not None


def is_signature(path: Path) -> bool:
    """The same of a file."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return is_armored(file.read(MAX_SIGNATURE_BYTES + 1))
    except OSError:
        return False


def _allowed_signers(key: str) -> str:
    """The lines of an allowed-signers file; a line that is a key alone gets a name."""
    text, path = key, Path(key).expanduser()
    if not _PUBLIC_KEY.match(key):
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(
                f"{key}: the key to check with cannot be read ({reason}). Give a file of public keys."
            ) from None
    if "PRIVATE KEY-----" in text:
        raise ConfigError(
            f"{key}: this is a private key. Give the public half, {path.name}.pub, and show this one to nobody."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not any(_PUBLIC_KEY.search(line) for line in lines):
        raise ConfigError(f"{_short(key)}: there is no public ssh key in it. Give a file such as id_ed25519.pub.")
    named = [f"{NAME_OF_PLAIN_KEYS} {line}" if _PUBLIC_KEY.match(line) else line for line in lines]
    return "\n".join(named) + "\n"


def _ssh_keygen(what: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it without a terminal, so that it cannot ask."""
    environment = {**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
    environment.pop("DISPLAY", None)  # releases before 8.4 open a window instead
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", what, *arguments],
            input=stdin,
            capture_output=True,
            env=environment,
            start_new_session=True,  # or it would find the terminal
            timeout=WAIT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise BuildError(
            "ssh-keygen is not installed, which makes and checks signatures. Install OpenSSH (Debian: openssh-client)."
        ) from None
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"ssh-keygen did not answer for {WAIT_SECONDS:.0f} s. Try again; touch the token if one waits."
        ) from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line of what it said, without what could steer a terminal."""
    lines = (done.stderr + done.stdout if done.returncode else done.stdout).decode("utf-8", "replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), f"exit {done.returncode}")
    return "".join(each for each in last if each.isprintable())[:200].strip().rstrip(".")


def _short(key: str) -> str:
    """A key given as text is long."""
    return key if len(key) <= 60 else f"{key[:40]}..."
