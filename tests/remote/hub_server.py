"""A server that gives out git repositories over the Hub's API (olah), and the repositories that tests put there.

In:  a folder.   Out: the environment of clients, and work trees whose commits are what the Hub has.
Guarantee: repositories may be added and commits made while it runs. olah refuses calls without a revision, and gives
files whole: `RangeProxy` stands before it.

    repository = hub.repository("datasets", "org/long")
    (repository.tree / "a.txt").write_text("a"); repository.commit()
    HF_ENDPOINT=http://127.0.0.1:41234      hf://datasets/org/long@main/a.txt
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from environments import environment, free_port, wait_for_port
from remote.range_proxy import RangeProxy

CONFIG = """[basic]
host = "127.0.0.1"
port = {port}
mirrors-path = ["{mirrors}"]
repos-path = "{repos}"
hf-scheme = "http"
hf-netloc = "127.0.0.1:1"
hf-lfs-netloc = "127.0.0.1:1"
mirror-scheme = "http"
mirror-netloc = "127.0.0.1:{seen}"
mirror-lfs-netloc = "127.0.0.1:{seen}"
[accessibility]
offline = true
"""


def installed() -> Path:
    """The folder of the server's programs."""
    return environment("olah", "olah==0.5.4")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One of the server's, with a work tree to change."""

    name: str
    """org/name"""
    tree: Path

    def commit(self) -> str:
        """The commit of what stands in the work tree, which the branch `main` now has."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a commit")
        return self.head()

    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        """What git prints."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "core.fsync=none"]
        command = ["git", *identity, "-C", str(self.tree), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class HubServer:
    """A running olah behind a proxy that gives ranges."""

    def __init__(self, folder: Path) -> None:
        python = installed() / "python"
        port = free_port()
        self._mirrors = folder / "mirrors"
        self.proxy = RangeProxy(port)
        self.endpoint = f"http://127.0.0.1:{self.proxy.port}"
        (folder / "olah.toml").write_text(
            CONFIG.format(port=port, seen=self.proxy.port, mirrors=self._mirrors, repos=folder / "repos")
        )
        with (folder / "log.txt").open("wb") as log:
            command = [python, python.with_name("olah-cli"), "-c", str(folder / "olah.toml")]
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for_port(port, self._process)
        except BaseException:
            self.close()
            raise

    def repository(self, kind: str, name: str) -> Repository:
        """A new one with an empty work tree on the branch main; kind is datasets or models."""
        tree = self._mirrors / kind / name
        tree.mkdir(parents=True)
        repository = Repository(name=name, tree=tree)
        repository.git("init", "--quiet", "--initial-branch", "main")
        return repository

    def variables(self, tmp_path: Path) -> dict[str, str]:
        """The environment of a client with a cache of its own."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(tmp_path / "hf")}

    def close(self) -> None:
        """Stop serving."""
        self.proxy.close()
        self._process.kill()
        self._process.wait(10)
