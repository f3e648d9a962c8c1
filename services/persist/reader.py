"""The recorded rows of one feed's store: what the history API, export, `mbo sql` and recovery read. No transaction
stays open between two items of a generator, so a slow reader never keeps the WAL from being checkpointed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import numpy as np
import zstandard
from numpy.typing import NDArray

from services.persist.derive import running_prefix
from services.persist.store import SERIES_SHIFT, UNDEF
from services.persist.tail import MAX_JUMP
from shared.blocks import KIND_BBO, KIND_MBO, Block, Encoder
from shared.errors import StoreError
from shared.history_types import Control, StoredImage, merge_entries
from shared.records import BAR, BBO, MBO, MBO_SIGNED, TRADE
from shared.wire.codec import InEntry

PAGE_ROWS = 20_000  # rows of trades or bars fetched at once
MAX_IMAGE_BYTES = 4 * 1024**3
EPOCH_BLOCKS = 63  # blocks of one presence row: the bits of an INTEGER


def controls(
    db: sqlite3.Connection, run: int, shard: int, first: int, last: int, limit: int = 10_000
) -> Iterator[Control]:
    """Control entries that end within the ordinals first … last."""
    while True:
        page = db.execute(
            "SELECT ordinal, n, body FROM control WHERE run=? AND shard=? AND ordinal BETWEEN ? AND ?"
            " ORDER BY ordinal LIMIT ?",
            (run, shard, first, min(last, UNDEF), limit),
        ).fetchall()
        for ordinal, n, body in page:
            yield ordinal, n, json.loads(body)
        if len(page) < limit:
            return
        first = page[-1][0] + 1


def open_epoch(db: sqlite3.Connection, run: int, shard: int) -> list[tuple[int, NDArray[np.int64]]]:
    """Of each block of the shard's newest epoch: its bit, and its instruments."""
    row = db.execute("SELECT max(seq) FROM block WHERE run=? AND shard=?", (run, shard)).fetchone()
    if row[0] is None or row[0] % EPOCH_BLOCKS == EPOCH_BLOCKS - 1:
        return []
    low = row[0] // EPOCH_BLOCKS * EPOCH_BLOCKS
    blocks = db.execute(
        "SELECT seq, body FROM block WHERE run=? AND shard=? AND seq >= ? ORDER BY last DESC LIMIT ?",
        (run, shard, low, EPOCH_BLOCKS),
    )
    return [(1 << (seq % EPOCH_BLOCKS), Block(body).ids) for seq, body in blocks]


_BLOCKS = {
    KIND_MBO: "SELECT id, first, last, seq FROM block WHERE run=:run AND shard=:shard AND last>=:first"
    " AND recv_max>=:start AND recv_min<:end AND event_max>=:event_start AND event_min<:event_end"
    " ORDER BY last LIMIT 64",
    KIND_BBO: "SELECT id, first, last, 0 FROM bbo_block WHERE run=:run AND shard=:shard AND last>=:first"
    " AND recv_max>=:start AND recv_min<:end ORDER BY last LIMIT 64",
}
_BODY = {KIND_MBO: "SELECT body FROM block WHERE id=?", KIND_BBO: "SELECT body FROM bbo_block WHERE id=?"}


def blocks(
    db: sqlite3.Connection, run: int, shard: int, kind: int = KIND_MBO, *, first: int = 1, last: int = UNDEF,
    start: int | None = None, end: int | None = None, instrument_id: int | None = None,
    event_start: int | None = None, event_end: int | None = None,
) -> Iterator[bytes]:  # fmt: skip
    """Blocks that may hold matching rows, in order; what is in no block yet comes as blocks made on the spot.

    They may hold other rows too: the caller cuts. Times are of ts_recv, event_* of ts_event.
    """
    timed = not (start is None and end is None and event_start is None and event_end is None)
    where = {
        "run": run, "shard": shard, "first": first, "start": -1 if start is None else min(start, UNDEF),
        "end": UNDEF if end is None else min(end, UNDEF),
        "event_start": -1 if event_start is None else min(event_start, UNDEF),
        "event_end": UNDEF if event_end is None else min(event_end, UNDEF),
    }  # fmt: skip
    sql = _BLOCKS[kind] if timed else _BLOCKS[kind].split(" AND recv_max")[0] + " ORDER BY last LIMIT 64"
    bits: dict[int, int | None] = {}
    begun = False
    while where["first"] <= last:
        db.execute("BEGIN")  # blocks and tail as of one instant: a seal in between would hide rows
        try:
            if begun:
                _still_kept(db, run, shard, where["first"])
            begun = True
            page = db.execute(sql, where).fetchall()
            tail = [] if page else _tail(db, run, shard, kind, where["first"], last)
        finally:
            db.execute("COMMIT")
        for block, begin, stop, seq in page:
            where["first"] = stop + 1
            if begin > last:
                return
            if (
                instrument_id is not None
                and kind == KIND_MBO
                and not _present(db, run, shard, instrument_id, seq, bits)
            ):
                continue
            row = db.execute(_BODY[kind], (block,)).fetchone()
            if row is None:
                raise StoreError(
                    f"ordinals {begin} to {stop} were removed by retention while they were being read"
                )
            yield row[0]
        if not page:
            yield from tail
            return


def _still_kept(db: sqlite3.Connection, run: int, shard: int, ordinal: int) -> None:
    """StoreError if retention has been where a reader is: the next page would begin behind a hole."""
    row = db.execute("SELECT floor FROM offset WHERE run=? AND shard=?", (run, shard)).fetchone()
    if row is None or row[0] >= ordinal:
        raise StoreError(f"ordinals from {ordinal} on were removed by retention while they were being read")


def _present(
    db: sqlite3.Connection, run: int, shard: int, instrument: int, seq: int, bits: dict[int, int | None]
) -> bool:
    epoch = seq // EPOCH_BLOCKS
    if epoch not in bits:
        bits.clear()
        row = db.execute(
            "SELECT bits FROM presence WHERE run=? AND shard=? AND instrument_id=? AND epoch=?",
            (run, shard, instrument, epoch),
        ).fetchone()
        full = row or db.execute(
            "SELECT 1 FROM presence WHERE run=? AND shard=? AND epoch=? LIMIT 1", (run, shard, epoch)
        ).fetchone()  # fmt: skip
        bits[epoch] = row[0] if row else (0 if full else None)
    have = bits[epoch]
    return have is None or bool(have >> (seq % EPOCH_BLOCKS) & 1)


def _tail(db: sqlite3.Connection, run: int, shard: int, kind: int, first: int, last: int) -> list[bytes]:
    pieces = db.execute(
        "SELECT first, last, body FROM tail WHERE run=? AND shard=? AND kind=? AND last>=? AND first<=? ORDER BY first",
        (run, shard, kind, first, last),
    ).fetchall()
    if not pieces:
        return []
    encoder = Encoder()
    layout = MBO if kind == KIND_MBO else BBO
    made = []
    begin = 0
    for index in range(1, len(pieces) + 1):
        if index < len(pieces) and pieces[index][0] - pieces[index - 1][1] <= MAX_JUMP:
            continue
        part = pieces[begin:index]
        rows = np.frombuffer(b"".join(piece[2] for piece in part), layout).copy()
        if kind == KIND_MBO:
            ordinals = np.concatenate(
                [np.arange(f, f + len(b) // MBO.itemsize, dtype=np.uint64) for f, _, b in part]
            )
            made.append(encoder.mbo(rows, ordinals))
        else:
            made.append(encoder.bbo(rows, part[0][0], part[-1][1]))
        begin = index
    return made


def entries(db: sqlite3.Connection, run: int, shard: int, first: int, last: int) -> Iterator[InEntry]:
    """A shard's entries as they were: contiguous ordinals first … last."""
    if first > last:
        return iter(())
    return merge_entries(
        blocks(db, run, shard, first=first, last=last),
        lambda a, b: controls(db, run, shard, a, b),
        first,
        last,
    )


def image_before(db: sqlite3.Connection, run: int, shard: int, ordinal: int) -> StoredImage | None:
    """The newest image at or before an ordinal; StoreError if it cannot be unpacked."""
    row = db.execute(
        "SELECT ordinal, recv_run, body FROM image WHERE run=? AND shard=? AND ordinal<=?"
        " ORDER BY ordinal DESC LIMIT 1",
        (run, shard, min(ordinal, UNDEF)),
    ).fetchone()
    if row is None:
        return None
    try:
        if not 0 <= zstandard.frame_content_size(row[2]) <= MAX_IMAGE_BYTES:
            raise StoreError(f"the image at {row[0]} is larger than it may be")
        return StoredImage(row[0], row[1], zstandard.ZstdDecompressor().decompress(row[2]))
    except zstandard.ZstdError as error:
        raise StoreError(f"the image at {row[0]} is damaged: {error}") from error


def position(db: sqlite3.Connection, run: int, at: int) -> list[int]:
    """Last ordinal of each shard whose running maximum of ts_recv is ≤ `at` (0: nothing of the shard is stored)."""
    shards = db.execute("SELECT shards FROM run WHERE run=?", (run,)).fetchone()[0]
    return [_position(db, run, shard, at) for shard in range(shards)]


def _position(db: sqlite3.Connection, run: int, shard: int, at: int) -> int:
    db.execute("BEGIN")
    try:
        row = db.execute("SELECT ordinal, floor FROM offset WHERE run=? AND shard=?", (run, shard)).fetchone()
        if row and row[1]:  # retention: before its first image nothing is known
            kept = db.execute(
                "SELECT recv_run FROM image WHERE run=? AND shard=? AND ordinal=?", (run, shard, row[1])
            ).fetchone()
            if kept is None or at < kept[0]:
                return int(row[1]) - 1
        block = db.execute(
            "SELECT body, last FROM block WHERE run=? AND shard=? AND recv_run>? ORDER BY recv_run, last LIMIT 1",
            (run, shard, min(at, UNDEF - 1)),
        ).fetchone()
        before = db.execute(
            "SELECT recv_run FROM block WHERE run=? AND shard=? AND last<? ORDER BY last DESC LIMIT 1",
            (run, shard, block[1] if block else UNDEF),
        ).fetchone()
        tail = [] if block else _tail(db, run, shard, KIND_MBO, 1, UNDEF)
    finally:
        db.execute("COMMIT")
    recv_run = before[0] if before else 0
    for body in [block[0]] if block else tail:
        ordinals, rows = Block(body).mbo()
        reach = running_prefix(rows.view(MBO_SIGNED), recv_run, at)
        if reach < len(rows):
            return int(ordinals[reach]) - 1
        recv = rows["ts_recv"].view(np.int64)
        recv_run = max(recv_run, int(recv.max()))
    return row[0] if row else 0


def trades(
    db: sqlite3.Connection, run: int, instrument_id: int, *, first: int = 1, last: int = UNDEF,
    start: int | None = None, end: int | None = None,
) -> Iterator[bytes]:  # fmt: skip
    """Trades of one instrument by ordinal, as bytes of whole TRADE rows."""
    low, high = -1 if start is None else start, UNDEF if end is None else min(end - 1, UNDEF - 1)
    row = db.execute(
        "SELECT series << ?, shard FROM series LEFT JOIN book USING (run, instrument_id)"
        " WHERE run=? AND instrument_id=? LIMIT 1",
        (SERIES_SHIFT, run, instrument_id),
    ).fetchone()
    if row is None:
        return
    base, shard = row
    most = (1 << SERIES_SHIFT) - 1
    begun = False
    while True:
        db.execute("BEGIN")
        try:
            if begun:
                _still_kept(db, run, shard, first)
            begun = True
            page = db.execute(
                "SELECT id - ?1, id - ?1 + events_end, ts_event, ts_recv, price, size, ?5, sequence, publisher_id,"
                " side, flags FROM trade WHERE id BETWEEN ?1 + ?2 AND ?1 + ?3 AND ts_recv BETWEEN ?4 AND ?6 ORDER BY id"
                " LIMIT ?7",
                (base, min(first, most), min(last, most), low, instrument_id, high, PAGE_ROWS),
            ).fetchall()
        finally:
            db.execute("COMMIT")
        if not page:
            return
        rows = np.array(page, TRADE)
        for name in ("ts_event", "ts_recv"):
            rows[name][rows[name] == UNDEF] = 2**64 - 1
        yield rows.tobytes()
        if len(page) < PAGE_ROWS:
            return
        first = page[-1][0] + 1


def bars(
    db: sqlite3.Connection, run: int, instrument_id: int, interval_s: int, *, first: int = 1, last: int = UNDEF,
    start: int | None = None, end: int | None = None,
) -> Iterator[bytes]:  # fmt: skip
    """Bars of one instrument by (ts, publisher), as bytes of whole BAR rows; of the symbols it got in first … last."""
    at, begun = (-1 if start is None else start, -1, -1), False
    while True:
        page = db.execute(
            "SELECT ts, open, high, low, close, volume, trades, instrument_id, publisher_id, interval_s, 0,"
            " since FROM bar WHERE run=? AND instrument_id=? AND interval_s=?"
            " AND (ts, publisher_id, since) >= (?, ?, ?) AND ts<? AND since BETWEEN ? AND ?"
            " ORDER BY ts, publisher_id, since LIMIT ?",
            (
                run, instrument_id, interval_s, *at, UNDEF if end is None else min(end, UNDEF), first,
                min(last, UNDEF), PAGE_ROWS + begun,
            ),
        ).fetchall()  # fmt: skip
        if begun and (not page or _place(page[0]) != at):  # bars go by time, oldest first: no floor tells
            raise StoreError(f"bars from {at[0]} on were removed by retention while they were being read")
        rows = page[begun:]
        if rows:
            yield np.array([row[:-1] for row in rows], BAR).tobytes()
        if len(rows) < PAGE_ROWS:
            return
        at, begun = _place(rows[-1]), True


def _place(bar: tuple[int, ...]) -> tuple[int, int, int]:
    return bar[0], bar[8], bar[11]
