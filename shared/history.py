"""History as its users see it: sessions, records, books at an instant. Where the bytes come from is a subclass's
business: `shared/history_client.py` asks the reader process, `services/persist/local.py` opens the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from shared.blocks import KIND_BBO, KIND_MBO, Block, Slice
from shared.history_types import (
    OPEN_END,
    Activity,
    BookAt,
    Control,
    Day,
    HistoryError,
    InstrumentInfo,
    SessionInfo,
    Span,
    StoredImage,
    control_entry,
    cut_by_time,
    from_json,
    merge_entries,
)
from shared.orderbook.shard import ShardState
from shared.records import BAR, TRADE, Rows
from shared.wire.codec import InEntry

Json = Mapping[str, Any]


class History:
    """Questions about recorded feeds. Iterators hold one connection while they run; everything else is one request.

    Raises HistoryError for unknown names and what is no longer kept, HistoryDown where asking again later can help.
    """

    # -- what a subclass supplies ------------------------------------------------------------------------------------

    def feeds(self) -> list[str]:
        raise NotImplementedError

    def _sessions(self, feed: str) -> list[Json]:
        raise NotImplementedError

    def _instruments(self, feed: str, run: int) -> list[Json]:
        raise NotImplementedError

    def _spans(self, feed: str, symbol: str, run: int) -> list[Json]:
        raise NotImplementedError

    def _days(self, feed: str, run: int | None) -> list[Json]:
        raise NotImplementedError

    def _activity(
        self, feed: str, run: int, start: int, end: int, buckets: int, instrument_id: int | None
    ) -> Json:
        raise NotImplementedError

    def position(self, feed: str, run: int, at: int) -> list[int]:
        """By shard, the last ordinal whose running maximum of ts_recv is ≤ `at`."""
        raise NotImplementedError

    def _controls(self, feed: str, run: int, shard: int, first: int, last: int) -> Iterator[Control]:
        raise NotImplementedError

    def _blocks(
        self, feed: str, run: int, shard: int, kind: int, *, first: int, last: int, start: int | None = None,
        end: int | None = None, instrument_id: int | None = None,
    ) -> Iterator[bytes]:  # fmt: skip
        raise NotImplementedError

    def _trades(
        self,
        feed: str,
        run: int,
        instrument_id: int,
        *,
        first: int,
        last: int,
        start: int | None,
        end: int | None,
    ) -> Iterator[bytes]:
        raise NotImplementedError

    def _bars(
        self, feed: str, run: int, instrument_id: int, interval_s: int, *, first: int, last: int, start: int | None,
        end: int | None,
    ) -> Iterator[bytes]:  # fmt: skip
        raise NotImplementedError

    def image(self, feed: str, run: int, shard: int, before: int) -> StoredImage | None:
        """The newest stored image of a shard at or before an ordinal."""
        raise NotImplementedError

    # -- what is recorded --------------------------------------------------------------------------------------------

    def sessions(self, feed: str) -> list[SessionInfo]:
        """Runs of a feed, oldest first."""
        return [from_json(SessionInfo, {**row, "feed": feed}) for row in self._sessions(feed)]

    def pick(self, feed: str, session: int | None = None, at: int | None = None) -> SessionInfo:
        """The newest run with that number; else the newest that covers `at`, else the newest begun before it."""
        runs = self.sessions(feed)
        if session is not None:
            runs = [run for run in runs if run.session == session]
            if not runs:
                raise HistoryError(
                    f"feed {feed} has no recorded session {session}", feed=feed, session=session
                )
            return runs[-1]
        if not runs:
            raise HistoryError(f"nothing of feed {feed} is recorded yet", feed=feed)
        if at is None:
            return next((run for run in reversed(runs) if run.records), runs[-1])
        for run in reversed(runs):
            if run.first_ts <= at <= run.last_ts:
                return run
        before = [run for run in runs if run.records and run.first_ts <= at]
        if before:
            return before[-1]
        return next((run for run in runs if run.records), runs[0])

    def instruments(self, feed: str, run: int) -> list[InstrumentInfo]:
        """Instruments of a run by id."""
        return [from_json(InstrumentInfo, row) for row in self._instruments(feed, run)]

    def spans(
        self, feed: str, symbol: str, *, run: int | None = None, session: int | str | None = None,
        start: int | None = None, end: int | None = None,
    ) -> list[Span]:  # fmt: skip
        """Where a symbol or instrument id is recorded: in one run (see `pick`), or with session="all" in every run that
        has records in [start, end). HistoryError if nowhere."""
        if run is not None:
            runs = [run]
        elif session == "all":
            runs = [
                info.run
                for info in self.sessions(feed)
                if (start is None or info.last_ts >= start) and (end is None or info.first_ts < end)
            ]
        else:
            at = start if start is not None or end is None else end - 1
            runs = [self.pick(feed, int(session) if session is not None else None, at).run]
        found = [
            from_json(Span, {**row, "feed": feed})
            for number in runs
            for row in self._spans(feed, symbol, number)
        ]
        if not found:
            others = [
                str(info.session) for info in reversed(self.sessions(feed))
                if info.run not in runs and self._spans(feed, symbol, info.run)
            ]  # fmt: skip
            where = f" in the session asked for, but in session {', '.join(others[:5])}" if others else ""
            hint = f": say which with session={others[0]}, or session=all" if others else ""
            raise HistoryError(
                f"no instrument {symbol!r} is recorded in feed {feed}{where}{hint}", feed=feed, symbol=symbol
            )
        return found

    def span_at(self, feed: str, symbol: str, run: int, at: int) -> Span:
        """The span of a symbol at an instant; of several ids that have it (a file names those of all its days at once)
        that of the one whose records began last, the first before there are any."""
        spans = self.spans(feed, symbol, run=run)
        if len(spans) == 1:
            return spans[0]
        until = self.position(feed, run, at)
        began = {i.instrument_id: i.first_ts for i in self.instruments(feed, run) if i.first_ts <= at}
        then = [span for span in reversed(spans) if span.first <= until[span.shard]]
        return max(
            then or spans[:1],
            key=lambda s: (s.last >= until[s.shard], began.get(s.instrument_id, -s.instrument_id)),
        )

    def days(self, feed: str, run: int | None = None) -> list[Day]:
        """UTC days with records, of one run or of all."""
        return [from_json(Day, row) for row in self._days(feed, run)]

    def activity(
        self, feed: str, run: int, start: int, end: int, buckets: int, instrument_id: int | None = None
    ) -> Activity:
        """A histogram over [start, end) in equal steps."""
        if not 0 < buckets <= 5000 or end <= start:
            raise HistoryError("activity takes 1 to 5000 buckets and end > start")
        return from_json(Activity, self._activity(feed, run, start, end, buckets, instrument_id))

    # -- rows of one instrument --------------------------------------------------------------------------------------

    def records(self, span: Span, start: int | None = None, end: int | None = None) -> Iterator[Slice]:
        """MBO records with their ordinals, start ≤ ts_recv < end, in stream order, a block at a time."""
        low, high = np.uint64(span.first), np.uint64(span.last)
        for blob in self._blocks(
            span.feed, span.run, span.shard, KIND_MBO, first=span.first, last=span.last, start=start, end=end,
            instrument_id=span.instrument_id,
        ):  # fmt: skip
            ordinals, rows = Block(blob).mbo(span.instrument_id)
            a, b = np.searchsorted(ordinals, np.array([low, high + np.uint64(1)], np.uint64))
            ordinals, rows = ordinals[a:b], rows[a:b]
            keep = cut_by_time(rows, start, end)
            if len(rows[keep]):
                yield Slice(ordinals[keep], rows[keep])

    def bbo(self, span: Span, start: int | None = None, end: int | None = None) -> Iterator[Rows]:
        """BBO rows (raw book) in stream order, start ≤ ts_recv < end."""
        for blob in self._blocks(
            span.feed, span.run, span.shard, KIND_BBO, first=span.first, last=span.last, start=start, end=end,
            instrument_id=span.instrument_id,
        ):  # fmt: skip
            block = Block(blob)
            if not block.has(span.instrument_id):
                continue
            rows = block.bbo(span.instrument_id)
            rows = rows[
                (rows["ordinal"] >= np.uint64(span.first)) & (rows["ordinal"] <= np.uint64(span.last))
            ]
            rows = rows[cut_by_time(rows, start, end)]
            if len(rows):
                yield rows

    def trades(
        self, span: Span, start: int | None = None, end: int | None = None, after: int | None = None
    ) -> Iterator[Rows]:
        """TRADE rows by ordinal, start ≤ ts_recv < end; `after`: only those of later ordinals."""
        first = span.first if after is None else max(span.first, after + 1)
        for blob in self._trades(
            span.feed, span.run, span.instrument_id, first=first, last=span.last, start=start, end=end
        ):
            yield np.frombuffer(blob, TRADE)

    def bars(
        self, span: Span, interval_s: int, start: int | None = None, end: int | None = None
    ) -> Iterator[Rows]:
        """BAR rows by (ts, publisher), start ≤ ts < end; of the span's symbol only."""
        for blob in self._bars(
            span.feed, span.run, span.instrument_id, interval_s, first=span.first, last=span.last, start=start,
            end=end,
        ):  # fmt: skip
            yield np.frombuffer(blob, BAR)

    # -- shards ------------------------------------------------------------------------------------------------------

    def entries(
        self, feed: str, run: int, shard: int, first: int = 1, last: int | None = None
    ) -> Iterator[InEntry]:
        """A shard as it was: contiguous ordinals first … last (default: all that is stored), records and controls."""
        stop = OPEN_END if last is None else last
        if first > stop:
            return iter(())
        return merge_entries(
            self._blocks(feed, run, shard, KIND_MBO, first=first, last=stop),
            lambda a, b: self._controls(feed, run, shard, a, b), first, stop,
        )  # fmt: skip

    def state(self, feed: str, run: int, shard: int, ordinal: int) -> ShardState:
        """A whole shard at an ordinal: the nearest image and the entries behind it. HistoryError if it is not kept."""
        state = self._base(feed, run, shard, ordinal)
        for entry in self.entries(feed, run, shard, state.ordinal + 1, ordinal):
            state.apply(entry)
        if state.ordinal != ordinal:
            raise HistoryError(
                f"shard {shard} of {feed} is stored up to {state.ordinal}, not to {ordinal}", feed=feed
            )
        return state

    def _base(self, feed: str, run: int, shard: int, ordinal: int) -> ShardState:
        image = self.image(feed, run, shard, ordinal)
        return ShardState() if image is None else ShardState.restore(image.blob)

    def book_at(self, feed: str, symbol: str, at: int, session: int | None = None) -> BookAt:
        """One instrument's book at an instant (ns of ts_recv). Only that instrument's records are applied: the other
        books of the state are those of an earlier image."""
        info = self.pick(feed, session, at)
        span = self.span_at(feed, symbol, info.run, at)
        ordinal = self.position(feed, info.run, at)[span.shard]
        return self.book_of(span, ordinal, floor=info.floors[span.shard])

    def book_of(self, span: Span, ordinal: int, *, floor: int = 0) -> BookAt:
        """One instrument's book at an ordinal of its shard. HistoryError below `floor`, where retention has been."""
        state = self._base(span.feed, span.run, span.shard, ordinal)
        if state.ordinal < floor:
            raise HistoryError(
                f"{span.symbol} at ordinal {ordinal} is no longer kept (retention)", feed=span.feed
            )
        controls = list(self._controls(span.feed, span.run, span.shard, state.ordinal + 1, ordinal))
        controls.reverse()
        for blob in self._blocks(
            span.feed, span.run, span.shard, KIND_MBO, first=state.ordinal + 1, last=ordinal,
            instrument_id=span.instrument_id,
        ):  # fmt: skip
            ordinals, rows = Block(blob).mbo(span.instrument_id)
            a, b = np.searchsorted(ordinals, np.array([state.ordinal + 1, ordinal + 1], np.uint64))
            while a < b:
                stop = b
                if controls:
                    stop = min(b, a + int(np.searchsorted(ordinals[a:b], np.uint64(controls[-1][0]))))
                if stop > a:
                    state.engine.apply(np.ascontiguousarray(rows[a:stop]), int(ordinals[a]))
                    a = stop
                while controls and (a == len(ordinals) or controls[-1][0] < int(ordinals[a])):
                    state.apply(control_entry(controls.pop()))
        while controls:
            state.apply(control_entry(controls.pop()))
        state.ordinal = ordinal
        return BookAt(span, state, ordinal)
