"""Tokenizers by name, hf:ORG/NAME, against a server that gives out git repositories over the Hub's API (olah)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from pipeline.tokenizer import byte_tokenizer
from remote.hub_commands import run
from remote.hub_server import HubServer, Repository, installed
from remote.store_build import files_below

pytest.importorskip("huggingface_hub")
INSTALLS = installed
PLAN = ["--start-length", "8", "--max-length", "8", "--batch-rows", "2", "--steps", "3"]
TEXTS = [f"Text {number}, a few words long, of a corpus on this disk." for number in range(12)]
CONFIG = {"eos_token": {"content": "<|stop|>"}}


@pytest.fixture(scope="module")
def repository(hub: HubServer) -> Repository:
    """Bytes, with a special token that nothing but the configuration beside it names as EOS."""
    repository = hub.repository("models", "lab/bytes")
    tokenizer = json.loads(byte_tokenizer())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 257, "content": "<|stop|>"})
    (repository.tree / "tokenizer.json").write_text(json.dumps(tokenizer))
    (repository.tree / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    repository.commit()
    return repository


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return folder


def build(corpus: Path, out: Path, tokenizer: str) -> list[str]:
    return ["build", str(corpus), *PLAN, "--tokenizer", tokenizer, "--out", str(out), "--workers", "1", "--json"]


def test_a_name_is_the_file_with_its_origin(
    hub: HubServer, repository: Repository, corpus: Path, tmp_path: Path
) -> None:
    """Equal bytes give an equal token store and equal shards; the manifest also says where the tokenizer came from.

    Without the Hub, what the cache holds serves: a finished build is recognized by branch and by commit.
    A branch that moved is told, with both commits, even if only a file beside the tokenizer changed.
    """
    named, local, variables = tmp_path / "named", tmp_path / "local", hub.variables(tmp_path)
    branch, first = build(corpus, named, "hf:lab/bytes"), repository.head()
    wanted = [
        branch,
        build(corpus, local, str(repository.tree)),
        ["inspect", str(named)],
        ["inspect", str(named), "--json"],
        ["plan", "--store", f"{named}.store", *PLAN, "--tokenizer", "hf:lab/bytes", "--json"],
        ["verify", str(named), "--json"],
    ]
    done = run(wanted, variables)
    assert [one.code for one in done] == [0] * 6, done
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (named, local)]
    origin = {"name": "lab/bytes", "revision": first}
    assert manifests[0]["tokenizer"].pop("hub") == origin
    assert manifests[0]["tokenizer"]["eos_id"] == 257
    assert manifests[0].pop("id") != manifests[1].pop("id")
    assert manifests[0] == manifests[1]
    shards = [{k: v for k, v in files_below(folder).items() if k.endswith(".arrow")} for folder in (named, local)]
    assert shards[0] == shards[1]
    parts = [files_below(Path(f"{folder}.store") / "parts") for folder in (named, local)]
    assert parts[0] == parts[1] != {}
    assert f"hub      tokenizer hf:lab/bytes@{first}"[:79] in done[2].stdout.replace("\n         ", " ")
    assert done[3].answer["tokenizer"]["hub"] == origin

    pinned = build(corpus, named, f"hf:lab/bytes@{first}")
    (block,) = re.findall(r"```bash\n(.*?)\n```", (named / "README.md").read_text(), re.DOTALL)
    put_in = {"CORPUS": str(corpus), "rebuilt": str(tmp_path / "again")}
    card = [put_in.get(word, word) for word in shlex.split(block.replace("\\\n", " "))[1:]]
    offline = run([branch, pinned, [*card, "--workers", "1", "--json"]], {**variables, "HF_HUB_OFFLINE": "1"})
    assert [one.answer["already_finished"] for one in offline] == [True, True, False]
    assert len({one.answer["id"] for one in offline}) == 1, "the command on the card gives the same dataset"

    (repository.tree / "README.md").write_text("A tokenizer of bytes.")
    second = repository.commit()
    moved, old = run([branch, pinned], variables)
    assert (moved.code, old.answer["already_finished"]) == (1, True)
    assert f"commit of tokenizer hf:lab/bytes was {first}, now {second}" in moved.stderr


@pytest.fixture(scope="module")
def slow(hub: HubServer) -> str:
    """A repository with a tokenizer of another kind, at its commit; of a branch, olah says that it does not exist.

    Beside it one for members only, played by a stub before the server.
    """
    commits = []
    for name, file in (("slow", "vocab.txt"), ("gated", "tokenizer.json")):
        repository = hub.repository("models", f"odd/{name}")
        (repository.tree / file).write_text("{}")
        commits.append(repository.commit())
    return f"hf:odd/slow@{commits[0]}"


def test_what_cannot_be_used_is_said_in_one_sentence(hub: HubServer, slow: str, corpus: Path, tmp_path: Path) -> None:
    refusals = {
        slow: (2, "the repository has no tokenizer.json, and only fast tokenizers are read"),
        "hf:odd/slow": (2, "the repository has no tokenizer.json, and only fast tokenizers are read"),
        "hf:odd/gated": (1, "access to it has to be asked for"),
        "hf:odd/missing": (2, "there is no such model repository on the Hub, or it is private"),
        "hf:odd/slow:train": (2, "is no name of a repository on the Hub"),
        "odd/slow": (2, "`hf:odd/slow` takes it from the Hub"),
    }
    hub.proxy.refusals = {"/odd/gated/resolve/": (403, "GatedRepo")}
    try:
        done = run([build(corpus, tmp_path / "out", name) for name in refusals], hub.variables(tmp_path))
    finally:
        hub.proxy.refusals = {}
    (offline,) = run(
        [build(corpus, tmp_path / "out", "hf:lab/bytes")], {**hub.variables(tmp_path), "HF_HUB_OFFLINE": "1"}
    )
    for one, (code, sentence) in zip([*done, offline], [*refusals.values(), (1, "the Hub is not asked")], strict=True):
        assert (one.code, one.stdout, one.stderr.count("\n")) == (code, "", 1), one
        assert sentence in one.stderr
    assert not (tmp_path / "out").exists()
