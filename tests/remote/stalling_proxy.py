"""A TCP proxy that lets so many bytes of answers through and then stalls, or drops the connection.

In:  the port of a server.   Out: a port of its own.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal


class StallingProxy:
    """Passes everything on until `pass_bytes` of answers went through."""

    def __init__(self, port: int) -> None:
        self.pass_bytes: float = float("inf")
        self.then: Literal["stall", "drop"] = "stall"
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._closed = threading.Event()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        self._closed.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets += [client, server]
                for source, target, counted in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(source, target, counted), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted:
                    self.pass_bytes -= len(data)
                    if self.pass_bytes < 0 and self.then == "stall":
                        self._closed.wait(60)
                        return
                    if self.pass_bytes < 0:
                        break
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
