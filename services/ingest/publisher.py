"""The one writer of a feed: session, flushes, checkpoint. Every append is a compare-and-append under the lease.

State is three things: which session, how far each shard is (`ordinals`), and how far the source is (`position`).
All are read from the broker when it starts, so a start, a restart, a take-over and a broker that lost its tail are
one path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from services.ingest.entries import Part, pieces
from services.ingest.lease import FeedLease
from services.ingest.router import split
from services.ingest.settings import IngestSettings
from services.ingest.sources.base import Chunk, Source
from shared import logs, metrics
from shared.broker import Broker, Command, Pending
from shared.clock import Clock
from shared.errors import Diverged, UsageError
from shared.records import Rows
from shared.wire import codec
from shared.wire.keys import MAX_SHARDS, parse_id, shard_of, stream_id

log = logs.get("ingest")

CHECKPOINT_S = 0.1


class Resume(NamedTuple):
    session: int
    position: int
    spec: Mapping[str, Any]
    is_complete: bool


class _Append(NamedTuple):
    shard: int
    new_id: str
    ordinal: int
    records: int
    size_bytes: int
    control: str  # its type, "" for records


class Publisher:
    """Appends one feed. Not thread-safe; raises Fenced, Diverged and BrokerError, after which only `start` helps."""

    def __init__(
        self, broker: Broker, control: Broker, clock: Clock, settings: IngestSettings, feed: str, owner: str
    ) -> None:
        """`broker` carries the flushes; `control` everything else, so that a flush may be in flight meanwhile."""
        self.broker, self.control, self.clock = broker, control, clock
        self.settings, self.feed = settings, feed
        self.lease = FeedLease(control, feed, owner, settings.lease_ms)
        self.session = 0
        self.shards = settings.shards
        self.last_ids: list[str] = []
        self.ordinals: list[int] = []
        self.covered: list[int] = []  # source position each shard already covers: skip what lies before
        self.position = 0
        self._parts: list[list[Part]] = []  # by shard
        self._beyond: list[int] = []  # items each shard has at and after that position
        self._resume_beyond: list[int] = []  # the same, as it was at the start
        self._base_position = 0  # `position` at the last flush, and `_beyond` then
        self._base_beyond: list[int] = []
        self._ended: list[bool] = []
        self._instruments: dict[int, dict[str, Any]] = {}
        self._side: list[Command] = []  # commands that ride with the next flush (instrument table)
        self._pending: tuple[Pending, list[_Append]] | None = None
        self._checkpoint_at = 0.0
        self._acknowledged: dict[int, int] = {}  # last ordinal by shard, of this session
        self._bytes = metrics.get("mbo_ingest_bytes_total").labels(feed)
        self.buffered = 0

    # -- the session ------------------------------------------------------------------------------------------------

    def writers(self) -> set[str]:
        """The tokens that name the writers of the shards now."""
        keys = self.broker.keys
        names = [keys.shard(self.feed, shard, "writer") for shard in range(self.settings.shards)]
        return {
            token.decode()
            for token in self.control.pipe([("HGET", name, "token") for name in names])
            if token
        }

    def start(self, source: Source) -> Resume:
        """Fence every shard, find or begin the source's session, and say where the source must go on."""
        meta = self.control.hash(self.broker.keys.feed(self.feed, "meta"))
        self._check_meta(meta)
        keys, shards = self.broker.keys, range(self.shards)
        for shard in shards:
            names = [keys.shard(self.feed, shard, name) for name in ("writer", "in", "back")]
            reply = self.control.call(*self.broker.script("fence", names, [self.lease.token]))
            if reply[0] != b"OK":
                raise self.lease.lost(f"shard {self.feed}:{shard:02d} has a newer writer", shard=shard)
        tails = self.control.last_ids([keys.shard(self.feed, shard, "in") for shard in shards])
        newest = max((parse_id(tail.id)[0] for tail in tails if tail), default=0)
        known, session = meta.get("identity"), int(meta.get("session", 0))
        if known != source.identity or newest > session:  # ahead of its metadata: whose session is it?
            session = max(session, newest) + 1
            meta = self._write_meta(source, session)
        spec = json.loads(meta["spec"])
        if session != self.session:
            self._acknowledged.clear()
        self.session = session
        self.last_ids, self.ordinals, self.covered, self._ended = [], [], [], []
        self._beyond = []
        for tail in tails:
            entry = codec.decode_in(tail.d) if tail else None
            at_session = parse_id(tail.id)[0] if tail else 0
            self.last_ids.append(tail.id.decode() if tail else "0-0")
            current = entry is not None and at_session == session
            self.ordinals.append(entry.last if entry and current else 0)
            self.covered.append(entry.position if entry and current else 0)
            self._beyond.append(entry.beyond if entry and current else 0)
            self._ended.append(bool(entry and current and entry.control and entry.control["type"] == "end"))
        self._count_lost()
        self._use_checkpoint()
        self.position = self._base_position = min(self.covered)
        self._resume_beyond, self._base_beyond = list(self._beyond), list(self._beyond)
        self._parts = [[] for _ in shards]
        self._side, self._pending, self.buffered = [], None, 0
        saved = self.control.hash(keys.feed(self.feed, "instruments"))
        self._instruments = {int(instrument): json.loads(fields) for instrument, fields in saved.items()}
        complete = all(self._ended)
        if not complete:
            self._begin(spec, meta, source)
        log.info("session", feed=self.feed, session=session, position=self.position, complete=complete)
        return Resume(session, self.position, spec, complete)

    def _check_meta(self, meta: Mapping[str, str]) -> None:
        if not 1 <= self.settings.shards <= MAX_SHARDS:
            raise UsageError(f"--shards must be 1 to {MAX_SHARDS}")
        if not meta:
            return
        self.shards = int(meta["shards"])
        for name, wanted in (("shards", str(self.settings.shards)), ("policy", self.settings.policy)):
            if meta[name] != wanted:
                raise UsageError(
                    f"feed {self.feed} was made with --{name} {meta[name]}, not {wanted}: use that, another --data "
                    f"folder or broker, or --fresh to start over",
                    feed=self.feed,
                )

    def _write_meta(self, source: Source, session: int) -> dict[str, str]:
        meta = {
            "shards": str(self.shards),
            "policy": self.settings.policy,
            "dataset": source.dataset,
            "session": str(session),
            "state": "open",
            "identity": source.identity,
            "spec": json.dumps(dict(source.spec)),
            "readers": ",".join(self.settings.readers),
        }
        flat = [item for pair in meta.items() for item in pair]
        if self.control.call(*self._set("meta", *flat))[0] != b"OK":
            raise self.lease.lost(f"feed {self.feed} has another owner now")
        return meta

    def _set(self, name: str, *fields: object) -> Command:
        """Fields and values of one of the feed's hashes, while the feed is ours."""
        names = [self.broker.keys.feed(self.feed, each) for each in (name, "lease")]
        return self.broker.script("set", names, [self.lease.token, *fields])

    def _use_checkpoint(self) -> None:
        """Raise `covered` of shards that have had nothing for a while, if the checkpoint agrees with their streams."""
        saved = self.control.hash(self.broker.keys.feed(self.feed, "ckpt"))
        if not saved or int(saved["session"]) != self.session:
            return
        for shard, ordinal in enumerate(json.loads(saved["shards"])[: self.shards]):
            if self.ordinals[shard] >= ordinal and int(saved["position"]) > self.covered[shard]:
                self.covered[shard] = int(saved["position"])
                self._beyond[shard] = self.ordinals[shard] - ordinal

    def _begin(self, spec: Mapping[str, Any], meta: Mapping[str, str], source: Source) -> None:
        begin = {
            "type": "begin",
            "session": self.session,
            "dataset": source.dataset,
            "policy": meta["policy"],
            "identity": meta["identity"],
            "spec": spec,
            "ts": self.clock.now_ns(),
            "repaired": bool(spec.get("repaired")),
        }
        now = self.clock.now_ns()
        for shard in range(self.shards):
            if self.ordinals[shard] == 0:
                self._parts[shard].append((now, begin))
        self.flush()
        self.finish()

    # -- items ------------------------------------------------------------------------------------------------------

    def add(self, chunk: Chunk, ts_due: int) -> None:
        """Buffer a chunk for the next flush, leaving out what a shard already covers."""
        size = len(chunk.records) if chunk.records is not None else 1
        start = chunk.position - size
        if chunk.records is not None:
            if start >= max(self.covered) and not any(self._beyond):
                for shard, records in enumerate(split(chunk.records, self.shards)):
                    if len(records):
                        self._parts[shard].append((ts_due, records))
                        self.buffered += len(records)
            else:
                self._add_uncovered(chunk.records, start, ts_due)
        else:
            assert chunk.control is not None
            self._add_control(chunk.control, start, ts_due)
        self.position = chunk.position

    def _add_uncovered(self, records: Rows, start: int, ts_due: int) -> None:
        """After a restart: each shard goes on where its own stream ends."""
        for shard in range(self.shards):
            skip = min(max(self.covered[shard] - start, 0), len(records))
            mine = split(records[skip:], self.shards)[shard]
            have = min(self._beyond[shard], len(mine))
            self._beyond[shard] -= have
            mine = mine[have:]
            if len(mine):
                self._parts[shard].append((ts_due, mine))
                self.buffered += len(mine)

    def _add_control(self, control: Mapping[str, Any], start: int, ts_due: int) -> None:
        instrument = control.get("instrument_id")
        targets = [shard_of(int(instrument), self.shards)] if instrument is not None else range(self.shards)
        for shard in targets:
            if start < self.covered[shard]:
                continue
            if self._beyond[shard]:
                self._beyond[shard] -= 1
            else:
                self._parts[shard].append((ts_due, control))
                self.buffered += 1
        if control["type"] in ("mapping", "definition"):
            self._remember_instrument(control)
        if control["type"] == "gap" and start >= min(self.covered):
            metrics.get("mbo_ingest_gaps_total").labels(self.feed).inc()

    def _remember_instrument(self, control: Mapping[str, Any]) -> None:
        fields = {k: v for k, v in control.items() if k != "type"}
        instrument = int(fields["instrument_id"])
        fields["shard"] = shard_of(instrument, self.shards)
        old = self._instruments.get(instrument, {})
        merged = {**old, **fields}
        if merged != old:
            self._instruments[instrument] = merged
            self._side.append(self._set("instruments", instrument, json.dumps(merged, default=str)))

    # -- flushes ----------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        return self._pending is not None

    def flush(self) -> None:
        """Send everything buffered as one transaction; `finish` must have been called."""
        assert self._pending is None
        now = self.clock.now_ns()
        commands: list[Command] = []
        appends: list[_Append] = []
        for shard in range(self.shards):
            if self._parts[shard]:
                self._encode_shard(shard, now, commands, appends)
        self._base_position, self._base_beyond = self.position, list(self._beyond)
        commands += self._side
        self._side = []
        monotonic = self.clock.monotonic()
        if commands and monotonic - self._checkpoint_at >= CHECKPOINT_S:
            self._checkpoint_at = monotonic
            commands.append(self._checkpoint_command())
        if commands:
            self._pending = (self.broker.begin(commands, multi=True), appends)
        self.buffered = 0

    def _encode_shard(self, shard: int, now: int, commands: list[Command], appends: list[_Append]) -> None:
        keys = self.broker.keys
        names = [keys.shard(self.feed, shard, "in"), keys.shard(self.feed, shard, "writer")]
        parts = pieces(self._parts[shard], self.settings.entry_records)
        position, beyond = self._base(shard)
        for index, (ts_due, item) in enumerate(parts):
            first = self.ordinals[shard] + 1
            size = 1 if isinstance(item, Mapping) else len(item)
            beyond += size
            if index == len(parts) - 1:
                position, beyond = self.position, 0
            if isinstance(item, Mapping):
                blob = codec.encode_control(item, first, ts_due, now, position, beyond)
            else:
                blob = codec.encode_records(item, first, ts_due, now, position, beyond)
            self.ordinals[shard] += size
            new_id = stream_id(self.session, self.ordinals[shard])
            commands.append(
                self.broker.script("append", names, [self.lease.token, self.last_ids[shard], new_id, blob])
            )
            kind = str(item["type"]) if isinstance(item, Mapping) else ""
            appends.append(_Append(shard, new_id, self.ordinals[shard], size, len(blob), kind))
            self.last_ids[shard] = new_id
        self._parts[shard] = []

    def _base(self, shard: int) -> tuple[int, int]:
        """(position, items beyond it) that a shard held before this flush."""
        if self.covered[shard] > self._base_position:
            return self.covered[shard], self._resume_beyond[shard]
        return self._base_position, self._base_beyond[shard]

    def _checkpoint_command(self) -> Command:
        ordinals = json.dumps(self.ordinals)
        return self._set("ckpt", "session", self.session, "position", self.position, "shards", ordinals)

    def finish(self) -> int:
        """Wait for the flush in flight, if any; the number of records and controls acknowledged.

        Raises Fenced or Diverged if an append was refused: nothing after it was written either.
        """
        if self._pending is None:
            return 0
        pending, appends = self._pending
        self._pending = None
        replies = self.broker.finish(pending)
        for append, reply in zip(appends, replies, strict=False):
            word = reply[0]
            if word == b"FENCED":
                raise self.lease.lost(f"feed {self.feed} has another writer now", shard=append.shard)
            if word == b"DIVERGED":
                raise Diverged(
                    f"shard {self.feed}:{append.shard:02d} ends at {reply[1].decode()}, not where we left it",
                    feed=self.feed,
                    shard=append.shard,
                    at=reply[1].decode(),
                    wanted=append.new_id,
                )
        self._count(appends)
        return sum(append.records for append in appends)

    def _count(self, appends: list[_Append]) -> None:
        self._bytes.inc(sum(append.size_bytes for append in appends))
        for append in appends:
            self._acknowledged[append.shard] = append.ordinal
            where = {"feed": self.feed, "session": self.session, "shard": append.shard}
            log.debug("appended", **where, ordinal=append.ordinal, n=append.records)
            if append.control:
                metrics.get("mbo_ingest_controls_total").labels(self.feed, append.control).inc()

    def _count_lost(self) -> None:
        """What was acknowledged and is not there any more will be sent again."""
        lost = sum(max(last - self.ordinals[shard], 0) for shard, last in self._acknowledged.items())
        if lost:
            metrics.get("mbo_ingest_resent_records_total").labels(self.feed).inc(lost)

    def end(self, reason: str) -> None:
        """Append `end` to every shard that lacks it, write the last checkpoint, and mark the session ended."""
        self.finish()
        now = self.clock.now_ns()
        for shard in range(self.shards):
            if not self._ended[shard]:
                self._parts[shard].append((now, {"type": "end", "reason": reason}))
        self.flush()
        self.finish()
        self.control.pipe([self._checkpoint_command(), self._set("meta", "state", "ended")])
