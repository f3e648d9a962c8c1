"""The fast engine: records into the kernel, its rows out as batches. Arrays: arrays.py; views: books_views.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shared import units
from shared.orderbook import kernel, pools, walk
from shared.orderbook import layout as lo
from shared.orderbook.arrays import NO_ORDINALS, Array, zeros
from shared.orderbook.books_image import ArrayImages
from shared.orderbook.engine import NOTHING, Batch
from shared.records import AUCTION, BBO, EFFECT, LEVEL, MBO, TOUCHED, TRADE, Rows, empty

PIECE = 65_536  # records in one run of the kernel; larger batches are cut, which shows nowhere


class Books(ArrayImages):
    """See shared.orderbook.engine.Engine. Not thread-safe; the kernel runs without the GIL."""

    def apply(self, records: Rows, first: int, *, effects: bool = False) -> Batch:
        n = len(records)
        if not records.flags.c_contiguous:
            records = np.ascontiguousarray(records)
        words = records.view(np.uint64)
        if not words.flags.aligned:  # a view of a file: 3 ns a record
            words = words.copy()
        self._meta[lo.BATCH] += 1
        if n <= PIECE:
            pieces = [self._run(words, first, effects=effects)] if n else []
        else:
            pieces = [
                self._run(words[at * 7 : (at + PIECE) * 7], first + at, effects=effects)
                for at in range(0, n, PIECE)
            ]
        if n:
            self._ordinal = first + n - 1
        return self._flush(pieces, effects)

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
        self._drop_carry_of(slots)
        batch = self._pretend(slots, ord("R"), ordinal)
        if instrument_id is None:
            self._reset()
        else:
            self._forget(slots)
            self._ordinal = ordinal
        return batch

    def _pretend(self, slots: list[int], action: int, ordinal: int) -> Batch:
        """Records nobody sent, one a book, which end its event: N at the end of the session, R to clear."""
        records = np.zeros(len(slots), MBO)
        keys = self._book_table()[slots, lo.KEY]
        records["publisher_id"], records["instrument_id"] = keys & 0xFFFF, keys >> 16
        records["action"], records["flags"] = action, units.F_LAST
        pieces = []
        self._meta[lo.BATCH] += 1
        if slots:
            pieces = [self._run(records.view(np.uint64), ordinal, synthetic=len(slots))]
            applied = self._book_table()[:, lo.APPLY]
            np.minimum(applied, ordinal, out=applied)
        return self._flush(pieces, False)

    def _run(self, words: Array, first: int, *, effects: bool = False, synthetic: int = 0) -> _Piece:
        n, meta = len(words) // 7, self._meta
        if n > self._room:
            self._size_outputs(max(n, min(PIECE, 2 * self._room)))
        at = 0
        while True:
            at = kernel.scan(words, meta, first, at)
            if at == n:
                break
            self._more_books()
        carried = NO_ORDINALS
        if len(self._carry_slots) and self._carry_ends(first):
            carried = self._carry_ordinals
            words = self._join_carry(words, n)
            n += len(carried)
        if effects and len(self._effects) < n * 4:
            self._effects = np.empty(self._room * 4, np.int64)
            self._tell()
        mode = self._mode | (pools.WITH_EFFECTS if effects else 0)
        while True:
            kernel.run(words, meta, first, synthetic, mode)
            if meta[lo.POSITION] == n:
                break
            self._make_room(n)
        if meta[lo.HELD]:
            self._hold(words, carried, first)
        meta[lo.CARRIED] = 0
        return self._taken(words, effects)

    def _taken(self, words: Array, effects: bool) -> _Piece:
        """The rows the kernel has just made, in arrays of their own."""
        meta = self._meta
        n_bbo, n_trades, n_auctions, n_effects, interleaved = meta[lo.BBO_ROWS : lo.INTERLEAVED + 1].tolist()
        bbo = np.empty(n_bbo, BBO) if n_bbo else NOTHING.bbo
        trades = np.empty(n_trades, TRADE) if n_trades else NOTHING.trades
        auctions = np.empty(n_auctions, AUCTION) if n_auctions else NOTHING.auctions
        kernel.take_rows(meta, bbo, trades, auctions)
        if interleaved:
            trades = trades[np.argsort(trades["end"], kind="stable")]
        if not effects:
            return _Piece(bbo, trades, auctions)
        done = self._effects[: n_effects * lo.EFFECT_ROW_WORDS].copy().view(EFFECT)
        if (done["end"][1:] < done["end"][:-1]).any():
            done = done[np.argsort(done["end"], kind="stable")]
        return _Piece(bbo, trades, auctions, done, words.reshape(-1, 7)[done["row"]].reshape(-1).view(MBO))

    def _join_carry(self, words: Array, n: int) -> Array:
        """Put the carry before the n records just scanned; returns all as words."""
        slots, ordinals = self._carry_slots, self._carry_ordinals
        interrupted = self._book_table()[slots, lo.INTERRUPTED] == ordinals
        words = np.concatenate([*self._carry, words.reshape(-1, 7)]).reshape(-1)
        slots = np.concatenate((slots, self._slots[:n]))
        slots[: len(ordinals)][interrupted] |= np.uint32(lo.ENTERS)
        if len(slots) > self._room:
            self._size_outputs(len(slots))
        self._slots[: len(slots)] = slots
        self._meta[lo.CARRIED], self._meta[lo.AT_CARRIED] = len(ordinals), ordinals.ctypes.data
        self._drop_carry()
        return words

    def _carry_ends(self, first: int) -> bool:
        """Whether an event of the carry ends in the batch just scanned."""
        return bool((self._book_table()[self._carry_slots, lo.APPLY] >= first).any())

    def _hold(self, words: Array, carried: Array, first: int) -> None:
        held = self._held[: self._meta[lo.HELD]].astype(np.int64)
        ordinals = first + held - len(carried)
        if len(carried):
            old = held < len(carried)
            ordinals[old] = carried[held[old]]
        self._carry.append(words.reshape(-1, 7)[held])
        self._carry_ordinals = np.concatenate((self._carry_ordinals, ordinals))
        self._carry_slots = np.concatenate((self._carry_slots, self._slots[held]))

    def _flush(self, pieces: list[_Piece], effects: bool) -> Batch:
        meta = self._meta
        dirty, touched = meta[lo.DIRTY : lo.TOUCHED_BOOKS + 1].tolist()
        touched += len(self._carry_slots)
        levels = np.empty(dirty, LEVEL) if dirty else NOTHING.levels
        books = np.empty(touched, TOUCHED) if touched else NOTHING.touched
        kernel.flush(meta, self._carry_slots, levels, books)
        n_levels, n_books = meta[lo.DIRTY : lo.TOUCHED_BOOKS + 1].tolist()
        pending, early = meta[lo.PENDING : lo.EARLY + 1].tolist()
        meta[lo.DIRTY] = meta[lo.TOUCHED_BOOKS] = 0
        if n_levels < dirty:
            levels = levels[:n_levels]
        if n_books < touched:
            books = books[:n_books]
        if early:
            levels = _newest(levels)
            meta[lo.EARLY] = 0
        if pending:
            self._sort_pending(pending)
        made = pieces[0] if len(pieces) == 1 else _joined(pieces, effects)
        if made.effects is not None:
            made.effects["row"] = np.arange(len(made.effects))
        return Batch(made.bbo, made.trades, levels, made.auctions, books, made.effects, made.effect_records)

    def _sort_pending(self, n: int) -> None:
        """What waits for the end of a snapshot goes into canonical order: (book, bids first, price)."""
        rows = self._dirty[: n * lo.DIRTY_WORDS].reshape(-1, lo.DIRTY_WORDS)
        side = rows[:, 1] & 1
        keys = self._book_table()[rows[:, 1] >> 1, lo.KEY]
        order = np.lexsort((rows[:, 0] ^ -side, side, keys >> 16, keys & 0xFFFF))
        rows[:] = rows[order]
        walk.mark_dirty(self._meta, self._dirty, self._levels.view(np.uint32), self._graves, n)

    def _drop_carry_of(self, slots: list[int]) -> None:
        table = self._book_table()
        table[slots, lo.OPEN] = 0
        if len(self._carry_slots):
            stays = ~np.isin(self._carry_slots, slots)
            self._carry = [np.concatenate(self._carry)[stays]]
            self._carry_ordinals = self._carry_ordinals[stays]
            self._carry_slots = self._carry_slots[stays]

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


class _Piece(NamedTuple):
    """Rows of one run of the kernel."""

    bbo: Rows
    trades: Rows
    auctions: Rows
    effects: Rows | None = None
    effect_records: Rows | None = None


def _joined(pieces: list[_Piece], effects: bool) -> _Piece:
    if not pieces:
        none = _Piece(NOTHING.bbo, NOTHING.trades, NOTHING.auctions)
        return none._replace(effects=empty(EFFECT), effect_records=empty(MBO)) if effects else none
    columns: Any = zip(*pieces, strict=True)
    return _Piece._make(None if column[0] is None else np.concatenate(column) for column in columns)


def _newest(rows: Rows) -> Rows:
    """Without the rows that a later one of the same level supersedes: a snapshot began and ended in the batch."""
    last = {key: i for i, key in enumerate(rows[["publisher_id", "instrument_id", "side", "price"]].tolist())}
    return rows[sorted(last.values())]
