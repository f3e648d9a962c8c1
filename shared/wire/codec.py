"""Encode and decode stream entries: one msgpack array an entry, rows as bins. Layout: README.md beside this file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack
import numpy as np

from shared.errors import WireError
from shared.orderbook.engine import Batch
from shared.records import AUCTION, BBO, LEVEL, MBO, TOUCHED, TRADE, Rows, empty

VERSION = 1
RECORDS = 0
CONTROL = 1
OUT_STALE = 1
MAX_ENTRY_BYTES = 16 * 1024 * 1024  # of one decoded entry; larger ones are refused unread
MAX_ORDINAL = 2**63 - 1  # the engine counts in int64

_OUT_LAYOUTS = (BBO, TRADE, LEVEL, AUCTION, TOUCHED)


class InEntry(NamedTuple):
    """A decoded entry of `:in`: records or control, never both."""

    n: int
    first: int  # ordinal of its first record
    ts_due: int  # ns
    ts_ingest: int  # ns
    position: int  # source items before it are all in this shard, up to this entry …
    records: Rows | None
    control: Mapping[str, Any] | None
    beyond: int = 0  # … and so many of this shard's items from there on too

    @property
    def last(self) -> int:
        return self.first + self.n - 1


class OutEntry(NamedTuple):
    """A decoded entry of `:out`."""

    n: int
    first: int
    ts_due: int
    ts_ingest: int
    ts_book: int
    stale: bool
    control: Mapping[str, Any] | None
    batch: Batch

    @property
    def last(self) -> int:
        return self.first + self.n - 1


_BIN_HEAD = struct.Struct(">BI").pack


def _bin_head(length: int) -> bytes:
    return _BIN_HEAD(0xC6, length)


def encode_records(
    records: Rows, first: int, ts_due: int, ts_ingest: int, position: int, beyond: int = 0
) -> bytes:
    """One `:in` entry of contiguous MBO records; the bytes of the array are copied once."""
    head = msgpack.packb((VERSION, RECORDS, len(records), first, ts_due, ts_ingest, position, beyond, 0))
    return b"".join((head[:-1], _bin_head(records.nbytes), records.data))


def encode_control(
    control: Mapping[str, Any], ordinal: int, ts_due: int, ts_ingest: int, position: int, beyond: int = 0
) -> bytes:
    """One `:in` entry of one control."""
    return bytes(msgpack.packb((VERSION, CONTROL, 1, ordinal, ts_due, ts_ingest, position, beyond, control)))


def encode_out(
    batch: Batch, *, n: int, first: int, ts_due: int, ts_ingest: int, ts_book: int, stale: bool,
    control: Mapping[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """One `:out` entry: what input ordinals first … first+n−1 did."""
    flags = OUT_STALE if stale else 0
    fixed: tuple[object, ...] = (VERSION, RECORDS, n, first, ts_due, ts_ingest, ts_book, flags)
    if control is not None:
        fixed = (VERSION, CONTROL, n, first, ts_due, ts_ingest, ts_book, flags, control)
    head = msgpack.packb(
        fixed
    )  # an array of up to 15 has a head of one byte: put in one that counts the bins too
    parts: list[bytes | memoryview] = [bytes((0x90 | (len(fixed) + 5),)), head[1:]]
    for rows in batch[:5]:
        assert rows is not None
        size = rows.nbytes
        parts.append(_bin_head(size))
        if size:
            parts.append(rows.data)
    return b"".join(parts)


def _unpack(blob: bytes) -> list[Any]:
    if len(blob) > MAX_ENTRY_BYTES:
        raise WireError(f"entry of {len(blob)} bytes is over the limit of {MAX_ENTRY_BYTES}")
    try:
        fields = msgpack.unpackb(blob, max_bin_len=MAX_ENTRY_BYTES, strict_map_key=False)
    except Exception as error:  # msgpack raises ValueError and its subclasses, and some of its own
        raise WireError(f"entry is not msgpack: {error}") from error
    if not isinstance(fields, list) or len(fields) < 8 or fields[1] not in (RECORDS, CONTROL):
        raise WireError("entry is not one of ours")
    if fields[0] != VERSION:
        raise WireError(
            f"entry has version {fields[0]}, this program reads {VERSION}: upgrade it", version=fields[0]
        )
    if not all(type(field) is int for field in fields[2:8]):
        raise WireError("an entry's counts, ordinals and times are integers")
    n, first = fields[2:4]
    if n < 1 or first < 1 or first + n > MAX_ORDINAL:
        raise WireError(f"an entry of {n} ordinals from {first} cannot be")
    return fields


def _rows(blob: Any, layout: np.dtype[Any]) -> Rows:
    if not isinstance(blob, bytes) or len(blob) % layout.itemsize:
        raise WireError(f"a row column is not whole rows of {layout.itemsize} bytes")
    return np.frombuffer(blob, layout) if blob else empty(layout)


def decode_in(blob: bytes) -> InEntry:
    """Raises WireError for anything that is not a whole entry of a version we read."""
    fields = _unpack(blob)
    if len(fields) != 9:
        raise WireError(f"an input entry has 9 fields, this one {len(fields)}")
    _, kind, n, first, ts_due, ts_ingest, position, beyond, payload = fields
    if kind == CONTROL:
        if n != 1 or not isinstance(payload, dict) or "type" not in payload:
            raise WireError("a control entry covers one ordinal and has a type")
        return InEntry(n, first, ts_due, ts_ingest, position, None, payload, beyond)
    records = _rows(payload, MBO)
    if len(records) != n:
        raise WireError(f"entry says {n} records and holds {len(records)}")
    return InEntry(n, first, ts_due, ts_ingest, position, records, None, beyond)


def decode_out(blob: bytes) -> OutEntry:
    """Raises WireError for anything that is not a whole entry of a version we read."""
    fields = _unpack(blob)
    control = fields.pop(8) if fields[1] == CONTROL and len(fields) > 8 else None
    if len(fields) != 13 or not isinstance(control, dict | None):
        raise WireError("not an output entry")
    batch = Batch(*(_rows(blob, layout) for blob, layout in zip(fields[8:], _OUT_LAYOUTS, strict=True)))
    _, _, n, first, ts_due, ts_ingest, ts_book, flags = fields[:8]
    return OutEntry(n, first, ts_due, ts_ingest, ts_book, bool(flags & OUT_STALE), control, batch)
