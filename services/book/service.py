"""The book worker: own a fair share of shards, apply their input, commit, keep images."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.book.gauges import Gauges
from services.book.images import ImageWriter
from services.book.ownership import Ownership
from services.book.recovery import recover
from services.book.settings import BookSettings
from services.book.shard import OwnedShard
from shared import images, logs, metrics
from shared.broker import Broker, Command, Entry, Pending
from shared.clock import Clock, SystemClock
from shared.errors import Gap, UsageError
from shared.orderbook.engine import ANOMALIES
from shared.orderbook.engines import make_engine
from shared.records import MBO
from shared.wire.keys import parse_id, stream_id

log = logs.get("book")

PIPELINE_RECORDS = 4000  # in a pass of at least so many, the next one is read while its commit is in flight
MAX_RECOVERIES = 3  # of a shard that meets gaps, before it goes on as stale


class BookService:
    """See services/book/README.md."""

    role = "book"

    def __init__(self, config: BookSettings, clock: Clock | None = None) -> None:
        self.settings, self.clock = config, clock or SystemClock()
        try:
            self._fixed = config.fixed()
        except ValueError:
            raise UsageError(
                f"--static-shards {config.static_shards!r}: say for example 0-3 or 0,2"
            ) from None
        self.worker = config.owner_name()
        password = config.broker_password()

        def connect(name: str) -> Broker:
            return Broker(config.broker, config.prefix, name=f"{self.worker}-{name}"[:60], password=password)

        self.broker, self._reader = connect("commit"), connect("read")
        self._connect = connect
        self._images = ImageWriter(connect("images"))
        self.owned: dict[tuple[str, int], OwnedShard] = {}
        self._feeds: dict[str, Ownership] = {}
        self._poll_at = 0.0
        self._pending: tuple[Pending, list[OwnedShard]] | None = None
        self._gaps: dict[tuple[str, int], int] = {}
        self._gauges = Gauges(self.clock)
        self._commit_seconds = metrics.get("mbo_book_commit_seconds")
        self._sent_at = 0.0
        self._is_warm = False

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self._is_warm:  # a kernel that is compiled under a lease would lose it
            make_engine("raw", self.settings.engine).apply(np.zeros(1, MBO), 1)
            self._is_warm = True
        self.broker.connect()
        self._poll_at = 0.0

    def reset(self) -> None:
        """Forget all shards: their state may be ahead of the broker."""
        self.owned.clear()
        self._feeds.clear()
        self._pending = None
        self.broker.close()
        self._reader.close()

    def drain(self) -> None:
        self._finish()
        for ownership in self._feeds.values():
            ownership.leave()
        self.owned.clear()

    def close(self) -> None:
        self._images.close()
        self.broker.close()
        self._reader.close()

    def facts(self) -> dict[str, Any]:
        shards = [shard.facts() for shard in list(self.owned.values())]
        return {"worker": self.worker, "shards": shards, "stale": sum(bool(s["stale"]) for s in shards)}

    # -- the loop ---------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        if self.clock.monotonic() >= self._poll_at:
            self._finish()
            self._poll_at = self.clock.monotonic() + self.settings.poll_ms / 1000
            self._poll()
            self._gauges.update(self.broker, self.owned)
        after = {shard.stream: shard.read_after for shard in self.owned.values()}
        block_ms = 0 if self._pending or self._poll_at == 0.0 else self.settings.block_ms
        found = self._reader.read(after, count=self.settings.read_entries, block_ms=block_ms)
        commands: list[Command] = []
        owners: list[OwnedShard] = []
        records = 0
        for key, shard in list(self.owned.items()):
            entries = found.get(shard.stream)
            if entries:
                before = shard.state.ordinal
                made = self._apply(key, shard, entries)
                records += shard.state.ordinal - before
                commands += made
                owners += [shard] * len(made)
        self._finish()
        self._take_images(commands, owners)
        if commands:
            self._sent_at = self.clock.monotonic()
            self._pending = (self.broker.begin(commands, multi=True), owners)
            if records < PIPELINE_RECORDS:
                self._finish()
        return True

    def _apply(self, key: tuple[str, int], shard: OwnedShard, entries: list[Entry]) -> list[Command]:
        try:
            commands = shard.feed_entries(entries)
        except Gap as gap:
            self._gaps[key] = self._gaps.get(key, 0) + 1
            log.warning("gap", feed=key[0], shard=key[1], detail=str(gap), tries=self._gaps[key])
            self._finish()  # its replies come before that of the release
            self._drop(key, "gap")
            return []
        self._gaps.pop(key, None)
        return commands

    def _finish(self) -> None:
        """Wait for the commit round in flight; drop shards whose commit was refused."""
        if self._pending is None:
            return
        pending, owners = self._pending
        self._pending = None
        replies = self.broker.finish(pending)
        for shard, reply in zip(owners, replies, strict=True):
            if reply[0] in (b"OK", b"DONE"):
                continue
            key = (shard.feed, shard.shard)
            if self.owned.get(key) is shard:
                word = reply[0].decode()
                log.warning("commit refused", feed=key[0], shard=key[1], why=word, at=reply[1].decode())
                if word == "FENCED":
                    metrics.get("mbo_book_epochs_lost_total").labels(key[0]).inc()
                self._drop(key, word)
        feeds = {shard.feed: shard for shard in owners}
        took = self.clock.monotonic() - self._sent_at
        now = self.clock.now_ns()
        for feed, shard in feeds.items():
            self._commit_seconds.labels(feed).observe(took)
            metrics.get("mbo_book_commits_total").labels(feed).inc()
            if shard.flowed_ns:
                metrics.get("mbo_book_ingest_seconds").labels(feed).observe(
                    max(now - shard.flowed_ns, 0) / 1e9
                )

    # -- ownership --------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        self._find_feeds()
        for feed, ownership in self._feeds.items():
            self._renew(ownership)
            table = ownership.poll()
            surplus = ownership.surplus(table)
            for shard in surplus:
                self.owned.pop((feed, shard), None)
                log.info("shard released", feed=feed, shard=shard)
            ownership.release(surplus)
            wanted = ownership.wanted(table)
            if wanted and (how := ownership.take(wanted[0])):
                metrics.get("mbo_book_takeovers_total").labels(feed, how).inc()
                self._open(ownership, wanted[0])
            if len(wanted) > 1:  # one a pass, so that what is owned goes on and leases are renewed in between
                self._poll_at = 0.0
            metrics.get("mbo_book_shards_owned").labels(feed).set(len(ownership.tokens))
            stale = sum(s.state.stale for (name, _), s in self.owned.items() if name == feed)
            metrics.get("mbo_book_stale_shards").labels(feed).set(stale)

    def _renew_all(self) -> None:
        for ownership in self._feeds.values():
            self._renew(ownership)

    def _renew(self, ownership: Ownership) -> None:
        for shard in ownership.renew():
            log.warning("lease lost", feed=ownership.feed, shard=shard)
            metrics.get("mbo_book_epochs_lost_total").labels(ownership.feed).inc()
            self.owned.pop((ownership.feed, shard), None)

    def _find_feeds(self) -> None:
        names = sorted(name.decode() for name in self.broker.call("SMEMBERS", self.broker.keys.feeds))
        for feed in names:
            if feed in self._feeds or (self.settings.feeds and feed not in self.settings.feeds):
                continue
            meta = self.broker.hash(self.broker.keys.feed(feed, "meta"))
            if meta:
                metrics.zero("mbo_book_", feed=feed, kind=ANOMALIES[1:])
                self._feeds[feed] = Ownership(
                    self.broker,
                    self.clock,
                    feed,
                    int(meta["shards"]),
                    self.worker,
                    self.settings.lease_ms,
                    self._fixed,
                )

    def _open(self, ownership: Ownership, shard: int) -> None:
        feed, token = ownership.feed, ownership.tokens[shard]
        policy: Any = self.broker.hash(self.broker.keys.feed(feed, "meta")).get("policy", "uncross")
        try:
            state, image = recover(self.broker, self.settings, feed, shard, policy, self._renew_all)
        except Gap:
            ownership.release([shard])
            return
        if ownership.tokens.get(shard) != token:
            return  # it took so long that the lease was lost
        owned = OwnedShard(self.broker, self.clock, self.settings, feed, shard, token, state)
        owned.image_offset = image  # two kept images of one offset would be worth one
        owned.may_skip = self._gaps.get((feed, shard), 0) >= MAX_RECOVERIES
        self.owned[feed, shard] = owned
        log.info(
            "shard taken",
            feed=feed,
            shard=shard,
            epoch=token.split(":")[0],
            offset=stream_id(state.session, state.ordinal),
        )

    def _drop(self, key: tuple[str, int], why: str) -> None:
        """Forget a shard whose state cannot be trusted and let its lease go, to open it anew."""
        self.owned.pop(key, None)
        ownership = self._feeds[key[0]]
        if why == "FENCED":
            ownership.tokens.pop(key[1], None)
        else:
            ownership.release([key[1]])
        self._poll_at = 0.0

    # -- images -----------------------------------------------------------------------------------------------------

    def _take_images(self, commands: list[Command], owners: list[OwnedShard]) -> None:
        """Start at most one image a pass, and name those that have been staged."""
        for shard in self.owned.values():
            if shard.wants_image():
                at = self.clock.now_ns() / 1e9
                name = f"img:{shard.offset}:{shard.token}"
                key = self.broker.keys.shard(shard.feed, shard.shard, name)
                encode = shard.state.freeze()
                if self._images.submit(shard, key, shard.offset, at, encode):
                    shard.image_taken()
                break
        for shard, staged in self._images.done():
            if self.owned.get((shard.feed, shard.shard)) is not shard:
                continue
            result = metrics.get("mbo_book_images_total")
            if staged is None:
                shard.image_offset = ""
                result.labels(shard.feed, "failed").inc()
                continue
            kept = images.pointers(self.broker, shard.feed, shard.shard)
            commands.append(shard.image_command(staged, kept[1]["key"] if len(kept) == 2 else None))
            owners.append(shard)
            result.labels(shard.feed, "written").inc()
            metrics.get("mbo_book_image_bytes").labels(shard.feed, shard.shard).set(staged.size)
            if kept:
                self._trim_out(shard, kept[0]["offset"])

    def _trim_out(self, shard: OwnedShard, offset: str) -> None:
        """Drop `:out` up to `offset`, that of the older of the two images that stay."""
        session, ordinal = parse_id(offset)
        names = [self.broker.keys.shard(shard.feed, shard.shard, name) for name in ("out", "lease")]
        args = [shard.token, stream_id(session, ordinal + 1)]
        self.broker.call(*self.broker.script("trim", names, args))
