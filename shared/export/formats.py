"""Row arrays as bytes of a file format, a batch at a time. Prices exact, times in ns, undefined values empty.

CSV and JSON are byte for byte what databento's own encoder writes (dbn: `pretty_px`, not `pretty_ts`, symbols), but
for undefined times, which it writes as 18446744073709551615.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from shared.dbn import Metadata
from shared.dbn.metadata import encode as encode_metadata
from shared.errors import UsageError
from shared.records import Rows
from shared.units import PX_SCALE, UNDEF_PX, UNDEF_TS

PRICES = ("price", "open", "high", "low", "close")
TIMES = ("ts_recv", "ts_event")
LETTERS = ("action", "side")
HEADER = ("ts_event", "rtype", "publisher_id", "instrument_id")
LARGE = ("order_id", "volume")  # u64: they do not fit a JavaScript number
GROUP_ROWS = 65_536  # of a Parquet row group: 24 MB of MBP-10 rows, 4 MB of others
FORMATS = ("dbn", "csv", "json", "parquet")
CONTENT_TYPES = {
    "dbn": "application/vnd.databento.dbn", "csv": "text/csv; charset=utf-8", "json": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}  # fmt: skip


class Encoder(Protocol):
    """`head`, then `encode` of each batch, then `tail`: together the file."""

    def head(self) -> bytes: ...

    def encode(self, rows: Rows, symbol: str) -> bytes: ...

    def tail(self) -> bytes: ...


def is_price(name: str) -> bool:
    return name in PRICES or name.startswith(("bid_px", "ask_px"))


_FIRST = (*TIMES, "rtype", "publisher_id", "instrument_id", "action", "side", "depth", "price", "size", "channel_id",
          "order_id", "flags")  # fmt: skip


def columns(layout: np.dtype[Any]) -> list[str]:
    """Column names in the order of Databento's CSV (dbn: `encode_order` of each field), the symbol last."""
    names = [name for name in layout.names or () if name != "length"]
    return [
        *(name for name in _FIRST if name in names),
        *(name for name in names if name not in _FIRST),
        "symbol",
    ]


class DbnEncoder:
    """DBN version 3, uncompressed; records exactly as stored."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def head(self) -> bytes:
        return encode_metadata(self._metadata)

    def encode(self, rows: Rows, symbol: str) -> bytes:
        return rows.tobytes()

    def tail(self) -> bytes:
        return b""


def _decimal(price: int) -> str:
    """With all nine decimals, as Databento writes a price: -50000000 -> "-0.050000000"."""
    whole, fraction = divmod(abs(price), PX_SCALE)
    return f"{'-' if price < 0 else ''}{whole}.{fraction:09d}"


def _texts(rows: Rows, name: str) -> list[str]:
    """A column as text."""
    values = rows[name]
    if is_price(name):
        known, where = np.unique(values, return_inverse=True)
        texts = np.array(["" if px == UNDEF_PX else _decimal(px) for px in known.tolist()], object)
        return texts[where].tolist()  # type: ignore[no-any-return]
    if name in LETTERS:
        return [chr(value) for value in values.tolist()]
    if name in TIMES:
        return ["" if ts == UNDEF_TS else str(ts) for ts in values.tolist()]
    return [str(value) for value in values.tolist()]


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


_LETTER_CELLS = [_cell(chr(value)) for value in range(256)]  # a record may have any byte for a letter


class CsvEncoder:
    """CSV with a header line: prices as decimals, times as ns integers."""

    def __init__(self, layout: np.dtype[Any]) -> None:
        self._columns = columns(layout)

    def head(self) -> bytes:
        return (",".join(self._columns) + "\n").encode()

    def encode(self, rows: Rows, symbol: str) -> bytes:
        texts = [
            [_LETTER_CELLS[value] for value in rows[name].tolist()] if name in LETTERS else _texts(rows, name)
            for name in self._columns[:-1]
        ]
        end = f",{_cell(symbol)}\n"
        return "".join([",".join(row) + end for row in zip(*texts, strict=True)]).encode()

    def tail(self) -> bytes:
        return b""


class JsonEncoder:
    """JSON lines: prices, times and u64 as strings, null if undefined; the record's header in `hd`, book levels in
    `levels`, best first."""

    def __init__(self, layout: np.dtype[Any]) -> None:
        self._columns = columns(layout)
        self._line = _object(self._columns) + "\n"

    def head(self) -> bytes:
        return b""

    def encode(self, rows: Rows, symbol: str) -> bytes:
        quoted: list[list[str]] = []
        for name in self._columns[:-1]:
            texts = _texts(rows, name)
            if is_price(name) or name in TIMES or name in LARGE:
                texts = [f'"{text}"' if text else "null" for text in texts]
            elif name in LETTERS:
                texts = [json.dumps(text) for text in texts]
            quoted.append(texts)
        quoted.append([json.dumps(symbol)] * len(rows))
        line = self._line
        return "".join([line % row for row in zip(*quoted, strict=True)]).encode()

    def tail(self) -> bytes:
        return b""


def _object(names: list[str]) -> str:
    """The line of a record as a template with a `%s` for each of its columns, in their order."""
    levels: dict[str, list[str]] = {}
    parts, head = [], []
    for name in names:
        if name in HEADER:
            head.append(f'"{name}":%s')
            if name == HEADER[-1]:
                parts.append('"hd":{' + ",".join(head) + "}")
        elif name[-3:-2] == "_" and name[-2:].isdigit():
            levels.setdefault(name[-2:], []).append(f'"{name[:-3]}":%s')
        elif name != "symbol":
            parts.append(f'"{name}":%s')
    if levels:
        parts.append('"levels":[' + ",".join("{" + ",".join(level) + "}" for level in levels.values()) + "]")
    return "{" + ",".join([*parts, '"symbol":%s']) + "}"


class _Sink(io.RawIOBase):
    """A file that only grows and gives away what was written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        blob = bytes(piece)
        self._parts.append(blob)
        self._size += len(blob)
        return len(blob)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


class ParquetEncoder:
    """Parquet, zstd, row groups of GROUP_ROWS: prices decimal(19, 9), times timestamp[ns, UTC], null if undefined."""

    def __init__(self, layout: np.dtype[Any]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise UsageError("Parquet needs pyarrow: pip install 'mbostream[parquet]'") from None
        self._arrow = pyarrow
        self._columns = columns(layout)
        kinds = {"symbol": pyarrow.string()}
        for name in self._columns[:-1]:
            kinds[name] = self._kind(name, layout[name])
        self._schema = pyarrow.schema(list(kinds.items())).empty_table().select(self._columns).schema
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._held: list[Any] = []  # tables: of one of many instruments a batch has a few rows
        self._held_rows = 0

    def _kind(self, name: str, layout: np.dtype[Any]) -> Any:
        if is_price(name):
            return self._arrow.decimal128(19, 9)
        if name in TIMES:
            return self._arrow.timestamp("ns", "UTC")
        return self._arrow.string() if name in LETTERS else self._arrow.from_numpy_dtype(layout)

    def head(self) -> bytes:
        return self._sink.take()

    def _column(self, rows: Rows, name: str) -> Any:
        arrow = self._arrow
        values = np.ascontiguousarray(rows[name])
        if is_price(name):  # 128-bit little-endian integers: the value and its sign
            wide = np.empty((len(rows), 2), "<i8")
            wide[:, 0], wide[:, 1] = values, values >> 63
            valid = arrow.array(values != UNDEF_PX).buffers()[1]
            return arrow.Array.from_buffers(
                arrow.decimal128(19, 9), len(rows), [valid, arrow.py_buffer(wide)]
            )
        if name in TIMES:
            return arrow.array(values.view("<i8"), mask=values >= 2**63).cast(arrow.timestamp("ns", "UTC"))
        if name in LETTERS:
            return arrow.array([chr(value) for value in values.tolist()], arrow.string())
        return arrow.array(values)

    def encode(self, rows: Rows, symbol: str) -> bytes:
        arrays = [self._column(rows, name) for name in self._columns[:-1]]
        arrays.append(self._arrow.array([symbol] * len(rows), self._arrow.string()))
        self._held.append(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._held_rows += len(rows)
        if self._held_rows >= GROUP_ROWS:
            self._write()
        return self._sink.take()

    def _write(self) -> None:
        if self._held:
            self._writer.write_table(self._arrow.concat_tables(self._held))
        self._held, self._held_rows = [], 0

    def tail(self) -> bytes:
        self._write()
        self._writer.close()
        return self._sink.take()


def make_encoder(format: str, layout: np.dtype[Any], metadata: Metadata) -> Encoder:  # noqa: A002
    """The encoder of one of FORMATS; UsageError for another, or if its library is not installed."""
    makers: dict[str, Callable[[], Encoder]] = {
        "dbn": lambda: DbnEncoder(metadata),
        "csv": lambda: CsvEncoder(layout),
        "json": lambda: JsonEncoder(layout),
        "parquet": lambda: ParquetEncoder(layout),
    }
    if format not in makers:
        raise UsageError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    return makers[format]()


assert PX_SCALE == 10**9  # decimal(19, 9) above
