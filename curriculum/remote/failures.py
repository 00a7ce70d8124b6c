"""What an error of a store means: try again, or say what is wrong.

In:  an exception of s3fs, gcsfs, huggingface_hub or another file system of fsspec.
Out: whether it may pass by itself; the sentence for the user.
Guarantee: what is missing or forbidden is never tried again; what is unknown is, until the deadline of the range.

    404 or FileNotFoundError, 403 or PermissionError, no credentials     final
    503, 429, a dropped or refused connection, a timeout                 tried again
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from curriculum.errors import CurriculumError, DataError
from curriculum.printable import without_user

_FINAL = (
    CurriculumError,
    MemoryError,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    ImportError,
)
_PASSING_STATUS = frozenset({408, 425, 429})
REASON_CHARS = 200
RESUME = "Then resume from the last cursor."


def may_pass(error: BaseException) -> bool:
    """Whether trying again can help."""
    status = http_status(error)
    if isinstance(error, CurriculumError):
        return False
    if status is not None:
        return status in _PASSING_STATUS or status >= 500
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return may_pass(error.__cause__)  # fsspec's http says so whenever it cannot ask
    return not isinstance(error, _FINAL) and "Credential" not in type(error).__name__


def http_status(error: BaseException) -> int | None:
    """The status that a store answered with, as far as the error or its causes tell."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):  # botocore
            answered = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            answered = getattr(response, "status_code", None)
        for value in chain((answered,), _attributes(link, of_cause=link is not error)):
            if isinstance(value, int | str) and str(value).isdigit() and 400 <= int(value) < 600:
                return int(value)
    return None


def _attributes(error: BaseException, *, of_cause: bool) -> Iterator[object]:
    """One at a time: some libraries warn when an old name is looked at."""
    yield getattr(error, "status", None)
    yield getattr(error, "status_code", None)
    if not of_cause:  # the cause of aiohttp's error for a dropped connection has the code 400
        yield getattr(error, "code", None)


def final_error(error: BaseException, what: str) -> DataError:
    """The sentence for an error that trying again cannot help.

    Args:
        what: address, and bytes where a part was asked for.
    """
    status = http_status(error)
    if isinstance(error, DataError):
        return error
    if status in (401, 403) or isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return DataError(
            f"{what}: the store refuses access ({reason(error)}). Check the address and the credentials, which come "
            f"from the environment or from storage_options; some stores say so of what does not exist."
        )
    if status in (404, 410) or isinstance(error, FileNotFoundError):
        return DataError(
            f"{what}: the store has no such object ({reason(error)}). The copy is incomplete, it was pushed in "
            f"part, or it was deleted: put it back. {RESUME}"
        )
    return DataError(f"{what}: cannot be read ({reason(error)}).")


def reason(error: BaseException, conceal: Callable[[str], str] = str) -> str:
    """Type and text of an error in one short line.

    Args:
        conceal: takes secrets out of the whole text, before it is cut.
    """
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # says more than the path
    text = " ".join(without_user(conceal(str(error))).split()).rstrip(".")
    if len(text) > REASON_CHARS:  # at a space: nobody recognizes half of a secret any more
        text = f"{text[:REASON_CHARS].rpartition(' ')[0]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(5):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__
