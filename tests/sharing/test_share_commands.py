"""`curriculum push` and `curriculum pull` as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from curriculum.storage import HELD_OUT
from pipeline.cli import main
from pipeline.sharing.moved import phase_lines
from travels import content, travelling


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_there_and_back(tiny: Path, tmp_path: Path) -> None:
    """What is said, for people and for programs."""
    there, back = tmp_path / "there", tmp_path / "back"
    told = run("push", tiny, there, "--dry-run", "--json")
    assert told.exit_code == 0, told.output
    listed = json.loads(told.stdout)
    assert listed["dry_run"] is True
    assert not there.exists()
    done = run("push", tiny, there)
    assert done.exit_code == 0, done.output
    assert f"pushed {len(listed['files'])} files" in done.stdout
    assert {file["name"]: file["bytes"] for file in listed["files"]} == {
        name: len(data) for name, data in content(there).items()
    }
    part = json.loads(run("pull", there, back, "--phases", "0", "--json").stdout)
    assert (part["action"], part["complete"], part["wanted_shards"]) == ("pull", False, part["moved_shards"])
    assert [phase["phase"] for phase in part["phases"]] == [0, "validation"]
    assert "files" not in part
    rest = json.loads(run("pull", there, back, "--workers", "2", "--json").stdout)
    assert rest["complete"] is True
    assert rest["moved_shards"] == rest["num_shards"] - part["moved_shards"]
    assert content(back) == travelling(tiny)
    assert "Nothing to pull" in run("pull", there, back).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("push", "{tiny}", "{tmp}/there", "--phases", "9"), 2, "--phases 9: the dataset has the phases 0 to 1."),
        (("push", "{tiny}", "{tmp}/there", "--phases", "0", "--steps", "0"), 2, "one of them"),
        (("push", "{tiny}", "{tiny}"), 2, "Give two folders"),
        (("push", "{tiny}", "{tiny}/phases/copy"), 2, "Give two folders"),
        (("pull", "{tiny}/..", "{tiny}"), 2, "Give two folders"),
        (("push", "s3://bucket/ds", "{tmp}/there"), 2, "push sends a folder of this machine"),
        (("pull", "{tiny}", "s3://bucket/ds"), 2, "pull writes into a folder of this machine"),
        (("pull", "s3://key:hunter2@bucket/ds", "{tmp}/back"), 2, "a name and a password"),
        (("push", "{tiny}", "https://example.org/ds"), 2, "a web server is read from only"),
        (("push", "{tiny}", "s3://"), 2, "names no bucket"),
        (("push", "{tmp}/nothing", "{tmp}/there"), 1, "not a curriculum dataset, it has no manifest.json"),
        (("pull", "{tmp}/nothing", "{tmp}/back"), 1, "not a curriculum dataset, it has no manifest.json"),
        (("pull", "{tiny}/manifest.json", "{tmp}/back"), 1, "not a curriculum dataset"),
        (("pull", "{tiny}", "{tmp}/back", "--workers", "0"), 2, "workers"),
    ],
)
def test_what_cannot_work(tiny: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """One sentence, and nothing was made."""
    done = run(*(each.format(tiny=tiny, tmp=tmp_path) for each in arguments))
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "hunter2" not in done.output
    assert list(tmp_path.iterdir()) == []
    assert not list(tiny.rglob("copy"))


def test_many_phases_are_told_in_one_line() -> None:
    """A curriculum of 128 lengths is no list of 128 lines; a few phases are told one by one."""
    many = [(phase, 1, 1_000) for phase in range(128) if phase != 60]
    assert phase_lines([*many, (HELD_OUT, 2, 5_000)]) == [
        "  phases 0 to 59: 60 shards, 60.0 kB",
        "  phases 61 to 127: 67 shards, 67.0 kB",
        "  held-out rows: 2 shards, 5.0 kB",
    ]
    assert phase_lines([(0, 1, 10), (1, 3, 2_000)]) == ["  phase 0: 1 shard, 10 bytes", "  phase 1: 3 shards, 2.0 kB"]
