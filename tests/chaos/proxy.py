"""A unix-socket proxy in front of the broker that can cut every connection and refuse new ones: the network fails."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class Proxy:
    """Forwards `listen` to `target`; `cut()` breaks all connections until `heal()`."""

    def __init__(self, listen: Path, target: Path) -> None:
        self.target = target
        self.url = f"unix://{listen}"
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(listen))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            try:
                if self._is_cut:
                    raise ConnectionError
                upstream.connect(str(self.target))
            except OSError:
                client.close()
                upstream.close()
                continue
            self._open |= {client, upstream}
            for a, b in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while blob := source.recv(1 << 16):
                sink.sendall(blob)
        for end in (source, sink):
            self._open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        self._is_cut = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._server.close()
