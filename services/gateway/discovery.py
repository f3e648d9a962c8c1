"""Discovery: the main thread's part. It finds feeds, instruments and shards, and loads where a shard begins.

Start-up and repair are one path: load the newest image (or begin at the stream's start), then the reader goes on there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from services.gateway.instruments import Feed
from services.gateway.items import FeedRows, Item, Loaded
from services.gateway.loading import candidates, engine_kind
from services.gateway.reader import At, Need, Reader
from services.gateway.settings import GatewaySettings
from services.gateway.vector import ShardKey
from shared import logs, metrics
from shared.broker import Broker
from shared.errors import UsageError
from shared.orderbook.shard import ShardState
from shared.wire.codec import decode_out
from shared.wire.keys import parse_id, stream_id

log = logs.get("gateway")

DISCOVER_S = 1.0
CATCH_UP_S = 5.0  # clients are let in at the newest state, or after so long
CATCH_UP_POLL_S = 0.002
WAIT_S = 0.1  # a pass returns after so long at most: the process may have been told to stop
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


class Discovery:
    """What the reader follows, and what it cannot get by reading on."""

    def __init__(self, broker: Broker, settings: GatewaySettings, reader: Reader) -> None:
        self.broker, self.settings, self.reader = broker, settings, reader
        self.feeds: dict[str, Feed] = {}
        self.lag: dict[ShardKey, int] = {}
        self.measures = 0  # how often `lag` was measured
        self._needs: deque[Need] = deque()
        self._wake = threading.Event()
        self._wanted_shard = shard_filter(settings.only_shards)
        self._loaded: dict[ShardKey, At] = {}  # every shard followed: where it was loaded last
        self._reloads: dict[ShardKey, int] = {}
        self._lost: dict[ShardKey, float] = {}
        self._sizes: dict[str, int] = {}
        self._named: dict[str, float] = {}  # monotonic s at which a feed's instruments were read
        self._discovered = -DISCOVER_S
        reader.need = self.need

    def need(self, need: Need) -> None:
        """Get it soon (any thread)."""
        self._needs.append(need)
        self._wake.set()

    def hurry(self) -> None:
        """Measure the lag at once (any thread)."""
        self._discovered = -DISCOVER_S
        self._wake.set()

    def start(self) -> None:
        """Find the feeds, load every shard not yet followed and let the reader catch up; raises BrokerLost."""
        self.broker.connect()
        self.discover()
        shards = list(self._loaded)
        lasts = self.broker.last_ids([self.broker.keys.shard(key.feed, key.shard, "out") for key in shards])
        ends = {key: parse_id(last.id) for key, last in zip(shards, lasts, strict=True) if last}
        deadline = time.monotonic() + CATCH_UP_S
        while time.monotonic() < deadline and self.reader.failure is None:
            if all(self._position(key) >= end for key, end in ends.items()):
                break
            time.sleep(CATCH_UP_POLL_S)

    def step(self) -> None:
        """Wait for something to do, at most WAIT_S, and do it; raises what ended the reader."""
        if self._wake.wait(WAIT_S):
            self._wake.clear()
        if self.reader.failure is not None:
            raise self.reader.failure
        while self._needs:
            self._get(self._needs[0])
            self._needs.popleft()
        if time.monotonic() - self._discovered >= DISCOVER_S:
            self.discover()

    def _get(self, need: Need) -> None:
        if need.at is not None:
            self._reload(need.key, need.at)
        else:
            self._load_orders(need.key)

    # -- feeds and shards ----------------------------------------------------------------------------------------------

    def discover(self) -> None:
        """Feeds, instruments and shards as the broker has them now; two round trips unless something is new."""
        self._discovered = time.monotonic()
        keys = self.broker.keys
        wanted = self.settings.feeds
        found = sorted(name.decode() for name in self.broker.call("SMEMBERS", keys.feeds))
        names = [name for name in found if not wanted or name in wanted]
        shards = list(self._loaded)
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
            self.reader.post([Item("feed", None, 0, FeedRows(feed, rows))])
            self._named[name] = now
        self.feeds[name], self._sizes[name] = feed, size
        for shard in filter(self._wanted_shard, range(feed.shards)):
            key = ShardKey(name, shard)
            if key not in self._loaded or self._position(key)[0] > feed.session > 0:
                self._load(key)
            elif key in self._lost and now - self._lost[key] > RETRY_LOST_S:
                self._reload(key, self._position(key))

    def _position(self, key: ShardKey) -> At:
        """Where the reader stands, or will when it has taken what was loaded."""
        return max(self.reader.out.get(key, (0, 0)), self._loaded[key])

    def _measure(self, shards: list[ShardKey], ends: list[At]) -> None:
        self.measures += 1
        for key, (session, ordinal) in zip(shards, ends, strict=True):
            here = self._position(key)
            ahead = ordinal - here[1] if session == here[0] else ordinal if session > here[0] else 0
            self.lag[key] = max(0, ahead)
            metrics.get("mbo_gateway_lag_records").labels(key.feed, key.shard).set(self.lag[key])

    def _load(self, key: ShardKey) -> None:
        """Start a shard at its newest usable image, or at the beginning of its stream, or give it up for now."""
        state = next(candidates(self.broker, key), None)
        if state is not None:
            self._give(key, (state.session, state.ordinal), state)
            return
        name = self.broker.keys.shard(key.feed, key.shard, "out")
        first = self.broker.call("XRANGE", name, "-", "+", "COUNT", 1)
        if (
            first and decode_out(first[0][1][1]).first > 1
        ):  # trimmed, and no image: follow from here, marked as a gap
            self._give(key, parse_id(first[0][0]), lost=True)
        else:
            self._give(key, (0, 0))

    def _give(self, key: ShardKey, at: At, state: ShardState | None = None, *, lost: bool = False) -> None:
        """The reader goes on after `at`."""
        if lost:
            self._lost[key] = time.monotonic()
            log.warning("shard cannot be loaded", feed=key.feed, shard=key.shard, at=stream_id(*at))
        else:
            self._lost.pop(key, None)
        self._loaded[key] = at
        policy = self.feeds[key.feed].policy
        self.reader.post([Item("load", key, at[0], Loaded(state, policy, at, lost))])

    def _reload(self, key: ShardKey, before: At) -> None:
        """After a gap: the newest image, at most MAX_RELOADS times without progress."""
        metrics.get("mbo_gateway_reloads_total").labels(key.feed, "gap").inc()
        tries = self._reloads.get(key, 0) + 1
        self._load(key)
        if self._loaded[key] > before:
            tries = 0
        elif tries >= MAX_RELOADS:
            tries = 0
            last = self.broker.last_ids([self.broker.keys.shard(key.feed, key.shard, "out")])[0]
            log.error("gap not repaired", feed=key.feed, shard=key.shard, tries=MAX_RELOADS)
            self._give(key, parse_id(last.id) if last else before, lost=True)
        self._reloads[key] = tries

    def _load_orders(self, key: ShardKey) -> None:
        """The engine of a shard whose orders somebody wants."""
        state = next(candidates(self.broker, key), None)
        if state is None:
            policy = self.feeds[key.feed].policy or "uncross"
            state = ShardState(policy, kind=engine_kind())  # type: ignore[arg-type]
        self.reader.post([Item("orders", key, state.session, state)])
