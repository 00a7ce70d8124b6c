"""Addresses are written into logs, the token store and messages: one with a password in it goes no further."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.files.address import refuse_secret

SECRETS = ("http://bob:hunter22@127.0.0.1:1/b.jsonl", "s3://mykey:hun/ter22@bucket/x", "S3://mykey:4hunter22@bucket/x")


@pytest.mark.parametrize("address", SECRETS)
@pytest.mark.parametrize(
    "said",
    [
        "build ADDRESS",
        "build --source web=ADDRESS",
        "build --source ADDRESS",
        "build --source web=x --source book=ADDRESS --weight web=1 --weight book=2",
        "build corpus --source web=ADDRESS",
        "build corpus --out ADDRESS",
        "build corpus --store ADDRESS",
        "build corpus --tokenizer ADDRESS",
        "build --config sources.toml",
        "build --config corpus.toml",
        "plan --store ADDRESS",
        "extend ADDRESS",
        "verify ADDRESS",
        "inspect ADDRESS",
        "cat ADDRESS --step 0",
        "cat dataset --step 0 --store ADDRESS",
        "doctor ADDRESS --trainer torch",
    ],
)
def test_a_password_in_an_address_is_refused_and_shown_nowhere(
    said: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever option it came by: `--source` once let one through, into build-log.json and the store."""
    monkeypatch.chdir(tmp_path)
    Path("sources.toml").write_text(f'[[source]]\nname = "web"\npath = "{address}"\n', "utf-8")
    Path("corpus.toml").write_text(f'corpus = ["{address}"]\n', "utf-8")
    done = CliRunner().invoke(main, said.replace("ADDRESS", address).split())
    assert done.exit_code == 2
    assert "holds a name and a password before an @" in done.stderr
    assert "ter22" not in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.toml", "sources.toml"], "nothing was written"


def test_a_port_a_version_and_an_at_in_a_path_are_no_password() -> None:
    """The rule must not refuse what people have."""
    for address in (
        "http://localhost:8080/user@2/x",
        "http://[::1]:8080/user@2/x",
        "hf://datasets/me/data@main/x:y@z",
        "abfs://container@account.dfs.core.windows.net/x",
        "s3://bucket/a:b@c",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/x",
        "s3://bucket/year=2026/part-?.jsonl",
        "s3://bucket/?/key=5/x-??.jsonl",
        "https://host/download?name=a.jsonl",
        "/folder/key?sig=1/x",
        "/folder/a:b@c",
    ):
        refuse_secret("corpus", address)
        refuse_secret("source", f"web={address}")


@pytest.mark.parametrize(
    "address",
    [
        "s3://mykey:12/hunter22@bucket/x",
        "gs://bob:hunter22",
        "https://host/a.jsonl?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=hunter22",
        "https://host/a/b/*.jsonl?sv=2/3&sig=hunter22",
        "s3://bucket/x.jsonl?AWSAccessKeyId=hunter22",
    ],
)
@pytest.mark.parametrize(
    "said", ["build ADDRESS", "build --source web=ADDRESS", "build --out ADDRESS", "inspect ADDRESS"]
)
def test_a_signature_or_what_may_be_a_password_is_refused_too(
    said: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, said.replace("ADDRESS", address).split())
    assert done.exit_code == 2
    assert "give credentials in the environment or by --storage-option" in done.stderr
    assert "hunter22" not in done.output
    assert not list(tmp_path.iterdir())
