"""One shard's run: applies its entries to the engine and writes what follows from them: blocks, images and, by its
ledger, rows.

`absorb` works in memory; `save` writes what was absorbed inside the caller's transaction, offset last. If the
transaction fails, the recorder is thrown away and loaded again from the file: there is no other recovery.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from services.persist import derive, reader
from services.persist.ledger import Ledger
from services.persist.runs import Run
from services.persist.tail import Tail
from shared.blocks import BLOCK_ROWS, KIND_BBO, KIND_MBO, Encoder
from shared.errors import ImageError, StoreError
from shared.orderbook.engine import Batch
from shared.orderbook.shard import ShardState
from shared.records import BBO, MBO, Rows, joined
from shared.wire.codec import InEntry

IMAGE_FLOOR_RECORDS = 250_000  # small books: an image no oftener than this …
IMAGE_TIME_FLOOR_RECORDS = 5_000  # … but for images by time


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often something is made."""

    block_rows: int = BLOCK_ROWS
    image_records: int = 1_000_000
    image_ns: int = 600_000_000_000  # of market time


class Recorder:
    """Everything persist keeps in memory of one shard's run."""

    def __init__(self, run: Run, shard: int, cadence: Cadence, encoder: Encoder) -> None:
        self.run, self.shard, self.cadence = run, shard, cadence
        self._encoder = encoder
        self.state = ShardState(run.policy)  # type: ignore[arg-type]
        self.offset = 0
        self._saved = 0
        self.recv_run = 0
        self._mbo, self._bbo = Tail(), Tail()
        self._bbo_done = 0
        self._block_run = 0  # running maximum of ts_recv at the end of the last sealed block
        self._seq = 0
        self._presence: list[tuple[int, NDArray[np.int64]]] = []  # the block's bit, its instruments
        self._tally = derive.Tally()
        self._trades: list[Rows] = []
        self._controls: list[tuple[int, int, Mapping[str, Any]]] = []
        self._new_mbo: list[tuple[int, int, Rows]] = []
        self._new_bbo: list[tuple[int, int, Rows]] = []
        self._image_run = 0
        self._image_due = IMAGE_FLOOR_RECORDS
        self._records = 0  # of the run
        self._image_records = 0  # the count above at the last image
        self._ledger = Ledger(run.run, shard)

    # -- recovery ---------------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls, db: sqlite3.Connection, run: Run, shard: int, cadence: Cadence, encoder: Encoder
    ) -> Recorder:
        """The recorder as it stood at the shard's committed offset; StoreError if a block or image is damaged."""
        self = cls(run, shard, cadence, encoder)
        row = db.execute(
            "SELECT ordinal, recv_run, bbo_done FROM offset WHERE run=? AND shard=?", (run.run, shard)
        ).fetchone()
        if row is None:
            return self
        self.offset, self.recv_run, self._bbo_done = row
        self._saved = self.offset
        for kind, tail, layout in ((KIND_MBO, self._mbo, MBO), (KIND_BBO, self._bbo, BBO)):
            for first, last, body in db.execute(
                "SELECT first, last, body FROM tail WHERE run=? AND shard=? AND kind=? ORDER BY first",
                (run.run, shard, kind),
            ):
                tail.add(first, last, np.frombuffer(body, layout).copy())
                tail.stored = True
        last_block = db.execute(
            "SELECT seq, recv_run FROM block WHERE run=? AND shard=? ORDER BY last DESC LIMIT 1",
            (run.run, shard),
        ).fetchone()
        if last_block:
            self._seq, self._block_run = last_block[0] + 1, last_block[1]
        self._presence = reader.open_epoch(db, run.run, shard)
        for instrument, publisher, *sums in db.execute(
            "SELECT instrument_id, publisher_id, records, trades, first_ts, last_ts FROM book WHERE run=? AND shard=?",
            (run.run, shard),
        ):
            self._tally.load(instrument, publisher, *sums)
            self._records += sums[0]
        image = reader.image_before(db, run.run, shard, self.offset)
        if image is not None:
            try:
                self.state = ShardState.restore(image.blob)
            except ImageError as error:
                raise StoreError(
                    f"the image at {image.ordinal} is damaged: {error}", why="corrupt"
                ) from error
            self._image_run = image.recv_run
        recent = 0
        for entry in reader.entries(db, run.run, shard, self.state.ordinal + 1, self.offset):
            self.state.apply(entry)
            recent += entry.n
        self._image_records = self._records - recent
        self._ledger.load(db, self.state.symbols)
        return self

    @property
    def is_dirty(self) -> bool:
        return self.offset > self._saved

    # -- in memory --------------------------------------------------------------------------------------------------

    def absorb(self, entry: InEntry) -> None:
        """Apply an entry that follows everything absorbed so far."""
        assert entry.first == self.offset + 1
        self.offset = entry.last
        if entry.records is not None:
            self.recv_run = max(self.recv_run, self._tally.add(entry.records))
            self._new_mbo.append((entry.first, entry.last, entry.records))
            self._records += entry.n
        else:
            assert entry.control is not None
            self._controls.append((entry.last, entry.n, entry.control))
        batch: Batch = self.state.apply(entry)
        if len(batch.bbo):
            self._new_bbo.append((entry.first, entry.last, batch.bbo))
        if len(batch.trades):
            self._trades.append(batch.trades)

    # -- to the file ------------------------------------------------------------------------------------------------

    def save(self, db: sqlite3.Connection, now_ns: int) -> None:
        """Write everything absorbed since the last save; the caller's transaction makes it one with the offset."""
        key = (self.run.run, self.shard)
        for ordinal, n, control in self._controls:
            self._ledger.control(db, ordinal, n, control)
        self._controls.clear()
        if self._trades:
            self._ledger.trades(db, joined(self._trades))
            self._trades.clear()
        self._save_mbo(db)
        self._save_bbo(db)
        self._ledger.tally(db, self._tally)
        self._save_image(db)
        db.execute(
            "INSERT INTO offset VALUES (?,?,?,?,?,0,?) ON CONFLICT DO UPDATE SET ordinal=excluded.ordinal,"
            " recv_run=excluded.recv_run, bbo_done=excluded.bbo_done, saved_at=excluded.saved_at",
            (*key, self.offset, self.recv_run, self._bbo_done, now_ns),
        )
        self._saved = self.offset

    def _save_mbo(self, db: sqlite3.Connection) -> None:
        key = (self.run.run, self.shard)
        for piece in self._new_mbo:
            self._mbo.add(*piece)
        if self._mbo.rows < self.cadence.block_rows:
            self._save_tail(db, KIND_MBO, self._mbo, self._new_mbo)
        else:
            for ordinals, rows in self._mbo.cut(self.cadence.block_rows):
                body = self._encoder.mbo(rows, ordinals)
                times = self._encoder.last_times()
                self._block_run = max(self._block_run, times.recv_max)
                db.execute(
                    "INSERT INTO block VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        *key,
                        self._seq,
                        int(ordinals[0]),
                        int(ordinals[-1]),
                        len(rows),
                        *times,
                        self._block_run,
                        len(body),
                        body,
                    ),
                )
                self._mark(db, self._encoder.last_ids())
                self._seq += 1
            self._drop_tail(db, KIND_MBO, self._mbo)
        self._new_mbo.clear()

    def _save_bbo(self, db: sqlite3.Connection) -> None:
        for piece in self._new_bbo:
            self._bbo.add(*piece)
        if self._bbo.rows < self.cadence.block_rows:
            self._save_tail(db, KIND_BBO, self._bbo, self._new_bbo)
            self._new_bbo.clear()
            return
        self._new_bbo.clear()
        parts = list(self._bbo.cut(self.cadence.block_rows))
        for index, (_, rows) in enumerate(parts):
            last = self.offset if index == len(parts) - 1 else int(rows[-1]["ordinal"])
            body = self._encoder.bbo(rows, self._bbo_done + 1, last)
            times = self._encoder.last_times()
            db.execute(
                "INSERT INTO bbo_block VALUES (NULL,?,?,?,?,?,?,?,?,?)",
                (
                    self.run.run,
                    self.shard,
                    self._bbo_done + 1,
                    last,
                    len(rows),
                    times.recv_min,
                    times.recv_max,
                    len(body),
                    body,
                ),
            )
            self._bbo_done = last
        self._drop_tail(db, KIND_BBO, self._bbo)

    def _save_tail(
        self, db: sqlite3.Connection, kind: int, tail: Tail, fresh: Sequence[tuple[int, int, Rows]]
    ) -> None:
        for first, last, rows in fresh:
            db.execute(
                "INSERT INTO tail VALUES (?,?,?,?,?,?)",
                (self.run.run, self.shard, kind, first, last, rows.tobytes()),
            )
            tail.stored = True

    def _drop_tail(self, db: sqlite3.Connection, kind: int, tail: Tail) -> None:
        if tail.stored:
            db.execute(
                "DELETE FROM tail WHERE run=? AND shard=? AND kind=?", (self.run.run, self.shard, kind)
            )
            tail.stored = False

    def _mark(self, db: sqlite3.Connection, ids: NDArray[np.int64]) -> None:
        """Note the instruments of the block just sealed; a full epoch goes to the table."""
        self._presence.append((1 << (self._seq % reader.EPOCH_BLOCKS), ids))
        if self._seq % reader.EPOCH_BLOCKS == reader.EPOCH_BLOCKS - 1:
            key = (self.run.run, self.shard)
            instruments = np.concatenate([part for _, part in self._presence])
            bits = np.repeat([bit for bit, _ in self._presence], [len(part) for _, part in self._presence])
            order = np.argsort(instruments, kind="stable")
            each, first = np.unique(instruments[order], return_index=True)
            together = np.bitwise_or.reduceat(bits[order], first)
            epoch = self._seq // reader.EPOCH_BLOCKS
            db.executemany(
                "INSERT INTO presence VALUES (?,?,?,?,?)",
                [
                    (*key, instrument, epoch, bits)
                    for instrument, bits in zip(each.tolist(), together.tolist(), strict=True)
                ],
            )
            self._presence = []

    def _save_image(self, db: sqlite3.Connection) -> None:
        recent = self._records - self._image_records
        by_time = (
            recent >= IMAGE_TIME_FLOOR_RECORDS and self.recv_run - self._image_run >= self.cadence.image_ns
        )
        if recent < min(self._image_due, self.cadence.image_records) and not by_time:
            return
        body = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(self.state.image())
        db.execute(
            "INSERT OR REPLACE INTO image VALUES (?,?,?,?,?)",
            (self.run.run, self.shard, self.offset, self.recv_run, body),
        )
        self._image_run, self._image_records = self.recv_run, self._records
        # A stored record takes ~12 bytes: images stay below about half of the file whatever the size of the books
        self._image_due = max(IMAGE_FLOOR_RECORDS, len(body) // 6)
