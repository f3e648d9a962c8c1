"""The hub: takes what the reader got, folds it, and writes each group's block once to each of its clients.

Everything here runs on one event loop. The drain is adaptive: it takes all that a read brought and is never on a timer;
while it works the next entries pile up in the broker and share the next read and write.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from services.gateway import blocks, close_codes, vector
from services.gateway.clients import LAST_CHUNK, Client, Group, Transport, chunked
from services.gateway.close_codes import Bye
from services.gateway.feedstate import NOBODY, FeedState
from services.gateway.instruments import Instrument
from services.gateway.items import Item
from services.gateway.laggards import Laggards
from services.gateway.roster import Roster
from services.gateway.settings import GatewaySettings
from services.gateway.subscription import Subscription
from services.gateway.topic import Topic
from services.gateway.vector import ShardKey
from shared import logs, metrics

log = logs.get("gateway")

HOUSEKEEPING_S = 0.05
CONFLATE_BBO_ROWS = (
    5_000  # in one drain: the gateway itself is behind, so only the newest of each topic is sent
)
PENDING_BYTES = 64 << 20  # live blocks kept for a client while its resume is read
CLOSE_WITHIN_S = 5.0  # after bye, for a peer that does not read


class Hub:
    """Topics, groups and clients of one gateway process."""

    def __init__(self, settings: GatewaySettings, name: str) -> None:
        self.settings, self.name = settings, name
        self.state = FeedState()
        self.roster = Roster(self.state)
        self.laggards = Laggards(settings, self.state.runs, self.close, self.remove, self._anew)
        self.clients: dict[Client, None] = {}
        self.accepting = False
        self.draining = False
        self._later: set[Topic] = set()  # dirty topics that wait for their interval
        self._closing: deque[tuple[float, Transport]] = deque()  # said bye, not all of it is read yet
        self._last_beat = 0.0
        self._m_events = metrics.get("mbo_gateway_writes_total")
        self._m_bytes = metrics.get("mbo_gateway_sent_bytes_total")
        self._m_drain = metrics.get("mbo_gateway_drain_seconds")
        self._m_latency = metrics.get("mbo_gateway_latency_seconds")
        self._m_book = metrics.get("mbo_gateway_book_seconds")
        self._m_clients = metrics.get("mbo_gateway_clients")
        self._m_conflated = metrics.get("mbo_gateway_conflated_total")

    # -- the drain ---------------------------------------------------------------------------------------------------

    def take(self, items: list[Item]) -> None:
        """Fold what has arrived and write it out."""
        started = time.perf_counter()
        oldest_due = 0
        segment: list[Item] = []
        for item in items:
            if item.breaks and segment:
                oldest_due = self._fold(segment) or oldest_due
                segment = []
            segment.append(item)
            if item.breaks:
                self._fold(segment)
                segment = []
        if segment:
            oldest_due = self._fold(segment) or oldest_due
        self._m_drain.observe(time.perf_counter() - started)
        if oldest_due:
            self._m_latency.observe(max(0.0, (time.time_ns() - oldest_due) / 1e9))

    def _fold(self, items: list[Item]) -> int:
        """Apply items and publish what they changed; ts_due of the oldest entry among them, 0 for none."""
        now_ns, now = time.time_ns(), time.monotonic()
        dirty: set[Topic] = set()
        changed = self.state.take(items, self.roster.by_shard, dirty, now)
        for key in changed.reset:
            self._reset(key, now_ns)
        for key in changed.orders_loaded:
            self._orders_loaded(key, now_ns, dirty)
        for instrument in changed.appeared:
            self._appeared(instrument, now_ns)
        for instrument in changed.met:
            if self.state.directory.namesakes(instrument):  # the symbol goes on with another id
                self._appeared(instrument, now_ns)
        for instrument in changed.renamed:
            self._renamed(instrument)
        self._publish(dirty, now, now_ns, changed.bbo_rows > CONFLATE_BBO_ROWS)
        if changed.oldest_book:
            self._m_book.observe(max(0.0, (time.time_ns() - changed.oldest_book) / 1e9))
        return changed.oldest_due

    def _publish(self, dirty: set[Topic], now: float, now_ns: int, conflate: bool = False) -> None:
        chunks: dict[Group, list[bytes]] = dict(self.roster.prefixes())
        for topic in dirty:
            if topic.interval_s:
                if now < topic.due:
                    self._later.add(topic)
                    continue
                topic.due = now + topic.interval_s
            if conflate:
                self._m_conflated.labels("gateway").inc(topic.conflate())
            blob = topic.emit(now_ns)
            if blob:
                for group in topic.groups:
                    chunks.setdefault(group, []).append(blob)
        ids: dict[tuple[ShardKey, ...], bytes] = {}  # of equal shards, equal at one moment
        for group, parts in chunks.items():
            if group.clients:
                position = group.position()
                shards = tuple(position)
                if shards not in ids:
                    ids[shards] = vector.id_block(position, self.state.runs)
                parts.append(ids[shards])
                self._write(group, group.frame(b"".join(parts)), now)
                group.sent, group.told = position, Topic.starts

    def _write(self, group: Group, frame: bytes, now: float) -> None:
        group.last_write = now
        budget = self.settings.client_budget_bytes
        sent = 0
        gone: list[Client] = []
        late: list[Client] = []
        for client in group.clients:
            if client.lag is not None:
                continue
            if not client.ready:
                client.pending.append(frame)
                client.pending_bytes += len(frame)
                if client.pending_bytes > PENDING_BYTES:
                    late.append(client)
                continue
            transport = client.transport
            if transport.get_write_buffer_size() > budget:
                self.laggards.add(client, group, now)
            elif transport.is_closing():
                gone.append(client)
            else:
                transport.write(frame)
                sent += 1
        self._m_events.inc(sent)
        self._m_bytes.inc(sent * len(frame))
        for client in gone:
            self.remove(client)
        for client in late:
            client.pending.clear()
            self.close(client, close_codes.SLOW)

    # -- joining and leaving -----------------------------------------------------------------------------------------

    def join(self, client: Client, subscription: Subscription, instruments: list[Instrument]) -> Group:
        """Put a client into its group; nothing is written yet."""
        group = self.roster.join(client, subscription, instruments)
        self.clients[client] = None
        self._m_clients.set(len(self.clients))
        return group

    def remove(self, client: Client) -> None:
        """Forget a client; safe to call twice."""
        client.closed = True
        self.laggards.clients.pop(client, None)
        if self.clients.pop(client, 0) is not None:
            return
        self._m_clients.set(len(self.clients))
        client.lease.release()
        self.roster.leave(client)

    def close(self, client: Client, bye: Bye) -> None:
        """Say `bye` and end the stream."""
        if client.closed:
            return
        metrics.get("mbo_gateway_byes_total").labels(bye.reason).inc()
        blob = blocks.bye(bye)
        transport = client.transport
        if not transport.is_closing():
            group = client.group
            framed = group.private(blob) if group is not None else chunked(blob)
            transport.write(framed + LAST_CHUNK)
            transport.close()
            if transport.get_write_buffer_size():
                self._closing.append((time.monotonic() + CLOSE_WITHIN_S, transport))
        self.remove(client)

    # -- what changes for groups -------------------------------------------------------------------------------------

    def hello(self, group: Group, views: list[dict[str, Any]], expires_ns: int | None, now_ns: int) -> bytes:
        heartbeat_s, columns = self.settings.heartbeat_s, group.subscription.columns
        return blocks.hello(
            self.name, views, heartbeat_s=heartbeat_s, columns=columns, expires_ns=expires_ns, now_ns=now_ns
        )

    def _anew(self, group: Group, views: list[Topic], now_ns: int) -> bytes:
        """hello for views that start over, or have just appeared."""
        return self.hello(group, [topic.announce(False, topic.q) for topic in views], None, now_ns)

    def heartbeat(self, group: Group, now: float) -> bytes:
        return blocks.heartbeat(group.topics, self.state.directory.feeds, now)

    def _reset(self, key: ShardKey, now_ns: int) -> None:
        """A session began or the shard was reloaded: every view of it starts over, unasked."""
        touched: dict[Group, list[Topic]] = {}
        for topic in self.roster.by_shard.get(key, ()):
            topic.books = self.state.books[key]
            topic.reset()
            if topic.key.channel == "mbo":
                self.state.want_orders(key, time.monotonic())
            for group in topic.groups:
                touched.setdefault(group, []).append(topic)
        for group, views in touched.items():
            snapshots = [topic.snapshot(now_ns) for topic in views]
            self.roster.before(group, [self._anew(group, views, now_ns), *snapshots])

    def _orders_loaded(self, key: ShardKey, now_ns: int, dirty: set[Topic]) -> None:
        """The engine of a shard has reached the levels: waiting `mbo` views start from a snapshot."""
        for topics in self.roster.by_shard[key].mbo.values() if key in self.roster.by_shard else ():
            for topic in topics:
                if not topic.loaded:
                    topic.reset()
                    topic.loaded = True
                    dirty.discard(topic)
                    for group in topic.groups:
                        self.roster.before(group, [topic.snapshot(now_ns)])

    def _appeared(self, instrument: Instrument, now_ns: int) -> None:
        """A new instrument joins the groups of its symbol and of ALL_SYMBOLS."""
        for group in list(self.roster.groups.values()):
            subscription = group.subscription
            if not subscription.covers(instrument):
                continue
            if not all(group.allowed(instrument.symbol, channel) for channel in subscription.channels):
                continue
            fresh = self.roster.add_views(group, instrument)
            if fresh and group.clients:
                snapshots = [topic.snapshot(now_ns) for topic in fresh]
                self.roster.before(group, [self._anew(group, fresh, now_ns), *snapshots])

    def _renamed(self, instrument: Instrument) -> None:
        """An id has another symbol now: who asked by symbol must ask again."""
        topics = self.roster.by_shard.get(instrument.key, NOBODY).of(instrument.instrument_id)
        for topic in topics:
            if topic.symbol != instrument.symbol:
                for group in list(topic.groups):
                    for client in list(group.clients):
                        self.close(client, close_codes.REMAPPED)
                self._drop(topic)

    def _drop(self, topic: Topic) -> None:
        self.roster.drop(topic)
        self._later.discard(topic)

    # -- housekeeping ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Heartbeats, intervals, lagging clients, maximum age: until cancelled."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            now = time.monotonic()
            due = {topic for topic in self._later if now >= topic.due}
            if due:
                self._later -= due
                self._publish(due, now, time.time_ns())
            if self.laggards.clients:
                self.laggards.catch_up(now)
            if now - self._last_beat >= 1.0:
                self._last_beat = now
                self._each_second(now)

    def _each_second(self, now: float) -> None:
        while self._closing and self._closing[0][0] <= now:
            self._closing.popleft()[1].abort()
        for group in list(self.roster.groups.values()):
            if now - group.last_write >= self.settings.heartbeat_s:
                self._write(group, group.frame(self.heartbeat(group, now)), now)
        for client in [c for c in self.clients if now >= c.expires]:
            expired = client.principal.expired()
            self.close(client, close_codes.EXPIRED if expired else close_codes.MAX_AGE)
        for topic in self.roster.idle(now):
            self._drop(topic)
        for key in self.state.unused_orders(now):
            if self.roster.has_orders(key):
                self.state.want_orders(key, now)
            else:
                self.state.forget_orders(key)

    async def goodbye(self, bye: Bye, spread_s: float) -> None:
        """Close all streams, spread evenly over `spread_s`; returns when all are gone."""
        self.accepting, self.draining = False, True
        clients = list(self.clients)
        for index, client in enumerate(clients):
            self.close(client, bye)
            if spread_s and index % 50 == 49:
                await asyncio.sleep(spread_s * 50 / len(clients))
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline and any(
            c.transport.get_write_buffer_size() for c in clients if not c.transport.is_closing()
        ):
            await asyncio.sleep(0.01)
