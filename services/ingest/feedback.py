"""For persist, what `:in` no longer has: a live feed trimmed past a slow persister is fed back from the journal.

Only a live feed does this, and only past the memory mark (upkeep.py): the books must go on. Before the first entry
that persist has not read is trimmed it is copied to `{feed:NN}:back`. From then on the last entry of `:back` says
where the journal is read on, exactly as the last entry of `:in` says where a source is resumed: a restart, a take-over
and a broker that lost its tail need nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

from services.ingest.router import split
from services.ingest.settings import IngestSettings
from services.ingest.sources.base import Chunk, EndOfSource, Journaled, Reread
from shared import logs, metrics
from shared.broker import Broker, Command
from shared.clock import Clock
from shared.errors import Fenced, Gap
from shared.records import Rows
from shared.wire import codec
from shared.wire.keys import parse_id, shard_of, stream_id

log = logs.get("ingest")

READER = "persist"  # the one reader that can do without `:in`
WINDOW_RECORDS = 200_000  # of a feed: so far `:back` goes ahead of persist, in a broker that has room for it
WINDOW_SHARE = 0.05  # of the broker's memory, at ENTRY_BYTES a record
ENTRY_BYTES = 64
CHUNKS = 16  # of the journal between two looks at the broker
POLL_S = 0.1
RETRY_S = 1.0


class Owned(NamedTuple):
    """What the feed's owner says of itself, from when it has started until it loses the feed."""

    token: str
    session: int
    shards: int
    spec: Any


@dataclass(slots=True)
class Cursor:
    """How far `:back` of one shard goes: as in the header of its last entry."""

    last_id: str
    ordinal: int
    position: int  # of the source: the shard is complete up to here …
    beyond: int  # … and has so many of its items from here on too
    persist: int  # ordinal that persist has stored
    floor: int  # ordinal below and at which `:in` is trimmed

    @property
    def is_short(self) -> bool:
        """Whether persist waits for what is neither in `:in` nor in `:back`."""
        return self.persist < self.floor and self.ordinal < self.floor


def anchor(broker: Broker, owned: Owned, feed: str, shard: int, stored: tuple[int, int]) -> bool:
    """Make `:back` begin where persist is, at `stored`; True once `:in` may be trimmed past it.

    False for a persister that is still in an earlier session: that one's journal is another.
    """
    keys = broker.keys
    back, name = keys.shard(feed, shard, "back"), keys.shard(feed, shard, "in")
    tail, rows = broker.pipe(
        [
            ("XREVRANGE", back, "+", "-", "COUNT", 1),
            ("XRANGE", name, f"({stream_id(*stored)}", "+", "COUNT", 1),
        ]
    )
    last = tail[0][0] if tail else b"0-0"
    if tail and parse_id(last) >= stored and parse_id(last)[0] == owned.session:
        return True
    if not rows or parse_id(rows[0][0])[0] != owned.session:
        return False
    entry_id, fields = rows[0]
    args = [owned.token, last, entry_id, fields[1]]
    reply = broker.call(*broker.script("append", [back, keys.shard(feed, shard, "writer")], args))
    if reply[0] == b"FENCED":
        raise Fenced(f"feed {feed} has another writer now", feed=feed, shard=shard)
    return bool(reply[0] in (b"OK", b"DONE"))


class FeedBack:
    """A thread beside a live feed: it must never make live wait."""

    def __init__(
        self, broker: Broker, clock: Clock, settings: IngestSettings, feed: str, source: Journaled
    ) -> None:
        self._broker, self._clock, self._settings = broker, clock, settings
        self.feed, self.source = feed, source
        self.owned: Owned | None = None  # set by the feed's loop
        self.window = WINDOW_RECORDS  # now
        self._cursors: dict[int, Cursor] = {}
        self._reread: Reread | None = None
        self._stop = threading.Event()
        self._records = metrics.get("mbo_ingest_fed_back_records_total").labels(feed)
        self._window = metrics.get("mbo_ingest_feed_back_records").labels(feed)
        self._thread = threading.Thread(target=self._run, name=f"feed-back {feed}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            owned = self.owned
            try:
                pause = 0.0 if owned is not None and self.step(owned) else POLL_S
            except Exception as error:  # noqa: BLE001 - nobody else gives back what was trimmed: it must go on
                log.limited("feed-back failed", feed=self.feed, detail=repr(error))
                self._reread = None
                self._broker.close()
                pause = RETRY_S

    def fit(self, limit_bytes: int) -> None:
        """The broker's maxmemory, 0 for none: the window is a small part of it."""
        room = int(limit_bytes * WINDOW_SHARE / ENTRY_BYTES)
        self.window = min(WINDOW_RECORDS, room) if limit_bytes else WINDOW_RECORDS

    def step(self, owned: Owned) -> bool:
        """Look where persist and the floors are; give out one piece of the journal if it is short of something."""
        self._look(owned)
        short = {shard: cursor for shard, cursor in self._cursors.items() if cursor.is_short}
        self._window.set(self.ahead)
        if not short or self.ahead >= self.window:
            return False
        wanted = min(cursor.position for cursor in short.values())
        if self._reread is None or self._reread.position > wanted:
            self._reread = self._open(owned, wanted)
        for _ in range(CHUNKS):
            short = {shard: cursor for shard, cursor in short.items() if cursor.is_short}
            if not short or self.ahead >= self.window:
                break
            self._give(owned, short)
        return True

    @property
    def ahead(self) -> int:
        """Records in `:back` that persist has not stored yet, of all shards."""
        return sum(max(cursor.ordinal - cursor.persist, 0) for cursor in list(self._cursors.values()))

    def _look(self, owned: Owned) -> None:
        """Cursors of the shards that have a `:back`, from the broker: they may have been cut, or fed by another."""
        keys, feed = self._broker.keys, self.feed
        backs = [keys.shard(feed, shard, "back") for shard in range(owned.shards)]
        tails = {shard: tail for shard, tail in enumerate(self._broker.last_ids(backs)) if tail is not None}
        rows = self._broker.pipe(
            [("HGET", keys.shard(feed, shard, "pos"), READER) for shard in tails]
            + [("XRANGE", keys.shard(feed, shard, "in"), "-", "+", "COUNT", 1) for shard in tails]
        )
        before, self._cursors = self._cursors, {}
        for index, (shard, tail) in enumerate(tails.items()):
            session, _ = parse_id(tail.id)
            if session != owned.session:
                continue
            stored = parse_id(rows[index] or b"0-0")
            persist = stored[1] if stored[0] == session else 0
            floor = _floor(rows[len(tails) + index], session)
            old = before.get(shard)
            if old is None or persist > old.persist:
                self._trim(owned, shard, persist)
            if old is not None and old.last_id == tail.id.decode():
                old.persist, old.floor = persist, floor
                self._cursors[shard] = old
            else:
                entry = codec.decode_in(tail.d)
                self._cursors[shard] = Cursor(
                    tail.id.decode(), entry.last, entry.position, entry.beyond, persist, floor
                )
                self._reread = None

    def _trim(self, owned: Owned, shard: int, persist: int) -> None:
        names = [self._broker.keys.shard(self.feed, shard, name) for name in ("back", "writer")]
        self._broker.call(
            *self._broker.script("trim", names, [owned.token, stream_id(owned.session, persist + 1)])
        )

    def _open(self, owned: Owned, position: int) -> Reread:
        reread = self.source.reread(position, owned.spec)
        if reread is None:
            raise Gap(
                f"the journal of {self.feed} no longer has position {position}: persist will record a gap"
            )
        return reread

    def _give(self, owned: Owned, short: dict[int, Cursor]) -> None:
        """Append the next chunk of the journal to `:back` of each shard that is short of it."""
        chunk = self._next(owned)
        size = 1 if chunk.records is None else len(chunk.records)
        start, now = chunk.position - size, self._clock.now_ns()
        commands: list[Command] = []
        parts = split(chunk.records, owned.shards) if chunk.records is not None else None
        for shard, cursor in short.items():
            if chunk.position <= cursor.position:
                continue
            if chunk.records is None:
                blob = self._control(chunk, shard, cursor, owned.shards, now)
            else:
                assert parts is not None
                skip = max(cursor.position - start, 0)
                mine = parts[shard] if not skip else split(chunk.records[skip:], owned.shards)[shard]
                blob = self._records_of(mine, chunk.position, cursor, now)
            cursor.position = chunk.position
            if blob is None:
                continue
            new = stream_id(owned.session, cursor.ordinal)
            names = [self._broker.keys.shard(self.feed, shard, name) for name in ("back", "writer")]
            commands.append(self._broker.script("append", names, [owned.token, cursor.last_id, new, blob]))
            cursor.last_id = new
        for reply in self._broker.pipe(commands) if commands else ():
            if reply[0] not in (b"OK", b"DONE"):
                self._cursors.clear()  # read where `:back` stands before the next
                raise Fenced(f"feed-back of {self.feed} refused: {reply[0].decode()}", feed=self.feed)

    def _next(self, owned: Owned) -> Chunk:
        """The journal's next items; what was written since it was opened is found by opening it again."""
        for _ in range(2):
            assert self._reread is not None
            try:
                chunk = self._reread.read(self._settings.entry_records)
            except EndOfSource:
                chunk = None
            if chunk is not None:
                return chunk
            self._reread = self._open(owned, self._reread.position)
        raise Gap(f"the journal of {self.feed} ends before what was trimmed")

    def _records_of(self, mine: Rows, position: int, cursor: Cursor, now: int) -> bytes | None:
        have = min(cursor.beyond, len(mine))
        cursor.beyond -= have
        mine = mine[have:]
        if not len(mine):
            return None
        blob = codec.encode_records(mine, cursor.ordinal + 1, now, now, position)
        cursor.ordinal += len(mine)
        self._records.inc(len(mine))
        return blob

    def _control(self, chunk: Chunk, shard: int, cursor: Cursor, shards: int, now: int) -> bytes | None:
        assert chunk.control is not None
        instrument = chunk.control.get("instrument_id")
        if instrument is not None and shard_of(int(instrument), shards) != shard:
            return None
        if cursor.beyond:
            cursor.beyond -= 1
            return None
        cursor.ordinal += 1
        self._records.inc()
        return codec.encode_control(chunk.control, cursor.ordinal, now, now, chunk.position)

    def facts(self) -> dict[str, int]:
        """For /readyz: how far `:back` goes ahead of persist and what persist still waits for, in records."""
        cursors = list(self._cursors.values())
        return {
            "ahead": self.ahead,
            "short": sum(c.floor - c.ordinal for c in cursors if c.is_short),
            "window": self.window,
        }

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._broker.close()


def _floor(first: list[Any], session: int) -> int:
    """The ordinal before the first entry of `:in`; 0 if that is of another session."""
    if not first or parse_id(first[0][0])[0] != session:
        return 0
    return codec.decode_in(first[0][1][1]).first - 1
