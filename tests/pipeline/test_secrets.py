"""Options of stores hold secrets, and errors of their clients repeat them: no sentence that is shown does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from click.testing import CliRunner

from curriculum.errors import BuildError, ConfigError
from curriculum.remote.failures import reason
from pipeline.cli import main
from pipeline.files.bucket import Bucket
from pipeline.files.connection import Connection
from pipeline.files.retries import Patience, persist
from pipeline.files.storage_options import parse_storage_options
from pipeline.option_sources import load_options


def failing(error: Exception) -> Callable[[], str]:
    """An attempt that fails."""

    def attempt() -> str:
        raise error

    return attempt


@pytest.mark.parametrize("secret", ["wJalr/XUtn+FEMI=", "correct horse battery", "line1line1\nline2line2"])
def test_a_secret_is_concealed_as_a_url_writes_it_and_before_a_text_is_cut(secret: str) -> None:
    """gcsfs puts its token into a query; the beginning of a secret is a secret too."""
    options = parse_storage_options([f"secret={secret}"])
    for written in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret)):
        for before in (0, *range(185, 201)):
            error = PermissionError("x" * before + " token=" + written + " end")
            with pytest.raises(BuildError) as refused:
                persist(failing(error), "s3://b/x", "read", options=options)
            assert written[:5] not in str(refused.value)


def test_a_cut_reason_ends_with_a_whole_word() -> None:
    """Where nobody knows the secrets, as in a reader, what is cut through would be shown in part."""
    assert reason(OSError("x" * 190 + " token=hunter2hunter2")) == f"OSError: {'x' * 190} ..."
    assert reason(OSError("token=hunter2" * 30)) == "OSError:  ..."


def test_a_reader_does_not_repeat_the_password_of_an_endpoint() -> None:
    """HF_ENDPOINT=http://me:s3cret@mirror is nobody's option; an address on the Hub has an @ of its own."""
    said = reason(OSError("no answer of http://me:s3cret@mirror:80/api for hf://gpt2@main/x"))
    assert said == "OSError: no answer of http://mirror:80/api for hf://gpt2@main/x"


@pytest.mark.parametrize("address", ["http://u:hunter22@host", "http://u:p@host", "https://host/?sig=hunter22"])
def test_a_password_in_the_address_of_a_proxy_is_concealed(address: str) -> None:
    options = parse_storage_options([f"client_kwargs.proxy_url={address}", "region=us"])
    said = options.conceal(f"no host {address}, region us")
    assert said.startswith("no host http")
    assert said.endswith(", region us")
    assert "host" in said[8:]
    assert "hunter22" not in said
    assert "p@" not in said


def test_a_password_in_an_endpoint_is_refused() -> None:
    """Clients combine it with no other credentials, and say so only when they have tried for half a minute."""
    with pytest.raises(ConfigError, match=r"^storage option client_kwargs.endpoint_url holds") as refused:
        parse_storage_options(["client_kwargs.endpoint_url=http://u:hunter22@host"])
    assert "hunter22" not in str(refused.value)
    assert parse_storage_options(["endpoint_url=http://host:9000/a:b@c"]).values()


def test_a_client_that_connects_while_it_is_made_is_tried_again_and_conceals(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcsfs asks Google about a token at once, and the error of that request holds it."""
    attempts: list[str] = []

    class Refusing(Bucket):
        def __init__(self, url: str, options: Mapping[str, Any]) -> None:
            attempts.append(url)
            if len(attempts) == 1:
                raise ConnectionError(f"Max retries exceeded with url: /tokeninfo?access_token={options['token']}")
            raise PermissionError(f"bad token {options['token']}")

    monkeypatch.setattr("pipeline.files.connection.Bucket", Refusing)
    options = parse_storage_options(["token=PlainToken12345678"])
    connection = Connection(url="gs://bucket/made", options=options)
    with pytest.raises(BuildError, match=r"gs://bucket/made: cannot be read: the store refuses access .*\*\*\*"):
        connection.ask(lambda bucket: bucket.read("x", None, 1.0), connection.url, "read", Patience(seconds=5))
    assert len(attempts) == 2


def test_whatever_ends_a_command_holds_no_secret_and_is_no_error_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`requests` calls its errors OSErrors."""

    def fail(*_: object) -> None:
        raise type("ProxyError", (OSError,), {})("no way to /tokeninfo?access_token=PlainToken%2F12345678")

    monkeypatch.setattr("pipeline.summary.summarize", fail)
    done = CliRunner().invoke(main, ["inspect", "gs://b/x", "--storage-option", "token=PlainToken/12345678"])
    assert done.exit_code == 1
    assert done.stderr == (
        "curriculum: the system or a store failed (ProxyError: no way to /tokeninfo?access_token=***).\n"
    )


def test_an_option_of_a_file_that_no_client_takes_is_named(tmp_path: Path) -> None:
    """TOML has dates; the key is said, the value is not."""
    (tmp_path / "c.toml").write_text("[storage_option.client_kwargs]\nx = 2020-01-01\n", "utf-8")
    with pytest.raises(ConfigError, match=r"^storage option client_kwargs\.x is a date, and clients take strings"):
        load_options(tmp_path / "c.toml", {})
    (tmp_path / "c.toml").write_text("[storage_option]\nx = [1, 0.5, true, {y = 'z'}]\n", "utf-8")
    assert load_options(tmp_path / "c.toml", {}).storage_option.values() == {"x": [1, 0.5, True, {"y": "z"}]}
