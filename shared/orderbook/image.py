"""The canonical state of an engine as columns, and its bytes: equal states give equal bytes.

An image is taken between two batches, so it holds states at event ends, the carry, and for books inside a snapshot
what is not published yet. Order of everything: books by (publisher_id, instrument_id), bids before asks, levels best
first, orders in queue order, executed order ids ascending, pending levels bids first and by price, counters by
(book, kind). Layout of the bytes: head with the rows of each table, then every column of every table, then CRC-32 of
all before it. Version 1 had all counters of a book in its row (192 bytes, mostly zero); it is still read.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.errors import ImageError
from shared.orderbook import engine as kinds
from shared.orderbook.engine import POLICIES, Policy
from shared.records import MBO, Rows

MAGIC = b"MBOE"
VERSION = 2
MAX_IMAGE_BYTES = 16 * 1024**3
ANOMALY_SLOTS = 24  # counters a book has in an image; more than there are kinds

BOOK_STATE: np.dtype[Any] = np.dtype(
    [
        ("publisher_id", "<u2"),
        ("instrument_id", "<u4"),
        ("flags", "u1"),  # BOOK_* bits as last published, plus OPEN and SNAPSHOT as they are now
        ("maybe_bad", "u1"),  # BOOK_MAYBE_BAD as it is now: inside a snapshot it can differ from `flags`
        ("auction", "u1"),  # there is an overlay
        ("ordinal", "<u8"),  # of the last record applied, and its times
        ("ts_event", "<u8"),
        ("ts_recv", "<u8"),
        ("records", "<u8"),
        ("last_px", "<i8"),  # price of the last trade, UNDEF_PX if none
        ("bid_px", "<i8"),  # the BBO as last published
        ("bid_sz", "<u8"),
        ("bid_ct", "<u4"),
        ("ask_px", "<i8"),
        ("ask_sz", "<u8"),
        ("ask_ct", "<u4"),
        ("auction_px", "<i8"),  # the overlay as last published
        ("auction_sz", "<u8"),
        ("auction_bid_px", "<i8"),
        ("auction_bid_sz", "<u8"),
        ("auction_bid_ct", "<u4"),
        ("auction_ask_px", "<i8"),
        ("auction_ask_sz", "<u8"),
        ("auction_ask_ct", "<u4"),
        ("anomalies", "<u8", (ANOMALY_SLOTS,)),
        # Levels of each side, executed ids and pending levels that follow in the other tables.
        ("bids", "<u4"),
        ("asks", "<u4"),
        ("executed", "<u4"),
        ("pending", "<u4"),
    ]
)
LEVEL_STATE: np.dtype[Any] = np.dtype([("price", "<i8"), ("orders", "<u4")])
ORDER_STATE: np.dtype[Any] = np.dtype(
    [("order_id", "<u8"), ("ts_event", "<u8"), ("size", "<u4"), ("aggregate", "u1")]
)
PENDING_STATE: np.dtype[Any] = np.dtype([("price", "<i8"), ("side", "u1")])
U8: np.dtype[Any] = np.dtype("<u8")

_TABLES: tuple[tuple[str, np.dtype[Any]], ...] = (
    ("books", BOOK_STATE),
    ("levels", LEVEL_STATE),
    ("orders", ORDER_STATE),
    ("executed", U8),
    ("pending", PENDING_STATE),
    ("carry", MBO),
    ("carry_ordinals", U8),
)
# As version 2 writes them: counters in a table of their own, only those that are not 0.
_BOOK_2 = np.dtype([(name, BOOK_STATE[name]) for name in BOOK_STATE.names or () if name != "anomalies"])
_COUNTER: np.dtype[Any] = np.dtype([("book", "<u4"), ("kind", "u1"), ("count", "<u8")])
_TABLES_2 = (("books", _BOOK_2), *_TABLES[1:], ("counters", _COUNTER))
Layouts = tuple[tuple[str, np.dtype[Any]], ...]
_PREFIX = struct.Struct("<4sHBxQ")  # magic, version, policy, zero, last ordinal


@dataclass(frozen=True, slots=True)
class Frozen:
    """The canonical state, in arrays that nobody else changes."""

    policy: Policy
    ordinal: int  # the last one seen
    books: Rows
    levels: Rows
    orders: Rows
    executed: Any
    pending: Rows
    carry: Rows  # held records of all books, by ordinal
    carry_ordinals: Any

    def __call__(self) -> bytes:
        """The image: `encode(self)`; may run in another thread."""
        return encode(self)


def encode(state: Frozen) -> bytes:
    """The bytes of a state: about 21 bytes an order, 12 a level, 140 a book, 13 a counter that is not 0."""
    tables = [getattr(state, name) for name, _ in _TABLES]
    anomalies = state.books["anomalies"]
    book, kind = np.nonzero(anomalies)
    counters = np.empty(len(book), _COUNTER)
    counters["book"], counters["kind"], counters["count"] = book, kind, anomalies[book, kind]
    tables.append(counters)
    rows = struct.pack(f"<{len(tables)}Q", *map(len, tables))
    parts = [_PREFIX.pack(MAGIC, VERSION, POLICIES.index(state.policy), state.ordinal), rows]
    for table, (_, layout) in zip(tables, _TABLES_2, strict=True):
        for name in layout.names or (None,):
            column = table if name is None else table[name]
            parts.append(np.ascontiguousarray(column).tobytes())
    body = b"".join(parts)
    return body + zlib.crc32(body).to_bytes(4, "little")


def state_hash(image: bytes) -> str:
    return hashlib.blake2b(image, digest_size=16).hexdigest()


def decode(image: bytes, max_bytes: int = MAX_IMAGE_BYTES) -> Frozen:
    """The state of an image. ImageError if it is damaged, larger than `max_bytes` or of a version we cannot read.

    Nothing is allocated before the sizes in the header have been found to be those of the image.
    """
    if len(image) < 7:
        raise ImageError(f"a book image of {len(image)} bytes is cut short")
    if len(image) > max_bytes:
        raise ImageError(f"a book image of {len(image)} bytes is over the limit of {max_bytes}")
    magic, version = struct.unpack_from("<4sH", image)
    if magic != MAGIC:
        raise ImageError("not a book image")
    reader = _READERS.get(version)
    if reader is None:
        known = ", ".join(map(str, sorted(_READERS)))
        raise ImageError(
            f"book image version {version}, this program reads {known}: upgrade it", version=version
        )
    return reader(image)


def _decode_v2(image: bytes) -> Frozen:
    policy, ordinal, tables = _tables(image, _TABLES_2)
    counters, narrow = tables.pop("counters"), tables["books"]
    books = np.zeros(len(narrow), BOOK_STATE)
    for name in _BOOK_2.names or ():
        books[name] = narrow[name]
    place = counters["book"].astype(np.int64) * ANOMALY_SLOTS + counters["kind"]
    fits = (counters["kind"] < ANOMALY_SLOTS).all() and (counters["count"] > 0).all()
    if (
        not fits
        or (place[1:] <= place[:-1]).any()
        or (len(place) and place[-1] >= len(books) * ANOMALY_SLOTS)
    ):
        raise ImageError("a book image whose counters cannot be: damaged")
    books["anomalies"][counters["book"], counters["kind"]] = counters["count"]
    tables["books"] = books
    return _checked(Frozen(policy=policy, ordinal=ordinal, **tables))


def _decode_v1(image: bytes) -> Frozen:
    policy, ordinal, tables = _tables(image, _TABLES)
    return _checked(Frozen(policy=policy, ordinal=ordinal, **tables))


def _tables(image: bytes, layouts: Layouts) -> tuple[Policy, int, dict[str, Any]]:
    """(policy, last ordinal, tables by name) of bytes whose sizes and checksum are right."""
    start = _PREFIX.size + 8 * len(layouts)
    if len(image) < start + 4:
        raise ImageError(f"a book image of {len(image)} bytes is cut short")
    _, _, policy, ordinal = _PREFIX.unpack_from(image)
    counts = struct.unpack_from(f"<{len(layouts)}Q", image, _PREFIX.size)
    need = start + 4 + sum(n * layout.itemsize for n, (_, layout) in zip(counts, layouts, strict=True))
    if need != len(image):
        raise ImageError(f"a book image of {len(image)} bytes should have {need}: damaged or cut short")
    if zlib.crc32(memoryview(image)[:-4]) != int.from_bytes(image[-4:], "little"):
        raise ImageError("a book image whose checksum is wrong: damaged")
    if policy >= len(POLICIES):
        raise ImageError(f"a book image with policy {policy}: damaged")
    at, tables = start, {}
    for count, (name, layout) in zip(counts, layouts, strict=True):
        tables[name], at = _columns(image, at, count, layout)
    return POLICIES[policy], ordinal, tables


def _columns(image: bytes, at: int, count: int, layout: np.dtype[Any]) -> tuple[Any, int]:
    if layout.names is None:
        return np.frombuffer(image, layout, count, at), at + count * layout.itemsize
    table = np.empty(count, layout)
    for name in layout.names:
        field = layout[name]
        column = np.frombuffer(image, field.base, count * int(np.prod(field.shape, dtype=int)), at)
        table[name] = column.reshape(count, *field.shape)
        at += count * field.itemsize
    return table, at


def _checked(state: Frozen) -> Frozen:
    """The state, if its tables fit each other as the engines rely on. (A checksum says that they were written so.)"""
    books = state.books
    sides = books["bids"].astype(np.int64) + books["asks"]
    keys, carried = (
        table["publisher_id"].astype(np.int64) << 32 | table["instrument_id"]
        for table in (books, state.carry)
    )
    holders, held = np.unique(carried, return_counts=True)
    if (held >= kinds.EVENT_RECORDS_MAX).any() or len(carried) >= kinds.CARRY_RECORDS_MAX:
        raise ImageError("a book image that holds back more records of open events than can be: damaged")
    fits = (
        int(sides.sum()) == len(state.levels)
        and int(state.levels["orders"].sum(dtype=np.int64)) == len(state.orders)
        and int(books["executed"].sum(dtype=np.int64)) == len(state.executed)
        and int(books["pending"].sum(dtype=np.int64)) == len(state.pending)
        and len(carried) == len(state.carry_ordinals)
        and bool(np.isin(holders, keys).all())
        and bool((keys[1:] > keys[:-1]).all())
        and bool((state.levels["orders"] > 0).all())
    )
    if not fits:
        raise ImageError("a book image whose tables do not fit each other: damaged")
    return state


_READERS: dict[int, Callable[[bytes], Frozen]] = {
    1: _decode_v1,
    2: _decode_v2,
}  # this version and the one before
