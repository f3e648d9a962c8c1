"""One feed's writer: streams to file, in order, each ordinal once.

`poll` reads what is new and checks that it follows what was read before; `commit` writes it and leaves the disk to a
thread, so that reading goes on meanwhile; `settle` waits for the disk and only then says so in `{feed:NN}:pos`. After
any error the writer is closed and opened again: it starts from the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from services.persist.chunks import after, coalesce
from services.persist.recorder import Cadence, Recorder
from services.persist.runs import begin_run, newest_run
from services.persist.store import Store, store_error
from services.persist.told import Stored, Told
from shared import logs
from shared.blocks import Encoder
from shared.broker import Broker, Entry
from shared.clock import Clock
from shared.errors import Gap, StoreError
from shared.history_types import stored_entry
from shared.wire.codec import InEntry, decode_in
from shared.wire.keys import parse_id, stream_id
from shared.wire.reading import placed

log = logs.get("persist")

PASS_RECORDS = 262_144  # about, over all shards, by the size of the entries of the pass before
PASS_ENTRIES = 4_096  # of a shard, however small they are


class Committing(NamedTuple):
    """A transaction that is being made durable, and the offsets to report once it is."""

    seconds: Future[float]  # that it all took
    offsets: list[Stored]
    records: int  # that the writer had read by then


class Shard:
    """Where reading stands in one shard."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.recorder: Recorder | None = None
        self.session = 0
        self.ordinal = 0  # last read
        self.gap_since: float | None = None  # monotonic
        self.gap_upto = 0  # `:in` goes on there; what lies before is waited for

    @property
    def after(self) -> str:
        return stream_id(self.session, self.ordinal)


class FeedWriter:
    """Records one feed. All calls from one thread; raises BrokerLost, WireError and StoreError."""

    def __init__(
        self,
        broker: Broker,
        feed: str,
        path: Path,
        clock: Clock,
        *,
        cadence: Cadence,
        gap_wait_s: float = 60.0,
    ) -> None:
        self.feed, self.path = feed, path
        self._broker, self._clock, self._cadence, self._gap_wait_s = broker, clock, cadence, gap_wait_s
        self.told = Told(broker, feed)
        self._encoder = Encoder()
        self.store: Store | None = None
        self.shards: list[Shard] = []
        self.pending = 0  # ordinals read and not committed
        self.oldest: float | None = None  # monotonic, when the oldest of them was read
        self.oldest_ns = 0  # ts_ingest of the oldest of them, or of those committed last
        self.read_count = 0  # entries asked for of a shard in a pass; 0: by PASS_RECORDS
        self._entry_records = 8_000.0  # mean of the pass before; at first the most that ingest writes
        self.records = 0
        self.recorded = 0  # of these, durable
        self.gaps = 0
        self._absorbed = 0
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="commit")  # waits for the disk, nothing else
        self._committing: Committing | None = None

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(self) -> bool:
        """Take the file and find the place in every shard; False if the feed has no metadata in the broker yet."""
        meta = self._broker.hash(self._broker.keys.feed(self.feed, "meta"))
        if "shards" not in meta or "session" not in meta:
            return False
        store = Store(self.path)
        self.store = store
        try:
            self.shards = [Shard(number) for number in range(int(meta["shards"]))]
            for shard in self.shards:
                self._place(store, shard, int(meta["session"]))
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error
        self.told.report(_stored(self.shards))
        log.info(
            "store opened", feed=self.feed, path=str(self.path), at=[shard.after for shard in self.shards]
        )
        return True

    def _place(self, store: Store, shard: Shard, session: int) -> None:
        run = newest_run(store.db, shard.number)
        if run is None or run.session > session or not self.told.is_same(run, shard.number, session):
            return  # from the beginning of the stream, as a new run
        shard.recorder = Recorder.load(store.db, run, shard.number, self._cadence, self._encoder)
        shard.session, shard.ordinal = run.session, shard.recorder.offset

    # -- reading ----------------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Read and apply what is new, at most about PASS_RECORDS; how many ordinals there were."""
        keys = self._broker.keys
        wanted = int(PASS_RECORDS / self._entry_records) // max(1, len(self.shards))
        count = self.read_count or min(max(2, wanted), PASS_ENTRIES)
        before = self._absorbed
        streams = {
            keys.shard(self.feed, shard.number, "in"): shard
            for shard in self.shards
            if not shard.gap_upto or self._fill(shard, shard.gap_upto)
        }  # a shard that waits for its feed-back does not read again and again what comes after it
        found = self._broker.read({name: shard.after for name, shard in streams.items()}, count=count)
        for name, entries in found.items():
            self._take(streams[name], entries)
        absorbed, read = self._absorbed - before, sum(map(len, found.values()))
        if absorbed and read:  # what was fed back came in none of these
            self._entry_records = absorbed / read
        return absorbed

    def _take(self, shard: Shard, raw: Iterable[Entry]) -> None:
        """Apply entries of one shard; stops before a gap that may still be filled."""
        pending: list[InEntry] = []
        for item in raw:
            session, _ = parse_id(item.id)
            entry = placed(item.id, decode_in(item.d))
            if session < shard.session or (session == shard.session and entry.last <= shard.ordinal):
                continue  # sent again after the broker lost its tail: stored already
            if session > shard.session:
                self._apply(shard, pending)
                begin = entry if entry.first == 1 else self._begin_of(shard, session)
                if begin is None and not self._give_up(shard):
                    return
                self._begin(shard, session, begin or entry)
                if entry.last <= shard.ordinal:
                    continue
            if entry.first > shard.ordinal + 1:
                self._apply(shard, pending)
                if not self._fill(shard, entry.first):
                    return
                if entry.last <= shard.ordinal:
                    continue
            shard.gap_since = None
            pending.append(after(entry, shard.ordinal))
            shard.ordinal = entry.last
        self._apply(shard, pending)

    def _apply(self, shard: Shard, entries: list[InEntry]) -> None:
        recorder = shard.recorder
        if entries and not self.pending:
            self.oldest_ns = entries[0].ts_ingest
        for entry in coalesce(entries):
            assert recorder is not None
            recorder.absorb(entry)
            self._absorbed += entry.n
            self.pending += entry.n
            if entry.records is not None:
                self.records += entry.n
        if self.pending and self.oldest is None:
            self.oldest = self._clock.monotonic()
        entries.clear()

    def _begin(self, shard: Shard, session: int, entry: InEntry) -> None:
        """A new session in this shard: save the old one's end, take or make its run."""
        assert self.store is not None
        if shard.recorder is not None:
            self.commit()
        self.settle()  # the file is the thread's until then
        control = entry.control or {}
        if control.get("type") != "begin":
            control = self._broker.hash(self._broker.keys.feed(self.feed, "meta"))
        try:
            run = begin_run(self.store.db, session, len(self.shards), control)
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error
        log.info("run begins", feed=self.feed, run=run.run, session=session, shard=shard.number)
        shard.recorder = Recorder.load(self.store.db, run, shard.number, self._cadence, self._encoder)
        shard.session, shard.ordinal = session, shard.recorder.offset

    # -- gaps -------------------------------------------------------------------------------------------------------

    def _begin_of(self, shard: Shard, session: int) -> InEntry | None:
        """The begin of a session that `:in` no longer has, from the journal's feed-back."""
        back = self._broker.keys.shard(self.feed, shard.number, "back")
        for item in self._broker.read({back: stream_id(session, 0)}, count=1).get(back, []):
            entry = placed(item.id, decode_in(item.d))
            if parse_id(item.id)[0] == session and entry.first == 1:
                return entry
        return None

    def _fill(self, shard: Shard, upto: int) -> bool:
        """Ordinals before `upto` are missing from `:in`: take them from the journal's feed-back, or wait for it, or
        record a gap. True if reading can go on at `upto`."""
        shard.gap_upto = upto
        back = self._broker.keys.shard(self.feed, shard.number, "back")
        while shard.ordinal + 1 < upto:
            found = self._broker.read({back: shard.after}, count=64).get(back, [])
            pending: list[InEntry] = []
            for item in found:
                number, _ = parse_id(item.id)
                entry = placed(item.id, decode_in(item.d))
                if number != shard.session or entry.first > shard.ordinal + 1 or shard.ordinal + 1 >= upto:
                    break
                if entry.last <= shard.ordinal:
                    continue
                pending.append(after(entry, shard.ordinal))
                shard.ordinal = entry.last
                shard.gap_since = None
            if not pending:
                break
            self._apply(shard, pending)
        if shard.ordinal + 1 < upto and not self._give_up(shard):
            return False
        shard.gap_upto = 0
        if shard.ordinal + 1 >= upto:
            return True
        missing = upto - 1 - shard.ordinal
        self.gaps += 1
        log.error("gap recorded", feed=self.feed, shard=shard.number, first=shard.ordinal + 1, last=upto - 1)
        body = {"type": "gap", "reason": "trimmed before it was recorded", "from": None, "to": None}
        entry = stored_entry(missing, shard.ordinal + 1, None, body)
        shard.ordinal = entry.last
        self._apply(shard, [entry])
        return True

    def _give_up(self, shard: Shard) -> bool:
        now = self._clock.monotonic()
        if shard.gap_since is None:
            shard.gap_since = now
            log.warning("gap seen", feed=self.feed, shard=shard.number, after=shard.after)
        return now - shard.gap_since >= self._gap_wait_s

    # -- storing ----------------------------------------------------------------------------------------------------

    def due(self, commit_records: int, commit_ms: int) -> bool:
        """Whether what is pending must be committed now."""
        if self.oldest is None:
            return False
        return self.pending >= commit_records or (self._clock.monotonic() - self.oldest) * 1000 >= commit_ms

    def commit(self) -> None:
        """Write everything read so far with its offsets in one transaction, for `settle` to end."""
        assert self.store is not None
        self.settle()
        begun, db = time.perf_counter(), self.store.db
        changed = [shard for shard in self.shards if shard.recorder is not None and shard.recorder.is_dirty]
        if changed:
            try:
                db.execute("BEGIN IMMEDIATE")
                for shard in changed:
                    assert shard.recorder is not None
                    shard.recorder.save(db, self._clock.now_ns())
            except sqlite3.Error as error:
                raise self._undone(error) from error
            seconds = self._disk.submit(_make_durable, db, begun)
            self._committing = Committing(seconds, _stored(changed), self.records)
        self.pending, self.oldest = 0, None

    def settle(self, *, wait: bool = True) -> float | None:
        """End the commit that is on its way: report its offsets; the seconds it took. None if there is none, or if it
        is not durable yet and shall not be waited for."""
        committing = self._committing
        if committing is None or not (wait or committing.seconds.done()):
            return None
        self._committing = None
        try:
            seconds = committing.seconds.result()
        except sqlite3.Error as error:
            raise self._undone(error) from error
        self.recorded = committing.records
        self.told.report(committing.offsets)
        return seconds

    def _undone(self, error: sqlite3.Error) -> StoreError:
        assert self.store is not None
        if self.store.db.in_transaction:
            self.store.db.execute("ROLLBACK")
        return store_error(self.path, error)

    def close(self) -> None:
        """Drop what is not committed and release the file."""
        committing, self._committing = self._committing, None
        if (
            committing is not None and committing.seconds.exception() is None
        ):  # waits: the file is the thread's
            self.recorded = committing.records
        if self.store is not None:
            self.store.close()
            self.store = None
        self.shards, self.pending, self.oldest, self.records = [], 0, None, self.recorded
        self.told.forget()

    def reopen_needed(self) -> Gap:
        return Gap(
            f"the broker lost what it knew of {self.feed}: reading it from its beginning", feed=self.feed
        )


def _stored(shards: Iterable[Shard]) -> list[Stored]:
    return [
        Stored(shard.number, shard.recorder.run, shard.recorder.offset)
        for shard in shards
        if shard.recorder is not None
    ]


def _make_durable(db: sqlite3.Connection, begun: float) -> float:
    db.execute("COMMIT")
    return time.perf_counter() - begun
