"""Databento Live as a source: what came is journaled first, then given out; a restart reads on from the journal."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.ingest.sources.access import live_address, read_key
from services.ingest.sources.annotate import Annotator
from services.ingest.sources.base import Chunk, EndOfSource
from services.ingest.sources.gapless import GaplessStream
from services.ingest.sources.journal import Journal, Saved, Tokens, give_up
from services.ingest.sources.live_metrics import LiveMetrics
from services.ingest.sources.options import SourceOptions
from services.ingest.sources.resume import Tracker
from services.ingest.sources.sequence import Sequence
from shared import logs
from shared.dbn import Message
from shared.errors import SourceError, UsageError
from shared.records import Rows
from shared.wire.keys import feed_name

log = logs.get("ingest")

LEAST_JOURNAL_BYTES = 64 * 1024


class LiveSource:
    """One dataset live, to --end if there is one.

    `read` raises SourceError for what only a person can mend (key, entitlement, disk).
    """

    is_live = True
    total: int | None = None

    def __init__(self, options: SourceOptions) -> None:
        if not options.dataset:
            raise UsageError("--source live needs --dataset, for example GLBX.MDP3")
        if options.journal_bytes < LEAST_JOURNAL_BYTES:
            raise UsageError(f"--journal-bytes {options.journal_bytes}: at least {LEAST_JOURNAL_BYTES}")
        if None not in (window := (options.start, options.end)) and window[0] >= window[1]:  # type: ignore[operator]
            raise UsageError("--start must be before --end")
        self.dataset = options.dataset
        self._options, self._key, self._address = options, read_key(options), live_address(options)
        facts = ["live", options.dataset, sorted(options.symbols), options.stype_in]
        if any(window):
            facts.append(list(window))  # type: ignore[arg-type]
        self.identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self.spec: Mapping[str, Any] = {
            "kind": "live",
            "symbols": sorted(options.symbols),
            "stype_in": options.stype_in,
            "start": options.start,
            "end": options.end,
            "started": time.time_ns(),
        }
        self._metrics = LiveMetrics(feed_name(options.feed or options.dataset))
        self._sequence: Sequence | None = None
        self._journal: Journal | None = None
        self._stream: GaplessStream | None = None

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        """Give out again what the journal holds from `position` on, then connect."""
        self.close()
        self._journal = Journal(self._folder(spec), self.dataset, self._options.journal_bytes)
        found = self._journal.saved(position)
        self._annotator = Annotator([], end=self._options.end)
        tracker = Tracker()
        if found:
            tracker = Tracker(found[0].slots)
            tracker.newest_recv = int(found[0].facts["newest_recv"])
            self._annotator.restore(found[0].facts["annotator"])
        self._failure: SourceError | None = None
        self._stream = GaplessStream(self._options, self._key, self._address, tracker, self._metrics)
        self._stream.is_whole = bool(found and found[0].facts["is_whole"])
        if found:
            statuses = found[0].facts.get("statuses", {})  # not in journals of before
            self._stream.statuses = {int(key): said for key, said in statuses.items()}
        self._stream.last_seen_s = self._journal.newest_mtime_s()
        self._sequence = Sequence(self._annotator.items(self._logical(found[1] if found else [])))
        self._sequence.position = found[0].position if found else position
        # a power cut may have taken the journal's end: what ingest had taken of it cannot be had again
        if (position and not found) or not self._sequence.skip(position):
            self._stream.has_lost_records = True
            self._sequence.position = position

    @property
    def _journals(self) -> Path:
        """Of this feed, a folder a session: other feeds of the dataset have their own."""
        return Path(self._options.data) / "journal" / feed_name(self._options.feed or self.dataset)

    def _folder(self, spec: Mapping[str, Any]) -> Path:
        return self._journals / str(spec.get("started", 0))

    def reread(self, position: int, spec: Mapping[str, Any]) -> Sequence | None:
        """Beside `open` and `read`, in any thread: only files are read."""
        journal = Journal(self._folder(spec), self.dataset, self._options.journal_bytes)
        found = journal.saved(position)
        if found is None:
            return None
        annotator = Annotator([], end=self._options.end)
        annotator.restore(found[0].facts["annotator"])
        sequence = Sequence(annotator.items(journal.read(found[1])))
        sequence.position = found[0].position
        return sequence if sequence.skip(position) else None

    def claim(self, token: str, writers: set[str]) -> None:
        """A standby elsewhere has a journal of its own, whose items have the positions that ours would have had."""
        tokens = Tokens(self._journals / "tokens")
        if not tokens.has_all(writers) and self._journals.exists():
            aside = give_up(self._journals)
            log.warning(
                "another ingest wrote this feed: its journal here is given up",
                feed=self._journals.name,
                kept_in=str(aside),
            )
        tokens.add(token)

    def journal_size(self) -> int:
        journal = self._journal
        return journal.size() if journal is not None else 0

    def _logical(self, paths: list[Path]) -> Iterator[Rows | Message | None]:
        """Everything in order: what the journal's files hold, then what the gateway sends, journaled first."""
        journal, stream, sequence = self._journal, self._stream, self._sequence
        assert journal is not None
        assert stream is not None
        assert sequence is not None
        for item in journal.read(paths):
            stream.note(item)
            yield item
        yield None  # `open` skips no further than the journal goes
        batch = stream.connect()
        while True:
            if journal.needs_segment():
                # all earlier items have been given out: this is only asked when nothing is left
                facts = {
                    "annotator": self._annotator.facts(),
                    "newest_recv": stream.tracker.newest_recv,
                    "is_whole": stream.is_whole,
                    "statuses": {str(key): said for key, said in stream.statuses.items()},
                }
                journal.begin_segment(Saved(sequence.position, stream.tracker.state(), facts))
            batch = batch or stream.receive(self._wait_s)
            for item, raw in batch:
                journal.write(raw or item)  # type: ignore[arg-type]
            journal.flush()
            for item, _ in batch:
                yield item
            batch = []
            if stream.fatal is not None:
                raise stream.fatal
            if stream.is_over:
                return
            yield None

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        assert self._sequence is not None, "open() first"
        assert self._stream is not None
        if self._failure is not None:
            raise self._failure
        self._wait_s = timeout_s
        try:
            return self._sequence.read(limit)
        except SourceError as error:
            self._failure = error  # the generators behind the sequence are gone with it
            raise
        except EndOfSource:
            self._stream.close()
            raise

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._sequence = None
