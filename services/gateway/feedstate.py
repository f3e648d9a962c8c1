"""Everything the gateway knows of its feeds, and how one drain's items change it. Owned by the hub's loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from services.gateway.best import published_bbo
from services.gateway.channels import ShardTopics
from services.gateway.channels.bbo import BboTopic
from services.gateway.instruments import Directory, Instrument
from services.gateway.items import FeedRows, Item, Loaded
from services.gateway.orders import MAX_QUEUED_RECORDS, Applied, Orders, of_instrument
from services.gateway.shards import ShardBooks
from services.gateway.topic import Topic
from services.gateway.vector import ShardKey, run_name
from shared import logs, metrics
from shared.errors import Gap
from shared.orderbook.engine import Batch
from shared.orderbook.pick import pick
from shared.orderbook.shard import ShardState
from shared.records import Rows
from shared.wire.codec import InEntry, OutEntry

log = logs.get("gateway")

ORDERS_IDLE_S = 60.0
NOBODY = ShardTopics()


class Changed:
    """What the hub must tell groups about, besides the dirty topics."""

    def __init__(self) -> None:
        self.reset: list[ShardKey] = []
        self.orders_loaded: list[ShardKey] = []
        self.appeared: list[Instrument] = []
        self.met: list[Instrument] = []  # have their first book
        self.renamed: list[Instrument] = []
        self.bbo_rows = 0
        self.oldest_due = 0
        self.oldest_book = 0


class FeedState:
    """Directory, books and orders of every feed."""

    def __init__(self) -> None:
        self.directory = Directory(changed=self._changed)
        self.books: dict[ShardKey, ShardBooks] = {}
        self.runs: dict[str, tuple[int, str]] = {}  # see vector.Runs
        self.orders: dict[ShardKey, Orders] = {}
        self.orders_wanted: dict[ShardKey, float] = {}  # monotonic s of the last use; the reader looks at it
        self.orders_lost: set[ShardKey] = set()  # for the reader: what it loaded is void
        self._held: dict[ShardKey, deque[Item]] = {}  # `:out` that waits for `:in` to arrive

    def _changed(self, instrument: Instrument) -> int:
        """ts_recv of the last change of its book, 0 for no book."""
        books, number = self.books.get(instrument.key), instrument.instrument_id
        if books is None:
            return 0
        return max((books.levels.touched(p, number)[1] for p in books.publishers.get(number, ())), default=0)

    def want_orders(self, key: ShardKey, now: float) -> None:
        """Somebody needs the orders of a shard: the reader loads its image and reads `:in`."""
        self.orders_wanted[key] = now

    def unused_orders(self, now: float) -> list[ShardKey]:
        return [key for key, at in self.orders_wanted.items() if now - at > ORDERS_IDLE_S]

    def drop_orders(self, key: ShardKey) -> None:
        """They lost their place: the reader loads them anew."""
        self.orders.pop(key, None)
        if key in self.books:
            self.books[key].orders = None
        self.orders_lost.add(key)

    def forget_orders(self, key: ShardKey) -> None:
        """Nobody needs them any more."""
        self.orders_wanted.pop(key, None)
        self.drop_orders(key)

    def room_for_orders(self, key: ShardKey) -> bool:
        """Whether the reader may read more of `:in` (any thread)."""
        orders = self.orders.get(key)
        return orders is None or orders.queued < MAX_QUEUED_RECORDS

    # -- one drain ---------------------------------------------------------------------------------------------------

    def take(
        self, items: Iterable[Item], topics: Mapping[ShardKey, ShardTopics], dirty: set[Topic], now: float
    ) -> Changed:
        """Apply items in order; adds topics that have something to say to `dirty`."""
        changed = Changed()
        moved: dict[ShardKey, None] = {}
        for item in items:
            value, key = item.value, item.key
            if isinstance(value, FeedRows):
                if value.feed.session > self.runs.get(value.feed.name, (0, ""))[0]:
                    self.runs[value.feed.name] = (value.feed.session, value.feed.run)
                for instrument in self.directory.load(value.feed, value.rows):
                    self._named(instrument, changed)
                continue
            assert key is not None
            if isinstance(value, Loaded):
                self._load(key, value, changed)
            elif isinstance(value, ShardState):
                self.orders[key] = Orders(value)
                moved[key] = None
            elif isinstance(value, InEntry):
                if key in self.orders:
                    self.orders[key].put(item.session, value)
                    moved[key] = None
            elif self._must_wait(key, item.session, value):
                self._held.setdefault(key, deque()).append(item)
            else:
                self._out(key, item.session, value, topics.get(key, NOBODY), dirty, changed, now)
                moved[key] = None
        for key in moved:
            self._release(key, topics.get(key, NOBODY), dirty, changed, now)
            self._advance_orders(key, topics.get(key, NOBODY), dirty, changed)
            if not self.books[key].boundaries or self.books[key].boundaries[-1] != self.books[key].ordinal:
                self.books[key].boundaries.append(self.books[key].ordinal)
        return changed

    def _load(self, key: ShardKey, loaded: Loaded, changed: Changed) -> None:
        books = self.books.get(key)
        if books is None:
            books = self.books[key] = ShardBooks(key, loaded.policy)
        books.gap = loaded.lost
        if not loaded.lost:
            books.policy = loaded.policy
            if loaded.state is not None:
                books.load(loaded.state)
            else:
                books.clear()
                books.session = books.ordinal = 0
            self._held.pop(key, None)
            for instrument, publishers in books.publishers.items():
                for publisher in publishers:
                    self._met(key, publisher, instrument, changed)
        changed.reset.append(key)

    def _must_wait(self, key: ShardKey, session: int, entry: OutEntry) -> bool:
        """`:out` is folded only once `:in` has come as far, where orders are served: all channels end together."""
        orders = self.orders.get(key)
        if orders is None or not self.books[key].orders:
            return bool(self._held.get(key))
        return bool(self._held.get(key)) or not orders.reaches(session, entry.last)

    def _release(
        self, key: ShardKey, topics: ShardTopics, dirty: set[Topic], changed: Changed, now: float
    ) -> None:
        held = self._held.get(key)
        while held:
            item = held[0]
            assert isinstance(item.value, OutEntry)
            orders = self.orders.get(key)
            if (
                orders is not None
                and self.books[key].orders
                and not orders.reaches(item.session, item.value.last)
            ):
                return
            if item.breaks and dirty:  # publish what is before it first
                return
            held.popleft()
            self._out(key, item.session, item.value, topics, dirty, changed, now)

    def _out(
        self,
        key: ShardKey,
        session: int,
        entry: OutEntry,
        topics: ShardTopics,
        dirty: set[Topic],
        changed: Changed,
        now: float,
    ) -> None:
        books, batch = self.books[key], entry.batch
        if session == books.session and entry.first <= books.ordinal:
            batch = unseen(batch, books.ordinal)
        control = entry.control
        if control is not None and control["type"] == "begin":
            books.clear()
            books.policy = control.get("policy", books.policy)
            self.runs[key.feed] = (session, run_name(control.get("identity", ""), control.get("spec") or {}))
            books.gap = False
            changed.reset.append(key)
        had_stale = books.stale
        changes = published_bbo(books, batch, topics.wanted("bbo")) if topics.bbo else batch.bbo[:0]
        fresh = books.fold(batch)
        books.session, books.ordinal = session, entry.last
        books.stale, books.arrived = entry.stale, now
        books.stamps = (entry.ts_due, entry.ts_ingest, entry.ts_book)
        log.debug("folded", feed=key.feed, session=session, shard=key.shard, ordinal=entry.last, n=entry.n)
        if not changed.oldest_due or entry.ts_due < changed.oldest_due:
            changed.oldest_due = entry.ts_due
        if not changed.oldest_book or entry.ts_book < changed.oldest_book:
            changed.oldest_book = entry.ts_book
        for publisher, instrument in fresh:
            self._met(key, publisher, instrument, changed)
        if control is not None:
            self._control(key, control, topics, dirty, changed)
        if len(changes):
            self._best(books, changes, topics, dirty)
            changed.bbo_rows += len(changes)
        if len(batch.trades) and (topics.trades or topics.bars):
            self._trades(batch.trades, topics, dirty)
        if topics.book or topics.bars or topics.status:
            self._touch(batch.touched, topics, dirty)
        if had_stale != books.stale:
            self._all_dirty(topics, dirty)

    @staticmethod
    def _best(books: ShardBooks, rows: Rows, topics: ShardTopics, dirty: set[Topic]) -> None:
        for instrument in set(rows["instrument_id"].tolist()):
            stale = books.is_stale(instrument)
            for topic in topics.bbo[instrument]:
                topic.take(rows, stale)
                dirty.add(topic)

    @staticmethod
    def _trades(rows: Rows, topics: ShardTopics, dirty: set[Topic]) -> None:
        if topics.trades and len(mine := pick(rows, topics.wanted("trades"))):
            for instrument in set(mine["instrument_id"].tolist()):
                for topic in topics.trades[instrument]:
                    topic.take(mine)
                    dirty.add(topic)
        for row in pick(rows, topics.wanted("bars")).tolist() if topics.bars else ():
            for bars in topics.bars[row[6]]:
                if bars.wants(row[8]):
                    bars.take(row)
                    dirty.add(bars)

    @staticmethod
    def _touch(rows: Rows, topics: ShardTopics, dirty: set[Topic]) -> None:
        touched = pick(rows, topics.wanted("book", "bars", "status")).tolist()
        for _, _, ts_recv, instrument, publisher, _, _ in touched:
            if instrument in topics.book:
                dirty.update(topic for topic in topics.book[instrument] if topic.wants(publisher))
            if instrument in topics.bars:
                dirty.update(topic for topic in topics.bars[instrument] if topic.tick(ts_recv))
            if instrument in topics.status:
                dirty.update(topics.status[instrument])

    @staticmethod
    def _all_dirty(topics: Iterable[Topic], dirty: set[Topic]) -> None:
        """Staleness or status changed: every view says so."""
        for topic in topics:
            if isinstance(topic, BboTopic):
                topic.restate()
            if topic.key.channel in ("book", "status", "bbo"):
                dirty.add(topic)

    def _control(
        self,
        key: ShardKey,
        control: Mapping[str, Any],
        topics: ShardTopics,
        dirty: set[Topic],
        changed: Changed,
    ) -> None:
        books, kind = self.books[key], control["type"]
        if kind == "mapping":
            instrument, symbol = int(control["instrument_id"]), str(control["symbol"])
            old = books.symbols.get(instrument)
            books.symbols[instrument] = symbol
            if old is not None and old != symbol:
                books.forget_instrument(instrument)
            found = self.directory.see(key, instrument, 0, symbol)
            if found is not None:
                self._named(found, changed)
            self._all_dirty(topics.of(instrument), dirty)
        elif kind == "status":
            books.status_control(control)
            self._all_dirty(topics.of(int(control["instrument_id"])), dirty)
        elif kind == "gap" and control.get("instrument_id"):
            books.stale_instruments.add(int(control["instrument_id"]))
            self._all_dirty(topics.of(int(control["instrument_id"])), dirty)
        elif kind == "recovered":
            books.stale_instruments.clear()
            self._all_dirty(topics, dirty)
        elif kind == "end":
            books.ended = True
            self._all_dirty(topics, dirty)

    def _met(self, key: ShardKey, publisher: int, instrument: int, changed: Changed) -> None:
        symbol = self.books[key].symbols.get(instrument)
        found = self.directory.see(key, instrument, publisher, symbol)
        if found is not None:
            self._named(found, changed)
        changed.met.append(self.directory.by_id[key.feed, instrument])

    def _named(self, instrument: Instrument, changed: Changed) -> None:
        changed.appeared.append(instrument)
        changed.renamed.append(instrument)

    # -- orders ------------------------------------------------------------------------------------------------------

    def _advance_orders(
        self, key: ShardKey, topics: ShardTopics, dirty: set[Topic], changed: Changed
    ) -> None:
        orders, books = self.orders.get(key), self.books[key]
        if orders is None:
            return
        try:
            parts = orders.advance(books.session, books.ordinal)
        except Gap as gap:
            log.limited("orders lost their place", feed=key.feed, shard=key.shard, detail=str(gap))
            metrics.get("mbo_gateway_reloads_total").labels(key.feed, "orders").inc()
            self.drop_orders(key)
            for found in topics.mbo.values():
                for topic in found:
                    topic.forget()
            return
        if books.orders is None:
            if (orders.state.session, orders.state.ordinal) == (books.session, books.ordinal):
                books.orders = orders.state
                changed.orders_loaded.append(key)
            return
        if parts:
            self.mbo(parts, topics, dirty)

    @staticmethod
    def mbo(parts: list[Applied], topics: ShardTopics, dirty: set[Topic]) -> None:
        present = {int(i) for part in parts for i in np.unique(part.records["instrument_id"])}
        for instrument in present & topics.mbo.keys():
            for topic in topics.mbo[instrument]:
                mine = of_instrument(parts, instrument, topic.key.publisher) if topic.loaded else None
                if mine is not None:
                    topic.take(*mine)
                    dirty.add(topic)


def unseen(batch: Batch, ordinal: int) -> Batch:
    """An entry that reaches back to before `ordinal`, where we stand: what happened since.

    After the broker lost its last second, a worker commits the same input again in other batches. Levels are absolute,
    and those of `touched` are times of now: both may be folded again.
    """
    return batch._replace(
        bbo=batch.bbo[batch.bbo["ordinal"] > ordinal],
        trades=batch.trades[batch.trades["end"] > ordinal],
        auctions=batch.auctions[batch.auctions["ordinal"] > ordinal],
    )
