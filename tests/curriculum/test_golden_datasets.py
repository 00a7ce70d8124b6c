"""Datasets that a release of long ago wrote: every later one opens, reads, verifies and inspects them.

Shards are built once and read for months, by whatever release is installed then. What is below is literal: whoever has
to change a number here breaks the data of others. tests/golden/make_format_1.py made them; the promise is written down
in docs/format.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import curriculum
from curriculum.budget import MODES
from curriculum.errors import DataError
from curriculum.manifest import KNOWN_FEATURES, HubOrigin, canonical_json
from pipeline.cli import main

FORMAT_1 = Path(__file__).parents[1] / "golden" / "format-1"


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What a dataset holds; rows as text, an EOS as `|`, a BOS as `^`."""

    id: str
    requires: tuple[str, ...]
    phases: tuple[tuple[int, int], ...]
    """(seq_len, rows)"""
    num_steps: int
    corpus: int
    trained: int
    unused: int
    validation: int
    first_row: list[int]
    """of step 0"""
    last_row: str
    """of the last step"""
    last_offset: int
    last_document: int
    digest: str
    """sha256 of the tokens of all steps, 16 digits"""


GOLDEN = {
    "segment": Golden(
        id="sha256:a46b119f7c3bf4ee97117e7617c07ce594e56183eef8c103b29b5c3008672582",
        requires=(),
        phases=((8, 12), (16, 12), (32, 98)),
        num_steps=61,
        corpus=3707,
        trained=3424,
        unused=51,
        validation=232,
        first_row=[115, 116, 101, 112, 32, 52, 50, 46, 256],
        last_row=".|a 47: stream 0, row 47.|a 45: .",
        last_offset=3200,
        last_document=123,
        digest="fdd57edc70e8eac1",
    ),
    "best-fit": Golden(
        id="sha256:e135708ff1acb1889dfa78936f1d2f9a460b12417afc1421bf06d52683e8d1f2",
        requires=("packed",),
        phases=((8, 12), (16, 14), (32, 104)),
        num_steps=65,
        corpus=3707,
        trained=3507,
        unused=200,
        validation=0,
        first_row=[104, 97, 114, 100, 32, 49, 52, 44, 32],
        last_row="38, phase 357.|a 121: step 0.|6.|",
        last_offset=1908,
        last_document=74,
        digest="9d15151e56cb6b55",
    ),
    "document": Golden(
        id="sha256:1f6e9cb563906d3c08b6262e7ae9ab05468e19fe06cdf8de5478756125c07be3",
        requires=("packed",),
        phases=((8, 160), (16, 42), (32, 54)),
        num_steps=128,
        corpus=3707,
        trained=3558,
        unused=149,
        validation=0,
        first_row=[97, 32, 49, 51, 48, 58, 32, 46, 256],
        last_row="a 78: row 0, step 78, phase 156.|",
        last_offset=3232,
        last_document=125,
        digest="b105370992ec7db2",
    ),
    "mixture": Golden(
        id="sha256:6549383cc624a56d5b26f1e52197ff979636441f555ddff843df2203c04e6c31",
        requires=("mixture",),
        phases=((8, 12), (16, 14), (32, 114)),
        num_steps=70,
        corpus=6056,
        trained=3968,
        unused=2088,
        validation=0,
        first_row=[44, 32, 115, 116, 101, 112, 32, 49, 48],
        last_row=" row 0, step 108, phase 216.|a 74",
        last_offset=1560,
        last_document=59,
        digest="40a89a3add5cca07",
    ),
    "extended": Golden(
        id="sha256:d2f789ed9f102b74d08968975a901b3809420a2af5dd949191a70267599b3afa",
        requires=("added-sources", "extended", "mixture"),
        phases=((8, 8), (16, 10), (32, 82), (32, 16), (32, 6)),
        num_steps=61,
        corpus=4058,
        trained=3552,
        unused=265,
        validation=241,
        first_row=[50, 46, 256, 97, 32, 49, 49, 53, 58],
        last_row="<|endoftext|> is text|new 0: .|ne",
        last_offset=3571,
        last_document=147,
        digest="b001509296c9049b",
    ),
    "truncate": Golden(
        id="sha256:8ef57260549359afc91e8420e0ea5ed8e29ca8509b9f16f04565e72e3207fb59",
        requires=(),
        phases=((8, 28), (16, 74)),
        num_steps=51,
        corpus=1636,
        trained=1408,
        unused=4,
        validation=0,
        first_row=[70104, 70097, 70114, 70100, 70032, 70056, 70044, 70032, 70119],
        last_row=" .|^c 50: .|^c 31",
        last_offset=1312,
        last_document=50,
        digest="3d3dbcd069acba51",
    ),
    "separate": Golden(
        id="sha256:93161ef44e74113cc46cf15d1d8303fb9fad4460af9b01161379693c178de313",
        requires=("mixture",),
        phases=((8, 20), (16, 20), (16, 40)),
        num_steps=40,
        corpus=4058,
        trained=1120,
        unused=3267,
        validation=0,
        first_row=[115, 116, 114, 101, 97, 109, 32, 51, 49],
        last_row="w 63, stream 126.",
        last_offset=136,
        last_document=3,
        digest="a0e484facda6a08b",
    ),
}
WIDTHS = {"uint16": "<u2", "uint32": "<u4"}
by_name = pytest.mark.parametrize("name", GOLDEN)


@by_name
def test_it_is_read_as_it_was_written(name: str) -> None:
    """A run that is resumed with a new release trains on the same rows."""
    golden, reader = GOLDEN[name], curriculum.open(FORMAT_1 / name, check=True)
    manifest, found = reader.manifest, hashlib.sha256()
    assert (reader.id, len(reader), manifest.requires) == (golden.id, golden.num_steps, golden.requires)
    assert tuple((phase.seq_len, phase.num_rows) for phase in manifest.plan.phases) == golden.phases
    accounting = manifest.accounting
    assert (accounting.corpus_tokens, accounting.trained_tokens) == (golden.corpus, golden.trained)
    assert (accounting.unused_tokens, accounting.validation_tokens) == (golden.unused, golden.validation)
    for batch in reader.steps(start=0, rank=0, world_size=1):
        found.update(batch.tokens.astype(WIDTHS[manifest.dtype]).tobytes())
    assert found.hexdigest()[:16] == golden.digest
    first, last = reader[0], reader[golden.num_steps - 1]
    assert first.tokens[0].tolist() == golden.first_row
    assert text_of(last.tokens[-1]) == golden.last_row
    assert (last.offset[-1], last.document[-1]) == (golden.last_offset, golden.last_document)


def test_what_else_a_batch_tells() -> None:
    """Where documents begin, which inputs have no target, held-out rows, what was said about the texts."""
    positions, row_offsets = curriculum.open(FORMAT_1 / "segment")[60].doc_starts
    assert (positions.tolist(), row_offsets.tolist()) == ([4, 2, 26], [0, 1, 3])
    packed = curriculum.open(FORMAT_1 / "best-fit")[64]
    assert packed.labels[-1].tolist() == [
        *(56, 44, 32, 112, 104, 97, 115, 101, 32, 51, 53, 55, 46, 256, -100),
        *(32, 49, 50, 49, 58, 32, 115, 116, 101, 112, 32, 48, 46, 256, -100, 46, 256),
    ]
    reader = curriculum.open(FORMAT_1 / "segment")
    assert reader.validation is not None
    assert text_of(next(iter(reader.validation.batches(rows=7))).tokens[0]) == "a 29: stream 0, row 29, step 58, "
    about = curriculum.open(FORMAT_1 / "mixture").manifest.about
    assert (about.license, about.language) == ("cc0-1.0", ("en", "no"))


def test_what_of_a_manifest_no_row_tells() -> None:
    """Cut-off tokens, wide ids with a BOS, a tokenizer of the Hub; phases of one shape that are kept apart."""
    cut = curriculum.open(FORMAT_1 / "truncate").manifest
    assert (cut.plan.mode, cut.plan.dropped_tokens, cut.accounting.truncated_tokens) == ("truncate", 224, 224)
    tokenizer = cut.tokenizer
    assert (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.bos_id) == (70_258, 70_256, 70_257)
    assert tokenizer.hub == HubOrigin(name="lab/wide-bytes", revision="0123456789abcdef0123456789abcdef01234567")
    apart = curriculum.open(FORMAT_1 / "separate").manifest
    assert [(phase.seq_len, phase.rows_per_step) for phase in apart.plan.phases] == [(8, 2), (16, 2), (16, 2)]
    assert apart.build.mixture is not None
    assert apart.build.mixture.weights == ((3, 1), (0, 1), (1, 1))
    assert apart.accounting.repeated_tokens == 329


def test_a_cursor_of_then_goes_on_now() -> None:
    """Also one of the dataset before it was extended, up to where that one ended."""
    reader = curriculum.open(FORMAT_1 / "extended")
    parents = [(entry.parent[:18], entry.first_step, entry.source) for entry in reader.manifest.build.extensions]
    assert parents == [("sha256:fcda4123f3c", 50, None), ("sha256:4e714b6b5f3", 58, "new")]
    cursor = curriculum.Cursor(reader.manifest.build.extensions[0].parent, 50)
    assert next(iter(reader.steps(start=cursor))).step == 50


@by_name
def test_the_format_alone_suffices_to_read_it(name: str) -> None:
    """A reader of one's own, by docs/format.md: rows by arithmetic, and by any Arrow library."""
    manifest = json.loads((FORMAT_1 / name / "manifest.json").read_bytes())
    found = []
    for phase in manifest["phases"]:
        for shard in phase["shards"]:
            data = (FORMAT_1 / name / shard["path"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["num_bytes"], shard["sha256"])
            shape = (shard["num_rows"], phase["seq_len"] + 1)
            ids = WIDTHS[manifest["dtype"]]
            rows = np.frombuffer(data, ids, count=shape[0] * shape[1], offset=shard["data_offset"]).reshape(shape)
            assert pa.ipc.open_file(data).read_all()["tokens"].to_pylist() == rows.tolist()
            found.append(rows[0].tolist())
    assert found[0] == GOLDEN[name].first_row


@by_name
@pytest.mark.parametrize("command", ["verify", "inspect", "cat"])
def test_every_command_that_reads_takes_it(name: str, command: str) -> None:
    """Without its token store, its build log and its corpus."""
    more = {"verify": ["--workers", "1"], "inspect": ["--json"], "cat": ["--step", "0", "--json"]}[command]
    run = CliRunner().invoke(main, [command, str(FORMAT_1 / name), *more])
    assert run.exit_code == 0, run.output
    if command == "verify":
        shown = " ".join(run.stdout.split())  # where lines break depends on the length of this path
        assert GOLDEN[name].id in shown
        assert "every byte was checked" in shown
    elif command == "inspect":
        shown = json.loads(run.stdout)
        found = (shown["id"], shown["total_steps"], shown["missing_shards"])
        assert found == (GOLDEN[name].id, GOLDEN[name].num_steps, 0)
    else:
        (row, *_) = json.loads(run.stdout)["rows"]
        assert "".join(row["texts"]).replace("<|endoftext|>", "|").replace("<s>", "^") == text_of(
            np.array(GOLDEN[name].first_row)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest | {"version": 2},
            "format version 2, this release reads version 1. Install a newer seqlen-curriculum.",
        ),
        (
            lambda manifest: manifest | {"version": 2, "phases": {"moved": "to another file"}, "id": None},
            "format version 2, this release reads version 1. Install a newer seqlen-curriculum.",
        ),
        (
            lambda manifest: manifest | {"requires": ["mixture", "parity", "packed"]},
            "the dataset requires 'parity', which this release does not know. Install a newer seqlen-curriculum.",
        ),
        (
            lambda manifest: manifest | {"requires": ["a", "b"], "plan": None},
            "the dataset requires 'a', 'b', which this release does not know. Install a newer seqlen-curriculum.",
        ),
    ],
)
def test_what_is_newer_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    """Never misread, whatever else it changes; the first thing that a reader looks at says what to install."""
    dataset = Path(shutil.copytree(FORMAT_1 / "segment", tmp_path / "d"))
    manifest = change(json.loads((dataset / "manifest.json").read_bytes()))
    body = {key: value for key, value in manifest.items() if key != "id"}
    if manifest["id"] is not None:
        manifest["id"] = f"sha256:{hashlib.sha256(canonical_json(body)).hexdigest()}"
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError) as refused:
        curriculum.open(dataset)
    assert str(refused.value) == f"{dataset}/manifest.json: {message}"
    for command in (["verify"], ["inspect"], ["cat", "--step", "0"]):
        run = CliRunner().invoke(main, [*command[:1], str(dataset), *command[1:]])
        assert (run.exit_code, message in run.stderr) == (1, True)


def test_every_feature_of_this_release_has_a_golden_dataset() -> None:
    """Whoever adds a feature to the format adds a dataset that holds it."""
    manifests = [curriculum.open(FORMAT_1 / name).manifest for name in GOLDEN]
    assert {feature for manifest in manifests for feature in manifest.requires} == KNOWN_FEATURES
    assert {manifest.plan.mode for manifest in manifests} == set(MODES)
    assert {manifest.dtype for manifest in manifests} == {"uint16", "uint32"}
    assert {manifest.build.bos for manifest in manifests} == {"none", "document"}
    found = {key for name in GOLDEN for key in keys_of(json.loads((FORMAT_1 / name / "manifest.json").read_bytes()))}
    assert found >= {
        *("about", "license", "language", "hub", "fill", "mixture", "extensions", "parent", "first_step", "source"),
        *("validation_tokens", "first_document", "padding_tokens", "separate"),
    }, "keys that some manifests have and others not"


def keys_of(value: Any) -> Iterator[str]:
    """Of all objects in a JSON value."""
    if isinstance(value, dict):
        yield from value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_of(one)


def text_of(row: np.ndarray[Any, Any]) -> str:
    """Ids of bytes, from 0 on or from 70,000 on."""
    special = {256: "|", 257: "^"}
    return "".join(special.get(token % 70_000, chr(token % 70_000)) for token in row.tolist())
