"""The reader: one thread that follows the feeds' streams and hands decoded entries to the hub.

Start-up and repair are one path: load the newest image (or begin at the stream's start), then XREAD from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from services.gateway.feedstate import FeedState
from services.gateway.instruments import Feed
from services.gateway.items import FeedRows, Item, Loaded
from services.gateway.loading import candidates, engine_kind
from services.gateway.settings import GatewaySettings
from services.gateway.vector import ShardKey
from shared import logs, metrics
from shared.broker import Broker, Entry
from shared.errors import UsageError, WireError
from shared.orderbook.shard import ShardState
from shared.wire.codec import decode_in, decode_out
from shared.wire.keys import parse_id, stream_id

log = logs.get("gateway")

BLOCK_MS = 100
COUNT = 128  # entries a stream and pass; an entry holds at most about 1000 records
MAX_OUTSTANDING = 4_000  # items the hub has not taken: then the reader waits
DISCOVER_S = 1.0
MAX_RELOADS = 3
RETRY_LOST_S = 10.0
RENAMED_S = 10.0  # a feed's rows of instruments are read again: definitions change without a new one


def shard_filter(text: str) -> Callable[[int], bool]:
    """The setting `shards` ("0-3,7", empty for all) as a test; UsageError if it is none."""
    if not text:
        return lambda shard: True
    wanted: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise UsageError(f"--shards {text!r}: write it as 0-3,7")
        wanted.update(range(int(low), int(high or low) + 1))
    return wanted.__contains__


class Reader:
    """Positions in `:out` (all shards) and `:in` (shards whose orders somebody needs)."""

    def __init__(
        self, broker: Broker, settings: GatewaySettings, state: FeedState, post: Callable[[list[Item]], None]
    ) -> None:
        self.broker, self.settings, self.state, self._post = broker, settings, state, post
        self.feeds: dict[str, Feed] = {}
        self.out: dict[ShardKey, tuple[int, int]] = {}
        self.orders: dict[ShardKey, tuple[int, int]] = {}
        self.lag: dict[ShardKey, int] = {}
        self.measures = 0  # how often `lag` was measured
        self._wanted_shard = shard_filter(settings.only_shards)
        self._reloads: dict[ShardKey, int] = {}
        self._lost: dict[ShardKey, float] = {}
        self._sizes: dict[str, int] = {}
        self._named: dict[str, float] = {}  # monotonic s at which a feed's instruments were read
        self._outstanding = 0
        self._room = threading.Condition()
        self._discovered = -DISCOVER_S
        self._m_entries = metrics.get("mbo_gateway_entries_total")
        self._m_records = metrics.get("mbo_gateway_records_total")

    # -- the hub's side of the limit -----------------------------------------------------------------------------------

    def taken(self, items: int) -> None:
        """The hub has folded so many items (its thread)."""
        with self._room:
            self._outstanding -= items
            self._room.notify()

    def post(self, items: list[Item]) -> None:
        with self._room:
            self._outstanding += len(items)
            while self._outstanding > MAX_OUTSTANDING and self._room.wait(1.0):
                pass
        self._post(items)

    # -- one pass ------------------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Measure the lag at the next pass (any thread)."""
        self._discovered = -DISCOVER_S

    def start(self) -> None:
        """Find the feeds and load every shard not yet followed; raises BrokerLost."""
        self.broker.connect()
        self._discovered = -DISCOVER_S
        self.discover()

    def step(self) -> None:
        """Read once (blocks at most BLOCK_MS) and hand over what came."""
        if time.monotonic() - self._discovered >= DISCOVER_S:
            self.discover()
        self._follow_orders()
        keys = self.broker.keys
        names: dict[str, tuple[str, ShardKey]] = {}
        after: dict[str, str] = {}
        for kind, positions in (("out", self.out), ("in", self.orders)):
            for key, position in positions.items():
                if kind == "in" and not self.state.room_for_orders(key):
                    continue
                name = keys.shard(key.feed, key.shard, kind)
                names[name], after[name] = (kind, key), stream_id(*position)
        items: list[Item] = []
        again: list[ShardKey] = []
        # `:in` first: an output entry is folded only once the input it covers is here
        replies = self.broker.read(after, count=COUNT, block_ms=BLOCK_MS)
        for name, entries in sorted(replies.items(), key=lambda reply: names[reply[0]][0]):
            kind, key = names[name]
            if kind == "in":
                self._take_in(key, entries, items)
            elif not self._take_out(key, entries, items):
                again.append(key)
        if items:
            self.post(items)
        for key in again:
            self._reload(key)

    def _take_out(self, key: ShardKey, entries: list[Entry], items: list[Item]) -> bool:
        """False at a gap: what is before it has been taken."""
        session, ordinal = self.out[key]
        records = 0
        for entry in entries:
            at, last = parse_id(entry.id)
            try:
                decoded = decode_out(entry.d)
            except WireError as error:
                log.error(
                    "entry not readable",
                    feed=key.feed,
                    shard=key.shard,
                    id=entry.id.decode(),
                    detail=str(error),
                )
                self.out[key] = (session, ordinal)
                return False
            start = last - decoded.n
            if (start > ordinal) if at == session else (start > 0):
                log.warning(
                    "gap",
                    feed=key.feed,
                    shard=key.shard,
                    have=f"{session}-{ordinal}",
                    next=entry.id.decode(),
                    n=decoded.n,
                )
                self.out[key] = (session, ordinal)
                return False
            if (at, last) > (session, ordinal):
                items.append(Item("out", key, at, decoded))
                records += decoded.n
                session, ordinal = at, last
        self.out[key] = (session, ordinal)
        self._m_entries.labels(key.feed, "out").inc(len(entries))
        self._m_records.labels(key.feed).inc(records)
        return True

    def _take_in(self, key: ShardKey, entries: list[Entry], items: list[Item]) -> None:
        for entry in entries:
            at, _ = parse_id(entry.id)
            items.append(Item("in", key, at, decode_in(entry.d)))
        self.orders[key] = parse_id(entries[-1].id)
        self._m_entries.labels(key.feed, "in").inc(len(entries))

    # -- feeds and shards ----------------------------------------------------------------------------------------------

    def discover(self) -> None:
        """Feeds, instruments and shards as the broker has them now; two round trips unless something is new."""
        self._discovered = time.monotonic()
        keys = self.broker.keys
        wanted = self.settings.feeds
        found = sorted(name.decode() for name in self.broker.call("SMEMBERS", keys.feeds))
        names = [name for name in found if not wanted or name in wanted]
        shards = list(self.out)
        replies = self.broker.pipe([
            *(("HGETALL", keys.feed(name, "meta")) for name in names),
            *(("HLEN", keys.feed(name, "instruments")) for name in names),
            *(("XREVRANGE", keys.shard(key.feed, key.shard, "out"), "+", "-", "COUNT", 1) for key in shards),
        ])  # fmt: skip
        metas, sizes, ends = (
            replies[: len(names)],
            replies[len(names) : 2 * len(names)],
            replies[2 * len(names) :],
        )
        for name, meta, size in zip(names, metas, sizes, strict=True):
            texts = [part.decode() for part in meta]
            feed = Feed.of(name, dict(zip(texts[::2], texts[1::2], strict=True)))
            if feed is not None:
                self._follow(feed, int(size))
        self._measure(shards, [parse_id(end[0][0]) if end else (0, 0) for end in ends])

    def _follow(self, feed: Feed, size: int) -> None:
        """Load what is new of a feed with so many instruments: their rows, and shards not yet followed."""
        name, now = feed.name, time.monotonic()
        if name not in self.feeds:
            metrics.zero("mbo_gateway_", feed=name)
        changed = feed != self.feeds.get(name) or size != self._sizes.get(name)
        if changed or now - self._named.get(name, 0.0) > RENAMED_S:
            rows = self.broker.hash(self.broker.keys.feed(name, "instruments"))
            self.post([Item("feed", None, 0, FeedRows(feed, rows))])
            self._named[name] = now
        self.feeds[name], self._sizes[name] = feed, size
        for shard in filter(self._wanted_shard, range(feed.shards)):
            key = ShardKey(name, shard)
            if key not in self.out or self.out[key][0] > feed.session > 0:
                self.load(key)
            elif key in self._lost and now - self._lost[key] > RETRY_LOST_S:
                self._reload(key)

    def _measure(self, shards: list[ShardKey], ends: list[tuple[int, int]]) -> None:
        self.measures += 1
        for key, (session, ordinal) in zip(shards, ends, strict=True):
            here = self.out[key]
            ahead = ordinal - here[1] if session == here[0] else ordinal if session > here[0] else 0
            self.lag[key] = max(0, ahead)
            metrics.get("mbo_gateway_lag_records").labels(key.feed, key.shard).set(self.lag[key])

    def load(self, key: ShardKey) -> None:
        """Start a shard at its newest usable image, or at the beginning of its stream, or give it up for now."""
        policy = self.feeds[key.feed].policy
        state = next(candidates(self.broker, key), None)
        lost = False
        if state is not None:
            self.out[key] = (state.session, state.ordinal)
        else:
            first = self.broker.call(
                "XRANGE", self.broker.keys.shard(key.feed, key.shard, "out"), "-", "+", "COUNT", 1
            )
            self.out[key] = (0, 0)
            if first:
                at, last = parse_id(first[0][0])
                begin = decode_out(first[0][1][1]).first
                lost = begin > 1
                if lost:  # trimmed, and no image: follow from here, marked as a gap
                    self.out[key] = (at, last)
        if lost:
            self._lost[key] = time.monotonic()
            log.warning(
                "shard cannot be loaded", feed=key.feed, shard=key.shard, at=stream_id(*self.out[key])
            )
        else:
            self._lost.pop(key, None)
        self.orders.pop(key, None)
        self.post([Item("load", key, self.out[key][0], Loaded(state, policy, lost))])

    def _reload(self, key: ShardKey) -> None:
        """After a gap: the newest image, at most MAX_RELOADS times without progress."""
        metrics.get("mbo_gateway_reloads_total").labels(key.feed, "gap").inc()
        before = self.out[key]
        tries = self._reloads.get(key, 0) + 1
        self._reloads[key] = tries
        self.load(key)
        if self.out[key] > before:
            self._reloads[key] = 0
        elif tries >= MAX_RELOADS:
            last = self.broker.last_ids([self.broker.keys.shard(key.feed, key.shard, "out")])[0]
            self.out[key] = parse_id(last.id) if last else before
            self._reloads[key] = 0
            self._lost[key] = time.monotonic()
            log.error("gap not repaired", feed=key.feed, shard=key.shard, tries=tries)
            self.post(
                [Item("load", key, self.out[key][0], Loaded(None, self.feeds[key.feed].policy, lost=True))]
            )

    def _follow_orders(self) -> None:
        """Load the engine of shards whose orders are wanted, forget those that are not."""
        lost = {self.state.orders_lost.pop() for _ in range(len(self.state.orders_lost))}
        wanted = dict(self.state.orders_wanted)
        for key in [key for key in self.orders if key not in wanted or key in lost]:
            del self.orders[key]
        for key in wanted:
            if key in self.orders or key not in self.out:
                continue
            state = next(candidates(self.broker, key), None)
            if state is None:
                policy = self.feeds[key.feed].policy or "uncross"
                state = ShardState(policy, kind=engine_kind())  # type: ignore[arg-type]
            self.orders[key] = (state.session, state.ordinal)
            self.post([Item("orders", key, state.session, state)])
