"""Databento Live as a source: what came is journaled, given out, and after a break continued without a gap or
a twin.

Reconnecting is ours, because the client's own leaves a gap: see resume.py for what is skipped. When the
gateway can no longer replay what is missing, a `gap` entry marks the books stale and a snapshot makes them
good again.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from services.ingest.sources.annotate import DAY_NS, Annotator, gap
from services.ingest.sources.base import Chunk, EndOfSource
from services.ingest.sources.connection import (
    DEFAULT_PORT,
    MAX_PENDING_BYTES,
    LiveConnection,
    Lost,
    Subscription,
    Up,
)
from services.ingest.sources.journal import Journal, Saved, Tokens, encode_gap
from services.ingest.sources.options import SourceOptions
from services.ingest.sources.resume import Gap, Tracker
from services.ingest.sources.sequence import Sequence
from services.ingest.sources.stream import StreamParser
from shared import logs
from shared.dbn import Message
from shared.errors import SourceError, UsageError
from shared.records import Rows

log = logs.get("ingest")

Logical = tuple[Rows | Message, bytes]  # an item in order, and its bytes if it is a message

NS = 1_000_000_000
REPLAY_WINDOW_S = 24 * 3600  # what the gateway keeps
LOOKBACK_NS = 600 * NS  # no venue delivers later than this after ts_event
SILENT_JUMP_NS = 60 * NS  # a jump of ts_recv worth a warning
BATCH_BYTES = 4 * 1024 * 1024  # of one turn
LEAST_JOURNAL_BYTES = 64 * 1024
# Words in the gateway's refusal after which trying again makes sense (it says them in no other form).
_RETRY_WORDS = (
    "connection limit",
    "too many",
    "session limit",
    "timeout",
    "timed out",
    "unavailable",
    "internal",
)


def read_key(options: SourceOptions) -> str:
    """The API key, from --key-file or DATABENTO_API_KEY; UsageError if there is none."""
    if options.key_file is not None:
        try:
            key = options.key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"--key-file {options.key_file}: {error.strerror}") from None
    else:
        key = os.environ.get("DATABENTO_API_KEY", "").strip()
    if not key:
        raise UsageError("Databento needs an API key: set DATABENTO_API_KEY or --key-file")
    return key


def _address(options: SourceOptions) -> tuple[str, int]:
    if not options.gateway:
        return f"{options.dataset.lower().replace('.', '-')}.lsg.databento.com", DEFAULT_PORT
    host, _, port = options.gateway.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"--gateway {options.gateway}: give host:port")
    return host, int(port)


class LiveSource:
    """One dataset live.

    `read` raises SourceError for what only a person can mend (key, entitlement, disk).
    """

    is_live = True
    total: int | None = None

    def __init__(self, options: SourceOptions) -> None:
        if not options.dataset:
            raise UsageError("--source live needs --dataset, for example GLBX.MDP3")
        if options.journal_bytes < LEAST_JOURNAL_BYTES:
            raise UsageError(f"--journal-bytes {options.journal_bytes}: at least {LEAST_JOURNAL_BYTES}")
        self.dataset = options.dataset
        self._options, self._key, self._address = options, read_key(options), _address(options)
        facts = ["live", options.dataset, sorted(options.symbols), options.stype_in]
        self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self.spec: Mapping[str, Any] = {
            "kind": "live",
            "symbols": sorted(options.symbols),
            "stype_in": options.stype_in,
            "started": time.time_ns(),
        }
        self.counts = {"reconnects": 0, "gaps": 0, "slow_warnings": 0, "records": 0, "skipped": 0}
        self._connection: LiveConnection | None = None
        self._wait_s = 0.0
        self._replaying = False
        self._sequence: Sequence | None = None
        self._journal: Journal | None = None

    # -- opening
    # ------------------------------------------------------------------------------------------------

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        """Give out again what the journal holds from `position` on, then connect."""
        self.close()
        self._journal = Journal(self._folder(spec), self.dataset, self._options.journal_bytes)
        found = self._journal.saved(position)
        self._tracker, self._annotator = Tracker(), Annotator([])
        if found:
            self._tracker = Tracker(found[0].slots)
            self._tracker.newest_recv = int(found[0].facts["newest_recv"])
            self._annotator.restore(found[0].facts["annotator"])
        self._fatal: SourceError | None = None
        self._needs_snapshot = False
        self._last_seen_s = self._journal.newest_mtime_s()
        self._journal_ends_early = position > 0 and not found
        self._sequence = Sequence(self._annotator.items(self._logical(found[1] if found else [])))
        self._sequence.position = found[0].position if found else position
        if not self._sequence.skip(position):
            # a power cut took the journal's end: what ingest had taken of it cannot be had again
            self._journal_ends_early = True
            self._sequence.position = position

    def _folder(self, spec: Mapping[str, Any]) -> Path:
        return Path(self._options.data) / "journal" / self.dataset.lower() / str(spec.get("started", 0))

    def reread(self, position: int, spec: Mapping[str, Any]) -> Sequence | None:
        """Beside `open` and `read`, in any thread: only files are read."""
        journal = Journal(self._folder(spec), self.dataset, self._options.journal_bytes)
        found = journal.saved(position)
        if found is None:
            return None
        annotator = Annotator([])
        annotator.restore(found[0].facts["annotator"])
        sequence = Sequence(annotator.items(journal.read(found[1])))
        sequence.position = found[0].position
        return sequence if sequence.skip(position) else None

    def claim(self, token: str, writers: set[str]) -> None:
        """A standby elsewhere has a journal of its own, whose items have the positions that ours would have had."""
        folder = Path(self._options.data) / "journal" / self.dataset.lower()
        tokens = Tokens(folder / "tokens")
        if not tokens.has_all(writers):
            log.warning("another ingest wrote this feed: its journal here is given up", dataset=self.dataset)
            shutil.rmtree(folder, ignore_errors=True)
        tokens.add(token)

    def journal_size(self) -> int:
        journal = self._journal
        return journal.size() if journal is not None else 0

    def _logical(self, paths: list[Path]) -> Iterator[Rows | Message | None]:
        """Everything in order.

        What the journal's files hold, then what the gateway sends, journaled first.
        """
        assert self._journal is not None
        assert self._sequence is not None
        for item in self._journal.read(paths):
            if not isinstance(item, Message):
                self._tracker.take(item, only_note=True)
            yield item
        yield None  # `open` skips no further than the journal goes
        self._connection = LiveConnection(
            self._key, self.dataset, self._options.symbols, self._options.stype_in, *self._address
        )
        batch = self._connect(first=True)
        while True:
            if self._journal.needs_segment():
                # all earlier items have been given out: this is only asked when nothing is left
                facts = {"annotator": self._annotator.facts(), "newest_recv": self._tracker.newest_recv}
                self._journal.begin_segment(Saved(self._sequence.position, self._tracker.state(), facts))
            batch = batch or self._receive()
            for item, raw in batch:
                self._journal.write(raw or item)  # type: ignore[arg-type]
            self._journal.flush()
            for item, _ in batch:
                yield item
            batch = []
            if self._fatal is not None:
                raise self._fatal
            yield None

    # -- the gateway
    # --------------------------------------------------------------------------------------------

    def _gap(self, reason: str, from_ns: int | None, to_ns: int | None, instrument_id: int = 0) -> Logical:
        self.counts["gaps"] += 1
        log.warning("live gap", dataset=self.dataset, why=reason, instrument_id=instrument_id or None)
        message = gap(reason, from_ns or None, to_ns, instrument_id)
        return message, encode_gap(message)

    def _connect(self, *, first: bool = False) -> list[Logical]:
        """Begin a connection that goes on where the last one ended; a gap if that cannot be."""
        assert self._connection is not None
        items: list[Logical] = []
        newest = self._tracker.newest_recv
        mbo = Subscription("mbo", snapshot=self._options.snapshot)
        if self._tracker.has_open_snapshot and not self._needs_snapshot:
            items.append(self._gap("the connection broke inside a snapshot", newest, None))
            self._needs_snapshot = True
        away_s = time.time() - self._last_seen_s if self._last_seen_s else 0.0
        if self._journal_ends_early or self._needs_snapshot or (newest and away_s > REPLAY_WINDOW_S):
            if not self._needs_snapshot:  # else it was said when it happened
                why = (
                    "the journal lost records"
                    if self._journal_ends_early
                    else "away longer than the replay window"
                )
                items.append(self._gap(why, newest, None))
            self._journal_ends_early = self._needs_snapshot = False
            self._tracker.forget_replay()
            mbo = Subscription("mbo", snapshot=True)
        elif newest:
            mbo = Subscription("mbo", start=self._tracker.reconnect(LOOKBACK_NS))
        elif first and not self._options.snapshot:
            items.append(self._gap("begins without a snapshot", None, None))
        self._replaying = mbo.start is not None
        midnight = time.time_ns() // DAY_NS * DAY_NS
        self._parser: StreamParser | None = None
        self._connection.connect([mbo, Subscription("definition", start=midnight if first else None)])
        return items

    def _receive(self) -> list[Logical]:
        """What has come by now, at most about BATCH_BYTES; waits `_wait_s` for the first of it."""
        assert self._connection is not None
        events = self._connection.events
        items: list[Logical] = []
        data: list[bytes] = []
        size = 0
        try:
            event = events.get(timeout=self._wait_s) if self._wait_s > 0 else events.get_nowait()
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
            self._last_seen_s = time.time()
            self._connection.taken(size)
            behind = self._connection.pending_bytes
            if behind > MAX_PENDING_BYTES // 2:
                log.limited("live reader is behind", every_s=5, dataset=self.dataset, bytes=behind)
        return items

    def _changed(self, event: Up | Lost) -> list[Logical]:
        if isinstance(event, Up):
            self._parser = StreamParser()
            log.info(
                "live connected", dataset=self.dataset, session=event.session_id, replays=self._replaying
            )
            return []
        self._parser = None
        if event.refused and not any(word in (event.error or "").lower() for word in _RETRY_WORDS):
            self._fatal = SourceError(
                f"Databento refused the session: {event.error}: check DATABENTO_API_KEY and that the account is "
                f"entitled to {self.dataset} live"
            )
            return []
        self.counts["reconnects"] += 1
        log.limited(
            "live disconnected", every_s=1, dataset=self.dataset, why=event.error or "closed by the gateway"
        )
        return self._connect() if self._fatal is None else []

    def _parse(self, data: bytes) -> list[Logical]:
        items: list[Logical] = []
        if self._parser is None or not data:
            return items
        try:
            for item, raw in self._parser.feed(data):
                items += self._message(item, raw) if isinstance(item, Message) else self._records(item)
        except SourceError as error:
            if self._parser.metadata is None:
                self._fatal = error
            log.warning("live stream damaged", dataset=self.dataset, why=str(error))
            self._drop()
        return items

    def _records(self, records: Rows) -> list[Logical]:
        before = self._tracker.newest_recv
        items: list[Logical] = []
        kept = 0
        for piece in self._tracker.take(records):
            if isinstance(piece, Gap):
                why = "records before the replay are missing"
                items.append(self._gap(why, piece.from_ns, piece.to_ns, piece.instrument_id))
                if self._options.snapshot:
                    self._needs_snapshot = True
                    self._drop()
                    break
                continue
            kept += len(piece)
            items.append((piece, b""))
            stamps = piece["ts_recv"].astype(np.int64)
            jumps = np.diff(stamps, prepend=before or stamps[0])
            if jumps.max() > SILENT_JUMP_NS:
                at = int(jumps.argmax())
                seconds, until = int(jumps[at]) // NS, int(stamps[at])
                log.limited("live silence", every_s=5, dataset=self.dataset, seconds=seconds, until=until)
            before = int(stamps[-1])
        self.counts["records"] += kept
        self.counts["skipped"] += len(records) - kept
        return items

    def _message(self, message: Message, raw: bytes) -> list[Logical]:
        """What a gateway's message means; all but heartbeats are journaled."""
        if message.kind not in ("system", "error"):
            return [(message, raw)]
        code, text = message.fields["code"], message.fields["text"]
        if code == "heartbeat":
            return []
        items: list[Logical] = [(message, raw)]
        if message.kind == "system":
            if code == "slow_reader_warning":
                self.counts["slow_warnings"] += 1
                log.limited("live slow reader", every_s=5, dataset=self.dataset, text=text)
            else:
                log.debug("live message", dataset=self.dataset, code=code, text=text)
            return items
        log.warning("live error", dataset=self.dataset, code=code, text=text)
        if code in ("auth_failed", "api_key_deactivated"):
            self._fatal = SourceError(f"Databento ended the session: {text}: check DATABENTO_API_KEY")
        elif code == "replay_data_aged_out" or (code == "invalid_subscription" and self._replaying):
            items.append(self._gap(f"not in the replay window: {text}", self._tracker.newest_recv, None))
            self._needs_snapshot = True
            self._drop()
        elif code == "skipped_records_after_slow_reading":
            items.append(self._gap(f"slow reader: {text}", self._tracker.newest_recv, None))
            self._needs_snapshot = True
            self._drop()
        elif code == "invalid_subscription" or (code == "symbol_resolution_failed" and self._is_alone(text)):
            self._fatal = SourceError(
                f"Databento refused the subscription: {text}: check --symbols, --stype-in and --dataset "
                "and what the account is entitled to"
            )
        return items

    def _is_alone(self, text: str) -> bool:
        """Whether the symbol that failed is the only one asked for; others go on without it."""
        return len(self._options.symbols) == 1 and self._options.symbols[0] in text

    def _drop(self) -> None:
        """Stop listening to this connection; Lost follows, and with it the next one."""
        assert self._connection is not None
        self._parser = None
        self._connection.drop()

    # -- the contract
    # -------------------------------------------------------------------------------------------

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        assert self._sequence is not None, "open() first"
        self._wait_s = timeout_s
        try:
            return self._sequence.read(limit)
        except EndOfSource:
            raise self._fatal or SourceError("the live source failed before: open it again") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._sequence = None
