"""Tokenizers by name: the tokenizer.json of a repository at a commit.

In:  `--tokenizer hf:ORG/NAME[@REVISION]`.   Out: the same with a commit; its files in the cache of `huggingface_hub`.
Guarantee: a branch is looked at once in a build. Only tokenizer.json and tokenizer_config.json are fetched, nothing is
run. What the cache holds is used where the Hub cannot be asked; if it cannot tell whether there is a
tokenizer_config.json, which names the EOS, that is an error, not another EOS.

    pinned("hf:gpt2")                hf:gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e
    tokenizer_file(of that name)     ~/.cache/huggingface/hub/models--gpt2/snapshots/607a.../tokenizer.json
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from curriculum.errors import ConfigError, CurriculumError
from pipeline.hub.access import client, hub_error, resolve, unexpected
from pipeline.hub.names import DEFAULT_REVISION, HubName, is_hub_name, parse_hub_tokenizer

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"


def pinned(spec: str) -> str:
    """A `--tokenizer` whose revision is a commit, if it is a name on the Hub; any other as it is.

    Raises:
        ConfigError: there is no such repository or revision, or no tokenizer.json in it.
        BuildError: the Hub cannot be asked, and the cache does not have it.
    """
    if not is_hub_name(spec):
        return spec
    name = parse_hub_tokenizer(spec)
    return str(replace(name, revision=tokenizer_file(name).parent.name))


def tokenizer_file(name: HubName) -> Path:
    """The tokenizer.json on this disk, its tokenizer_config.json beside it; the folder has the name of the commit.

    Raises:
        ConfigError, BuildError: as `pinned`.
    """
    hub = client()
    try:
        path = Path(hub.hf_hub_download(name.repository, FILE, revision=name.revision or DEFAULT_REVISION))
    except Exception as error:
        raise _refusal(error, name) from error
    commit = path.parent.name
    try:
        hub.hf_hub_download(name.repository, CONFIG, revision=commit)
    except hub.errors.LocalEntryNotFoundError as error:
        if not isinstance(hub.try_to_load_from_cache(name.repository, CONFIG, revision=commit), str | None):
            return path  # it was asked for before, and is not there
        raise _refusal(error, name) from error
    except hub.errors.EntryNotFoundError:
        pass
    except Exception as error:
        raise _refusal(error, name) from error
    return path


def _refusal(error: Exception, name: HubName) -> Exception:
    errors = client().errors
    missing = isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError)
    if missing or (isinstance(error, errors.RepositoryNotFoundError) and _is_there_without_it(name)):
        return ConfigError(
            f"--tokenizer {name}: the repository has no {FILE}, and only fast tokenizers are read: save one with "
            f"AutoTokenizer.from_pretrained({name.repository!r}).save_pretrained(FOLDER), and give that folder."
        )
    return hub_error(error, name, "model") or unexpected(error, name)


def _is_there_without_it(name: HubName) -> bool:
    """Of a missing file some mirrors of the Hub say that there is no repository."""
    try:
        return FILE not in resolve(name, "model").files
    except CurriculumError:
        return False
