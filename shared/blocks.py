"""Stored blocks: some thousands of MBO records or BBO rows of one shard, column-wise, compressed, checksummed.

A block keeps its rows grouped by instrument; the order of the stream and every ordinal come back exactly, and so does
every bit of every field. Layout, little-endian:

    head     "MBOB", version u8, kind u8, columns u16, rows u32, groups u32, missing u32, codes u32, tables u32,
             first i64, last i64, base i64 × 9
    tables   zstd of: instrument ids u32 × groups, row counts u32 × groups, missing ordinals i64, codes u32
    widths   u8 × columns: how many byte planes each column has
    sizes    u32 × planes; the top bit: stored as it is, else zstd level 1
    planes   byte k of every value of a column, for k below its width
    crc32    u32 of everything before it

A column holds zigzag deltas (see blocks_kernel.py), so high bytes are mostly zero and vanish, and noise (the low bytes
of times) sits in planes of its own, which the encoder learns not to compress. `missing`: ordinals between first and
last that are control entries.
"""

from __future__ import annotations

import struct
import threading
import zlib
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from shared import blocks_kernel as kernel
from shared.errors import StoreError
from shared.records import BBO, MBO, Rows

VERSION = 1
KIND_MBO = 0
KIND_BBO = 1
BLOCK_ROWS = 10_000  # what a writer aims at
MAX_ROWS = 65_536  # what a reader accepts
MAX_MISSING = 1 << 19  # ordinals of control entries between the records of a block
_MAX_TABLES_BYTES = 8 * (MAX_ROWS + MAX_MISSING) + 4096
_HEAD = struct.Struct("<4sBBHIIIIIqq9q")
_MAGIC = b"MBOB"
_STORED = 0x8000_0000
WORTH_IT = (
    13 / 16
)  # a plane that shrinks less than that is stored as it is: 25 % of zstd's time for 7 % of the bytes
_LEARN_BLOCKS = 16  # an incompressible plane is tried again after this many blocks

_local = threading.local()


class Head(NamedTuple):
    """What a block says of itself without being unpacked."""

    kind: int
    columns: int
    rows: int
    groups: int
    missing: int
    codes: int
    tables: int
    first: int
    last: int
    base: tuple[int, ...]


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
        self._noise: dict[tuple[int, int, int], int] = {}  # plane → blocks for which it is stored as it is

    def _reserve(self, n: int) -> None:
        if n > MAX_ROWS:
            raise ValueError(f"a block holds at most {MAX_ROWS} rows, not {n}")
        if n > self._cap:
            self._cap = max(n, BLOCK_ROWS * 2)
            self._cols = np.empty(kernel.BBO_COLUMNS * self._cap, np.int64)
            self._ids, self._counts, self._perm, self._missing = np.empty((4, self._cap), np.int64)
            self._planes = np.empty(8 * self._cap, np.uint8)
        self._base = np.zeros(9, np.int64)
        self._codes = np.zeros(256, np.int64)

    def last_ids(self) -> list[int]:
        """The instruments of the block made last."""
        return self._ids[: self._groups].tolist()  # type: ignore[no-any-return]

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
        cols = self._cols[: kernel.MBO_COLUMNS * n].reshape(kernel.MBO_COLUMNS, n)
        widths = kernel.encode_mbo(
            records.view(kernel.MBO_SIGNED), ordinals.view(np.int64), cols, self._ids, self._counts, self._perm,
            self._base, self._codes, self._missing,
        )  # fmt: skip
        groups, missing, codes = int(self._base[7]), int(self._base[8]), int(self._base[6])
        return self._pack(KIND_MBO, cols, widths, groups, missing, codes, first, last)

    def bbo(self, rows: Rows, first: int, last: int) -> bytes:
        """A block of BBO rows in ordinal order that speaks for the ordinals first … last."""
        n = len(rows)
        self._reserve(n)
        cols = self._cols[: kernel.BBO_COLUMNS * n].reshape(kernel.BBO_COLUMNS, n)
        widths = kernel.encode_bbo(
            rows.view(kernel.BBO_SIGNED), cols, self._ids, self._counts, self._perm, self._base
        )
        return self._pack(KIND_BBO, cols, widths, int(self._base[3]), 0, 0, first, last)

    def _pack(
        self, kind: int, cols: NDArray[np.int64], widths: NDArray[np.int64], groups: int, missing: int, codes: int,
        first: int, last: int,
    ) -> bytes:  # fmt: skip
        n = cols.shape[1]
        self._groups = groups
        compress = self._zstd.compress
        tables = compress(
            self._ids[:groups].astype("<u4").tobytes() + self._counts[:groups].astype("<u4").tobytes()
            + self._missing[:missing].tobytes() + self._codes[:codes].astype("<u4").tobytes()
        )  # fmt: skip
        byte_widths = bytes(((int(bits) & (2**64 - 1)).bit_length() + 7) >> 3 for bits in widths)
        sizes, planes = [], []
        noise = self._noise
        for column, width in enumerate(byte_widths):
            if not width:
                continue
            split = self._planes[: width * n].reshape(width, n)
            kernel.split(cols[column], width, split)
            for index in range(width):
                key = (kind, column, index)
                left = noise.get(key, 0)
                if not left:
                    packed = compress(split[index].data)
                    if len(packed) < n * WORTH_IT:
                        sizes.append(len(packed))
                        planes.append(packed)
                        continue
                    left = _LEARN_BLOCKS
                noise[key] = left - 1
                sizes.append(n | _STORED)
                planes.append(split[index].tobytes())
        head = _HEAD.pack(
            _MAGIC,
            VERSION,
            kind,
            len(cols),
            n,
            groups,
            missing,
            codes,
            len(tables),
            first,
            last,
            *self._base.tolist(),
        )
        blob = b"".join((head, tables, byte_widths, struct.pack(f"<{len(sizes)}I", *sizes), *planes))
        return blob + struct.pack("<I", zlib.crc32(blob))


class Block:
    """A block being read: head and directory at once, rows when asked. Raises StoreError if it is damaged."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self.head, self._tables_at = _head(blob)
        if zlib.crc32(memoryview(blob)[:-4]) != struct.unpack_from("<I", blob, len(blob) - 4)[0]:
            raise StoreError(
                f"block {self.head.first}-{self.head.last} is damaged: its checksum does not match"
            )
        h = self.head
        try:
            tables = _unzip(blob[self._tables_at : self._tables_at + h.tables], _MAX_TABLES_BYTES)
            self.ids = np.frombuffer(tables, "<u4", h.groups).astype(np.int64)
            self._counts = np.frombuffer(tables, "<u4", h.groups, 4 * h.groups).astype(np.int64)
            self._missing = np.frombuffer(tables, "<i8", h.missing, 8 * h.groups).astype(np.int64)
            self._codes = np.frombuffer(tables, "<u4", h.codes, 8 * (h.groups + h.missing)).astype(np.int64)
        except (ValueError, zstandard.ZstdError) as error:
            raise StoreError(f"block {h.first}-{h.last} has a damaged directory: {error}") from error
        if int(self._counts.sum()) != h.rows:
            raise StoreError(f"block {h.first}-{h.last} has a directory that does not add up")

    def has(self, instrument_id: int) -> bool:
        return bool((self.ids == instrument_id).any())

    def _columns(self) -> NDArray[np.int64]:
        h, blob = self.head, self._blob
        at = self._tables_at + h.tables
        widths = blob[at : at + h.columns]
        at += h.columns
        count = sum(widths)
        sizes = struct.unpack_from(f"<{count}I", blob, at)
        at += 4 * count
        cols = np.empty((h.columns, h.rows), np.int64)
        planes = np.empty((8, h.rows), np.uint8)
        which = 0
        for column, width in enumerate(widths):
            for index in range(width):
                size = sizes[which] & ~_STORED
                piece = blob[at : at + size]
                if not sizes[which] & _STORED:
                    piece = _unzip(piece, h.rows)
                planes[index] = np.frombuffer(piece, np.uint8, h.rows)
                at += size
                which += 1
            kernel.join(planes, width, cols[column])
        return cols

    def _unpack(self) -> NDArray[np.int64]:
        try:
            return self._columns()
        except (ValueError, IndexError, struct.error, zstandard.ZstdError) as error:
            raise StoreError(
                f"block {self.head.first}-{self.head.last} cannot be unpacked: {error}"
            ) from error

    def mbo(self, instrument_id: int | None = None) -> Slice:
        """The records, all or of one instrument, in stream order."""
        n = self.head.rows
        if instrument_id is not None:
            n = int(self._counts[self.ids == instrument_id].sum())
        rows, ordinals = np.empty(n, MBO), np.empty(n, np.uint64)
        if n:
            kernel.decode_mbo(
                self._unpack(), self.ids, self._counts, np.array(self.head.base, np.int64), self._codes, self._missing,
                self.head.first, -1 if instrument_id is None else instrument_id, rows.view(kernel.MBO_SIGNED),
                ordinals.view(np.int64),
            )  # fmt: skip
        return Slice(ordinals, rows)

    def bbo(self, instrument_id: int | None = None) -> Rows:
        """The BBO rows, all or of one instrument, in stream order."""
        n = self.head.rows
        if instrument_id is not None:
            n = int(self._counts[self.ids == instrument_id].sum())
        rows = np.empty(n, BBO)
        if n:
            kernel.decode_bbo(
                self._unpack(), self.ids, self._counts, np.array(self.head.base, np.int64),
                -1 if instrument_id is None else instrument_id, rows.view(kernel.BBO_SIGNED),
            )  # fmt: skip
        return rows


def _head(blob: bytes) -> tuple[Head, int]:
    if len(blob) < _HEAD.size + 4 or blob[:4] != _MAGIC:
        raise StoreError("not a stored block")
    _, version, kind, *rest = _HEAD.unpack_from(blob)
    if version != VERSION:
        raise StoreError(f"a block has version {version}, this program reads {VERSION}: upgrade it")
    columns, rows, groups, missing, codes, tables, first, last, *base = rest
    expected = {KIND_MBO: kernel.MBO_COLUMNS, KIND_BBO: kernel.BBO_COLUMNS}.get(kind)
    if (
        columns != expected
        or not 0 < rows <= MAX_ROWS
        or groups > rows
        or missing > MAX_MISSING
        or codes > 256
    ):
        raise StoreError(f"block {first}-{last} has an impossible head")
    return Head(kind, columns, rows, groups, missing, codes, tables, first, last, tuple(base)), _HEAD.size


def _unzip(piece: bytes, limit: int) -> bytes:
    if not 0 <= zstandard.frame_content_size(piece) <= limit:
        raise ValueError("a compressed part is larger than it may be")
    zstd: Any = getattr(_local, "zstd", None)
    if zstd is None:
        zstd = _local.zstd = zstandard.ZstdDecompressor()
    return bytes(zstd.decompress(piece))
