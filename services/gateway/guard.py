"""The connection itself: uvicorn's HTTP/1.1 protocol with limits on heads, bodies and the time they may take."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.problems import MEDIA_TYPE, Problem
from services.gateway.settings import GatewaySettings
from shared import metrics

SWEEP_S = 0.5


def _closing(problem: Problem) -> bytes:
    """A whole answer, for a request that is not read to its end."""
    body = problem.body()
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        problem.status,
        problem.title.encode(),
        MEDIA_TYPE.encode(),
        len(body),
        body,
    )


_HEAD_TOO_LARGE = _closing(
    Problem(
        431,
        "head-too-large",
        "Request Header Fields Too Large",
        "send fewer or shorter headers, or a shorter URL",
    )
)
_BODY_TOO_LARGE = _closing(Problem(413, "too-large", "Content Too Large", "send a smaller body"))


class Sweeper:
    """Closes connections whose request is not complete in time: one queue, no timer a connection."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self._due: deque[tuple[float, GuardedProtocol]] = deque()

    def watch(self, protocol: GuardedProtocol, now: float) -> None:
        self._due.append((now, protocol))

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        refused = metrics.get("mbo_gateway_refused_total").labels("slow-request")
        while True:
            await asyncio.sleep(SWEEP_S)
            limit = loop.time() - self.settings.header_timeout_s
            while self._due and self._due[0][0] <= limit:
                since, protocol = self._due.popleft()
                if protocol.waiting_since == since and not protocol.transport.is_closing():
                    refused.inc()
                    protocol.transport.abort()


class GuardedProtocol(HttpToolsProtocol):
    """As uvicorn's, but a request head has a size and a deadline, and so has its body."""

    # Slots: with these four its __dict__ would pass the 30 names that instances of a class can share: +1.3 KB a client
    __slots__ = ("_body", "_head", "_in_body", "waiting_since")
    sweeper: Sweeper  # set by `protocol_class`
    waiting_since: float | None  # loop time at which the request under way began
    _head: int  # bytes of the request under way
    _body: int
    _in_body: bool

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()
        if len(self.connections) > self.sweeper.settings.max_connections:
            metrics.get("mbo_gateway_refused_total").labels("connections").inc()
            transport.abort()

    def _begin(self) -> None:
        self.waiting_since = self.loop.time()
        self._head, self._body, self._in_body = 0, 0, False
        self.sweeper.watch(self, self.waiting_since)

    def data_received(self, data: bytes) -> None:
        if self.waiting_since is None:
            cycle: Any = self.cycle  # None before the first request
            if cycle is not None and not cycle.response_complete:
                self.transport.abort()  # talks while its stream runs: nothing of ours does
                return
            self._begin()
        if not self._in_body:
            end = data.find(b"\r\n\r\n")
            self._head += len(data) if end < 0 else end + 4
            if self._head > self.sweeper.settings.header_bytes:
                self._refuse(_HEAD_TOO_LARGE, "head")
                return
        super().data_received(data)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self._body <= self.sweeper.settings.body_bytes:
            super().on_body(body)
        elif not self.transport.is_closing():
            self._refuse(_BODY_TOO_LARGE, "body")

    def _refuse(self, answer: bytes, why: str) -> None:
        metrics.get("mbo_gateway_refused_total").labels(why).inc()
        self.transport.write(answer)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["mbo.transport"] = self.transport  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.waiting_since = None
        super().on_message_complete()


def protocol_class(settings: GatewaySettings) -> tuple[type[GuardedProtocol], Sweeper]:
    """The protocol for uvicorn's Config(http=…), and the sweeper to run beside it."""
    sweeper = Sweeper(settings)
    attributes: dict[str, Any] = {"sweeper": sweeper, "__slots__": ()}
    return type("Guarded", (GuardedProtocol,), attributes), sweeper
