"""Licence and languages of a dataset: what may be said, where it is kept, and who is told.

They are the first thing that somebody who finds a dataset has to know, and nothing of the texts tells them.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curriculum.about_entry import About, read_about, said_about
from curriculum.errors import BuildError, ConfigError, DataError
from curriculum.json_object import JsonObject
from curriculum.manifest import load_manifest
from new_text import grow
from pipeline.build import BuildResult
from pipeline.build_identity import build_identity
from pipeline.cli import main
from pipeline.option_sources import load_options

Build = Callable[..., BuildResult]


@pytest.mark.parametrize(
    "license_id", ["apache-2.0", "mit", "cc-by-sa-4.0", "llama3.1", "other", "bigscience-bloom-rail-1.0", "0bsd"]
)
def test_identifiers_of_the_hub_are_licences(license_id: str) -> None:
    assert said_about(license_id, ()).to_json() == {"license": license_id}


@pytest.mark.parametrize(
    "license_id", ["", "Apache-2.0", "apache 2.0", "-x", "mit\n", "a" * 65, "mit|x", "<b>", "é", "`"]
)
def test_what_is_no_identifier_is_refused(license_id: str) -> None:
    with pytest.raises(ConfigError, match=r"^license is .*; give the Hub's identifier of a licence, such as"):
        said_about(license_id, ())
    with pytest.raises(DataError, match=r"^about: license is "):
        read_about(JsonObject({"license": license_id}, "about"))


def test_languages_are_told_one_by_one_or_in_a_list() -> None:
    """In the order in which they are said."""
    for given in (("en", "deu", "code"), ("en,deu,code",), ("en, deu", "code")):
        assert said_about(None, given) == About(language=("en", "deu", "code"))
    assert said_about(None, ()).to_json() == {}
    assert not said_about(None, ())


@pytest.mark.parametrize("code", ["", "e", "EN", "english", "en-US", "e1", "e\nn", "zh_", "éé"])
def test_what_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(ConfigError, match=r"^language is .*; give codes of ISO 639"):
        said_about(None, ("de", code))
    with pytest.raises(DataError, match=r"^about: language is "):
        read_about(JsonObject({"language": ["de", code]}, "about"))
    with pytest.raises(ConfigError, match=r"^language 'de' is given twice; give it once\.$"):
        said_about(None, ("de", "en,de"))


@pytest.mark.parametrize(
    "value",
    [{}, {"language": []}, {"license": None}, {"license": "mit", "by": "me"}, {"language": "en"}, {"license": ["mit"]}],
)
def test_a_manifest_says_it_in_one_way(value: dict[str, Any]) -> None:
    """Equal datasets have equal manifests; what a later release may add, this one does not drop silently."""
    with pytest.raises(DataError):
        read_about(JsonObject(value, "about"))


def test_it_is_recorded_where_it_was_said(build_small: Build, small_dataset: Path, tmp_path: Path) -> None:
    """In the manifest, which extensions keep; not a byte of rows changes. Nothing said, no key."""
    dataset = tmp_path / "d"
    said = {"license": "apache-2.0", "language": ("en,de",)}
    built = build_small(dataset, steps=40, **said).manifest
    assert built.to_json()["about"] == {"license": "apache-2.0", "language": ["en", "de"]}
    assert "about" not in load_manifest(small_dataset).to_json()
    longer = grow(dataset, steps=2).manifest
    assert load_manifest(dataset).about == longer.about == About(license="apache-2.0", language=("en", "de"))
    shown = CliRunner().invoke(main, ["inspect", str(dataset)]).stdout
    assert "\nlicense  apache-2.0\nlanguage en, de\n" in shown
    plain = build_small(tmp_path / "plain", steps=40).manifest
    assert (plain.phases, plain.id != built.id) == (built.phases, True)


def test_another_licence_is_another_build(build_small: Build, tmp_path: Path) -> None:
    """Said in a way that tells what to do; the same one again is nothing to do."""
    for expected in (False, True):
        assert build_small(tmp_path / "d", steps=9, license="mit", language=("en",)).already_finished is expected
    with pytest.raises(BuildError, match=r"asked for something else: license was mit, now cc0-1\.0\. Give --overwrite"):
        build_small(tmp_path / "d", steps=9, license="cc0-1.0", language=("en",))
    with pytest.raises(BuildError, match=r"language was \['en'\], now not given\. Give"):
        build_small(tmp_path / "d", steps=9, license="mit")


def test_builds_of_earlier_releases_are_recognized() -> None:
    """Their requests know nothing of it: neither may one that says nothing."""
    identity = build_identity(load_options(None, {"frac": Decimal("0.3")}))
    assert identity.keys() & {"license", "language"} == set()


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """Languages are no paths beside the file."""
    (tmp_path / "c.toml").write_text('license = "mit"\nlanguage = ["en", "de"]\n')
    assert load_options(tmp_path / "c.toml", {}).about() == About(license="mit", language=("en", "de"))
    flags = {"license": "cc0-1.0", "language": ("fr",)}
    assert load_options(tmp_path / "c.toml", flags).about() == About(license="cc0-1.0", language=("fr",))
    run = CliRunner().invoke(main, ["build", "--license", "MIT License", "--out", str(tmp_path / "d")])
    assert (run.exit_code, "license is 'MIT License'; give" in run.stderr) == (2, True)
    assert not (tmp_path / "d").exists()
