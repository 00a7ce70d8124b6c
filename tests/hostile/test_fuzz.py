"""Manifests with random places changed to hostile values, ids made to fit: a sentence, or what holds together.

CURRICULUM_FUZZ=20000 looks at so many; shards have the same in test_hostile_shards.py.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curriculum.errors import CurriculumError
from curriculum.manifest import Manifest, parse_manifest
from hostile_dataset import ESCAPE, is_sentence, require_sentence, signed
from pipeline.manifest_checks import (
    all_shards,
    check_accounting,
    check_document_order,
    validation_shards,
    window_shards,
)
from pipeline.report_dataset import summary_report
from pipeline.source_use import use_of
from pipeline.summary import Summary

EXAMPLES = int(os.environ.get("CURRICULUM_FUZZ", "150"))
WORDS: list[str] = """segment truncate document best-fit phases natural grow-linear grow-p2 linear root exponential sine
cosine step doubling constant packed mixture extended added-sources name corpus web uint32 none""".split()  # noqa: SIM905
KEYS: list[str] = """fill mixture extensions separate cycles max_shapes shapes_by degree stages source first_document
x""".split()  # noqa: SIM905
VALUES = st.one_of(
    st.sampled_from([None, True, False, 0.5, -0.0, 1.0, 1e308, [], {}, [[]], [{}], [[0, 10**15]], {"a": 1}]),
    st.sampled_from([-1, 0, 1, 2, 7, 64, 256, 2**16, 2**31 - 2, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**64, 10**100]),
    st.sampled_from(["", "\0", ESCAPE, "../x", "/etc/passwd", "sha256:" + "0" * 64, "0" * 64, "x" * 5000, *WORDS]),
    st.lists(st.sampled_from([*WORDS, *KEYS]), max_size=2),
)


@pytest.fixture(scope="module")
def manifests(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of one source with held-out rows, and of a mixture."""
    from small_mixture import build_mixture, write_sources

    folder = tmp_path_factory.mktemp("mixture")
    build_mixture(folder / "mix", write_sources(folder))
    return [json.loads((path / "manifest.json").read_bytes()) for path in (small_dataset, folder / "mix")]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index, of long lists the first and last ones."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key in value for place in places(value[key], (*path, key))]
    elif isinstance(value, list):
        chosen = sorted({*range(min(3, len(value))), len(value) - 1} - {-1})
        found += [place for i in chosen for place in places(value[i], (*path, i))]
    return found


def change(draw: st.DrawFn, manifest: dict[str, Any]) -> None:
    """One change: another value, a step away, nothing, a further key or entry, something from elsewhere."""
    *path, last = draw(st.sampled_from(places(manifest)))
    parent: Any = manifest
    for key in path:
        parent = parent[key]
    old, kind = parent[last], draw(st.integers(0, 5))
    if kind == 1 and isinstance(old, int):
        parent[last] = draw(st.sampled_from([old - 1, old + 1, old + 8, old * 2, old * 10**6]))
    elif kind == 2:
        del parent[last]
    elif kind == 3 and isinstance(parent, dict):
        parent[draw(st.sampled_from([*KEYS, ESCAPE]))] = copy.deepcopy(draw(VALUES))
    elif kind == 3:
        parent.insert(draw(st.integers(0, len(parent))), copy.deepcopy(draw(st.sampled_from(parent))))
    elif kind == 4:
        other: Any = manifest
        for key in draw(st.sampled_from(places(manifest))):
            other = other[key]
        parent[last] = copy.deepcopy(other)
    else:
        parent[last] = copy.deepcopy(draw(VALUES))


@given(data=st.data())
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_a_changed_manifest_is_refused_in_a_sentence_or_holds_together(manifests: Any, data: st.DataObject) -> None:
    manifest = copy.deepcopy(data.draw(st.sampled_from(manifests)))
    for _ in range(data.draw(st.integers(1, 4))):
        change(data.draw, manifest)
    try:
        text = signed(manifest)
    except TypeError:  # keys of several types
        return
    try:
        found = parse_manifest(text, "manifest.json")
    except CurriculumError as error:
        require_sentence(str(error))
        return
    assert json.loads(json.dumps(found.to_json())) == json.loads(text), "read as it was written"
    for check in (_shown, window_shards, validation_shards, check_accounting, check_document_order):
        try:
            check(found, Path("dataset"))
        except CurriculumError as error:
            require_sentence(str(error))
    for step in (0, found.plan.total_steps - 1):
        phase, row = found.plan.locate(step)
        assert 0 <= row < found.plan.phases[phase].num_rows


def _shown(manifest: Manifest, root: Path) -> None:
    summary = Summary(
        path=str(root),
        manifest=manifest,
        num_shards=len(list(all_shards(manifest))),
        missing_shards=0,
        bytes_on_disk=0,
        shard_bytes=0,
        build=None,
        use=use_of(manifest),
    )
    json.dumps(summary.to_json())
    assert summary_report(summary).replace("\n", "").isprintable()


@given(text=st.binary(max_size=200))
@settings(max_examples=EXAMPLES)
def test_any_bytes_are_refused_in_a_sentence(text: bytes) -> None:
    with pytest.raises(CurriculumError) as refusal:
        parse_manifest(text, "manifest.json")
    assert is_sentence(str(refusal.value))
