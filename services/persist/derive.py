"""What persist counts and sums over records in passing: tallies by book, activity by minute, bars."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.persist.store import UNDEF
from shared.records import BAR, MBO_SIGNED, TRADE, Rows, signed

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
INTERVALS_S = (1, 60)
_TRADE_SIGNED, _BAR_SIGNED = signed(TRADE), signed(BAR)


@njit(cache=True, boundscheck=False)
def running_prefix(rows: Any, run: Any, at: Any) -> Any:
    """How many leading records have a running maximum of ts_recv ≤ `at`, having started at `run`."""
    for i in range(len(rows)):
        recv = rows[i]["ts_recv"]
        if recv > run:
            run = recv
            if run > at:
                return i
    return len(rows)


@njit(cache=True, boundscheck=False)
def _tally(
    rows: Any,
    start: Any,
    table: Any,
    keys: Any,
    records: Any,
    trades: Any,
    first: Any,
    last: Any,
    dirty: Any,
    used: Any,
    spots: Any,
) -> Any:
    """Returns (rows done, books used, spots used, newest ts_recv); stops early when the book arrays are full.

    spots (3, rows): second, records, trades; a second comes again where times go back.
    """
    mask = len(table) - 1
    found = used
    slots = len(keys)
    last_key = np.int64(-1)
    book = np.int64(0)
    second_ends = np.int64(-1)
    newest = np.int64(0)
    spot = -1
    for i in range(start, len(rows)):
        r = rows[i]
        key = np.int64(r["instrument_id"]) << 16 | np.int64(r["publisher_id"])
        if key != last_key:
            slot = ((key * 2654435769) >> 13) & mask
            while True:
                book = table[slot]
                if book < 0:
                    if found == slots:
                        return i, found, spot + 1, newest
                    book = found
                    found += 1
                    table[slot] = book
                    keys[book] = key
                    records[book] = 0
                    trades[book] = 0
                    first[book] = UNDEF
                    last[book] = 0
                    break
                if keys[book] == key:
                    break
                slot = (slot + 1) & mask
            last_key = key
        is_trade = np.int64(r["action"] == 84)
        records[book] += 1
        trades[book] += is_trade
        dirty[book] = 1
        recv = r["ts_recv"]
        if recv >= 0:
            newest = max(newest, recv)
            first[book] = min(first[book], recv)
            last[book] = max(last[book], recv)
            if recv >= second_ends or recv < second_ends - SECOND_NS:
                second = recv // SECOND_NS
                second_ends = (second + 1) * SECOND_NS
                spot += 1
                spots[0, spot] = second
                spots[1, spot] = 0
                spots[2, spot] = 0
            spots[1, spot] += 1
            spots[2, spot] += is_trade
    return len(rows), found, spot + 1, newest


class Tally:
    """Running totals of every book of a shard's run, and activity since the last flush."""

    def __init__(self) -> None:
        self._room(64)
        self._used = 0
        self.minutes: dict[int, NDArray[np.int64]] = {}  # minute → (2, 60) records, trades, not yet flushed

    def _room(self, size: int) -> None:
        old = getattr(self, "_cols", None)
        self._cols: NDArray[np.int64] = np.zeros((6, size), np.int64)  # keys records trades first last dirty
        self._table = np.full(4 * size, -1, np.int64)
        if old is not None:
            self._cols[:, : old.shape[1]] = old
            for book in range(self._used):
                self._enter(book)

    def _enter(self, book: int) -> None:
        mask = len(self._table) - 1
        slot = ((int(self._cols[0, book]) * 2654435769) >> 13) & mask
        while self._table[slot] >= 0:
            slot = (slot + 1) & mask
        self._table[slot] = book

    def load(
        self, instrument_id: int, publisher_id: int, records: int, trades: int, first: int, last: int
    ) -> None:
        """A total as it was stored."""
        if self._used == self._cols.shape[1]:
            self._room(2 * self._used)
        self._cols[:, self._used] = (instrument_id << 16 | publisher_id, records, trades, first, last, 0)
        self._enter(self._used)
        self._used += 1

    def add(self, rows: Rows) -> int:
        """Count MBO records; the newest ts_recv among them (0 if none has one)."""
        view = rows.view(MBO_SIGNED)
        done = newest = 0
        spots = np.empty((3, len(rows)), np.int64)
        while done < len(rows):
            keys, totals, traded, first, last, dirty = self._cols
            done, self._used, used, recv = _tally(
                view, done, self._table, keys, totals, traded, first, last, dirty, self._used, spots
            )
            self._active(*spots[:, :used])
            newest = max(newest, recv)
            if done < len(rows):
                self._room(2 * self._cols.shape[1])
        return newest

    def _active(
        self, second: NDArray[np.int64], records: NDArray[np.int64], trades: NDArray[np.int64]
    ) -> None:
        minutes, which = np.unique(second // 60, return_inverse=True)
        counts = np.zeros((2, len(minutes), 60), np.int64)
        np.add.at(counts[0], (which, second % 60), records)
        np.add.at(counts[1], (which, second % 60), trades)
        for at, minute in enumerate(minutes.tolist()):
            have = self.minutes.get(minute)
            self.minutes[minute] = counts[:, at] if have is None else have + counts[:, at]

    def dirty(self) -> list[tuple[int, int, int, int, int, int]]:
        """(instrument_id, publisher_id, records, trades, first_ts, last_ts) of books changed since the last call."""
        which = np.nonzero(self._cols[5, : self._used])[0]
        rows = self._cols[:5, which].T.tolist()
        self._cols[5, which] = 0
        return [(key >> 16, key & 0xFFFF, n, t, a, b) for key, n, t, a, b in rows]


def seconds(stored: bytes) -> NDArray[np.int64]:
    """Activity of a minute by second, (2, 60): records, trades. Zeros for a row of before there were seconds."""
    return np.frombuffer(stored or bytes(480), "<u4").reshape(2, 60).astype(np.int64)


@njit(cache=True, boundscheck=False)
def _bars(trades: Any, since: Any, interval_s: Any, out: Any, out_since: Any) -> Any:
    """Bars in order of their first trade here; a late trade opens its interval once more (the store merges them)."""
    n = len(trades)
    bits = 6
    while (1 << bits) < 2 * n:
        bits += 1
    mask = (1 << bits) - 1
    table = np.full(1 << bits, -1, np.int64)
    step = np.int64(interval_s) * 1_000_000_000
    used = 0
    for i in range(n):
        t = trades[i]
        if t["price"] == UNDEF or t["ts_recv"] < 0:
            continue
        ts = t["ts_recv"] - t["ts_recv"] % step
        key = np.int64(t["instrument_id"]) << 16 | np.int64(t["publisher_id"])
        slot = ((key * 2654435769) >> 13) & mask
        while True:
            at = table[slot]
            if at < 0 or (
                out[at]["instrument_id"] == t["instrument_id"]
                and out[at]["publisher_id"] == t["publisher_id"]
            ):
                break
            slot = (slot + 1) & mask
        if at < 0 or out[at]["ts"] != ts or out_since[at] != since[i]:
            at = used
            used += 1
            table[slot] = at
            out_since[at] = since[i]
            b = out[at]
            b["ts"] = ts
            b["open"] = t["price"]
            b["high"] = t["price"]
            b["low"] = t["price"]
            b["volume"] = 0
            b["trades"] = 0
            b["instrument_id"] = t["instrument_id"]
            b["publisher_id"] = t["publisher_id"]
            b["interval_s"] = interval_s
            b["reserved"] = 0
        b = out[at]
        b["high"] = max(b["high"], t["price"])
        b["low"] = min(b["low"], t["price"])
        b["close"] = t["price"]
        b["volume"] += np.int64(t["size"])
        b["trades"] += 1
    return used


def bars(trades: Rows, since: NDArray[np.int64], interval_s: int) -> tuple[Rows, NDArray[np.int64]]:
    """(BAR rows of TRADE rows in stream order, `since` of each); trades without a price or ts_recv are left out.

    By ts_recv, as Databento's OHLCV schemas. `since`: where the instrument got its symbol, for each trade; one bar is
    of one symbol.
    """
    out: Any = np.empty(len(trades), BAR)
    out_since = np.empty(len(trades), np.int64)
    used = _bars(trades.view(_TRADE_SIGNED), since, interval_s, out.view(_BAR_SIGNED), out_since)
    return out[:used], out_since[:used]
