"""What may be replaced, what is continued, and what is recognized as the same build."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import curriculum
from curriculum.errors import BuildError, ConfigError, PlanError
from pipeline.build import BuildResult
from pipeline.option_sources import load_options
from pipeline.planning import PlanRequest, plan_request
from pipeline.progress import Silent
from pipeline.tokenizer import train_tokenizer
from small_corpus import real_texts

Build = Callable[..., BuildResult]


def test_a_web_app_with_a_manifest_json_is_not_a_dataset(build_small: Build, tmp_path: Path) -> None:
    """Other programs write manifest.json too; --overwrite must not empty their folder."""
    app = tmp_path / "app"
    (app / "phases").mkdir(parents=True)
    for name, text in {"manifest.json": '{"name": "my app"}', "README.md": "# mine", "phases/1.txt": "moon"}.items():
        (app / name).write_text(text)
    with pytest.raises(BuildError, match="is not a curriculum dataset, so nothing in it is touched"):
        build_small(app, overwrite=True)
    assert (app / "README.md").read_text() == "# mine"
    assert (app / "phases" / "1.txt").read_text() == "moon"


def test_a_refused_request_does_not_block_its_correction(build_small: Build, tmp_path: Path) -> None:
    """Doing what the message says must work: there is nothing finished that could be lost."""
    with pytest.raises(PlanError):
        build_small(tmp_path / "out", steps=100_000)
    build_small(tmp_path / "out", steps=10)
    assert len(curriculum.open(tmp_path / "out")) == 10


def test_finished_windows_are_not_dropped_without_being_asked(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of work are lost only with --overwrite."""
    monkeypatch.setattr("pipeline.build._finish", _stop)
    with pytest.raises(KeyboardInterrupt):
        build_small(tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(BuildError, match=r"unfinished build .* seed was 0, now 4.*--overwrite to drop it"):
        build_small(tmp_path / "out", seed=4)
    build_small(tmp_path / "out", seed=4, overwrite=True)
    assert curriculum.open(tmp_path / "out").manifest.seed == 4


def test_windows_of_another_store_are_not_believed(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window record names the build it belongs to: another one is cut again, whatever its sizes."""
    monkeypatch.setattr("pipeline.build._finish", _stop)
    with pytest.raises(KeyboardInterrupt):
        build_small(tmp_path / "out")
    monkeypatch.undo()
    record = tmp_path / "out" / ".build" / "windows" / "000000.json"
    value = json.loads(record.read_text())
    record.write_text(json.dumps({**value, "build": "0" * 64}))
    shard = tmp_path / "out" / value["shards"][0]["path"]
    good = shard.read_bytes()
    shard.write_bytes(bytes(len(good)))
    build_small(tmp_path / "out")
    assert shard.read_bytes() == good


def test_another_bos_beside_the_tokenizer_is_another_request(build_small: Build, tmp_path: Path) -> None:
    """tokenizer_config.json decides ids of the stream; an edit must not pass for the finished build."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(train_tokenizer(real_texts(), 400))
    config = folder / "tokenizer_config.json"
    config.write_text('{"eos_token": "<|endoftext|>", "bos_token": "a"}')
    build_small(tmp_path / "out", tokenizer=str(folder), bos="document")
    config.write_text('{"eos_token": "<|endoftext|>", "bos_token": "b"}')
    with pytest.raises(BuildError, match="bos_id was"):
        build_small(tmp_path / "out", tokenizer=str(folder), bos="document")


@pytest.mark.parametrize("column", ["key_high", "text_hash", "start", "num_tokens", "file", "position"])
def test_a_flipped_bit_in_the_index_of_the_store_is_noticed(
    small_dataset: Path, build_small: Build, tmp_path: Path, column: str
) -> None:
    """It would shift a document, move it to validation, or name a wrong source file."""
    build_small(tmp_path / "one", validation_tokens=6_000)
    path = max((tmp_path / "one.store" / "parts").rglob("*.arrow"), key=lambda file: file.stat().st_size)
    data = bytearray(path.read_bytes())
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
        wanted = np.frombuffer(batch.column(column).buffers()[1], np.uint64, batch.num_rows).tobytes()
    data[data.index(wanted) + 8] ^= 4
    path.write_bytes(data)
    build_small(tmp_path / "two", validation_tokens=6_000, store=str(tmp_path / "one.store"))
    assert curriculum.open(tmp_path / "two").id == curriculum.open(small_dataset).id


def test_an_output_inside_the_corpus_is_not_read_back(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """`curriculum build .` writes its dataset beside the texts; running it again changes nothing."""
    place = tmp_path / "place"
    shutil.copytree(corpus, place)
    build_small(place / "out", corpus=(str(place),))
    assert build_small(place / "out", corpus=(str(place),)).already_finished


def test_a_corpus_beside_the_current_folder_is_not_taken_for_the_output(
    corpus: Path, build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out .` and a corpus `../texts`: the path goes through the output, the files do not lie in it."""
    shutil.copytree(corpus, tmp_path / "texts")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = build_small(Path(), corpus=("../texts",), steps=10)
    assert result.manifest.accounting.documents == 121
    with pytest.raises(ConfigError, match="files of the corpus lie in the output"):
        build_small(Path(), corpus=(str(tmp_path / "here" / "phases"),), steps=10, overwrite=True)


def test_an_output_reached_through_a_link_is_not_read_back(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """The corpus is named by a link, the output lies under the same link."""
    shutil.copytree(corpus, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    build_small(tmp_path / "link" / "out", corpus=(str(tmp_path / "link"),), steps=10)
    assert build_small(tmp_path / "link" / "out", corpus=(str(tmp_path / "link"),), steps=10).already_finished


def test_the_current_folder_can_be_the_output(
    corpus: Path, build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out .` keeps its store beside the folder, not in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    build_small(Path(), steps=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "here.store"]
    with pytest.raises(ConfigError, match="neither may lie in the other"):
        build_small(tmp_path / "out", store=str(tmp_path / "out" / "store"))


def test_the_disk_check_counts_what_is_written(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truncated rows are short on the disk: a build that fits must not be refused."""
    build_small(tmp_path / "one", mode="truncate", frac=Decimal(1))
    manifest = curriculum.open(tmp_path / "one").manifest
    written = sum(shard.num_bytes for phase in manifest.phases for shard in phase.shards)
    free = type("Usage", (), {"free": written})
    monkeypatch.setattr("pipeline.files.disk.shutil.disk_usage", lambda path: free)
    build_small(tmp_path / "two", mode="truncate", frac=Decimal(1))
    free.free = manifest.plan.total_tokens  # type: ignore[attr-defined]  # half of the token bytes
    with pytest.raises(BuildError, match="the disk has"):
        build_small(tmp_path / "three", mode="truncate", frac=Decimal(1))


def test_a_plan_of_the_store_holds_out_what_the_build_does(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """Else the plan shows steps that the build will not have."""
    options = {"tokenizer": "bytes", "max_length": 64, "validation_frac": Decimal("0.2")}
    build_small(tmp_path / "out", start_length=None, batch_rows=None, store=str(tmp_path / "store"), **options)
    request = PlanRequest(options=load_options(None, {**options, "store": str(tmp_path / "store")}))
    planned = plan_request(request, Silent())
    assert planned.plan == curriculum.open(tmp_path / "out").plan


def test_a_hold_out_of_everything_is_refused(build_small: Build, tmp_path: Path) -> None:
    """Nothing would be left to train on."""
    with pytest.raises(PlanError, match="holds out every document"):
        build_small(tmp_path / "out", validation_frac=Decimal(1))


def test_a_huge_number_of_epochs_costs_nothing_unless_it_is_used(build_small: Build, tmp_path: Path) -> None:
    """Epochs are a limit, not a loop."""
    build_small(tmp_path / "out", steps=20, epochs=2**31 - 1)
    assert len(curriculum.open(tmp_path / "out")) == 20


def _stop(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_single_source_with_a_name_is_recognized(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """The name is a part of the request; read back from the log it must be the same one."""
    for expected in (False, True):
        result = build_small(tmp_path / "out", corpus=(), source=(f"web={corpus / 'a.jsonl'}",), steps=9)
        assert result.already_finished is expected
