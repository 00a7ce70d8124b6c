"""What an error of the Hugging Face Hub means: try again, or one sentence that says what to do.

In:  an exception of huggingface_hub.   Out: a sentence for one that does not pass by itself, nothing for one that may.
Guarantee: neither tokens nor signatures of addresses are in a sentence. When the Hub names the seconds after which it
may be asked again, so long is waited.

    401, nobody is logged in     "hf://datasets/org/x: cannot be read: the Hub has nothing of that name, or ..."
    503, a dropped connection    nothing: it is tried again
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from curriculum.errors import BuildError, CurriculumError
from curriculum.remote.failures import http_status, reason
from pipeline.files.failures import AGAIN, is_full, passes
from pipeline.files.retries import Patience, persist
from pipeline.files.storage_options import StorageOptions

T = TypeVar("T")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}|(?<=Bearer )\S+")
_WAIT = re.compile(r"t=(\d+)")
_WRONG_TOKEN = "Invalid credentials"
"""What the Hub says of a token that is none; without one it says 401 of whatever not everybody may see."""
_STORAGE = re.compile(r"storage|quota", re.IGNORECASE)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
MOST_WAIT_SECONDS = 300.0
"""The window in which the Hub counts requests."""


class HubFailure(Exception):
    """What may pass by itself, in words without secrets."""


def ask(attempt: Callable[[], T], what: str, doing: str, patience: Patience, options: StorageOptions) -> T:
    """Call `attempt`, which must be repeatable, until it succeeds.

    Args:
        what: an address.
        doing: "read", "listed", "written" or "removed".

    Raises:
        BuildError: it failed for good, or for as long as `patience` lasts.
        DataError: as `attempt` raises it.
    """

    refused: list[CurriculumError] = []

    def once() -> T:
        try:
            return attempt()
        except CurriculumError as error:
            refused.append(error)
            raise
        except Exception as error:
            sentence = final(error, what, doing, options)
            if sentence is not None:
                raise sentence from error
            patience.sleep(seconds_asked_for(error))
            raise HubFailure(why(error, options)) from error

    try:
        return persist(once, what, doing, patience=patience, options=options)
    except BuildError:
        if refused:  # of its own kind: `persist` makes a BuildError of a DataError
            raise refused[0] from refused[0].__cause__
        raise


def final(error: BaseException, what: str, doing: str, options: StorageOptions) -> BuildError | None:
    """The sentence for an error that trying again cannot help; None if it can."""
    from huggingface_hub import errors

    status = http_status(error)
    begin = f"{what}: cannot be {doing}"
    because = f"({why(error, options)})"
    if any(isinstance(link, errors.OfflineModeIsEnabled) for link in _chain(error)):
        return BuildError(f"{begin}: HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it, then {AGAIN}")
    disk = next((link for link in _chain(error) if isinstance(link, OSError) and link.errno in _DISK), None)
    if disk is not None and status is None:
        where = f" ({disk.filename})" if disk.filename else ""
        return BuildError(f"{begin}: the disk of this machine says {disk.strerror}{where}. Repair that, then {AGAIN}")
    if isinstance(error, errors.GatedRepoError):
        return BuildError(
            f"{begin}: its owners grant access one by one, and not to you {because}. Ask for it on the page of the "
            f"repository, and log in as the one who was granted it (hf auth login)."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return BuildError(
            f"{begin}: the repository has no such branch, tag or commit. Correct what stands after the @."
        )
    if isinstance(error, errors.DisabledRepoError):
        return BuildError(f"{begin}: the Hub has disabled it {because}.")
    if is_missing(error) or (status == 401 and _WRONG_TOKEN not in because):
        seen = "nobody is logged in" if status == 401 else "your token does not see it"
        return BuildError(
            f"{begin}: the Hub has nothing of that name, or it is private and {seen}. Correct the name, or log in "
            f"(hf auth login, or a token in HF_TOKEN)."
        )
    if status == 401:
        return BuildError(f"{begin}: the Hub does not know the token {because}. Log in anew (hf auth login).")
    if is_full(error) or (status == 403 and _STORAGE.search(because)):
        return BuildError(
            f"{begin}: the storage of its owner is used up, or a file is too large {because}. Free some or get more "
            f"(public repositories may have more than private ones), then {AGAIN}"
        )
    if status == 403:
        right = "read" if doing in ("read", "listed") else "write to"
        return BuildError(f"{begin}: your token may not {right} it {because}. Use a token with that permission.")
    if status in (409, 412):
        return overtaken(what, doing, f" {because}")
    if passes(_cause(error)):
        return None
    return BuildError(f"{begin} {because}. Correct that, then run the same command again.")


def overtaken(what: str, doing: str, because: str = "") -> BuildError:
    """The sentence where a branch holds commits of another push."""
    return BuildError(
        f"{what}: cannot be {doing}: somebody else changed the branch at the same time{because}. Look at what is there "
        f"now, and run the same command again."
    )


def is_missing(error: BaseException) -> bool:
    """Whether the repository or bucket is not there, or is hidden from us."""
    from huggingface_hub import errors

    kinds = (errors.RepositoryNotFoundError, getattr(errors, "BucketNotFoundError", errors.RepositoryNotFoundError))
    return isinstance(error, kinds) and not isinstance(error, errors.GatedRepoError)


def is_not_there(error: BaseException) -> bool:
    """The same, said to somebody whose token the Hub knows: to others it says so of everything that is private."""
    return is_missing(error) and http_status(error) == 404


def why(error: BaseException, options: StorageOptions) -> str:
    """Status and words of the Hub, or type and text of the error, in one line and without secrets."""
    for link in _chain(error):
        said, response = getattr(link, "server_message", None), getattr(link, "response", None)
        if said:
            return f"HTTP {http_status(link)}: {reason(Exception(conceal(said, options))).partition(': ')[2]}"
        if response is not None and http_status(link) is not None:
            return f"HTTP {http_status(link)} of {conceal(str(response.url), options)}"
    return reason(_cause(error), lambda text: conceal(text, options))


def conceal(text: str, options: StorageOptions) -> str:
    """A text without tokens, and without what stands behind the ? of an address: uploads are signed there."""
    return _TOKEN.sub("***", _QUERY.sub(r"\1?***", options.conceal(text)))


def seconds_asked_for(error: BaseException) -> float:
    """How long the Hub wants to be left alone: of 429 and 503 with such a header; else 0."""
    for link in _chain(error):
        headers = getattr(getattr(link, "response", None), "headers", None)
        if headers is None or http_status(link) not in (429, 503):
            continue
        after = str(headers.get("Retry-After", "")).strip()
        reset = _WAIT.search(str(headers.get("RateLimit", "")))
        seconds = float(after) if after.isdigit() else float(reset[1]) if reset and http_status(link) == 429 else 0.0
        return min(seconds, MOST_WAIT_SECONDS)
    return 0.0


def _cause(error: BaseException) -> BaseException:
    """huggingface_hub wraps what happened to an upload into a RuntimeError."""
    return error.__cause__ if type(error) is RuntimeError and error.__cause__ is not None else error


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(6):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__
