"""One owned shard at work: follow `:in`, apply, make the commands of its commits."""

from __future__ import annotations

from typing import Any

from services.book.settings import BookSettings
from shared import logs, metrics
from shared.broker import Broker, Command, Entry
from shared.clock import Clock
from shared.errors import Gap, WireError
from shared.images import Staged
from shared.orderbook.shard import ShardState
from shared.wire.codec import InEntry, decode_in, encode_out
from shared.wire.keys import parse_id, stream_id
from shared.wire.reading import follow, join

log = logs.get("book")


class OwnedShard:
    """State, read position and commit chain of a shard this worker owns under `token`."""

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        settings: BookSettings,
        feed: str,
        shard: int,
        token: str,
        state: ShardState,
    ) -> None:
        self.clock, self.settings, self.feed, self.shard = clock, settings, feed, shard
        self.token, self.state, self.broker = token, state, broker
        keys = broker.keys
        self.stream = keys.shard(feed, shard, "in")
        self._commit_keys = [keys.shard(feed, shard, name) for name in ("out", "lease", "pos", "img")]
        self.offset = stream_id(state.session, state.ordinal)  # committed, or sent to be
        self.read_after = self.offset
        self.records = 0  # applied since the last image
        self.image_offset = ""  # of the newest image, or of one on its way
        self.image_at = clock.monotonic()
        self.force_image = False
        self.may_skip = False  # a gap has outlived every recovery: go on behind it, stale
        self.flowed_ns = 0  # ts_ingest of the newest entry applied
        self.is_behind = False  # the last read was full: there is more
        self._apply_seconds = metrics.get("mbo_book_apply_seconds").labels(feed)
        self._records = metrics.get("mbo_book_records_total").labels(feed, shard)
        self._bytes = metrics.get("mbo_book_bytes_total").labels(feed)

    def feed_entries(self, entries: list[Entry]) -> list[Command]:
        """Apply what is new in `entries`; one commit command for each run of records and each control.

        Raises Gap if ordinals are missing, WireError on bytes that are no entry.
        """
        commands: list[Command] = []
        run: list[InEntry] = []
        size = 0
        self.is_behind = len(entries) >= self.settings.read_entries
        for raw in entries:
            last = run[-1] if run else None
            at = (self.state.session, last.last if last else self.state.ordinal)
            decoded = decode_in(raw.d)
            try:
                entry = follow(*at, raw.id, decoded)
            except Gap:
                if not self.may_skip:
                    raise
                self.may_skip = False
                self.state.session, self.state.stale = parse_id(raw.id)[0], True
                entry = decoded
            self.read_after = raw.id.decode()
            if entry is None:
                continue
            if entry.control is not None or size + entry.n > self.settings.batch_records:
                self._commit_run(run, commands)
                run, size = [], 0
            if entry.control is not None:
                self._commit_entry(entry, commands)
                continue
            run.append(entry)
            size += entry.n
        self._commit_run(run, commands)
        return commands

    def _commit_run(self, run: list[InEntry], commands: list[Command]) -> None:
        if run:
            self._commit_entry(join(run), commands)

    def _commit_entry(self, entry: InEntry, commands: list[Command]) -> None:
        started = self.clock.monotonic()
        batch = self.state.apply(entry)
        self._apply_seconds.observe(self.clock.monotonic() - started)
        self.records += entry.n
        self._records.inc(entry.n)
        self.flowed_ns = entry.ts_ingest
        if self.state.session == 0:
            raise WireError(
                f"{self.stream}: no begin before ordinal {entry.last}", feed=self.feed, shard=self.shard
            )
        blob = encode_out(
            batch, n=entry.n, first=entry.first, ts_due=entry.ts_due, ts_ingest=entry.ts_ingest,
            ts_book=self.clock.now_ns(), stale=self.state.stale, control=entry.control,
        )  # fmt: skip
        new = stream_id(self.state.session, entry.last)
        args = [self.token, self.offset, new, blob, ""]
        commands.append(self.broker.script("commit", self._commit_keys, args))
        self._bytes.inc(len(blob))
        where = {"feed": self.feed, "session": self.state.session, "shard": self.shard}
        log.debug("commit", **where, ordinal=entry.last, n=entry.n)
        self.offset = new
        if entry.control is not None and entry.control["type"] == "end":
            self.force_image = True

    def wants_image(self) -> bool:
        """Whether it is time to take an image of the present state."""
        if self.state.session == 0 or self.image_offset == self.offset:
            return False
        config = self.settings
        if self.force_image or self.records >= config.image_records:
            return True
        return self.clock.monotonic() - self.image_at >= config.image_s

    def image_taken(self) -> None:
        self.image_offset, self.image_at, self.records, self.force_image = (
            self.offset,
            self.clock.monotonic(),
            0,
            False,
        )

    def image_command(self, staged: Staged, gone: str | None) -> Command:
        """Name a staged image in a commit that moves nothing else; `gone`: the key of the one before the previous."""
        args = [self.token, self.offset, self.offset, "", staged.pointer]
        keys = [*self._commit_keys, staged.key, *([gone] if gone else [])]
        return self.broker.script("commit", keys, args)

    def facts(self) -> dict[str, Any]:
        return {"feed": self.feed, "shard": self.shard, "offset": self.offset, "token": self.token.split(":")[0],
                "stale": self.state.stale, "image": self.image_offset}  # fmt: skip
