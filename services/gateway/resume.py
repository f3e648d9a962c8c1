"""How each view of a returning client goes on: from the ring, from the streams, or from a new snapshot. Never half."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from services.gateway import encode
from services.gateway.channels.mbo import MboTopic
from services.gateway.channels.trades import TradesTopic
from services.gateway.feedstate import FeedState
from services.gateway.loading import candidates, engine_kind
from services.gateway.orders import Applied, Orders, of_instrument
from services.gateway.settings import GatewaySettings
from services.gateway.topic import Topic
from services.gateway.vector import Position, ShardKey
from shared import logs
from shared.broker import Broker
from shared.errors import Gap, MboError
from shared.orderbook.shard import ShardState
from shared.wire.codec import InEntry, OutEntry, decode_in, decode_out
from shared.wire.keys import parse_id, stream_id

log = logs.get("gateway")
E = TypeVar("E", InEntry, OutEntry)

CHUNK = 256  # entries a read
THREADS = 2
BATCH_RECORDS = 1000  # of an `mbo` event read from the streams


class Plan:
    """One view: `blob` continues from the client's position if `resumed`, else `start` is the new beginning."""

    def __init__(self, topic: Topic, start: bytes) -> None:
        self.topic, self.start = topic, start
        self.resumed = False
        self.read = False  # to be read from the streams
        self.blob = b""
        self.q = topic.q
        self.until = Position(topic.books.session, topic.books.ordinal)  # live blocks follow from here
        self.last_q = topic.q


def plan(topic: Topic, position: dict[ShardKey, Position]) -> Plan:
    """What can be said at once; `read` is set where the streams must be asked."""
    found = Plan(topic, topic.start(time.time_ns()))
    at = position.get(topic.key.shard)
    books = topic.books
    if at is None or topic.key.interval_ms or topic.key.channel in ("bars", "status"):
        return found
    if at.session == books.session and at.ordinal <= books.ordinal and at.ordinal in books.boundaries:
        ring = topic.after(at.ordinal)
        if ring is not None:
            found.q, found.blob = ring
            found.resumed = True
            return found
    found.read = topic.lossless and at <= found.until
    if isinstance(topic, MboTopic) and (not topic.loaded or at.session != books.session):
        found.read = False
    return found


class Resumer:
    """Reads the streams in threads of its own, a connection each, so that live is not held up."""

    def __init__(self, connect: Callable[[], Broker], settings: GatewaySettings, state: FeedState) -> None:
        self._connect, self._settings, self._state = connect, settings, state
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="resume")

    async def read(self, plans: list[Plan], position: dict[ShardKey, Position]) -> None:
        """Fill in the plans; one that cannot be read exactly stays not resumed."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._read_all, plans, position)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read_all(self, plans: list[Plan], position: dict[ShardKey, Position]) -> None:
        broker = self._connect()
        try:
            for item in plans:
                at = position[item.topic.key.shard]
                try:
                    if isinstance(item.topic, TradesTopic):
                        self._trades(broker, item, item.topic, at)
                    elif isinstance(item.topic, MboTopic):
                        self._mbo(broker, item, item.topic, at)
                except Gap as gap:
                    log.limited("resume starts anew", view=item.topic.view, detail=str(gap))
        except MboError as error:
            log.limited("resume failed", detail=str(error))
        finally:
            broker.close()

    # -- trades: the rows of `:out` ------------------------------------------------------------------------------------

    def _trades(self, broker: Broker, item: Plan, topic: TradesTopic, at: Position) -> None:
        key, parts = topic.key, []
        for session, entry in _range(broker, key.shard, "out", decode_out, at, item.until):
            rows = entry.batch.trades
            mask = rows["instrument_id"] == key.instrument_id
            if key.publisher is not None:
                mask &= rows["publisher_id"] == key.publisher
            if session == at.session:
                mask &= rows["end"] > at.ordinal
            if session == item.until.session:
                mask &= rows["end"] <= item.until.ordinal
            if mask.any():
                stamps = encode.stamps((entry.ts_due, entry.ts_ingest, entry.ts_book), time.time_ns())
                parts.append(topic.encode(rows[mask], stamps, session))
        item.blob, item.resumed = b"".join(parts), True

    # -- mbo: the records of `:in` through an engine -------------------------------------------------------------------

    def _mbo(self, broker: Broker, item: Plan, topic: MboTopic, at: Position) -> None:
        orders = Orders(self._state_at(broker, topic.key.shard, at))
        begin = Position(orders.state.session, orders.state.ordinal)
        if item.until.ordinal - begin.ordinal > self._settings.resume_records:
            raise Gap(
                f"{item.until.ordinal - begin.ordinal} records to read, the limit is {self._settings.resume_records}"
            )
        found: list[Applied] = []
        seen = begin
        for session, entry in _range(broker, topic.key.shard, "in", decode_in, begin, item.until):
            orders.put(session, entry)
            if (session, entry.first) <= at:
                orders.advance(at.session, at.ordinal)  # silently: the client has it
            parts = orders.advance(*item.until)
            mine = of_instrument(parts, topic.key.instrument_id, topic.key.publisher)
            if mine is not None:
                found.append(mine)
            seen = Position(orders.state.session, orders.state.ordinal)
        if seen < item.until:
            raise Gap(f"the stream ends at {seen}, {item.until} is needed")
        item.blob, item.q = _mbo_events(topic, found, at.ordinal, item.last_q)
        item.resumed = True

    @staticmethod
    def _state_at(broker: Broker, key: ShardKey, at: Position) -> ShardState:
        """A state at or before the position: the newest such image, else the session's beginning if still there."""
        state = next(candidates(broker, key, before=at), None)
        if state is not None and state.session == at.session:
            return state
        state = ShardState(kind=engine_kind())
        state.session = at.session
        return state


def _mbo_events(topic: MboTopic, found: list[Applied], p: int, last_q: int) -> tuple[bytes, int]:
    """(events, q the client stands at before them); the last one's q is where the live chain goes on."""
    if not found:
        return b"", last_q
    records = np.concatenate([part.records for part in found])
    effects = np.concatenate([part.effects for part in found])
    stamps = encode.stamps(topic.books.stamps, time.time_ns())
    parts, first, start = [], p, 0
    ends = effects["end"]
    while start < len(records):
        stop = min(start + BATCH_RECORDS, len(records))
        while stop < len(records) and ends[stop] == ends[stop - 1]:
            stop += 1
        q = last_q if stop == len(records) else int(ends[stop - 1])
        parts.append(topic.encode(records[start:stop], effects[start:stop], p, q, stamps))
        p, start = q, stop
    return b"".join(parts), first


def _range(
    broker: Broker, key: ShardKey, stream: str, decode: Callable[[bytes], E], at: Position, until: Position
) -> Iterator[tuple[int, E]]:
    """(session, entry) after `at` up to the entry that holds `until`; Gap if any is missing."""
    name = broker.keys.shard(key.feed, key.shard, stream)
    here = at
    while here < until:
        reply = broker.call("XRANGE", name, f"({stream_id(*here)}", "+", "COUNT", CHUNK)
        if not reply:
            raise Gap(f"the stream ends at {stream_id(*here)}, {stream_id(*until)} is needed")
        for raw, fields in reply:
            session, last = parse_id(raw)
            entry = decode(fields[1])
            if (entry.first > here.ordinal + 1) if session == here.session else (entry.first > 1):
                raise Gap(f"ordinals after {stream_id(*here)} are no longer in the stream")
            yield session, entry
            here = Position(session, last)
            if here >= until:
                return
