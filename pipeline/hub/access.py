"""Ask the Hub, and say in one sentence why it does not answer.

In:  a name and the kind of its repository.   Out: the commit that its revision stands at; or an error to raise.
Guarantee: every failure of the clients (`huggingface_hub`, `datasets`) that has to do with the Hub becomes one sentence
that says what to do: log in, ask for access, check the name, go online. Clients are imported here and below alone.

    resolve(hf:org/books, "dataset")       hf:org/books@1f2e...  with the name that the repository has now
    org/private without a login            "hf:org/private: there is no such dataset on the Hub, or it is private: ..."
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from curriculum.errors import BuildError, ConfigError, CurriculumError
from curriculum.printable import without_user
from pipeline.hub.names import DEFAULT_REVISION, HubName

Kind = Literal["dataset", "model"]
TIMEOUT_SECONDS = 60.0
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_NETWORK = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "TransportError", "TimeoutException")
"""Names of what HTTP clients raise when nobody answers: which client it is depends on the release."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A repository at a commit."""

    name: HubName
    files: tuple[str, ...]
    """paths in the repository"""


def client() -> Any:
    """The module `huggingface_hub`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise ConfigError(
            "Names on the Hub need the package huggingface_hub: pip install 'seqlen-curriculum[hf]'."
        ) from error
    hub: Any = huggingface_hub
    hub.utils.disable_progress_bars()  # workers would draw theirs across each other
    hub.utils.logging.set_verbosity(logging.CRITICAL)  # a Hub that cannot be reached is one sentence of ours
    return hub


def resolve(name: HubName, kind: Kind) -> Resolved:
    """The repository at the commit that its revision stands at now.

    Raises:
        ConfigError: there is no such repository or revision.
        BuildError: the Hub cannot be asked, or asks for a login.
    """
    hub = client()
    try:
        info = hub.HfApi().repo_info(
            name.repository, repo_type=kind, revision=name.revision or DEFAULT_REVISION, timeout=TIMEOUT_SECONDS
        )
    except Exception as error:
        raise hub_error(error, name, kind) or unexpected(error, name) from error
    return Resolved(
        name=replace(name, repository=info.id, revision=info.sha),
        files=tuple(file.rfilename for file in info.siblings or ()),
    )


def hub_error(error: Exception, name: HubName, kind: Kind) -> CurriculumError | None:
    """The error to raise in place of one that a client raised; None if it does not come from the Hub."""
    errors = client().errors
    endpoint = without_user(client().constants.ENDPOINT)
    page = f"{endpoint}/{'datasets/' if kind == 'dataset' else ''}{name.repository}"
    chain = tuple(_chain(error))

    def holds(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if holds(errors.OfflineModeIsEnabled):
        return BuildError(
            f"{name}: the Hub is not asked, since HF_HUB_OFFLINE is set, and this machine does not have what is needed "
            f"of it. Unset it for this command, or give files of this machine."
        )
    if holds(errors.GatedRepoError):
        return BuildError(f"{name}: access to it has to be asked for: do that at {page}, then {LOG_IN}.")
    if holds(errors.RepositoryNotFoundError):
        return ConfigError(
            f"{name}: there is no such {kind} repository on the Hub, or it is private: check the name; if it is "
            f"right, {LOG_IN}."
        )
    if holds(errors.RevisionNotFoundError):
        return ConfigError(
            f"{name}: the repository has no branch, tag or commit {name.revision or DEFAULT_REVISION!r}: see {page}."
        )
    if holds(errors.HFValidationError):
        return ConfigError(f"{name}: the Hub has no such names ({first_line(error)}); write hf:ORG/NAME.")
    # A file that is not there is often asked for in vain, on the way to what really happened.
    answers = [one for one in chain if isinstance(one, errors.HfHubHTTPError)]
    status = next((one.response.status_code for one in answers if not isinstance(one, errors.EntryNotFoundError)), None)
    if status in (401, 403):
        return BuildError(f"{name}: the Hub refuses access (HTTP {status}): {LOG_IN} as somebody who may read it.")
    if status is not None:
        return BuildError(f"{name}: the Hub answers with HTTP {status}. Run the same command again later.")
    if any(isinstance(one, ConnectionError | TimeoutError) or _is_network(one) for one in chain):
        return BuildError(
            f"{name}: the Hub cannot be reached at {endpoint} ({first_line(chain[-1])}). Run the "
            f"same command again when the network is there."
        )
    return None


def access_error(name: HubName, kind: Kind) -> CurriculumError | None:
    """Why files of a repository are not given to whoever asks; None if they are. `datasets` loses that answer."""
    hub = client()
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(name.repository, "README.md", repo_type=kind, revision=name.revision))
    except Exception as error:
        return hub_error(error, name, kind)
    return None


def unexpected(error: Exception, name: HubName) -> BuildError:
    """For what nobody has thought of."""
    return BuildError(f"{name}: cannot be read ({type(error).__name__}: {first_line(error)}). Look at its page.")


def first_line(error: BaseException) -> str:
    """The first line of a message that may have many, at most 200 characters of it; without passwords."""
    lines = without_user(str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()[:200]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from or after."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_network(error: BaseException) -> bool:
    return any(base.__name__ in _NETWORK for base in type(error).__mro__)
