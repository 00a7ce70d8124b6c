"""Where a tokenizer was taken from: a key of the manifest that is there only if it says something."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import DataError
from curriculum.manifest import HubOrigin, Manifest, content_id, load_manifest, parse_manifest
from pipeline.card import dataset_card

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def with_origin(small_dataset: Path, **changed: Any) -> Manifest:
    manifest = load_manifest(small_dataset)
    origin = replace(HubOrigin(name="org/model-7b.v2", revision=COMMIT), **changed)
    return replace(manifest, tokenizer=replace(manifest.tokenizer, hub=origin))


def read_back(manifest: Manifest) -> Manifest:
    return parse_manifest(json.dumps(manifest.to_json()).encode(), "manifest.json")


def test_it_is_read_back_and_changes_nothing_else(small_dataset: Path) -> None:
    """A dataset whose tokenizer is a file has no such key: its id is what it was before there was one."""
    plain, named = load_manifest(small_dataset), with_origin(small_dataset)
    assert "hub" not in plain.to_json()["tokenizer"]
    assert read_back(named) == named
    assert read_back(named).id == named.id != plain.id
    assert named.to_json()["tokenizer"]["hub"] == {"name": "org/model-7b.v2", "revision": COMMIT}
    assert f"- tokenizer on the Hub: `org/model-7b.v2`, commit `{COMMIT}`\n" in dataset_card(named)
    assert "tokenizer on the Hub" not in dataset_card(plain)


@pytest.mark.parametrize(
    "changed",
    [{"revision": one} for one in ("main", COMMIT[:39], COMMIT.upper(), f"{COMMIT}\n", "")]
    + [{"name": one} for one in ("", "a/b/c", "../x", "<b>/x", "a b", "`", "x" * 97, "org/", "org/a\n", "é")],
)
def test_what_is_no_commit_or_no_repository_is_refused(small_dataset: Path, changed: dict[str, str]) -> None:
    """It is shown to people, in a card and on a page: nothing but what a repository may be called gets there."""
    with pytest.raises(DataError, match=r"^manifest\.json: tokenizer.*(name|revision) is .*, expected "):
        read_back(with_origin(small_dataset, **changed))


def test_a_further_key_is_refused(small_dataset: Path) -> None:
    top = with_origin(small_dataset).to_json()
    top["tokenizer"]["hub"]["url"] = "https://example.com"
    top["id"] = content_id({key: value for key, value in top.items() if key != "id"})
    with pytest.raises(DataError, match="url"):
        parse_manifest(json.dumps(top).encode(), "manifest.json")
