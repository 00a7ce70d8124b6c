"""Real ssh keys for tests that sign."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def make_key(folder: Path, name: str, passphrase: str = "") -> Path:
    """A private key; the public half lies beside. Skips where OpenSSH is not installed; fails in CI."""
    if not shutil.which("ssh-keygen"):
        if os.environ.get("CI") == "true":
            pytest.fail("ssh-keygen is not installed")
        pytest.skip("ssh-keygen is not installed")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-C", f"{name}@example.org", "-N", passphrase, "-f", folder / name]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder / name
