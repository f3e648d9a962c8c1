"""The gateway: one market clock (`cursor`), any number of sessions that follow it, faults on command."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import databento_dbn as dbn
import numpy as np

from shared.dbn.metadata import Metadata, encode
from shared.records import Rows
from shared.units import F_SNAPSHOT, MBO_BYTES
from tests.support.fake_live_gateway import messages

KEY = "db-0123456789abcdefghijklmnopqrs"
_STEP_S = 0.002
_SLICE = 20_000  # records of one write


@dataclass
class Subscription:
    schema: str
    symbols: list[str]
    start: int | None
    snapshot: bool


@dataclass
class Session:
    """One connection after authentication."""

    writer: asyncio.StreamWriter
    subscriptions: list[Subscription] = field(default_factory=list)
    sent_bytes: int = 0
    drop_after_bytes: int | None = None


class FakeGateway:
    """`records` are the market, in order; `symbols` its instruments by id. Faults are attributes, set before or between
    connections: see each.

    `rate`: records a second by which the market goes on once the first session has started; None: all at once.
    """

    def __init__(
        self, records: Rows, symbols: dict[int, str], *, rate: float | None = None, key: str = KEY,
        dataset: str = "TEST.SET", host: str = "127.0.0.1", port: int = 0, heartbeat_s: float = 1.0,
    ) -> None:  # fmt: skip
        self.records, self.symbols, self.rate, self.key, self.dataset = records, symbols, rate, key, dataset
        self.heartbeat_s = heartbeat_s
        self.cursor = 0  # the market's now: records before it have happened
        self.limit = len(records)  # the market stops here (moved by tests)
        self.drops: deque[int] = deque()  # one connection each: bytes of DBN after which it breaks
        self.refusals: deque[str] = deque()  # one connection each: what authentication answers
        self.hang_ups = 0  # connections closed before the greeting
        self.mute = 0  # connections that are taken and never greeted
        self.oldest_index = 0  # replays from before this record are refused: aged out
        self.rejects: deque[tuple[str, dbn.ErrorCode]] = deque()  # one session each, at its start
        self.break_after: int | None = None  # records of the next snapshot after which the connection breaks
        self.statuses: dict[int, bytes] = {}  # status messages, by the record they come before
        self.unknown: set[str] = set()  # symbols that do not resolve
        self.first_bytes = b""  # sent instead of metadata
        self.requests: list[list[Subscription]] = []  # what every started session subscribed to
        self.sessions: list[Session] = []
        self.connections = 0
        self._host, self._port = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake gateway", daemon=True)
        self._server: asyncio.Server | None = None
        self._clock: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    # -- running ------------------------------------------------------------------------------------------------

    def __enter__(self) -> FakeGateway:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=2**20)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        # Those of ended sessions too: a close waits for a peer that may not read.
        for writer in self._writers:
            writer.transport.abort()
        tasks = [*self._tasks, *([self._clock] if self._clock else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # what was aborted ends in the loop's next turn

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"{self._host}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    # -- commands -----------------------------------------------------------------------------------------------

    def _each(self, what: Callable[[Session], None]) -> None:
        async def work() -> None:
            for session in list(self.sessions):
                what(session)

        self._do(work())

    def drop(self, cursor: int | None = None) -> None:
        """Break every connection, in the middle of a record if need be. `cursor`: the market goes on there, unseen."""

        async def work() -> None:
            for session in list(self.sessions):
                session.writer.transport.abort()
            if cursor is not None:
                self.cursor = self.limit = cursor

        self._do(work())

    def hang_up(self) -> None:
        """Close every connection in order, as at the weekend."""
        self._each(lambda session: session.writer.close())

    def send(self, raw: bytes) -> None:
        """Send a message to every session now."""
        self._each(lambda session: session.writer.write(raw))

    # -- protocol -----------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._talk(reader, writer)
        writer.close()
        self._tasks.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.hang_ups > 0:
            self.hang_ups -= 1
            writer.transport.abort()
            return
        if self.mute > 0:
            self.mute -= 1
            await reader.read()
            return
        challenge = secrets.token_hex(16)
        writer.write(f"lsg_version=0.6.2\ncram={challenge}\n".encode())
        asked = _fields(await reader.readuntil(b"\n"))
        answer = self._authenticate(asked, challenge)
        writer.write(answer.encode())
        if not answer.startswith("success=1"):
            await writer.drain()
            return
        session = Session(writer, drop_after_bytes=self.drops.popleft() if self.drops else None)
        while "start_session" not in (line := _fields(await reader.readuntil(b"\n"))):
            session.subscriptions.append(
                Subscription(
                    line["schema"], line["symbols"].split(","), int(line["start"]) if "start" in line else None,
                    line.get("snapshot") == "1",
                )
            )  # fmt: skip
        self.sessions.append(session)
        self.requests.append(session.subscriptions)
        try:
            await self._stream(session)
        finally:
            self.sessions.remove(session)

    def _authenticate(self, asked: dict[str, str], challenge: str) -> str:
        if self.refusals:
            return f"success=0|error={self.refusals.popleft()}\n"
        wanted = hashlib.sha256(f"{challenge}|{self.key}".encode()).hexdigest() + "-" + self.key[-5:]
        if asked.get("auth") != wanted:
            return "success=0|error=Authentication failed.\n"
        if asked.get("dataset") != self.dataset:
            return f"success=0|error=Not entitled to dataset {asked.get('dataset')}.\n"
        return f"success=1|session_id={secrets.randbelow(10**9)}\n"

    async def _stream(self, session: Session) -> None:
        await self._write(session, self.first_bytes or encode(Metadata(
            dataset=self.dataset, schema=None, stype_in=None, start=time.time_ns(),
        )))  # fmt: skip
        if self.rejects:
            text, code = self.rejects.popleft()
            await self._write(session, messages.error(text, code))
            return
        book = next(each for each in session.subscriptions if each.schema == "mbo")
        ids = await self._resolve(session, book)
        if ids is not None and not ids:
            return
        index = self.cursor
        if book.snapshot:
            rows = messages.snapshot(self.records[:index], ids)
            if self.break_after is not None:
                session.drop_after_bytes = session.sent_bytes + self.break_after * MBO_BYTES
                self.break_after = None
            await self._write(session, rows.tobytes())
        elif book.start is not None:
            if book.start < int(self.records["ts_event"][self.oldest_index]) and self.oldest_index:
                text = f"start {book.start} is older than the data kept"
                await self._write(session, messages.error(text, dbn.ErrorCode.REPLAY_DATA_AGED_OUT))
                return
            plain = self.records["flags"] & F_SNAPSHOT == 0
            late = np.flatnonzero(plain & (self.records["ts_event"] >= book.start))
            index = int(late[0]) if len(late) else self.cursor
        if self._clock is None:
            self._clock = asyncio.create_task(self._tick())
        await self._follow(session, index, ids)

    async def _resolve(self, session: Session, book: Subscription) -> set[int] | None:
        """Mappings and definitions of what was asked for; None means everything."""
        every = book.symbols == ["ALL_SYMBOLS"]
        ids = {
            key: name
            for key, name in self.symbols.items()
            if every or name in book.symbols or str(key) in book.symbols
        }
        for name in book.symbols:
            if not every and (name in self.unknown or name not in [*ids.values(), *map(str, ids)]):
                text = f"Failed to resolve symbol: {name}"
                await self._write(session, messages.error(text, dbn.ErrorCode.SYMBOL_RESOLUTION_FAILED))
        await self._write(
            session, messages.system("Subscription request 0 succeeded", dbn.SystemCode.SUBSCRIPTION_ACK)
        )
        wants_definitions = any(each.schema == "definition" for each in session.subscriptions)
        for key, name in ids.items():
            await self._write(session, messages.mapping(key, name))
            if wants_definitions:
                await self._write(session, messages.definition(key, name))
        return None if every else set(ids)

    async def _tick(self) -> None:
        """The market's clock."""
        began, base = time.monotonic(), self.cursor
        while True:
            due = self.limit
            if self.rate is not None:
                due = min(due, base + int((time.monotonic() - began) * self.rate))
            self.cursor = max(self.cursor, due)
            await asyncio.sleep(_STEP_S)

    def _now_ns(self) -> int:
        """The market's time: of its last record, and the clock's when the market is over."""
        if self.cursor == len(self.records):
            return time.time_ns()
        return int(self.records["ts_recv"][self.cursor - 1]) if self.cursor else 0

    async def _follow(self, session: Session, index: int, ids: set[int] | None) -> None:
        quiet_since = time.monotonic()
        has_status = any(each.schema == "status" for each in session.subscriptions)
        statuses = self.statuses if has_status else {}
        while not session.writer.is_closing():
            end = min(self.cursor, index + _SLICE, *(place for place in statuses if place > index))
            if end > index:
                await self._write(session, statuses.get(index, b""))
                part = self.records[index:end]
                if ids is not None:
                    part = part[np.isin(part["instrument_id"], list(ids))]
                await self._write(session, part.tobytes())
                index, quiet_since = end, time.monotonic()
                continue
            if time.monotonic() - quiet_since > self.heartbeat_s:
                await self._write(
                    session, messages.system("Heartbeat", dbn.SystemCode.HEARTBEAT, self._now_ns())
                )
                quiet_since = time.monotonic()
            await asyncio.sleep(_STEP_S)

    async def _write(self, session: Session, raw: bytes) -> None:
        """Send, or as much as fits before the connection is to break."""
        limit = session.drop_after_bytes
        if limit is not None and session.sent_bytes + len(raw) > limit:
            session.writer.write(raw[: limit - session.sent_bytes])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.writer.drain(), 1)
            await asyncio.sleep(_STEP_S)  # let the bytes leave before the reset
            session.writer.transport.abort()
            raise ConnectionError
        session.sent_bytes += len(raw)
        session.writer.write(raw)
        await session.writer.drain()


def _fields(line: bytes) -> dict[str, str]:
    pairs = (token.partition("=") for token in line.decode().strip().split("|"))
    return {name: value for name, _, value in pairs}
