"""The fast engine: records into the kernel, its rows out as batches. Arrays: arrays.py; views: books_views.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared import units
from shared.orderbook import kernel, pools, walk
from shared.orderbook import layout as lo
from shared.orderbook.arrays import PIECE, zeros
from shared.orderbook.books_image import ArrayImages
from shared.orderbook.engine import NOTHING, Batch
from shared.records import AUCTION, BBO, EFFECT, LEVEL, MBO, TOUCHED, TRADE, Rows, empty

_NO_EFFECTS = NOTHING._replace(effects=empty(EFFECT), effect_records=empty(MBO))


class Books(ArrayImages):
    """See shared.orderbook.engine.Engine. Not thread-safe; the kernel runs without the GIL."""

    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch:
        n = len(records)
        if not n:
            return _NO_EFFECTS if effects else NOTHING
        if not records.flags.c_contiguous:
            records = np.ascontiguousarray(records)
        at = kernel.address(records)
        if at & 7:  # a view of a file: 3 ns a record
            records = records.view(np.uint8).copy().view(MBO)
            at = kernel.address(records)
        self._ordinal = first + n - 1
        if n <= PIECE and not effects:
            self._go(at, n, first, 0, self._mode)
            return self._taken(True)
        pieces = []
        for begin in range(0, n, PIECE):
            piece = records[begin : begin + PIECE]
            last = begin + len(piece) == n
            if effects:
                pieces.append(self._with_effects(piece, first + begin, last))
            else:
                self._go(at + begin * MBO.itemsize, len(piece), first + begin, 0, self._mode)
                pieces.append(self._taken(last))
        return _joined(pieces)

    def end(self, ordinal: int | None = None) -> Batch:
        ordinal = self._ordinal + 1 if ordinal is None else ordinal
        slots = [
            slot for slot in self._sorted_slots().tolist()
            if self._word(slot, lo.OPEN) or self._word(slot, lo.STATE) & lo.IN_SNAPSHOT
        ]  # fmt: skip
        batch = self._pretend(slots, ord("N"), ordinal)
        self._ordinal = ordinal
        return batch

    def clear(self, instrument_id: int | None = None, ordinal: int | None = None) -> Batch:
        ordinal = self._ordinal + 1 if ordinal is None else ordinal
        slots = [
            slot for slot in self._sorted_slots().tolist()
            if instrument_id is None or self._word(slot, lo.KEY) >> 16 == instrument_id
        ]  # fmt: skip
        if instrument_id is None:
            self._book_table()[:, lo.OPEN] = self._meta[lo.CARRY_RECORDS] = 0
        batch = self._pretend(slots, ord("R"), ordinal)
        if instrument_id is None:
            self._reset()
        else:
            self._forget(slots)
            self._ordinal = ordinal
        return batch

    def _pretend(self, slots: list[int], action: int, ordinal: int) -> Batch:
        """Records nobody sent, one a book, which end its event: N at the end of the session, R to clear."""
        n = len(slots)
        if not n:
            return NOTHING
        records = np.zeros(n, MBO)
        keys = self._book_table()[slots, lo.KEY]
        records["publisher_id"], records["instrument_id"] = keys & 0xFFFF, keys >> 16
        records["action"], records["flags"] = action, units.F_LAST
        self._go(kernel.address(records), n, ordinal, n, self._mode)
        applied = self._book_table()[:, lo.APPLY]
        np.minimum(applied, ordinal, out=applied)
        return self._taken(True)

    def _go(self, at: int, n: int, first: int, synthetic: int, mode: int) -> None:
        """Apply n records at an address; their rows wait to be taken."""
        full = kernel.go(lo.BEGIN, at, n, self._at, first, synthetic, mode)
        while full != lo.DONE:
            self._make_room(full, n)
            full = kernel.go(full, at, n, self._at, first, synthetic, mode)

    def _taken(self, last: bool) -> Batch:
        """The rows just made, all in one array of their own; with the last records of a batch its levels and books."""
        meta = self._meta
        if last and meta[lo.CARRY_RECORDS]:
            kernel.close(self._at)
        listed, touched, _, n_bbo, n_trades, n_auctions, _, interleaved = meta[
            lo.DIRTY : lo.INTERLEAVED + 1
        ].tolist()
        if not last:
            listed = touched = 0
        to = (
            n_bbo * lo.BBO_ROW_WORDS + n_trades * lo.TRADE_ROW_WORDS + n_auctions * lo.AUCTION_ROW_WORDS
        ) * 8
        words = np.empty(to // 8 + listed * lo.LEVEL_ROW_WORDS + touched * lo.TOUCHED_ROW_WORDS, np.int64)
        n_levels = kernel.take_rows(self._at, words, last)
        bbo, trades, levels, auctions, books, _, _ = NOTHING
        if n_bbo:
            bbo = np.ndarray(n_bbo, BBO, words)
        if n_trades:
            trades = np.ndarray(n_trades, TRADE, words, n_bbo * BBO.itemsize)
            if interleaved:
                trades = trades[np.argsort(trades["end"], kind="stable")]
        if n_auctions:
            auctions = np.ndarray(n_auctions, AUCTION, words, to - n_auctions * AUCTION.itemsize)
        if listed:
            levels = np.ndarray(n_levels, LEVEL, words, to)
            if meta[lo.EARLY]:
                levels = _newest(levels)
                meta[lo.EARLY] = 0
            if meta[lo.DIRTY]:
                self._sort_pending(int(meta[lo.DIRTY]))
        if touched:
            books = np.ndarray(touched, TOUCHED, words, to + listed * LEVEL.itemsize)
        return Batch(bbo, trades, levels, auctions, books)

    def _with_effects(self, records: Rows, first: int, last: bool) -> Batch:
        """Apply records; effects have the records they speak of with them, also those of the carry."""
        if self._effect_room < self._room:
            self._size_effects(self._room)
        carry = self._carried()[0].copy()
        self._go(kernel.address(records), len(records), first, 0, self._mode | pools.WITH_EFFECTS)
        words = records.view(np.int64).reshape(-1, lo.RECORD_WORDS)
        if self._meta[lo.CARRIED]:
            words = np.concatenate((carry, words))
        done = self._effects[: self._meta[lo.EFFECT_ROWS] * lo.EFFECT_ROW_WORDS].copy().view(EFFECT)
        if (done["end"][1:] < done["end"][:-1]).any():
            done = done[np.argsort(done["end"], kind="stable")]
        spoken_of = words[done["row"]].reshape(-1).view(MBO)
        return self._taken(last)._replace(effects=done, effect_records=spoken_of)

    def _sort_pending(self, n: int) -> None:
        """What waits for the end of a snapshot goes into canonical order: (book, bids first, price)."""
        rows = self._dirty[: n * lo.DIRTY_WORDS].reshape(-1, lo.DIRTY_WORDS)
        side = rows[:, 1] & 1
        keys = self._book_table()[rows[:, 1] >> 1, lo.KEY]
        order = np.lexsort((rows[:, 0] ^ -side, side, keys >> 16, keys & 0xFFFF))
        rows[:] = rows[order]
        walk.mark_dirty(self._meta, self._dirty, self._levels.view(np.uint32), self._graves, n)

    def _forget(self, slots: list[int]) -> None:
        """Give the slots of emptied books back, with their chunks and directories."""
        meta, table = self._meta, self._book_table()
        stays = np.setdiff1d(self._live_slots(), slots)
        for slot in slots:
            for side in (0, 1):
                at = lo.SIDE + 4 * side
                chunk, where = int(table[slot, at + lo.CHUNK]), int(table[slot, at + lo.DIR])
                if chunk:
                    self._chunk_n[chunk] = meta[lo.CHUNK_FREE]
                    meta[lo.CHUNK_FREE] = chunk
                    meta[lo.CHUNKS_FREE] += 1
                if where:
                    free = lo.DIR_FREE + (where & 0xFF) - 1
                    self._dirs[where >> 8] = meta[free]
                    meta[free] = (where >> 8) + 1
            table[slot] = 0  # the slot is not found any more; its next owner begins with zeros too
            table[slot, lo.KEY] = meta[lo.BOOK_FREE]
            meta[lo.BOOK_FREE] = slot + 1
        self._index = zeros(len(self._index), np.int32)
        walk.reindex(meta, self._books, self._index, stays)
        self._tell()


def _joined(pieces: list[Batch]) -> Batch:
    """The batch of all its pieces: only the last has levels and books."""
    if len(pieces) > 1:
        columns: Any = zip(*pieces, strict=True)
        made = Batch._make(None if column[0] is None else np.concatenate(column) for column in columns)
    else:
        made = pieces[0]
    if made.effects is not None:
        made.effects["row"] = np.arange(len(made.effects))
    return made


def _newest(rows: Rows) -> Rows:
    """Without the rows that a later one of the same level supersedes: a snapshot began and ended in the batch."""
    last = {key: i for i, key in enumerate(rows[["publisher_id", "instrument_id", "side", "price"]].tolist())}
    return rows[sorted(last.values())]
