"""Stored blocks: some thousands of MBO records or BBO rows of one shard, column-wise, bit-packed, checksummed.

A block keeps its rows grouped by instrument, so that those of one are read without unpacking the others; the order of
the stream and every ordinal come back exactly, and so does every bit of every field. Layout, little-endian:

    head     "MBOB", version u8, kind u8, columns u16, rows u32, groups u32, missing u32, codes u32, tables u32,
             words u32, first i64, last i64, base i64 × 3
    tables   zstd of: instrument ids u32 × groups, row counts u32 × groups, starts i64 × groups × kind's number,
             missing ordinals i64, codes u32, widths u8 × columns × runs
    words    u64: the columns as `bits.py` packs them
    crc32    u32 of everything before it

A column holds zigzag deltas (`mbo.py`, `bbo.py`), a run is 32 values of one width. `missing`: ordinals between first
and last that are control entries. Against byte planes and zstd (version 1, never released): 3 bytes a record more, half
the time to write, a third to read, and one instrument of many costs next to nothing.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from shared.blocks import bbo, bits, mbo
from shared.errors import StoreError
from shared.records import BBO, BBO_SIGNED, MBO, MBO_SIGNED, Rows

VERSION = 2
KIND_MBO = 0
KIND_BBO = 1
BLOCK_ROWS = 10_000  # what a writer aims at
MAX_ROWS = 65_536  # what a reader accepts
MAX_MISSING = 1 << 19  # ordinals of control entries between the records of a block
_COLUMNS = {KIND_MBO: mbo.COLUMNS, KIND_BBO: bbo.COLUMNS}
_STREAM = {KIND_MBO: mbo.STREAM, KIND_BBO: bbo.STREAM}
_STARTS = {KIND_MBO: mbo.STARTS, KIND_BBO: bbo.STARTS}
_MAX_TABLES_BYTES = (8 + 8 * mbo.STARTS + 1) * MAX_ROWS + 8 * MAX_MISSING + 4096
_HEAD = struct.Struct("<4sBBHIIIIIIqq3q")
_CRC = struct.Struct("<I")
_MAGIC = b"MBOB"

_local = threading.local()


class Head(NamedTuple):
    """What a block says of itself without being unpacked."""

    kind: int
    columns: int
    rows: int
    groups: int
    missing: int
    codes: int
    tables: int  # bytes
    words: int
    first: int
    last: int
    base: tuple[int, ...]  # ts_recv, price unit, and for BBO rows the first ordinal


class Times(NamedTuple):
    """Least and greatest times of some rows; 2^63 − 1 and 0 where none is defined (below 2^63)."""

    recv_min: int
    recv_max: int
    event_min: int
    event_max: int


class Slice(NamedTuple):
    """Rows with their ordinals, in stream order."""

    ordinals: NDArray[np.uint64]
    rows: Rows  # layout MBO


class Encoder:
    """Makes blocks; reuses its buffers, so one per writer thread."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=1, write_content_size=True)
        self._cap = 0
        self._groups = 0
        self._base = np.zeros(8, np.int64)
        self._codes = np.zeros(mbo.CODES_MOST, np.int64)

    def _reserve(self, n: int) -> None:
        if n > MAX_ROWS:
            raise ValueError(f"a block holds at most {MAX_ROWS} rows, not {n}")
        if n > self._cap:
            self._cap = max(n, BLOCK_ROWS * 2)
            self._cols = np.empty(bbo.COLUMNS * self._cap, np.int64)
            self._ids, self._counts, self._missing = np.empty((3, self._cap), np.int64)
            self._starts = np.empty((mbo.STARTS, self._cap), np.int64)
            self._words = np.empty(bbo.COLUMNS * self._cap + 2, np.uint64)

    def last_ids(self) -> NDArray[np.int64]:
        """The instruments of the block made last."""
        return self._ids[: self._groups].copy()

    def last_times(self) -> Times:
        """The times of the block made last; event times are of MBO records only."""
        return Times(*self._base[4:].tolist())

    def mbo(self, records: Rows, ordinals: NDArray[np.uint64]) -> bytes:
        """A block of MBO records with ascending ordinals; at most MAX_MISSING ordinals may be missing between them."""
        n = len(records)
        self._reserve(n)
        first, last = int(ordinals[0]), int(ordinals[-1])
        absent = last - first + 1 - n
        if absent > MAX_MISSING:
            raise ValueError(f"{absent} ordinals missing inside a block of {n}")
        if absent > len(self._missing):
            self._missing = np.empty(absent, np.int64)
        cols = self._cols[: mbo.COLUMNS * n].reshape(mbo.COLUMNS, n)
        self._groups = mbo.encode(
            records.view(MBO_SIGNED), ordinals.view(np.int64), cols, self._ids, self._counts, self._starts,
            self._base, self._codes, self._missing,
        )  # fmt: skip
        recv, unit, codes, missing = self._base[:4].tolist()
        return self._pack(KIND_MBO, cols, missing, codes, first, last, (recv, unit, 0))

    def bbo(self, rows: Rows, first: int, last: int) -> bytes:
        """A block of BBO rows in ordinal order that speaks for the ordinals first … last."""
        n = len(rows)
        self._reserve(n)
        cols = self._cols[: bbo.COLUMNS * n].reshape(bbo.COLUMNS, n)
        self._groups = bbo.encode(
            rows.view(BBO_SIGNED), cols, self._ids, self._counts, self._starts, self._base
        )
        recv, unit, ordinal = self._base[:3].tolist()
        return self._pack(KIND_BBO, cols, 0, 0, first, last, (recv, unit, ordinal))

    def _pack(
        self, kind: int, cols: NDArray[np.int64], missing: int, codes: int, first: int, last: int,
        base: tuple[int, int, int],
    ) -> bytes:  # fmt: skip
        columns, n = cols.shape
        groups = self._groups
        widths = np.empty((columns, -(-n // bits.RUN)), np.uint8)
        words = bits.pack(cols, widths, self._words)
        starts = np.ascontiguousarray(self._starts[: _STARTS[kind], :groups])
        tables = self._zstd.compress(
            self._ids[:groups].astype("<u4").tobytes() + self._counts[:groups].astype("<u4").tobytes()
            + starts.tobytes() + self._missing[:missing].tobytes() + self._codes[:codes].astype("<u4").tobytes()
            + widths.tobytes()
        )  # fmt: skip
        head = _HEAD.pack(
            _MAGIC, VERSION, kind, columns, n, groups, missing, codes, len(tables), words, first, last, *base
        )
        packed = self._words[:words].data
        crc = zlib.crc32(packed, zlib.crc32(tables, zlib.crc32(head)))
        return b"".join((head, tables, packed, _CRC.pack(crc)))


class Block:
    """A block being read: head and directory at once, rows when asked. Raises StoreError if it is damaged."""

    def __init__(self, blob: bytes) -> None:
        self.head, at = _head(blob)
        h = self.head
        if zlib.crc32(memoryview(blob)[:-4]) != _CRC.unpack_from(blob, len(blob) - 4)[0]:
            raise StoreError(f"block {h.first}-{h.last} is damaged: its checksum does not match")
        try:
            tables = _unzip(blob[at : at + h.tables], _MAX_TABLES_BYTES)
            take = _cutter(tables)
            self.ids = take("<u4", h.groups)
            self._counts = take("<u4", h.groups)
            starts = take("<i8", h.groups * _STARTS[h.kind])
            self._starts = starts.reshape(_STARTS[h.kind], h.groups)
            self._missing = take("<i8", h.missing)
            self._codes = take("<u4", h.codes)
            widths = h.columns * -(-h.rows // bits.RUN)
            self._widths = np.frombuffer(tables, np.uint8, widths, len(tables) - widths).reshape(
                h.columns, -1
            )
            at += h.tables
            self._words = np.frombuffer(blob[at : at + 8 * h.words], np.uint64)  # a copy: aligned
        except (ValueError, zstandard.ZstdError) as error:
            raise StoreError(f"block {h.first}-{h.last} has a damaged directory: {error}") from error
        if int(self._counts.sum()) != h.rows or not len(self._words):
            raise self._contradiction()

    def has(self, instrument_id: int) -> bool:
        return bool((self.ids == instrument_id).any())

    def mbo(self, instrument_id: int | None = None) -> Slice:
        """The records, all or of one instrument, in stream order."""
        self._must_be(KIND_MBO)
        group, n = self._group(instrument_id)
        rows, ordinals = np.empty(n, MBO), np.empty(n, np.uint64)
        if n:
            recv, unit, _ = self.head.base
            done = mbo.decode(
                self._columns(group, mbo.META), self.ids, self._counts, self._starts, recv, unit, self._codes,
                self._missing, self.head.first, group, rows.view(MBO_SIGNED), ordinals.view(np.int64),
            )  # fmt: skip
            if done != n:
                raise self._contradiction()
        return Slice(ordinals, rows)

    def bbo(self, instrument_id: int | None = None) -> Rows:
        """The BBO rows, all or of one instrument, in stream order."""
        self._must_be(KIND_BBO)
        group, n = self._group(instrument_id)
        rows = np.empty(n, BBO)
        if n:
            recv, unit, ordinal = self.head.base
            done = bbo.decode(
                self._columns(group), self.ids, self._counts, self._starts, recv, unit, ordinal, group,
                rows.view(BBO_SIGNED),
            )  # fmt: skip
            if done != n:
                raise self._contradiction()
        return rows

    def _must_be(self, kind: int) -> None:
        if self.head.kind != kind:
            raise StoreError(f"block {self.head.first}-{self.head.last} holds rows of another kind")

    def _group(self, instrument_id: int | None) -> tuple[int, int]:
        """(group, its rows); (−1, all rows) for no instrument in particular, (−1, 0) for one that is not here."""
        if instrument_id is None:
            return -1, self.head.rows
        found = np.flatnonzero(self.ids == instrument_id)
        return (int(found[0]), int(self._counts[found[0]])) if len(found) else (-1, 0)

    def _columns(self, group: int, *whole: int) -> NDArray[np.int64]:
        """The columns unpacked; with a group of the group-ordered ones only its rows, but for the `whole` ones."""
        h = self.head
        cols = np.empty((h.columns, h.rows), np.int64)
        low, high = np.zeros(h.columns, np.int64), np.full(h.columns, h.rows)
        if group >= 0:
            own = [column for column in range(_STREAM[h.kind], h.columns) if column not in whole]
            low[own] = self._counts[:group].sum()
            high[own] = low[own] + self._counts[group]
        if not bits.unpack(self._words, self._widths, low, high, cols):
            raise self._contradiction()
        return cols

    def _contradiction(self) -> StoreError:
        return StoreError(f"block {self.head.first}-{self.head.last} contradicts itself")


def _cutter(tables: bytes) -> Callable[[str, int], NDArray[np.int64]]:
    """A function that takes the next so many values of a type."""
    at = 0

    def take(kind: str, count: int) -> NDArray[np.int64]:
        nonlocal at
        found = np.frombuffer(tables, kind, count, at).astype(np.int64)
        at += count * np.dtype(kind).itemsize
        return found

    return take


def _head(blob: bytes) -> tuple[Head, int]:
    if len(blob) < _HEAD.size + _CRC.size or blob[:4] != _MAGIC:
        raise StoreError("not a stored block")
    _, version, kind, *rest = _HEAD.unpack_from(blob)
    if version == 1:
        raise StoreError(
            "a block has version 1, of a development version that was never released; this program reads only"
            f" {VERSION}: move the store aside and record again from the source (`--fresh`)"
        )
    if version != VERSION:
        raise StoreError(f"a block has version {version}, this program reads {VERSION}: upgrade it")
    columns, rows, groups, missing, codes, tables, words, first, last, *base = rest
    if (
        columns != _COLUMNS.get(kind)
        or not 0 < rows <= MAX_ROWS
        or not 0 < groups <= rows
        or missing > MAX_MISSING
        or codes > mbo.CODES_MOST
        or len(blob) != _HEAD.size + tables + 8 * words + _CRC.size
    ):
        raise StoreError(f"block {first}-{last} has an impossible head")
    return Head(
        kind, columns, rows, groups, missing, codes, tables, words, first, last, tuple(base)
    ), _HEAD.size


def _unzip(piece: bytes, limit: int) -> bytes:
    if not 0 <= zstandard.frame_content_size(piece) <= limit:
        raise ValueError("a compressed part is larger than it may be")
    zstd: Any = getattr(_local, "zstd", None)
    if zstd is None:
        zstd = _local.zstd = zstandard.ZstdDecompressor()
    return bytes(zstd.decompress(piece))
