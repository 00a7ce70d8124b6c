"""A TCP proxy that drops the first connections in the middle of what they carry, either way.

In:  the port of a server, and after how many bytes the first, second, ... connection is dropped.   Out: its own port.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence


class CuttingProxy:
    """Connections after the last that is to be cut live on."""

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self.cuts = list(cuts)
        """of connections to come"""
        self.num_cut = 0
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                left: list[float] = [self.cuts.pop(0) if self.cuts else float("inf")]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, target, left), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, left: list[float]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                target.sendall(data[: max(0, int(min(left[0], len(data))))])
                left[0] -= len(data)
                if left[0] < 0:
                    self.num_cut += 1
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                each.close()
