"""The card of a dataset: what the Hub and `datasets` read of it, what people read, what a stranger cannot put there.

A card that is no valid YAML is refused by the Hub at the end of an upload; one that shows a stranger's text runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from huggingface_hub import DatasetCard

import curriculum
from curriculum.about_entry import About
from curriculum.errors import DataError
from curriculum.manifest import Manifest, load_manifest
from curriculum.mixture import Mixture
from curriculum.plan import Batch, Budget, compile_plan
from curriculum.schedule import Pacing
from packed_dataset import write_packed_dataset
from pipeline.build import BuildResult
from pipeline.card import dataset_card
from pipeline.card_front_matter import size_category
from pipeline.schedule_picture import schedule_picture

TAG, LINES, TABLE = "<script>EVIL</script>", "EVIL\n---\n", "| EVIL |"
EVIL = (TAG, LINES, TABLE, "`EVIL`", "](javascript:EVIL)", "EVIL\x1b[2J", "EVIL\u202e", "EVIL" * 99)


@pytest.fixture(scope="module")
def manifest(small_dataset: Path) -> Manifest:
    """Eight phases and held-out documents."""
    return load_manifest(small_dataset)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of modes that pack: 3 steps of 8, 3 of 16, 2 of 8 again. Read-only."""
    root = tmp_path_factory.mktemp("packed") / "dataset"
    root.mkdir()
    (root / "README.md").write_text(dataset_card(write_packed_dataset(root)), "utf-8")
    return root


@pytest.fixture(scope="module")
def cyclic(packed: Path) -> Manifest:
    """Of the packed dataset: a phase that is visited again."""
    return load_manifest(packed)


def test_the_front_matter_is_what_the_hub_reads(manifest: Manifest) -> None:
    """The language no is Norwegian: YAML without quotes reads it as false."""
    card = dataset_card(replace(manifest, about=About(license="cc-by-4.0", language=("no", "deu", "code"))))
    read = yaml.safe_load(card.split("---\n")[1])
    configs = read.pop("configs")
    assert read == {
        "license": "cc-by-4.0",
        "language": ["no", "deu", "code"],
        "pretty_name": f"Sequence-length curriculum, rows of 8 to 64 tokens, {manifest.plan.total_steps:,} steps",
        "size_categories": ["1K<n<10K"],
        "task_categories": ["text-generation"],
        "tags": ["sequence-length-warmup", "pre-tokenized"],
    }
    assert len(configs) == 9
    assert configs[0] == {
        "config_name": "phase-00000-len0000008",
        "data_files": [{"split": "train", "path": "phases/00000-len0000008/**/*.arrow"}],
    }
    assert configs[8] == {
        "config_name": "validation",
        "data_files": [{"split": "validation", "path": "validation/**/*.arrow"}],
    }
    data = DatasetCard(card).data
    assert (data.license, data.language, data.size_categories) == ("cc-by-4.0", ["no", "deu", "code"], ["1K<n<10K"])
    assert "license:" not in dataset_card(manifest)
    assert "language:" not in dataset_card(manifest)


def test_without_a_name_all_rows_are_loaded_or_none(
    small_dataset: Path, build_small: Callable[..., BuildResult], tmp_path: Path
) -> None:
    """`load_dataset(DATASET)` must not give somebody the first phase for the whole; of one phase it is the whole."""
    import datasets

    with pytest.raises(ValueError, match="Config name is missing"):
        datasets.load_dataset(str(small_dataset), streaming=True)
    options: dict[str, Any] = {"schedule": "constant", "start_length": None, "steps": 4, "validation_tokens": 900}
    build_small(tmp_path / "d", **options)
    found = datasets.load_dataset(str(tmp_path / "d"), streaming=True)
    assert list(found) == ["train"]
    assert len(list(found["train"])) == 4 * 8


def test_any_number_of_phases_has_a_config_each(manifest: Manifest) -> None:
    pacing = Pacing(name="linear", start_length=8, max_length=4096)
    plan = compile_plan(pacing=pacing, warmup=Fraction(1), batch=Batch(rows=2), budget=Budget(steps=3_000))
    card = dataset_card(replace(manifest, plan=plan))
    names = [config["config_name"] for config in DatasetCard(card).data.to_dict()["configs"]]
    assert len(names) == len(set(names)) == 512 + 1
    assert card.count("\n| `phase-") == 512


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (10**6, "1M<n<10M"),
        (10**9, "1B<n<10B"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
        (2**60, "n>1T"),
    ],
)
def test_sizes_are_the_classes_of_the_hub(rows: int, expected: str) -> None:
    assert size_category(rows) == expected


def test_the_card_says_what_the_manifest_says(small_dataset: Path, manifest: Manifest) -> None:
    """Its numbers are those that readers and `verify` go by."""
    card = (small_dataset / "README.md").read_text("utf-8")
    assert card == dataset_card(manifest)
    accounting = manifest.accounting
    share = f"{100 * accounting.trained_tokens / accounting.corpus_tokens:.2f} %"
    for line in (
        f"- id: `{manifest.id}`",
        f"- tokenizer: `tokenizer.json`, 257 entries, sha256 `{manifest.tokenizer.sha256}`",
        f"| trained tokens | {accounting.trained_tokens:,} | {share} |",
        f"| `corpus` | 121 | {accounting.corpus_tokens:,} | `{manifest.sources[0].fingerprint}` |",
        "    curriculum verify my-dataset",
        'datasets.load_dataset("PATH", "phase-00000-len0000008", split="train")',
        f"![{manifest.plan.total_steps} steps in 8 phases: 8 to 64 tokens per row, growing](schedule.svg)",
    ):
        assert f"\n{line}\n" in card
    assert (small_dataset / "schedule.svg").read_bytes() == schedule_picture(manifest.plan)


def test_the_card_says_how_to_get_what_was_pushed_compressed(manifest: Manifest, cyclic: Manifest) -> None:
    """It is the only text at the place: there `verify`, a reader and `load_dataset` find no shard; `pull` does."""
    for card in (dataset_card(manifest), dataset_card(cyclic)):
        titles = [line for line in card.splitlines() if line.startswith("## ")]
        assert titles[:3] == ["## Get it", "## Read it", "## Check it"]
        get, read, check = card.split("\n## ")[1:4]
        assert "    curriculum pull ADDRESS my-dataset " in get
        said = " ".join(get.split())
        assert "compares every shard with its sha256, and unpacks shards that end in `.zst`" in said
        assert "From an address, or by `load_dataset`, only plain shards (`.arrow`) are read: else pull first." in said
        assert 'curriculum.open("PATH")  # a folder, or plain shards at hf://, s3:// or gs://' in read
        assert "reads a folder on a disk, so pull first." in check


def test_the_card_of_packed_rows_shows_which_inputs_have_a_target(
    packed: Path, cyclic: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who loads `tokens` and shifts them trains on padding and across documents, and nothing tells."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    code = dataset_card(cyclic).split("```python\n")[2].split("```")[0]
    *_, tokens_line, labels_line = code.splitlines()
    reader = curriculum.open(packed)
    names: dict[str, Any] = {}
    exec(code.replace("PATH", str(packed)), names)
    assert names["labels"][1:] == reader[0].labels[0].tolist()
    rule = compile(f"{tokens_line}\n{labels_line}", "card", "exec")
    found = []
    for path in sorted((packed / "phases").rglob("*.arrow")):
        for row in pa.ipc.open_file(path.read_bytes()).read_all().to_pylist():
            names = {"row": row}
            exec(rule, names)
            found.append(names["labels"][1:])
    in_order = sorted(reader, key=lambda batch: batch.phase)
    assert found == [labels for batch in in_order for labels in batch.labels.tolist()]
    assert sum(label == -100 for labels in found for label in labels) == cyclic.accounting.padding_tokens


def test_the_card_says_that_phases_come_back(manifest: Manifest, cyclic: Manifest) -> None:
    """Trained phase by phase, a curriculum that goes up and down would be another one."""
    sentence = "Steps do not take one phase after the other: `plan.order` in `manifest.json` is their order"
    assert cyclic.plan.order == ((0, 3), (1, 3), (0, 2))
    assert sentence in dataset_card(cyclic)
    assert sentence not in dataset_card(manifest)


def test_padding_is_no_part_of_the_corpus(cyclic: Manifest) -> None:
    """A share of it would be one of something else: padding has no text."""
    card = dataset_card(cyclic)
    assert f"| padding tokens | {cyclic.accounting.padding_tokens} |  |" in card
    assert f"| corpus tokens | {cyclic.accounting.corpus_tokens} |  |" in card
    assert f"| trained tokens | {cyclic.accounting.trained_tokens} | " in card


@pytest.mark.parametrize("evil", EVIL)
def test_text_of_a_stranger_gets_nowhere(manifest: Manifest, evil: str) -> None:
    """`pull` makes the card of a manifest that anybody may have written; every text in it that is free."""
    schedule: dict[str, int | str] = {"name": evil, "max_length": evil, evil: 1, "multiple_of": evil}
    (source,) = manifest.sources
    plans = [
        replace(manifest.plan, schedule=schedule),
        replace(manifest.plan, schedule={**manifest.plan.schedule, evil: evil}),
        replace(manifest.plan, mode="document", schedule={**schedule, "cycles": evil, "seed": evil}),
    ]
    for plan in plans:
        forged = replace(manifest, plan=plan, sources=(replace(source, fingerprint=evil),))
        card, picture = dataset_card(forged), schedule_picture(plan).decode()
        assert "EVIL" not in card
        assert "EVIL" not in picture
        assert "<" not in card.replace("K<n<", "")
        assert card.isprintable() or all(char == "\n" or char.isprintable() for char in card)
        assert yaml.safe_load(card.split("---\n")[1])["tags"] == ["sequence-length-warmup", "pre-tokenized"]


def test_more_shards_than_are_listed_are_not_counted(manifest: Manifest) -> None:
    """A mixture is laid out shard by shard: with windows of a token that would never end."""
    mixture = Mixture(weights=((1, 1),) * len(manifest.phases))
    one = replace(manifest.sources[0], validation_tokens=0, first_document=0)
    phases = tuple(replace(phase, num_steps=2**40) for phase in manifest.plan.phases)
    plan = replace(manifest.plan, phases=phases, order=tuple((phase, 2**40) for phase in range(len(phases))))
    for said in ({"window_tokens": 1}, {"shard_bytes": 1, "window_tokens": 2**60}):
        build = replace(manifest.build, mixture=mixture, **said)
        begin = time.monotonic()
        with pytest.raises(DataError, match=r"cannot have written|plan and window size give"):
            dataset_card(replace(manifest, plan=plan, sources=(one, replace(one, name="b")), build=build))
        assert time.monotonic() - begin < 2
