"""The reader: follows the streams of all shards on the hub's loop, one XREAD in flight, and hands over what came.

Reading, folding and writing are one callback of one thread: what arrives meanwhile waits in the broker and comes with
the next reply, so that the gateway needs no queue and cannot be further behind than what it is told in one reply.
Finding feeds and loading images takes long and is discovery's, in the main thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple

from services.gateway.feedstate import FeedState
from services.gateway.items import Item, Loaded
from services.gateway.vector import ShardKey
from shared import logs, metrics
from shared.broker import CLUSTER_POLL_MOST_S, CLUSTER_POLL_S, Broker, Entry, Pending
from shared.errors import WireError
from shared.orderbook.shard import ShardState
from shared.wire.codec import decode_in, decode_out
from shared.wire.keys import parse_id, stream_id
from shared.wire.reading import E, placed

log = logs.get("gateway")

BLOCK_MS = 100  # a shard that is new waits so long at most
COUNT = 16  # entries a stream and reply; an entry holds at most 8000 records

At = tuple[int, int]  # (session, ordinal)


class Need(NamedTuple):
    """Something only discovery can get: where `:out` goes on after a gap at `at`, or the orders of a shard (None)."""

    key: ShardKey
    at: At | None


class Reader:
    """Positions in `:out` (all shards) and `:in` (shards whose orders somebody needs). Its loop owns it."""

    def __init__(self, broker: Broker, state: FeedState, take: Callable[[list[Item]], None]) -> None:
        self.broker, self.state, self._take = broker, state, take
        self.need: Callable[[Need], None] = lambda need: None
        self.out: dict[ShardKey, At] = {}
        self.orders: dict[ShardKey, At] = {}
        self.failure: Exception | None = None  # why it stopped; discovery raises it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = False
        self._asked: dict[
            str, tuple[str, ShardKey, At]
        ] = {}  # of the XREAD in flight: stream -> what and from where
        self._pending: Pending | None = None
        self._silent: set[socket.socket] = set()  # sockets of the XREAD in flight that have no reply yet
        self._orders_needed: set[ShardKey] = set()
        self._pause_s = CLUSTER_POLL_S
        self._idle = False  # nothing is followed, or nothing may be read for now

    # -- from discovery's thread ---------------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read, unless it already does; raises BrokerLost."""
        self._loop = loop
        if not self._reading:
            self.broker.connect()
            self.failure, self._reading = None, True
            loop.call_soon_threadsafe(self._ask)

    def post(self, items: list[Item]) -> None:
        """Hand over what discovery found: shards are followed from there."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._given, items)

    async def run(self) -> None:
        """Until cancelled; then the loop is free of this reader and can be closed."""
        try:
            await asyncio.Event().wait()
        finally:
            self._reading = False
            self._quiet()

    # -- one pass ------------------------------------------------------------------------------------------------------

    def _given(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item.value, Loaded):
                assert item.key is not None
                self.out[item.key] = item.value.at
                self.orders.pop(item.key, None)
            elif isinstance(item.value, ShardState):
                assert item.key is not None
                self._orders_needed.discard(item.key)
                self.orders[item.key] = (item.value.session, item.value.ordinal)
        self._take(items)
        if self._idle:
            self._ask()

    def _ask(self) -> None:
        """Send the next XREAD, if anything is followed."""
        assert self._loop is not None
        if not self._reading:
            return
        self._follow_orders()
        keys = self.broker.keys
        self._asked = {
            keys.shard(key.feed, key.shard, kind): (kind, key, at)
            for kind, positions in (("out", self.out), ("in", self.orders))
            for key, at in positions.items()
            if kind == "out" or self.state.room_for_orders(key)
        }
        self._idle = not self._asked
        if self._idle:
            return
        try:
            after = {name: stream_id(*at) for name, (_, _, at) in self._asked.items()}
            self._pending = self.broker.begin_read(after, count=COUNT, block_ms=BLOCK_MS)
            for sock in self._pending.sockets:
                self._silent.add(sock)
                self._loop.add_reader(sock, self._heard, sock)
        except Exception as error:  # noqa: BLE001 - for the main thread: it decides what the process does
            self._fail(error)

    def _heard(self, sock: socket.socket) -> None:
        """A reply begins; at the last one they are all taken."""
        assert self._loop is not None
        self._loop.remove_reader(sock)
        self._silent.discard(sock)
        if self._silent:
            return
        try:
            assert self._pending is not None
            came = self._taken(self.broker.end_read(self._pending))
        except Exception as error:  # noqa: BLE001
            self._fail(error)
            return
        if came or not self.broker.is_cluster:
            self._pause_s = CLUSTER_POLL_S
            self._loop.call_soon(self._ask)  # after what else is ready: requests, clients that come and go
        else:
            self._loop.call_later(self._pause_s, self._ask)
            self._pause_s = min(self._pause_s * 1.5, CLUSTER_POLL_MOST_S)

    def _fail(self, error: Exception) -> None:
        self._reading, self.failure = False, error
        self._quiet()

    def _quiet(self) -> None:
        """No longer wait for replies."""
        for sock in self._silent:
            assert self._loop is not None
            self._loop.remove_reader(sock)
        self._silent.clear()

    def _taken(self, replies: dict[str, list[Entry]]) -> bool:
        """Decode and hand over; whether anything came."""
        items: list[Item] = []
        # `:in` first: an output entry is folded only once the input it covers is here
        for name in sorted(replies, key=lambda name: self._asked[name][0]):
            kind, key, at = self._asked[name]
            if (
                kind == "out" and self.out.get(key) == at
            ):  # else it was loaded meanwhile, and goes on elsewhere
                self._take_out(key, replies[name], items)
            elif kind == "in" and self.orders.get(key) == at:
                self._take_in(key, replies[name], items)
        if items:
            self._take(items)
        return bool(items)

    def _take_out(self, key: ShardKey, entries: list[Entry], items: list[Item]) -> None:
        """Entries up to a gap; there the shard is no longer followed until discovery has loaded it."""
        session, ordinal = self.out[key]
        records = 0
        for entry in entries:
            at, last = parse_id(entry.id)
            decoded = self._decoded(key, entry, decode_out)
            if decoded is None:
                self._lost_place(key, (session, ordinal))
                break
            start = last - decoded.n
            if (start > ordinal) if at == session else (start > 0):
                have = stream_id(session, ordinal)
                log.warning(
                    "gap", feed=key.feed, shard=key.shard, have=have, next=entry.id.decode(), n=decoded.n
                )
                self._lost_place(key, (session, ordinal))
                break
            if (at, last) > (session, ordinal):
                items.append(Item("out", key, at, decoded))
                records += decoded.n
                session, ordinal = at, last
        else:
            self.out[key] = (session, ordinal)
        metrics.get("mbo_gateway_entries_total").labels(key.feed, "out").inc(len(entries))
        metrics.get("mbo_gateway_records_total").labels(key.feed).inc(records)

    def _lost_place(self, key: ShardKey, at: At) -> None:
        del self.out[key]
        self.need(Need(key, at))

    def _take_in(self, key: ShardKey, entries: list[Entry], items: list[Item]) -> None:
        for entry in entries:  # orders that have come to one that is not readable find a gap there
            decoded = self._decoded(key, entry, decode_in)
            if decoded is not None:
                items.append(Item("in", key, parse_id(entry.id)[0], decoded))
        self.orders[key] = parse_id(entries[-1].id)
        metrics.get("mbo_gateway_entries_total").labels(key.feed, "in").inc(len(entries))

    @staticmethod
    def _decoded(key: ShardKey, entry: Entry, decode: Callable[[bytes], E]) -> E | None:
        """None, counted and in the log, if it is no entry of its stream."""
        try:
            return placed(entry.id, decode(entry.d))
        except WireError as error:
            metrics.get("mbo_service_errors_total").labels("gateway", "WireError").inc()
            log.error(
                "entry not readable", feed=key.feed, shard=key.shard, id=entry.id.decode(), detail=str(error)
            )
            return None

    # -- orders --------------------------------------------------------------------------------------------------------

    def _follow_orders(self) -> None:
        """Ask for the engine of shards whose orders are wanted, forget those that are not."""
        wanted, lost = self.state.orders_wanted, self.state.orders_lost
        for key in [key for key in self.orders if key not in wanted or key in lost]:
            del self.orders[key]
        lost.clear()
        for key in wanted:
            if key not in self.orders and key in self.out and key not in self._orders_needed:
                self._orders_needed.add(key)
                self.need(Need(key, None))
