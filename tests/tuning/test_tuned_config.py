"""The TOML that a tune ends with gives the build that was tuned."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import ConfigError
from pipeline.option_sources import load_options
from pipeline.options import Options
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import candidate_options
from pipeline.tuning.tuned_config import tuned_config

TUNED = Candidate(start_length=16, length_warmup_steps=700)


def read(text: str, folder: Path) -> Options:
    folder.mkdir(exist_ok=True)
    (folder / "tuned.toml").write_text(text, "utf-8")
    return load_options(folder / "tuned.toml", {})


def test_the_file_is_short_and_in_the_words_of_the_flags(tmp_path: Path) -> None:
    """Only what is not a default, the answer included, and no secret."""
    options = load_options(
        None,
        {
            "corpus": ("/data/corpus", "hf:org/name", "s3://bucket/texts"),
            "steps": 3000,
            "validation_frac": Decimal("0.01"),
            "store": "/data/store",
            "storage_option": _storage({"key": "hunter22"}),
        },
    )
    text = tuned_config(options, TUNED, ["Found."])
    assert text.splitlines() == [
        "# Found.",
        "# The tune was given --storage-option, which may hold secrets: give it again.",
        'corpus = ["/data/corpus", "hf:org/name", "s3://bucket/texts"]',
        "length_warmup_steps = 700",
        "start_length = 16",
        "steps = 3000",
        "validation_frac = 0.01",
        'store = "/data/store"',
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"corpus": ("corpus/*.jsonl",), "tokenizer": "tokenizer.json", "mode": "truncate", "max_shapes": 8},
        {"schedule": "root", "degree": 3, "batch_tokens": 4096, "tokens": 10**12, "language": ("en", "de")},
        {"schedule": "step", "stages": 4, "epochs": 2, "seed": 7, "license": "mit", "on_bad_record": "skip"},
        {"source": ("a=x", "a=y z", "b=hf:org/name"), "weight": ("a=0.7", "b=.3"), "source_epochs": ("b=3",)},
        {"source": ("a=x", "b=y"), "weight": ("a=8:0.9,512:0.5", "b=0.1")},
        {"source": ("only=x",), "validation_tokens": 99},
    ],
)
def test_read_again_from_elsewhere_it_gives_the_same_options(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tuned build that trains another mixture or reads another corpus is not the one that was tuned."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    options = load_options(None, {**values, "store": str(tmp_path / "store")})
    again = read(tuned_config(options, TUNED, []), tmp_path / "elsewhere")
    wanted = candidate_options(options, TUNED)
    where = str(tmp_path)
    paths = {
        "corpus": tuple(f"{where}/{path}" for path in wanted.corpus),
        "source": tuple(entry if "hf:" in entry else entry.replace("=", f"={where}/", 1) for entry in wanted.source),
        "tokenizer": f"{where}/tokenizer.json" if wanted.tokenizer == "tokenizer.json" else wanted.tokenizer,
    }
    weights = tuple(entry.replace("=.", "=0.") for entry in wanted.weight)
    assert again == replace(wanted, **paths, weight=weights)


@pytest.mark.parametrize("name", ["corpus", "source"])
def test_a_name_that_toml_cannot_hold_is_refused(name: str) -> None:
    """Names of files are bytes; a file with half a character in it could not be read, by `build --config` either."""
    options = load_options(None, {name: ("a=/data/bad\udcff" if name == "source" else "/data/bad\udcff",)})
    with pytest.raises(ConfigError, match=r"/data/bad\\udcff.*not UTF-8.*Rename the file or folder, or give a link"):
        tuned_config(options, TUNED, [])


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Quotes, backslashes, control characters and DEL are strings of TOML."""
    folder = tmp_path_factory.getbasetemp() / "toml"
    again = read(tuned_config(load_options(None, {"text_key": text}), TUNED, []), folder)
    assert again.text_key == text


def _storage(table: dict[str, str]) -> Any:
    from pipeline.files.storage_options import storage_options

    return storage_options(table)
