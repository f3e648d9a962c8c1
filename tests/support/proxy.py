"""A proxy in front of a broker: the network fails as it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class Proxy:
    """Forwards to the unix socket `target`: from the unix socket `listen`, or from `port`, a free one of its own.

    `cut` breaks all connections until `heal`; `switch` breaks them and leads new ones to another server. `break_after`
    cuts in the middle of what clients send; `lose_replies` lets commands through and their answers not.
    """

    def __init__(self, target: Path, *, listen: Path | None = None) -> None:
        self.target = target
        self._lock = threading.RLock()  # a fault that is over does not strike late
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._budget: int | None = None  # bytes that clients may still send before all is cut
        self._loses_replies = False
        if listen:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(str(listen))
            self.url = f"unix://{listen}"
        else:
            self._server = socket.socket()
            self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
            self._server.bind(("127.0.0.1", 0))
            self.port = int(self._server.getsockname()[1])
            self.url = f"redis://127.0.0.1:{self.port}/0"
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
                with self._lock:
                    if self._is_cut:
                        raise ConnectionError
                    upstream.connect(str(self.target))
                    self._open |= {client, upstream}
            except OSError:
                client.close()
                upstream.close()
                continue
            threading.Thread(target=self._requests, args=(client, upstream), daemon=True).start()
            threading.Thread(target=self._replies, args=(upstream, client), daemon=True).start()

    def _requests(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while blob := client.recv(1 << 16):
                with self._lock:
                    if self._budget is not None:
                        blob = blob[: self._budget]
                        self._budget -= len(blob)
                        if self._budget == 0:
                            upstream.sendall(blob)
                            self.cut()
                            break
                upstream.sendall(blob)
        self._end(client, upstream)

    def _replies(self, upstream: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while blob := upstream.recv(1 << 16):
                with self._lock:
                    if self._loses_replies:
                        self.cut()
                        break
                client.sendall(blob)
        self._end(upstream, client)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with self._lock:
                self._open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            for end in list(self._open):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        with self._lock:
            self._budget, self._loses_replies, self._is_cut = None, False, False

    def switch(self, target: Path) -> None:
        """All connections break; new ones reach `target`, once healed."""
        self.cut()
        self.target = target

    def break_after(self, size: int) -> None:
        """Let `size` more bytes of commands through, then cut: the rest of a pipeline never arrives."""
        self._budget = size

    def lose_replies(self) -> None:
        """Cut when the next answer comes: the broker has done what it was asked, nobody hears of it."""
        self._loses_replies = True

    def close(self) -> None:
        self.cut()
        self._server.close()
