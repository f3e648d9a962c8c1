"""How each view of a returning client goes on: from the ring, the streams, the recording, or anew. Never half."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.gateway.channels.mbo import MboTopic
from services.gateway.channels.trades import TradesTopic
from services.gateway.loading import candidates, engine_kind
from services.gateway.missed import mbo_missed, trades_missed
from services.gateway.settings import GatewaySettings
from services.gateway.topic import Topic
from services.gateway.vector import Position, ShardKey
from shared import logs
from shared.broker import Broker
from shared.errors import Gap, MboError
from shared.orderbook.shard import ShardState
from shared.wire.codec import decode_in, decode_out
from shared.wire.keys import parse_id, stream_id
from shared.wire.reading import E, placed

log = logs.get("gateway")

CHUNK = 256  # entries a read
THREADS = 2
MAX_WAITING = 64  # views that wait for the recall process; more of them start anew


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
    """Reads the streams in threads of its own, a connection each, so that live is not held up.

    What the streams no longer hold (or hold too much of) is asked of the recall process, which reads the recording.
    """

    def __init__(
        self,
        connect: Callable[[], Broker],
        settings: GatewaySettings,
        recall: Callable[[dict[str, Any]], Awaitable[bytes | None]],
    ) -> None:
        self._connect, self._settings, self._recall = connect, settings, recall
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="resume")
        self._recalls = asyncio.Semaphore(THREADS)
        self._waiting = 0

    async def read(self, plans: list[Plan], position: dict[ShardKey, Position]) -> None:
        """Fill in the plans; one that cannot be read exactly stays not resumed."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._read_all, plans, position)
        await asyncio.gather(*(
            self._recorded(item, position[item.topic.key.shard]) for item in plans if not item.resumed
        ))  # fmt: skip

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read_all(self, plans: list[Plan], position: dict[ShardKey, Position]) -> None:
        broker = self._connect()
        try:
            for item in plans:
                at = position[item.topic.key.shard]
                try:
                    if isinstance(item.topic, TradesTopic):
                        item.blob = self._trades(broker, item, item.topic, at)
                    elif isinstance(item.topic, MboTopic):
                        item.blob, item.q = self._mbo(broker, item, item.topic, at)
                    item.resumed = True
                except Gap as gap:
                    log.limited("not in the streams", view=item.topic.view, detail=str(gap))
        except MboError as error:
            log.limited("resume failed", detail=str(error))
        finally:
            broker.close()

    @staticmethod
    def _trades(broker: Broker, item: Plan, topic: TradesTopic, at: Position) -> bytes:
        """The rows of `:out`."""
        found = (
            (session, entry.batch.trades, (entry.ts_due, entry.ts_ingest, entry.ts_book))
            for session, entry in _range(broker, topic.key.shard, "out", decode_out, at, item.until)
        )
        return trades_missed(topic, found, at, item.until)

    def _mbo(self, broker: Broker, item: Plan, topic: MboTopic, at: Position) -> tuple[bytes, int]:
        """The records of `:in` through an engine, from the newest image at or before the position."""
        state = next(candidates(broker, topic.key.shard, before=at), None)
        if state is None or state.session != at.session:
            state = ShardState(kind=engine_kind())
            state.session = at.session
        begin = Position(state.session, state.ordinal)
        if item.until.ordinal - begin.ordinal > self._settings.resume_records:
            raise Gap(
                f"{item.until.ordinal - begin.ordinal} records to read, the limit is {self._settings.resume_records}"
            )
        found = _range(broker, topic.key.shard, "in", decode_in, begin, item.until)
        return mbo_missed(topic, state, found, at, item.until, item.last_q)

    async def _recorded(self, item: Plan, at: Position) -> None:
        """Ask the recall process (see recall_resume.py)."""
        key = item.topic.key
        job = {
            "what": "resume", "channel": key.channel, "feed": key.shard.feed, "shard": key.shard.shard,
            "instrument_id": key.instrument_id, "publisher": key.publisher, "columns": key.columns,
            "symbol": item.topic.symbol, "at": at, "until": item.until, "last_q": item.last_q,
        }  # fmt: skip
        if self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        try:
            async with self._recalls:
                blob = await self._recall(job)
        finally:
            self._waiting -= 1
        if blob is not None:
            item.blob, item.resumed = blob, True
            if key.channel == "mbo":
                item.q = at.ordinal if blob else item.last_q


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
            entry = placed(raw, decode(fields[1]))
            if (entry.first > here.ordinal + 1) if session == here.session else (entry.first > 1):
                raise Gap(f"ordinals after {stream_id(*here)} are no longer in the stream")
            yield session, entry
            here = Position(session, last)
            if here >= until:
                return
