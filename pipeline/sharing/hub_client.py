"""The client of the Hugging Face Hub, without its own bars and warnings.

In:  options `token` and `endpoint`; without them the usual places count (HF_TOKEN, a login, HF_ENDPOINT).
Out: `HfApi`, and a block in which the library is silent.
Guarantee: a connection that is silent for `SILENT_SECONDS` is given up, where the installed release lets us say so
(1.0 and later; by itself it waits forever). What the block changes of the library is put back at its end. Nothing is
sent but what was asked for: no telemetry call, no name of ours.

    with quiet(): hub_api(NO_OPTIONS).repo_info("org/books", repo_type="dataset", revision="main").sha
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curriculum.errors import ConfigError
from pipeline.files.storage_options import StorageOptions

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SILENT_SECONDS = 120.0
"""A large commit takes the Hub up to a minute."""
_TAKEN = ("endpoint", "token")
_LOCK = threading.RLock()


def hub_api(options: StorageOptions) -> HfApi:
    """The client.

    Raises:
        ConfigError: huggingface_hub is not installed, or an option is not one of its own.
    """
    values = options.values()
    unknown = sorted(set(values) - set(_TAKEN))
    if unknown:
        raise ConfigError(f"--storage-option {unknown[0]} means nothing to the Hub: it takes {' and '.join(_TAKEN)}.")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ConfigError(
            "hf:// needs huggingface_hub, which is not installed: pip install 'seqlen-curriculum[hf]'."
        ) from None
    return HfApi(endpoint=values.get("endpoint"), token=values.get("token"))


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which huggingface_hub draws no bars, logs errors only and warns of nothing; one thread at a time."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import logging as library
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drew, verbosity = not are_progress_bars_disabled(), library.get_verbosity()
        disable_progress_bars()
        library.set_verbosity(logging.ERROR)
        session = get_session()
        if hasattr(session, "timeout"):
            session.timeout = SILENT_SECONDS
        try:
            yield
        finally:
            library.set_verbosity(verbosity)
            if drew:
                enable_progress_bars()


@contextmanager
def quiet_beside() -> Iterator[None]:
    """The same for a small request that cannot wait for another thread: while that is in its block, all is silent."""
    if _LOCK.acquire(blocking=False):
        try:
            with quiet():
                yield
        finally:
            _LOCK.release()
    else:
        yield
