"""What people have to know before they use a dataset: its licence, and the languages of its texts.

In:  what a builder says, or the `about` object of a manifest, possibly damaged or hostile.   Out: `About`, checked.
Guarantee: identifiers as the Hub writes them, checked by their form alone: lists of licences and languages grow without
us. They are letters, digits, `.` and `-`, so that a card, a page and a terminal show them as they are.

    {"license": "apache-2.0", "language": ["en", "de"]}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curriculum.errors import ConfigError, DataError
from curriculum.json_object import JsonObject

LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
"""ISO 639-1, 639-2 and 639-3; and what the Hub knows besides."""
MAX_LANGUAGES = 1_000
LICENSE_ALLOWED = (
    "the Hub's identifier of a licence, such as apache-2.0, cc-by-sa-4.0 or other: lower-case letters, digits, '.' "
    "and '-'"
)
LANGUAGE_ALLOWED = "codes of ISO 639, two or three lower-case letters, such as en or deu; or code, or multilingual"


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """Said by whoever built the dataset; nothing derives it."""

    license: str | None = None
    language: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.license is not None or bool(self.language)

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest: keys that say something."""
        said: dict[str, Any] = {} if self.license is None else {"license": self.license}
        return said | ({"language": list(self.language)} if self.language else {})


NOTHING_SAID = About()


def wrong_license(text: str) -> str | None:
    """What is wrong with the identifier of a licence, as a sentence; None if nothing is."""
    return None if LICENSE.fullmatch(text) else f"license is {text[:80]!r}; give {LICENSE_ALLOWED}."


def wrong_language(codes: Sequence[str]) -> str | None:
    """The same of a list of languages."""
    for code in codes:
        if not LANGUAGE.fullmatch(code):
            return f"language is {code[:80]!r}; give {LANGUAGE_ALLOWED}."
    twice = next((code for number, code in enumerate(codes) if code in codes[:number]), None)
    if twice is not None:
        return f"language {twice!r} is given twice; give it once."
    return (
        f"{len(codes)} languages are given; at most {MAX_LANGUAGES} are kept." if len(codes) > MAX_LANGUAGES else None
    )


def said_about(license_id: str | None, languages: Sequence[str]) -> About:
    """What a builder says.

    Args:
        license_id: the Hub's identifier of a licence.
        languages: codes; an entry may be several with commas between them.

    Raises:
        ConfigError: that is no form of an identifier or a code.
    """
    codes = tuple(code.strip() for entry in languages for code in entry.split(","))
    wrong = (wrong_license(license_id) if license_id is not None else None) or wrong_language(codes)
    if wrong is not None:
        raise ConfigError(wrong)
    return About(license=license_id, language=codes)


def read_about(o: JsonObject) -> About:
    """The object of a manifest.

    Raises:
        DataError: it says nothing, or something that is no licence or language by its form.
    """
    about = About(
        license=o.string("license") if "license" in o.raw else None,
        language=tuple(o.strings("language")) if "language" in o.raw else (),
    )
    o.no_others()
    wrong = (wrong_license(about.license) if about.license is not None else None) or _wrong_list(o, about)
    if wrong is not None:
        raise DataError(f"{o.where}: {wrong}")
    return about


def _wrong_list(o: JsonObject, about: About) -> str | None:
    if not about or ("language" in o.raw and not about.language):
        return "it has a key that says nothing; expected license, language or both."
    return wrong_language(about.language[: MAX_LANGUAGES + 1])
