"""hf:// against a server that gives out git repositories over the Hub's API (olah), and a branch that moves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
from remote.hub_server import HubServer, Repository, installed
from remote.reading_process import ROOT, read_elsewhere

pytest.importorskip("huggingface_hub")

SHARD_BYTES = 2_653_434
TEXTS = '{{"text": "{} commit"}}\n'
FIND_AND_READ = """
import sys
from pipeline.documents import read_unit
from pipeline.inputs import find_inputs, split_units
(unit,) = split_units(find_inputs(["hf://datasets/org/long@main/texts"]).files, None)
print(unit.files[0].path, unit.files[0].stamp, flush=True)
sys.stdin.readline()
print(*[record.text for record in read_unit(unit)], sep="|")
"""


INSTALLS = installed


@pytest.fixture(scope="module")
def long(hub: HubServer, long_dataset: Path) -> Repository:
    """The repository org/long, with the dataset and a text."""
    repository = hub.repository("datasets", "org/long")
    shutil.copytree(long_dataset, repository.tree, dirs_exist_ok=True)
    (repository.tree / "texts").mkdir()
    (repository.tree / "texts" / "a.jsonl").write_text(TEXTS.format("first"))
    repository.commit()
    return repository


def test_batches_equal_the_local_ones_at_a_branch_and_at_a_commit(
    hub: HubServer, long: Repository, long_dataset: Path, tmp_path: Path
) -> None:
    """A branch is pinned to the commit it stood at when it was opened; a rank fetches its share."""
    head = long.head()
    for url, verify, rank, world_size in (
        ("hf://datasets/org/long@main", "auto", 0, 1),
        (f"hf://datasets/org/long@{head}", "ranges", 1, 4),
    ):
        options: dict[str, Any] = {"verify": verify, "rank": rank, "world_size": world_size}
        done = read_elsewhere(url, long_dataset, tmp_path / "cache", **options, **hub.variables(tmp_path))
        assert done.returncode == 0, done.stderr[-3000:]
        root, fetched = done.stdout.split()
        assert root == f"datasets/org/long@{head}"
        assert SHARD_BYTES / world_size - 20_000 < int(fetched) < SHARD_BYTES / world_size + 100_000
    assert len({asked for path, asked in hub.proxy.ranges if head in path}) > 20


def test_a_corpus_on_a_branch_is_read_at_the_commit_it_stood_at(
    hub: HubServer, long: Repository, tmp_path: Path
) -> None:
    """The branch moves between finding and reading: what is read is what was found."""
    head = long.head()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **hub.variables(tmp_path)}
    command = [sys.executable, "-c", FIND_AND_READ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout is not None
        found = process.stdout.readline().split()
        (long.tree / "texts" / "a.jsonl").write_text(TEXTS.format("other"))
        long.commit()
        text, errors = process.communicate("read\n", timeout=120)
    assert process.returncode == 0, errors[-3000:]
    assert found[0] == f"hf://datasets/org/long@{head}/texts/a.jsonl"
    assert found[1].startswith("blob_id=")
    assert text == "first commit\n"


def test_a_missing_repository_is_named(hub: HubServer, long_dataset: Path, tmp_path: Path) -> None:
    url = "hf://datasets/org/nothing@main"
    done = read_elsewhere(url, long_dataset, tmp_path / "cache", **hub.variables(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"DataError: {url}: the store refuses access (RepositoryNotFoundError" in last
    assert "some stores say so of what does not exist" in last


def test_a_file_system_that_names_commits_is_pinned(long_dataset: Path, tmp_path: Path) -> None:
    """Without a server: rows of two commits never meet, because the branch is looked at once."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    class At:
        repo_type, repo_id, path_in_repo = "dataset", "org/name", "sub"

        def __init__(self, revision: str) -> None:
            self.revision = revision

    class Branches(LocalFileSystem):
        protocol = "branches"
        commit = "c" * 40
        asked: list[str] = []  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix("branches://")

        def resolve_path(self, path: str) -> At:
            return At(path.rpartition("@")[2].partition("/")[0])

        @property
        def _api(self) -> Branches:
            return self

        def repo_info(self, repo_id: str, *, repo_type: str, revision: str, timeout: float) -> Branches:
            self.asked.append(f"{repo_type} {repo_id} {revision}")
            return self

        @property
        def sha(self) -> str:
            return self.commit

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
            assert path.startswith(f"datasets/org/name@{self.commit}/sub/")
            return (long_dataset / path.partition("/sub/")[2]).read_bytes()[start:end]

    fsspec.register_implementation("branches", Branches, clobber=True)
    reader = Reader(RemoteStorage("branches://datasets/org/name@main/sub", cache_dir=tmp_path))
    np.testing.assert_array_equal(reader[0].tokens, Reader(long_dataset)[0].tokens)
    assert Branches.asked == ["dataset org/name main"]
    Branches.commit = "d" * 40
    with pytest.raises(DataError, match="branches://"):
        RemoteStorage(f"branches://datasets/org/name@{'c' * 40}/sub", cache_dir=tmp_path)
