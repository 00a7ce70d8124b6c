"""What an error of a store means to a build: try again, or one sentence that says what to do.

In:  an exception of s3fs, gcsfs, huggingface_hub or another file system of fsspec.   Out: a decision, a `BuildError`.
Guarantee: what is missing, forbidden or full is never tried again; what may pass by itself is
(`curriculum.remote.failures` decides that for readers and builds alike).

    507, 413, QuotaExceeded     "s3://b/x: cannot be written: the store is full or a quota is used up (...). Free ..."
"""

from __future__ import annotations

from curriculum.errors import BuildError, CurriculumError
from curriculum.remote.failures import http_status, may_pass, reason
from pipeline.files.storage_options import StorageOptions

AGAIN = "run the same command again: it continues where it stopped."
_FULL_STATUS = (413, 507)
_FULL_CODES = ("EntityTooLarge", "QuotaExceeded", "InsufficientCapacity", "StorageFull")
_PASSING_CODES = ("RequestTimeout", "NoSuchUpload", "BadDigest", "IncompleteBody", "OperationAborted")
"""Errors of S3 with a status that says the opposite: a connection that stalled, an upload that a restart forgot."""
_WRONG_SETTINGS = (
    "ParamValidationError",
    "ProfileNotFound",
    "NoRegionError",
    "InvalidRegionError",
    "EndpointResolutionError",
    "SSOToken",
)
"""Parts of the names of errors of clients that were set up wrongly; nothing was sent."""


def passes(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if is_full(error) or is_forbidden(error) or any(name in type(error).__name__ for name in _WRONG_SETTINGS):
        return False
    return _code(error) in _PASSING_CODES or may_pass(error)


def is_full(error: BaseException) -> bool:
    """Whether the store says that it takes no more: no space, or a quota."""
    code = _code(error)
    return http_status(error) in _FULL_STATUS or any(name in code for name in _FULL_CODES)


def is_forbidden(error: BaseException) -> bool:
    """Whether the store does not let us; gcsfs says so in words alone."""
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return True
    return http_status(error) in (401, 403) or (type(error) is OSError and str(error).startswith("Forbidden"))


def is_missing(error: BaseException) -> bool:
    """Whether what was asked for is not there."""
    return (isinstance(error, FileNotFoundError) and not passes(error)) or http_status(error) in (404, 410)


def refusal(error: BaseException, what: str, doing: str, options: StorageOptions) -> BuildError:
    """The sentence for an error that does not pass.

    Args:
        what: address of what was asked for.
        doing: "read", "written", "listed" or "removed".
        options: what must not appear in the sentence.
    """
    why = reason(error, options.conceal)
    begin = f"{what}: cannot be {doing}"
    if isinstance(error, BuildError):
        return error
    if isinstance(error, CurriculumError):
        return BuildError(options.conceal(str(error)))
    if is_full(error):
        return BuildError(
            f"{begin}: the store is full, a quota is used up, or the object is too large for it ({why}). Free space or "
            f"raise the quota, then {AGAIN}"
        )
    if is_forbidden(error):
        return BuildError(
            f"{begin}: the store refuses access ({why}). Check the address, and the credentials, which come from the "
            f"environment or from --storage-option: a build or a push lists, reads, writes and deletes there."
        )
    if is_missing(error):
        missing = "no such bucket" if doing in ("written", "listed") else "no such object or bucket"
        return BuildError(f"{begin}: the store has {missing} ({why}). Create the bucket, or correct the address.")
    return BuildError(f"{begin} ({why}). Check the address and the options of the store.")


def gave_up(error: BaseException, what: str, doing: str, seconds: float, options: StorageOptions) -> BuildError:
    """The sentence for a store that did not recover."""
    return BuildError(
        f"{what}: cannot be {doing}: tried for {seconds:,.0f} s, and the store or the network still fails "
        f"({reason(error, options.conceal)}). Check them, then {AGAIN}"
    )


def _code(error: BaseException) -> str:
    """What S3 calls the error; "" if it is none of S3."""
    link: BaseException | None = error
    for _ in range(5):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        link = link.__cause__ or link.__context__ if link is not None else None
    return ""
