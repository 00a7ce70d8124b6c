"""push to dataset repositories: the official client against a stub of the Hub's writing half; olah gives it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from curriculum.errors import BuildError, ConfigError
from pipeline.files.retries import Patience
from remote.hub_clients import place
from remote.hub_stub import TOKEN, Fault, HubStub
from remote.reading_process import ROOT
from remote.stalling_proxy import StallingProxy
from travels import pull, push, travelling

pytest.importorskip("huggingface_hub")


def subjects(stub: HubStub, name: str, branch: str = "main") -> list[str]:
    """What its commits say, the oldest first."""
    return stub.repositories[name].git("log", "--reverse", "--format=%s", branch).splitlines()


def files(stub: HubStub, name: str, branch: str) -> set[str]:
    return set(stub.repositories[name].git("ls-tree", "-r", "--name-only", branch).splitlines())


@contextmanager
def failing(port: int, then: Literal["drop", "stall"], pass_bytes: int) -> Iterator[str]:
    """An endpoint that drops or forgets the connection over which so many bytes of answers came; later it is good."""
    proxy = StallingProxy(port)
    proxy.then, proxy.pass_bytes = then, pass_bytes
    ended = threading.Event()

    def heal() -> None:
        while not ended.wait(0.02):
            if proxy.pass_bytes < 0:
                proxy.pass_bytes = float("inf")

    healing = threading.Thread(target=heal)
    healing.start()
    try:
        yield f"http://127.0.0.1:{proxy.port}"
        assert proxy.pass_bytes == float("inf"), "nothing was dropped"
    finally:
        ended.set()
        healing.join()
        proxy.close()


def test_what_is_pushed_is_pulled_and_loaded(stub: HubStub, few_shards: Path, tmp_path: Path) -> None:
    """Someone else finds every byte, by our pull and by `load_dataset`; the manifest came after the shards."""
    pushed = push(few_shards, place(stub.endpoint, "hf://datasets/org/first", pushing=True))
    head = stub.repositories["org/first"].head()
    assert pushed.complete
    assert pushed.where == f"hf://datasets/org/first@{head}"
    assert stub.private["org/first"] == "private"
    said = subjects(stub, "org/first")
    assert said[1] == "Add .push.json"
    assert said[-2:] == ["Add manifest.json", "Remove .push.json"]
    assert len(said) <= 6

    pulled = pull(place(stub.endpoint, "hf://datasets/org/first"), tmp_path / "back")
    assert pulled.where == f"hf://datasets/org/first@{head}"
    assert travelling(tmp_path / "back") == travelling(few_shards)

    again = push(few_shards, place(stub.endpoint, "hf://datasets/org/first", pushing=True))
    assert again.files == ()
    assert stub.repositories["org/first"].head() == head

    code = (
        "import sys, datasets; name = sorted(datasets.get_dataset_config_names('org/first', revision='main'))[0]; "
        "print(name, len(datasets.load_dataset('org/first', name, split='train', revision='main')))"
    )
    environment = {**os.environ, "HF_ENDPOINT": stub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    name, rows = done.stdout.split()
    assert name == "phase-00000-len0000008"
    assert int(rows) > 0


def test_branches_and_folders(stub: HubStub, few_shards: Path, tmp_path: Path) -> None:
    """Versions lie on branches, several datasets in folders; a branch does not begin with what `main` has."""
    push(few_shards, place(stub.endpoint, "hf://datasets/org/many", pushing=True, private=False))
    assert stub.private["org/many"] == "public"
    push(few_shards, place(stub.endpoint, "hf://datasets/org/many@v2/a/b", pushing=True), compress=True)
    assert {name.split("/")[0] for name in files(stub, "org/many", "v2")} == {".gitattributes", "a"}
    assert "manifest.json" in files(stub, "org/many", "main")
    pull(place(stub.endpoint, "hf://datasets/org/many@v2/a/b"), tmp_path / "back")
    assert travelling(tmp_path / "back") == travelling(few_shards)


def test_another_dataset_takes_the_place_of_one(
    stub: HubStub, few_shards: Path, long_dataset: Path, tmp_path: Path
) -> None:
    """The old manifest goes before the first new shard comes, and nothing of the old one stays."""
    name = "hf://datasets/org/replaced"
    push(long_dataset, place(stub.endpoint, name, pushing=True))
    with pytest.raises(BuildError, match=r"holds dataset sha256:.*--overwrite"):
        push(few_shards, place(stub.endpoint, name, pushing=True))
    before = len(subjects(stub, "org/replaced"))
    push(few_shards, place(stub.endpoint, name, pushing=True), overwrite=True)
    assert subjects(stub, "org/replaced")[before] == "Remove manifest.json"
    assert files(stub, "org/replaced", "main") == {*travelling(few_shards), ".gitattributes"}
    pull(place(stub.endpoint, name), tmp_path / "back")
    assert travelling(tmp_path / "back") == travelling(few_shards)


def test_a_push_that_died_before_the_manifest_goes_on(stub: HubStub, few_shards: Path) -> None:
    """Two commits were made; the next run makes those that are missing, and uploads nothing again."""
    stub.faults.append(Fault(path="/commit/", skip=2, times=10**6, status=500))
    impatient = Patience(seconds=0.2, first_pause=0.01)
    with pytest.raises(BuildError, match=r"cannot be written: tried for .* HTTP 500 of http"):
        push(few_shards, place(stub.endpoint, "hf://datasets/org/died", pushing=True, patience=impatient))
    assert subjects(stub, "org/died")[1:] == ["Add .push.json", "Add 5 files"]
    stub.faults.clear()
    stub.requests.clear()
    push(few_shards, place(stub.endpoint, "hf://datasets/org/died", pushing=True))
    assert stub.asked("/lfs/", "PUT") == 0
    assert files(stub, "org/died", "main") == {*travelling(few_shards), ".gitattributes"}


def test_a_push_that_was_cut_off_goes_on(stub: HubStub, few_shards: Path, tmp_path: Path) -> None:
    """No shard is uploaded twice; until the end there is no manifest that promises what is not there."""
    stub.faults.append(Fault(path="/lfs/", method="PUT", skip=3, times=10**6, status=400))
    with pytest.raises(BuildError, match=r"^hf://datasets/org/cut: cannot be written \(HTTP 400 of http"):
        push(few_shards, place(stub.endpoint, "hf://datasets/org/cut", pushing=True))
    assert "manifest.json" not in files(stub, "org/cut", "main")
    arrived = stub.asked("/lfs/", "PUT")
    with pytest.raises(Exception, match="interrupted"):
        pull(place(stub.endpoint, "hf://datasets/org/cut"), tmp_path / "early")
    stub.faults.clear()
    stub.requests.clear()
    push(few_shards, place(stub.endpoint, "hf://datasets/org/cut", pushing=True))
    num_shards = len(list(few_shards.rglob("*.arrow")))
    assert arrived >= 4
    assert stub.asked("/lfs/", "PUT") == num_shards - 3
    pull(place(stub.endpoint, "hf://datasets/org/cut"), tmp_path / "back")
    assert travelling(tmp_path / "back") == travelling(few_shards)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/commit/", status=503),
        Fault(path="/commit/", done=True),
        Fault(path="/lfs/", method="PUT"),
        Fault(path="/api/repos/create", done=True),
    ],
    ids=["503", "answer lost", "upload cut", "creation lost"],
)
def test_what_passes_is_tried_again(stub: HubStub, few_shards: Path, fault: Fault, request: Any) -> None:
    """The Hub's bad minute is not the user's; a commit whose answer was lost is not made twice."""
    name = f"org/{request.node.callspec.id.replace(' ', '-')}"
    shard = next(few_shards.rglob("*.arrow")).relative_to(few_shards).as_posix()
    stub.faults.append(fault)
    place(stub.endpoint, f"hf://datasets/{name}", pushing=True).send([shard, "README.md"], few_shards, _nobody)
    assert fault.times == 0
    assert files(stub, name, "main") == {shard, "README.md", ".gitattributes"}
    assert subjects(stub, name) == ["a commit", "Add 2 files"]


def test_connections_cut_in_the_middle(
    stub: HubStub, few_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a push and of a pull, dropped or silent: whatever was half there is sent or fetched again."""
    monkeypatch.setattr("pipeline.sharing.hub_client.SILENT_SECONDS", 1.0)
    with failing(stub.port, "drop", 4_000) as endpoint:
        push(few_shards, place(endpoint, "hf://datasets/org/drop", pushing=True))
    assert files(stub, "org/drop", "main") == {*travelling(few_shards), ".gitattributes"}
    with failing(stub.port, "stall", 1_500) as endpoint:
        place(endpoint, "hf://datasets/org/stall", pushing=True).send(["README.md"], few_shards, _nobody)
    assert files(stub, "org/stall", "main") == {"README.md", ".gitattributes"}
    with failing(stub.port, "drop", 20_000) as endpoint:
        pull(place(endpoint, "hf://datasets/org/drop"), tmp_path / "back")
    assert travelling(tmp_path / "back") == travelling(few_shards)


def test_too_many_files_are_refused_before_the_first(
    stub: HubStub, few_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by --dry-run; nothing is created."""
    monkeypatch.setattr("pipeline.sharing.hub_limits.MOST_OF_A_REPOSITORY", 5)
    for dry_run in (True, False):
        with pytest.raises(BuildError, match="files, and the Hub takes 5 in a repository"):
            push(few_shards, place(stub.endpoint, "hf://datasets/org/many1", pushing=True), dry_run=dry_run)
    assert "org/many1" not in stub.repositories


def test_two_who_push_at_once(stub: HubStub, few_shards: Path) -> None:
    """The second one is told, instead of both leaving half of each."""
    one = place(stub.endpoint, "hf://datasets/org/both", pushing=True)
    other = place(stub.endpoint, "hf://datasets/org/both", pushing=True)
    one.send(["README.md"], few_shards, _nobody)
    assert other.sizes().keys() == {"README.md"}
    one.send(["tokenizer.json"], few_shards, _nobody)
    with pytest.raises(BuildError, match="somebody else changed the branch at the same time"):
        other.send(["build-log.json"], few_shards, _nobody)


@pytest.mark.parametrize("sent", ["tokenizer.json", "README.md"], ids=["new file", "file that is there"])
@pytest.mark.parametrize("after", ["a failure", "a pause"])
def test_one_who_was_overtaken_does_not_go_on(
    stub: HubStub, few_shards: Path, monkeypatch: pytest.MonkeyPatch, sent: str, after: str
) -> None:
    """Else the repository would hold one dataset's manifest with shards of the other, and both would succeed."""
    name = f"org/overtaken-{sent[0]}-{after[2:]}"
    one = place(stub.endpoint, f"hf://datasets/{name}", pushing=True)
    one.send(["schedule.svg"], few_shards, _nobody)
    api, tried = one._repository.api, 0
    upload = api.upload_folder

    def overtake() -> None:
        place(stub.endpoint, f"hf://datasets/{name}", pushing=True).send(["README.md"], few_shards, _nobody)

    def dropped(**arguments: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried == 1:
            overtake()
            raise ConnectionError("dropped")
        return upload(**arguments)

    if after == "a failure":
        monkeypatch.setattr(api, "upload_folder", dropped)
    else:
        overtake()
    with pytest.raises(BuildError, match="somebody else changed the branch at the same time"):
        one.send([sent], few_shards, _nobody)
    assert subjects(stub, name) == ["a commit", "Add schedule.svg", "Add README.md"]


def test_files_that_the_hub_ignores_are_missed(stub: HubStub, few_shards: Path) -> None:
    """A .gitignore of the repository drops files from a commit, and the client says nothing."""
    stub.ignored.add("tokenizer.json")
    with pytest.raises(BuildError, match=r"has no tokenizer.json of .* bytes. Look for a .gitignore"):
        place(stub.endpoint, "hf://datasets/org/ignoring", pushing=True).send(
            ["README.md", "tokenizer.json"], few_shards, _nobody
        )


def test_files_are_removed(stub: HubStub, few_shards: Path) -> None:
    """What is not there any more is no error: an answer may have been lost."""
    there = place(stub.endpoint, "hf://datasets/org/removed", pushing=True)
    there.send(["README.md", "tokenizer.json", "manifest.json"], few_shards, _nobody)
    stub.faults.append(Fault(path="/commit/", done=True))
    there.remove(["README.md", "tokenizer.json", "nothing.json"])
    assert there.sizes().keys() == {"manifest.json"}


def test_who_may_not_push(stub: HubStub, few_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence each, none with a token, at once."""
    for token, said in ((False, "nobody is logged in"), ("hf_wrongTokenOfTheTests", "does not know the token")):
        with pytest.raises(BuildError, match=said) as refused:
            push(few_shards, place(stub.endpoint, "hf://datasets/org/mine", token=token, pushing=True))
        assert "hf_wrong" not in str(refused.value)
    for status, words, said in (
        (403, "Forbidden: you need write rights", "your token may not write to it"),
        (403, "Private repository storage limit reached", "the storage of its owner is used up"),
        (413, "", "the storage of its owner is used up, or a file is too large"),
    ):
        stub.faults[:] = [Fault(path="/commit/", status=status, headers={"X-Error-Message": words})]
        with pytest.raises(BuildError, match=said):
            push(few_shards, place(stub.endpoint, "hf://datasets/org/full", pushing=True))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BuildError, match="HF_HUB_OFFLINE is set"):
        push(few_shards, place(stub.endpoint, "hf://datasets/org/full", pushing=True))


def test_signatures_of_uploads_are_not_shown(stub: HubStub, few_shards: Path) -> None:
    """Uploads go to addresses that are passwords."""
    stub.faults.append(Fault(path="/lfs/", method="PUT", times=10**6, status=410))
    with pytest.raises(BuildError) as refused:
        push(few_shards, place(stub.endpoint, "hf://datasets/org/signed", pushing=True))
    assert "Amz" not in str(refused.value)
    assert "/lfs/org/signed/" in str(refused.value)


def test_commits_and_tags_are_not_pushed_to(stub: HubStub, few_shards: Path) -> None:
    for revision in ("0" * 40, "refs/pr/1"):
        with pytest.raises(ConfigError, match="nothing can be added to it; name a branch"):
            place(stub.endpoint, f"hf://datasets/org/first@{revision}", pushing=True)
    there = place(stub.endpoint, "hf://datasets/org/tagged", pushing=True)
    there.send(["README.md"], few_shards, _nobody)
    stub.repositories["org/tagged"].git("tag", "v1")
    with pytest.raises(BuildError, match="is a tag, and cannot be added to"):
        push(few_shards, place(stub.endpoint, "hf://datasets/org/tagged@v1", pushing=True))


def test_the_command(stub: HubStub, few_shards: Path, tmp_path: Path) -> None:
    """What a user types, with the token in the environment; the library draws nothing and warns of nothing."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": stub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
    }
    commands: tuple[list[str], ...] = (
        ["push", str(few_shards), "hf://datasets/org/typed", "--public"],
        ["pull", "hf://datasets/org/typed", str(tmp_path / "back")],
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stderr == ""
    assert stub.private["org/typed"] == "public"
    assert travelling(tmp_path / "back") == travelling(few_shards)
    assert not (tmp_path / "hf").exists() or not list((tmp_path / "hf").rglob("*.arrow"))
    shutil.rmtree(tmp_path / "back")


def _nobody(amount: int) -> None:
    pass
