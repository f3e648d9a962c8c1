"""What the live gateway sends, over any number of connections, in order and without a twin.

Reconnecting is ours, because the client's own leaves a gap: see resume.py for what is skipped. When the gateway can
no longer replay what is missing, a `gap` marks the books stale and a snapshot makes them good again.
"""

from __future__ import annotations

import queue
import time
from typing import Any

import numpy as np

from services.ingest.sources import verdicts
from services.ingest.sources.annotate import DAY_NS, gap, recovered
from services.ingest.sources.connection import (
    MAX_PENDING_BYTES,
    LiveConnection,
    Lost,
    Subscription,
    Up,
    Why,
)
from services.ingest.sources.journal import encode_own
from services.ingest.sources.live_metrics import LiveMetrics
from services.ingest.sources.options import SourceOptions
from services.ingest.sources.resume import Gap, Tracker
from services.ingest.sources.stream import StreamParser
from shared import logs
from shared.dbn import Message
from shared.errors import SourceError
from shared.records import Rows, recv_times
from shared.units import F_SNAPSHOT, UNDEF_TS

log = logs.get("ingest")

Logical = tuple[Rows | Message, bytes]  # an item in order, and its bytes if it is a message

NS = 1_000_000_000
REPLAY_WINDOW_S = 24 * 3600  # what the gateway keeps
LOOKBACK_NS = 600 * NS  # no venue delivers later than this after ts_event
SILENT_JUMP_NS = 60 * NS  # a jump of ts_recv worth a warning
BATCH_BYTES = 4 * 1024 * 1024  # of one turn


class GaplessStream:
    """`connect` once, then `receive` again and again until `fatal` or `is_over`."""

    def __init__(
        self, options: SourceOptions, key: str, address: tuple[str, int], tracker: Tracker, counts: LiveMetrics
    ) -> None:  # fmt: skip
        self.tracker = tracker
        self.fatal: SourceError | None = None  # what only a person can mend
        self.is_over = False  # a heartbeat at or after --end: nothing before it is still to come
        self.has_lost_records = False  # what was taken before cannot be had again
        self.is_whole = False  # the books are: a snapshot of all has come, and no gap since
        self.last_seen_s = 0.0  # when anything came last, seconds since the epoch; 0: never
        self.statuses: dict[int, list[dict[str, Any]]] = {}  # of each instrument, all of its newest time
        self._options, self._counts = options, counts
        self._dial = (key, options.dataset, options.symbols, options.stype_in, *address)
        self._connection: LiveConnection | None = None
        self._parser: StreamParser | None = None
        self._needs_snapshot = False
        self._has_taken = True  # records since the last gap
        self._replaying = False  # what the last connection subscribed to
        self._hoped_for: set[str] = set()  # symbols that this connection has not refused
        self._has_snapshot = options.snapshot and options.start is None

    def connect(self) -> list[Logical]:
        """Begin. Returns a gap if what was taken before cannot be continued; else nothing yet."""
        self._connection = LiveConnection(*self._dial)
        return self._subscribe(first=True)

    def close(self) -> None:
        """End connection and thread; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._counts.connected.set(0)

    def _gap(
        self,
        reason: str,
        from_ns: int | None,
        to_ns: int | None,
        instrument_id: int = 0,
        *,
        has_snapshot: bool = True,
    ) -> Logical:
        log.warning(
            "live gap", dataset=self._options.dataset, why=reason, instrument_id=instrument_id or None
        )
        message = gap(reason, from_ns or None, to_ns, instrument_id, has_snapshot=has_snapshot)
        self.is_whole = self._has_taken = False
        return message, encode_own(message)

    def note(self, item: Rows | Message) -> None:
        """What was taken before, from the journal."""
        if not isinstance(item, Message):
            self.tracker.take(item, only_note=True)
            self._has_taken = True
        elif item.kind == "status":
            self._is_news(item)
        elif item.kind in ("gap", "recovered"):
            self.is_whole = item.kind == "recovered"
            self._has_taken = self._has_taken and self.is_whole

    def _whole(self) -> list[Logical]:
        """All snapshots come before anything else: this is called when something else has come."""
        if self.is_whole or not self._has_snapshot or self.tracker.has_open_snapshot:
            return []
        self.is_whole = True
        message = recovered(self.tracker.newest_recv)
        return [(message, encode_own(message))]

    def _subscribe(self, *, first: bool = False) -> list[Logical]:
        """A connection that goes on where the last one ended; a gap if that cannot be."""
        assert self._connection is not None
        items: list[Logical] = []
        newest = self.tracker.newest_recv
        with_snapshot = self._options.snapshot and self._options.start is None
        mbo = Subscription("mbo", start=self._options.start, snapshot=with_snapshot)
        is_begun = newest and self._has_snapshot and not self.is_whole
        if (self.tracker.has_open_snapshot or is_begun) and not self._needs_snapshot:
            if self._has_taken:  # else the last gap still says it
                items.append(self._gap("the connection broke inside a snapshot", newest, None))
            self._needs_snapshot = True
        away_s = time.time() - self.last_seen_s if self.last_seen_s else 0.0
        if self.has_lost_records or self._needs_snapshot or (newest and away_s > REPLAY_WINDOW_S):
            if not self._needs_snapshot:  # else it was said when it happened
                lost = "the journal lost records"
                items.append(
                    self._gap(
                        lost if self.has_lost_records else "away longer than the replay window", newest, None
                    )
                )
            self.has_lost_records = self._needs_snapshot = False
            self.tracker.forget_replay()
            mbo = Subscription("mbo", snapshot=True)
        elif newest:
            mbo = Subscription("mbo", start=self.tracker.reconnect(LOOKBACK_NS))
        elif first and not with_snapshot:
            items.append(self._gap("begins without a snapshot", None, None, has_snapshot=False))
        self._replaying, self._has_snapshot = mbo.start is not None, mbo.snapshot
        midnight = time.time_ns() // DAY_NS * DAY_NS
        self._parser, self._hoped_for = None, set(self._options.symbols)
        since = midnight if first or mbo.start is None else mbo.start
        beside = ["definition", "status"] if self._options.status else ["definition"]
        self._connection.connect([mbo, *(Subscription(schema, start=since) for schema in beside)])
        return items

    def receive(self, wait_s: float) -> list[Logical]:
        """What has come by now, at most about BATCH_BYTES; waits `wait_s` for the first of it."""
        assert self._connection is not None
        events = self._connection.events
        items: list[Logical] = []
        data: list[bytes] = []
        size = 0
        try:
            event = events.get(timeout=wait_s) if wait_s > 0 else events.get_nowait()
            while True:
                if isinstance(event, bytes):
                    data.append(event)
                    size += len(event)
                else:
                    items += self._parse(b"".join(data))
                    data = []
                    items += self._changed(event)
                if size > BATCH_BYTES:
                    break
                event = events.get_nowait()
        except queue.Empty:
            pass
        if data:
            items += self._parse(b"".join(data))
        if size:
            self.last_seen_s = time.time()
            self._connection.taken(size)
            behind = self._connection.pending_bytes
            self._counts.pending_bytes.set(behind)
            if behind > MAX_PENDING_BYTES // 2:
                log.limited("live reader is behind", every_s=5, dataset=self._options.dataset, bytes=behind)
        return items

    def _changed(self, event: Up | Lost) -> list[Logical]:
        dataset = self._options.dataset
        if isinstance(event, Up):
            self._parser = StreamParser()
            self._counts.connected.set(1)
            log.info("live connected", dataset=dataset, session=event.session_id, replays=self._replaying)
            return []
        self._parser = None
        self._counts.connected.set(0)
        if event.why == "refused":
            self.fatal = verdicts.of_refusal(event.text, dataset)
        if self.fatal is not None:
            return []
        self._counts.reconnect(event.why)
        log.limited("live disconnected", every_s=1, dataset=dataset, why=event.text)
        return self._subscribe()

    def _drop(self, why: Why) -> None:
        """Stop listening to this connection; Lost follows, and with it the next one."""
        assert self._connection is not None
        self._parser = None
        self._connection.drop(why)

    def _ask_for_snapshot(self) -> None:
        self._needs_snapshot = True
        self._drop("snapshot")

    def _parse(self, data: bytes) -> list[Logical]:
        items: list[Logical] = []
        parser = self._parser
        if parser is None or not data:
            return items
        try:
            for item, raw in parser.feed(data):
                items += self._message(item, raw) if isinstance(item, Message) else self._records(item)
                if self._parser is None:
                    return items  # dropped: what follows is not of what we go on with
            self._counts.pass_over(parser.skipped)
        except SourceError as error:
            if parser.metadata is None:
                self.fatal = error
            log.warning("live stream damaged", dataset=self._options.dataset, why=str(error))
            self._drop("damaged")
        return items

    def _records(self, records: Rows) -> list[Logical]:
        assert self._connection is not None
        self._connection.brought_something()
        before = self.tracker.newest_recv
        items: list[Logical] = []
        kept = 0
        for piece in self.tracker.take(records):
            if isinstance(piece, Gap):
                why = "records before the replay are missing"
                asks = self._options.snapshot
                items.append(
                    self._gap(why, piece.from_ns, piece.to_ns, piece.instrument_id, has_snapshot=asks)
                )
                if asks:
                    self._ask_for_snapshot()
                    break
                continue
            kept += len(piece)
            self._has_taken = True
            before = self._look_for_silence(before, piece)
            items += self._with_end_of_snapshots(piece)
        self._counts.replayed_records.inc(len(records) - kept)
        return items

    def _with_end_of_snapshots(self, records: Rows) -> list[Logical]:
        """The records, and before the first that is not of a snapshot what `_whole` says."""
        if self.is_whole or records["flags"][-1] & F_SNAPSHOT or not (whole := self._whole()):
            return [(records, b"")]
        ends = np.flatnonzero(records["flags"] & F_SNAPSHOT)
        live = int(ends[-1]) + 1 if len(ends) else 0
        head: list[Logical] = [(records[:live], b"")] if live else []
        return [*head, *whole, (records[live:], b"")]

    def _look_for_silence(self, before: int, records: Rows) -> int:
        """Say a jump of ts_recv: a capture that stood still, or a quiet market; no records are known to be missing.

        Returns the last ts_recv, `before` if there is none.
        """
        stamps = recv_times(records).astype(np.int64)
        stamps = stamps[stamps > 0]
        if not len(stamps):
            return before
        jumps = np.diff(stamps, prepend=before or stamps[0])
        if jumps.max() > SILENT_JUMP_NS:
            at = int(jumps.argmax())
            self._counts.silences.inc()
            log.limited(
                "live silence", every_s=5, dataset=self._options.dataset, seconds=int(jumps[at]) // NS,
                until=int(stamps[at]),
            )  # fmt: skip
        return int(stamps[-1])

    def _is_news(self, status: Message) -> bool:
        """Whether a status is new. One that a replay brings again is known by what it says: it is a state."""
        known, said = self.statuses.get(status.instrument_id, []), status.fields
        if said["ts"] == UNDEF_TS:
            return True
        if not known or said["ts"] > known[0]["ts"]:
            known = []
        elif said["ts"] < known[0]["ts"] or said in known:
            return False
        self.statuses[status.instrument_id] = [*known, said]
        return True

    def _message(self, message: Message, raw: bytes) -> list[Logical]:
        """What a gateway's message means; all but heartbeats are journaled."""
        if message.kind == "status" and not self._is_news(message):
            return []
        if message.kind not in ("system", "error"):
            return [(message, raw)]
        assert self._connection is not None
        dataset, code, text = self._options.dataset, message.fields["code"], message.fields["text"]
        items: list[Logical] = [(message, raw)]
        if code == "heartbeat":
            self._counts.heartbeats.inc()
            self._connection.brought_something()
            self.is_over = self._options.end is not None and message.ts_event >= self._options.end
            return self._whole() if self.tracker.newest_recv else []
        if code == "slow_reader_warning":
            self._counts.slow_warnings.inc()
            log.limited("live slow reader", every_s=5, dataset=dataset, text=text)
        elif message.kind == "system":
            log.debug("live message", dataset=dataset, code=code, text=text)
        else:
            log.warning("live error", dataset=dataset, code=code, text=text)
            self._counts.error(code)
            if code == "symbol_resolution_failed":
                self._hoped_for -= verdicts.named(text, self._hoped_for)
            is_last = bool(self._options.symbols) and not self._hoped_for
            verdict = verdicts.of_error(message, replaying=self._replaying, is_last=is_last)
            if verdict.do == verdicts.END:
                more = "; with --status the dataset needs that schema too" if self._options.status else ""
                self.fatal = SourceError(verdict.text + more)
            elif verdict.do == verdicts.SNAPSHOT:
                items.append(self._gap(verdict.text, self.tracker.newest_recv, None))
                self._ask_for_snapshot()
        return items
