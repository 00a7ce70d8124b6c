"""The Hub's side of push and pull, as far as it needs no server: addresses, limits, patterns, progress, errors."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import BuildError, ConfigError, DataError
from pipeline.files.retries import Patience
from pipeline.files.storage_options import NO_OPTIONS, storage_options
from pipeline.sharing.hub_address import hub_address
from pipeline.sharing.hub_arrivals import Arrivals
from pipeline.sharing.hub_bucket import HubBucket
from pipeline.sharing.hub_download import SLACK_BYTES, counting_bar, pattern
from pipeline.sharing.hub_failures import ask, final, seconds_asked_for
from pipeline.sharing.hub_limits import check_counts
from pipeline.sharing.hub_place import HubPlace
from pipeline.sharing.open_place import open_place

pytest.importorskip("huggingface_hub")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://datasets/org/x", ("datasets", "org/x", None, "")),
        ("hf://datasets/org/x/", ("datasets", "org/x", None, "")),
        ("hf://datasets/org/x@v2", ("datasets", "org/x", "v2", "")),
        ("hf://datasets/org/x@v2/a/b", ("datasets", "org/x", "v2", "a/b")),
        ("hf://datasets/org/x@feature%2Fb/a", ("datasets", "org/x", "feature/b", "a")),
        ("hf://datasets/org/x@refs/pr/3/a", ("datasets", "org/x", "refs/pr/3", "a")),
        ("hf://buckets/org/x/a", ("buckets", "org/x", None, "a")),
    ],
)
def test_addresses(address: str, parts: tuple[str, str, str | None, str]) -> None:
    """Read, and written as they were."""
    found = hub_address(address)
    assert (found.kind, found.name, found.revision, found.folder) == parts
    assert found.at(found.revision) == address.rstrip("/")
    assert found.path("m.json") == (f"{parts[3]}/m.json" if parts[3] else "m.json")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://org/x", "is no dataset repository and no bucket"),
        ("hf://models/org/x", "is no dataset repository and no bucket"),
        ("hf://spaces/org/x", "is no dataset repository and no bucket"),
        ("hf://datasets/x", "is no dataset repository and no bucket"),
        ("hf://datasets/o r/x", "a name is an organization or user"),
        ("hf://datasets/org/x/../y", "a folder has no empty parts"),
        ("hf://datasets/org/x//y", "a folder has no empty parts"),
        ("hf://buckets/org/x@v1", "a bucket has no revisions"),
    ],
)
def test_addresses_that_name_nothing(address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_place(address)


def test_open_place_knows_the_hub() -> None:
    assert isinstance(open_place("hf://datasets/org/x"), HubPlace)
    assert isinstance(open_place("hf://buckets/org/x"), HubBucket)
    with pytest.raises(ConfigError, match="--storage-option anon means nothing to the Hub"):
        open_place("hf://datasets/org/x", storage_options({"anon": True}))


def test_no_more_files_than_the_hub_takes() -> None:
    """Refused before terabytes are sent; a file that is replaced counts once."""
    names = [f"phases/{i // 1000}/{i % 1000}" for i in range(99_999)]
    check_counts("here", names, [*names[:5], "manifest.json"])
    with pytest.raises(BuildError, match=r"here: would have 100,001 files, and the Hub takes 100,000 .*--shard-bytes"):
        check_counts("here", names, ["manifest.json", "README.md"])
    check_counts("here", [], [f"a/{i}" for i in range(10_000)])
    with pytest.raises(BuildError, match="the folder a would have 10,001 entries"):
        check_counts("here", ["a/b/c"], [f"a/{i}" for i in range(10_000)])


@given(st.text("ab[]*?!/", min_size=1), st.text("ab[]*?!/", min_size=1))
def test_a_pattern_matches_its_path_alone(path: str, other: str) -> None:
    assert fnmatch(path, pattern(path))
    assert fnmatch(other, pattern(path)) == (other == path)


def test_arrivals_are_told_once() -> None:
    """An attempt that is repeated, and one that the library did not tell of."""
    told: list[int] = []
    arrivals = Arrivals(told.append, 100)
    arrivals(60)
    arrivals.begin(50)
    arrivals(5)
    arrivals(30)
    arrivals(90)
    arrivals.end()
    assert told == [60, 25, 15]


def test_the_bar_counts_what_is_written() -> None:
    """Bars of files and of the network are others; far too much ends the download."""
    seen: list[int] = []
    bar_class = counting_bar("org/x", 1_000, seen.append)
    with bar_class(total=3, unit="it", desc="Fetching 3 files") as files:
        files.update(1)
    with bar_class(total=0, unit="B", desc="Downloading bytes") as network:
        network.update(10)
    with bar_class(total=0, unit="B", desc="Reconstructing", initial=0, unit_scale=True) as disk:
        disk.update(600)
        disk.update(2_000_000)
        with pytest.raises(DataError, match="more bytes arrive than the 1,000 that were announced"):
            disk.update(SLACK_BYTES)
    assert seen == [600, 2_000_000]


def answer(
    status: int, headers: dict[str, str] | None = None, url: str = "https://hf.co/api/datasets/org/x"
) -> Exception:
    """What the library makes of an answer of the Hub."""
    from huggingface_hub.utils import hf_raise_for_status, httpx

    with pytest.raises(Exception) as raised:  # noqa: PT011 - of many kinds
        hf_raise_for_status(httpx.Response(status, headers=headers, request=httpx.Request("GET", url)))
    error: Exception = raised.value
    return error


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (401, {"X-Error-Message": "Invalid username or password."}, "nothing of that name, .* nobody is logged in"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "does not know the token"),
        (404, {"X-Error-Code": "RepoNotFound"}, "nothing of that name, .* your token does not see it"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "no such branch, tag or commit"),
        (403, {"X-Error-Code": "GatedRepo"}, "its owners grant access one by one"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "the Hub has disabled it"),
        (403, {"X-Error-Message": "Forbidden: write access needed"}, "your token may not read it"),
        (403, {"X-Error-Message": "Private repository storage limit reached"}, "the storage of its owner is used up"),
        (413, {}, "the storage of its owner is used up, or a file is too large"),
        (412, {}, "somebody else changed the branch"),
        (400, {"X-Error-Message": "no such thing"}, "cannot be read .*no such thing.* Correct that"),
    ],
)
def test_what_does_not_pass(status: int, headers: dict[str, str], said: str) -> None:
    """One sentence each."""
    sentence = final(answer(status, headers), "hf://datasets/org/x", "read", NO_OPTIONS)
    assert sentence is not None
    with pytest.raises(BuildError, match=said):
        raise sentence
    assert "\n" not in str(sentence)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes(status: int) -> None:
    assert final(answer(status), "hf://datasets/org/x", "read", NO_OPTIONS) is None


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"RateLimit": '"api";r=0;t=55'}, 55.0),
        (429, {"Retry-After": "9999"}, 300.0),
        (429, {}, 0.0),
        (503, {"Retry-After": "3"}, 3.0),
        (500, {"Retry-After": "3"}, 0.0),
    ],
)
def test_the_hub_is_left_alone_for_as_long_as_it_says(status: int, headers: dict[str, str], seconds: float) -> None:
    assert seconds_asked_for(answer(status, headers)) == seconds
    slept: list[float] = []
    answers = iter([answer(status, headers)])

    def attempt() -> str:
        for error in answers:
            raise error
        return "done"

    patience = Patience(seconds=10.0, first_pause=0.0, sleep=slept.append)
    assert ask(attempt, "hf://datasets/org/x", "read", patience, NO_OPTIONS) == "done"
    assert slept[0] == seconds


def test_secrets_are_not_told() -> None:
    """Tokens and signed addresses, in sentences that are final and in those of patience that ran out."""
    token = "hf_aVeryLongTokenOfSomebody"
    options = storage_options({"token": "anotherKindOfToken"})
    url = f"https://me:p@s3.example.com/bucket/{token}?X-Amz-Signature=0123abcd&x=anotherKindOfToken"
    for status in (410, 503):

        def attempt(status: int = status) -> None:
            raise answer(status, url=url)

        impatient = Patience(seconds=0.0, first_pause=0.0, sleep=lambda _: None)
        with pytest.raises(BuildError) as refused:
            ask(attempt, "hf://datasets/org/x", "written", impatient, options)
        assert "s3.example.com/bucket/***?***" in str(refused.value)
        for secret in (token, "0123abcd", "anotherKindOfToken", "me:p"):
            assert secret not in str(refused.value)


def test_the_disk_of_this_machine_is_not_the_hub() -> None:
    error = OSError(28, "No space left on device", "/tmp/x")
    sentence = final(error, "hf://datasets/org/x", "read", NO_OPTIONS)
    assert str(sentence).startswith(
        "hf://datasets/org/x: cannot be read: the disk of this machine says No space left on device (/tmp/x)."
    )


def test_a_release_without_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        pass

    def api(options: Any) -> Any:
        return Old()

    monkeypatch.setattr("pipeline.sharing.hub_bucket.hub_api", api)
    with pytest.raises(ConfigError, match=r"knows no buckets: pip install 'huggingface_hub>=1.5'"):
        open_place("hf://buckets/org/x")


def test_quiet_leaves_the_library_as_it_was(tmp_path: Path) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, logging

    from pipeline.sharing.hub_client import quiet

    before = are_progress_bars_disabled(), logging.get_verbosity()
    with quiet():
        assert are_progress_bars_disabled()
    assert (are_progress_bars_disabled(), logging.get_verbosity()) == before
