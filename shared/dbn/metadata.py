"""DBN metadata, versions 1 to 3: what a file says about itself before its first record.

Layout as in dbn's decoder (rust/dbn/src/decode/dbn): `DBN`, version u8, length u32 of what follows; then 100
fixed bytes and four variable lists. Versions differ in symbol width (22, then 71) and in padding (v3: to 8
bytes).
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import SourceError
from shared.units import UNDEF_TS

MAGIC = b"DBN"
MAX_METADATA_BYTES = 256 * 1024 * 1024  # a whole exchange for a year is far below
SYMBOL_BYTES = {1: 22, 2: 71, 3: 71}
NO_SCHEMA = 0xFFFF  # a live session: records of several schemas
_NO_STYPE = 0xFF
_FIXED = 100

SCHEMAS = (
    "mbo", "mbp-1", "mbp-10", "tbbo", "trades", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition",
    "statistics", "status", "imbalance", "ohlcv-eod", "cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo", "bbo-1s",
    "bbo-1m",
)  # fmt: skip
STYPES = (
    "instrument_id", "raw_symbol", "smart", "continuous", "parent", "nasdaq_symbol", "cms_symbol", "isin",
    "us_code", "bbg_comp_id", "bbg_comp_ticker", "figi", "figi_ticker", "listing_id", "issuer_id",
    "security_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interval:
    """`symbol` holds from `start` (inclusive) to `end` (exclusive), UTC dates as ints YYYYMMDD."""

    start: int
    end: int
    symbol: str


@dataclass(frozen=True, slots=True)
class SymbolMapping:
    raw_symbol: str
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class InstrumentSymbol:
    """An instrument id and its name from `start_ns` (inclusive) to `end_ns` (exclusive); None: open."""

    instrument_id: int
    symbol: str
    start_ns: int | None
    end_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Times in ns since the epoch. None: not set (a live session has neither schema nor stype_in)."""

    dataset: str
    version: int = 3
    schema: str | None = "mbo"
    start: int = 0
    end: int | None = None
    limit: int | None = None
    stype_in: str | None = "raw_symbol"
    stype_out: str = "instrument_id"
    ts_out: bool = False  # every record carries 8 more bytes: the gateway's send time
    symbols: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
    mappings: tuple[SymbolMapping, ...] = field(default=())

    def instruments(self) -> list[InstrumentSymbol]:
        """Every (id, symbol) interval, by start; mappings that name no instrument id are left out."""
        found: list[InstrumentSymbol] = []
        for mapping in self.mappings:
            for span in mapping.intervals:
                ident, name = span.symbol, mapping.raw_symbol
                if self.stype_in == "instrument_id" and self.stype_out != "instrument_id":
                    ident, name = name, ident
                if not ident.isdigit() or int(ident) >= 2**32:
                    continue
                found.append(InstrumentSymbol(int(ident), name, date_to_ns(span.start), date_to_ns(span.end)))
        found.sort(key=lambda one: (one.start_ns or 0, one.instrument_id))
        return found


def date_to_ns(yyyymmdd: int) -> int | None:
    """Midnight UTC of a date; None if it is not one (an open end)."""
    try:
        day = dt.datetime(yyyymmdd // 10000, yyyymmdd // 100 % 100, yyyymmdd % 100, tzinfo=dt.UTC)
    except ValueError:
        return None
    return int(day.timestamp()) * 1_000_000_000


def ns_to_date(ts_ns: int) -> int:
    """The UTC date of a time, as YYYYMMDD."""
    day = dt.datetime.fromtimestamp(ts_ns // 1_000_000_000, dt.UTC)
    return day.year * 10000 + day.month * 100 + day.day


class _Cursor:
    def __init__(self, blob: bytes, at: int, width: int) -> None:
        self.blob, self.at, self.width = blob, at, width

    def u32(self) -> int:
        if self.at + 4 > len(self.blob):
            raise SourceError("metadata lists run past the metadata's end")
        (value,) = struct.unpack_from("<I", self.blob, self.at)
        self.at += 4
        return int(value)

    def text(self) -> str:
        if self.at + self.width > len(self.blob):
            raise SourceError("metadata lists run past the metadata's end")
        raw = self.blob[self.at : self.at + self.width]
        self.at += self.width
        return raw.split(b"\0", 1)[0].decode("utf-8", "replace")

    def texts(self) -> tuple[str, ...]:
        return tuple(self.text() for _ in range(self.u32()))


def decode(version: int, blob: bytes) -> Metadata:
    """Metadata of the bytes that follow the 8-byte prefix. Raises SourceError if they are not metadata."""
    if version not in SYMBOL_BYTES:
        raise SourceError(
            f"DBN version {version} is newer than this program reads (1 to 3): upgrade it", version=version
        )
    if len(blob) < _FIXED + 20:
        raise SourceError(f"DBN metadata of {len(blob)} bytes is too short")
    dataset, schema, start, end, limit = struct.unpack_from("<16sHQQQ", blob)
    at = 50 if version == 1 else 42  # v1 has the record count in between
    stype_in, stype_out, ts_out = struct.unpack_from("<BBB", blob, at)
    width = SYMBOL_BYTES[version]
    if version > 1:
        (width,) = struct.unpack_from("<H", blob, at + 3)
        if not 1 <= width <= 4096:
            raise SourceError(f"DBN metadata gives symbols {width} bytes")
    if (schema != NO_SCHEMA and schema >= len(SCHEMAS)) or stype_out >= len(STYPES):
        raise SourceError(
            f"DBN metadata names schema {schema} and symbology {stype_out}, unknown to this program"
        )
    cursor = _Cursor(blob, _FIXED, width)
    definition_bytes = cursor.u32()  # reserved, 0 so far
    cursor.at += definition_bytes
    symbols, partial, not_found = cursor.texts(), cursor.texts(), cursor.texts()
    mappings = []
    for _ in range(cursor.u32()):
        raw = cursor.text()
        spans = tuple(Interval(cursor.u32(), cursor.u32(), cursor.text()) for _ in range(cursor.u32()))
        mappings.append(SymbolMapping(raw, spans))
    return Metadata(
        dataset=dataset.split(b"\0", 1)[0].decode("utf-8", "replace"),
        version=version,
        schema=None if schema == NO_SCHEMA else SCHEMAS[schema],
        start=start,
        end=None if end in (0, UNDEF_TS) else end,
        limit=limit or None,
        stype_in=STYPES[stype_in] if stype_in < len(STYPES) else None,
        stype_out=STYPES[stype_out],
        ts_out=bool(ts_out),
        symbols=symbols,
        partial=partial,
        not_found=not_found,
        mappings=tuple(mappings),
    )


def _texts(items: Sequence[str], width: int) -> bytes:
    return struct.pack("<I", len(items)) + b"".join(_text(item, width) for item in items)


def _text(item: str, width: int) -> bytes:
    raw = item.encode()
    if len(raw) >= width:
        raise ValueError(f"symbol {item!r} is longer than DBN's {width - 1} bytes")
    return raw.ljust(width, b"\0")


def encode(meta: Metadata) -> bytes:
    """The metadata with its prefix, ready to be followed by records. ValueError if a name does not fit."""
    width = SYMBOL_BYTES[meta.version]
    dataset = meta.dataset.encode()
    if len(dataset) > 16:
        raise ValueError(f"dataset {meta.dataset!r} is longer than DBN's 16 bytes")
    parts = [
        struct.pack(
            "<16sHQQQ", dataset, NO_SCHEMA if meta.schema is None else SCHEMAS.index(meta.schema),
            meta.start, UNDEF_TS if meta.end is None else meta.end, meta.limit or 0,
        )
    ]  # fmt: skip
    if meta.version == 1:
        parts.append(struct.pack("<Q", UNDEF_TS))  # record count: unknown while streaming
    stype_in = _NO_STYPE if meta.stype_in is None else STYPES.index(meta.stype_in)
    parts.append(struct.pack("<BBB", stype_in, STYPES.index(meta.stype_out), meta.ts_out))
    parts.append(bytes(47) if meta.version == 1 else struct.pack("<H", width) + bytes(53))
    parts.append(struct.pack("<I", 0))
    parts.extend(_texts(items, width) for items in (meta.symbols, meta.partial, meta.not_found))
    parts.append(struct.pack("<I", len(meta.mappings)))
    for mapping in meta.mappings:
        parts.append(_text(mapping.raw_symbol, width) + struct.pack("<I", len(mapping.intervals)))
        parts.extend(struct.pack("<II", s.start, s.end) + _text(s.symbol, width) for s in mapping.intervals)
    body = b"".join(parts)
    if meta.version > 2:
        body = body.ljust(len(body) + -len(body) % 8, b"\0")
    return MAGIC + bytes((meta.version,)) + struct.pack("<I", len(body)) + body
