"""A connection to a Ray cluster that is already running.

In:  an address, or none.   Out: the module `ray`, connected until the block ends.
Guarantee: never starts a cluster and never stops one; a connection that somebody else made in this process is used and
left. Nothing is printed on stdout, which belongs to results, and the signal handlers stay what they were.

    with connected("10.0.0.1:6379") as ray: ...
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any, TextIO

from curriculum.errors import BuildError, ConfigError

HOW_TO_START = (
    "Start one (`ray start --head` here, `ray start --address=HOST:6379` on the other machines), or name one with "
    "--ray-address HOST:PORT; docs/clusters.md shows Slurm and Kubernetes."
)
CONNECT_SECONDS = 10.0
CLIENT_PORT = 10001
"""Of Ray Client; it speaks HTTP/2 too."""
NO_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""A frame of type 4 with nothing in it."""


def import_ray() -> Any:
    """The module.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # what is kept back is printed at the end, on stdout
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"--engine ray needs Ray, which cannot be imported ({error}): pip install 'seqlen-curriculum[ray]'."
        ) from None
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Use the cluster at an address; RAY_ADDRESS or the cluster of this machine if none is given.

    Raises:
        ConfigError: Ray is not installed, or the address is none of a cluster.
        BuildError: nobody answers there.
    """
    ray = import_ray()
    if ray.is_initialized():
        _check_connection(ray, address)
        yield ray
        return
    target = address or os.environ.get("RAY_ADDRESS") or "auto"
    _check_address(target)
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(_WithoutRay(sys.stdout)))
        with _handlers_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own, about its next release
            _connect(ray, target)
        stack.callback(ray.shutdown)
        yield ray


def _connect(ray: Any, target: str) -> None:
    try:
        ray.init(address=target, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        if target == "auto":
            raise BuildError(f"No Ray cluster runs on this machine. {HOW_TO_START}") from None
        raise _refused(target, error) from None
    except Exception as error:
        raise _refused(target, error) from None


def _refused(target: str, error: Exception) -> BuildError:
    reason = " ".join(str(error).split()).rstrip(".")[:300]
    return BuildError(
        f"The Ray cluster at {target} cannot be used: {reason}. This machine must be one of its nodes, with the same "
        f"releases of Ray and Python. {HOW_TO_START}"
    )


def _check_connection(ray: Any, address: str | None) -> None:
    """A connection that is already there cannot be changed for another."""
    current = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", current):
        raise ConfigError(
            f"--ray-address is {address}, and this process is connected to the Ray cluster at {current}: leave the "
            f"address out, or call ray.shutdown() first."
        )


def _check_address(target: str) -> None:
    """Refuse what is no address of a running cluster, in a sentence and soon; Ray itself tries for a minute."""
    if target == "auto":
        return
    if "://" in target or target == "local":
        raise ConfigError(
            f"The Ray address {target!r} is not HOST:PORT of a running cluster. Start this command on one of its nodes "
            f"(`ray job submit`, a RayJob or `srun` do that) and leave --ray-address out, or give HOST:6379."
        )
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"The Ray address {target!r} is not HOST:PORT, such as 10.0.0.1:6379.")
    try:
        greets = _greets(host.strip("[]"), int(port))
    except OSError as error:
        raise BuildError(f"No Ray cluster answers at {target} ({error.strerror or error}). {HOW_TO_START}") from None
    if not greets or int(port) == CLIENT_PORT:
        raise BuildError(
            f"What answers at {target} is not the head of a Ray cluster: give the port that `ray start --head` has "
            f"(6379 unless said otherwise), not that of the dashboard (8265) or of Ray Client ({CLIENT_PORT})."
        )


def _greets(host: str, port: int) -> bool:
    """Whether a server speaks HTTP/2 (RFC 9113, 3.4), as the head of a cluster does; not asked where TLS is on."""
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return True
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NO_SETTINGS)
        answer = connection.recv(9)
        return len(answer) == 9 and answer[3] == NO_SETTINGS[3]


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


class _WithoutRay:
    """A stream without what Ray's own threads print: forty lines for each node that dies."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of the stream, but for those threads."""
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
