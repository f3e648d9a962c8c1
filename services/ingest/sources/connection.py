"""One connection to Databento's live gateway at a time, in a thread; raw DBN bytes come out of a queue.

The databento client does the protocol (greeting, CRAM, subscriptions, start, framing of control lines). Its
public DatabentoLiveProtocol is used as its documentation allows, with one override: received bytes go on as
they are, instead of one Python object a record (README.md has the measurement).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from databento.live.protocol import DatabentoLiveProtocol

CONNECT_TIMEOUT_S = 15.0
HEARTBEAT_S = 10
SILENCE_S = 2 * HEARTBEAT_S
MAX_PENDING_BYTES = 256 * 1024 * 1024  # not yet taken by ingest; more stays with the gateway
FIRST_WAIT_S = 0.05
MAX_WAIT_S = 60.0

# The client's own messages would double ours, and its debug level would show the challenge's answer.
logging.getLogger("databento").setLevel(logging.CRITICAL + 1)


Why = Literal[
    "closed",  # by the gateway, in order
    "broken",
    "unreachable",
    "refused",  # authentication said no, or the client to what it was to send
    "silent",
    "damaged",  # by us: what it sent is no DBN
    "snapshot",  # by us: to subscribe with a snapshot
]


@dataclass(frozen=True, slots=True)
class Subscription:
    schema: str
    start: int | None = None  # ns of ts_event
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Up:
    session_id: str | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone, after all its bytes, or never came up."""

    why: Why
    text: str


Event = bytes | Up | Lost


class _RawProtocol(DatabentoLiveProtocol):
    def __init__(self, sink: Callable[[bytes], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sink = sink

    def _process_dbn(self, data: bytes) -> None:
        self._sink(data)


class LiveConnection:
    """`connect` starts a connection; its events come from `events` in order and end with Lost.

    Then connect again.
    """

    def __init__(
        self, key: str, dataset: str, symbols: tuple[str, ...], stype_in: str, host: str, port: int
    ) -> None:
        self._key, self._dataset, self._symbols, self._stype_in = key, dataset, symbols, stype_in
        self._host, self._port = host, port
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._pending = 0
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self._last_data = 0.0
        self._attempts = 0
        self._dropped: Why | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"live {dataset}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def connect(self, subscriptions: list[Subscription]) -> None:
        """Connect after a pause that grows with every attempt since `brought_something`; does not block."""
        self._dropped = None
        asyncio.run_coroutine_threadsafe(self._begin(subscriptions), self._loop)

    async def _begin(self, subscriptions: list[Subscription]) -> None:
        if self._attempts:
            wait = min(FIRST_WAIT_S * 2 ** min(self._attempts - 1, 12), MAX_WAIT_S)
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
        self._attempts += 1
        try:
            lost = await self._session(subscriptions)
        except Exception as error:  # noqa: BLE001 - the client raises BentoError(text) or ValueError(text): no more is known
            lost = Lost("refused", str(error))
        self._transport = None
        self.events.put(Lost(self._dropped or lost.why, lost.text))

    async def _session(self, subscriptions: list[Subscription]) -> Lost:
        """One connection from beginning to end; what ended it."""
        protocol = _RawProtocol(
            self._received, api_key=self._key, dataset=self._dataset, heartbeat_interval_s=HEARTBEAT_S
        )
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, _ = await self._loop.create_connection(lambda: protocol, self._host, self._port)
        except (OSError, TimeoutError) as error:
            return Lost("unreachable", f"{where} cannot be reached: {str(error) or 'timed out'}")
        self._transport = transport
        try:
            return await self._talk(protocol, where, subscriptions)
        finally:
            transport.abort()

    async def _talk(
        self, protocol: DatabentoLiveProtocol, where: str, subscriptions: list[Subscription]
    ) -> Lost:
        either: set[asyncio.Future[Any]] = {protocol.authenticated, protocol.disconnected}
        done, _ = await asyncio.wait(
            either, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )  # fmt: skip
        if protocol.authenticated not in done:
            protocol.authenticated.cancel()
            return Lost(
                "unreachable", f"{where} {'closed before it answered' if done else 'does not answer'}"
            )
        session_id = protocol.authenticated.result()
        for each in subscriptions:
            protocol.subscribe(
                schema=each.schema, symbols=list(self._symbols) or "ALL_SYMBOLS", stype_in=self._stype_in,
                start=each.start, snapshot=each.snapshot,
            )  # fmt: skip
        protocol.start()
        self._last_data = self._loop.time()
        self.events.put(Up(session_id))
        return await self._until_lost(protocol)

    async def _until_lost(self, protocol: DatabentoLiveProtocol) -> Lost:
        while True:
            await asyncio.wait({protocol.disconnected}, timeout=1.0)
            if protocol.disconnected.done():
                error = None if protocol.disconnected.cancelled() else protocol.disconnected.exception()
                if error is None:
                    return Lost("closed", "closed by the gateway")
                return Lost("broken", str(error) or type(error).__name__)
            if self._loop.time() - self._last_data > SILENCE_S and not self._paused:
                protocol.disconnected.cancel()
                return Lost("silent", f"nothing came for {SILENCE_S} s, not even a heartbeat")

    def _received(self, data: bytes) -> None:
        self._last_data = self._loop.time()
        self._pending += len(data)
        self.events.put(data)
        if self._pending > MAX_PENDING_BYTES and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def brought_something(self) -> None:
        """Records or a heartbeat: the next connection need not wait. Metadata and an error are nothing."""
        self._attempts = 0

    def taken(self, count: int) -> None:
        """`count` bytes were taken from the queue: reading goes on if it was stopped."""
        self._loop.call_soon_threadsafe(self._taken, count)

    def _taken(self, count: int) -> None:
        self._pending -= count
        if self._paused and self._pending < MAX_PENDING_BYTES // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    @property
    def pending_bytes(self) -> int:
        return self._pending

    def drop(self, why: Why) -> None:
        """End the current connection; Lost follows and gives this reason."""
        self._dropped = why
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End connection and thread; safe to call twice."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        self._abort()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._loop.stop()
