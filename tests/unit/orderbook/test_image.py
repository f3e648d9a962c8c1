"""Images: canonical bytes, one golden file a version, and every damage refused with one clear error."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path

import msgpack
import numpy as np
import pytest

from shared.errors import ImageError
from shared.orderbook import image
from shared.orderbook.engine import CARRY_RECORDS_MAX, EVENT_RECORDS_MAX, Engine
from shared.orderbook.engines import make_engine, restore_engine
from shared.orderbook.shard import ShardState
from shared.units import F_MBP, F_SNAPSHOT
from tests.support.books import rec, rows
from tests.support.orderbook import Pair, plausible

GOLDEN = Path(__file__).parent / "golden" / "books-v2.img"
GOLDEN_1 = Path(__file__).parent / "golden" / "books-v1.img"
KINDS = ("numba", "reference")


def golden_state(kind: str) -> Engine:
    """Everything an image can hold: two crossed books, a snapshot, a carry, executed orders, counters."""
    engine = make_engine("execute", kind)
    engine.apply(
        rows(
            rec("A", size=5),
            rec("A", side="A", price=99, size=3, order_id=2),
            rec("T", price=99, size=3),
            rec("A", price=98, size=7, order_id=3),
            rec("A", price=97, size=40, flags=128 | F_MBP),
            rec("C", order_id=77),
            rec("A", instrument_id=8, flags=F_SNAPSHOT),
            rec("A", instrument_id=9, price=-5, size=2**32 - 1, order_id=2**64 - 1),
            rec("M", price=98, size=6, order_id=3, flags=0),
        ),
        1,
    )
    return engine


@pytest.mark.parametrize("kind", KINDS)
def test_the_golden_image_of_version_2_is_written_and_read(kind: str) -> None:
    assert golden_state(kind).image() == GOLDEN.read_bytes()
    assert restore_engine(GOLDEN.read_bytes(), kind).image() == GOLDEN.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_the_version_before_is_read_and_goes_on(kind: str) -> None:
    """The golden bytes were written by the last program that wrote version 1."""
    assert GOLDEN_1.read_bytes()[4:6] == b"\x01\x00"
    old, new = restore_engine(GOLDEN_1.read_bytes(), kind), golden_state(kind)
    assert old.image() == GOLDEN.read_bytes()
    assert old.anomalies() == new.anomalies() != {}
    more = rows(rec("C", order_id=3, size=2), rec("A", size=9, order_id=40))
    assert [part.tobytes() for part in old.apply(more, 10)[:5]] == [
        part.tobytes() for part in new.apply(more, 10)[:5]
    ]
    assert old.image() == new.image()


@pytest.mark.parametrize("wrong", ["book", "kind", "order", "zero"])
def test_counters_that_cannot_be_are_refused_in_spite_of_a_good_checksum(wrong: str) -> None:
    engine = make_engine("raw")
    engine.apply(rows(rec("C", order_id=77), rec("F", order_id=5), rec("C", instrument_id=8)), 1)
    good = engine.image()
    decoded = image.decode(good)
    n = int(np.count_nonzero(decoded.books["anomalies"]))
    assert n == 3
    at = len(good) - 4 - 13 * n
    books, found, counts = at, at + 4 * n, at + 5 * n
    body = bytearray(good[:-4])
    if wrong == "book":
        struct.pack_into("<I", body, books + 4 * (n - 1), len(decoded.books))
    elif wrong == "kind":
        body[found + n - 1] = image.ANOMALY_SLOTS
    elif wrong == "order":
        struct.pack_into("<I", body, books, len(decoded.books) - 1)
    else:
        struct.pack_into("<Q", body, counts, 0)
    with pytest.raises(ImageError, match="counters"):
        image.decode(sealed(bytes(body)))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_states_with_different_histories_have_equal_images(kind: str) -> None:
    long, short = make_engine("raw", kind), make_engine("raw", kind)
    long.apply(rows(*[rec(action, order_id=i) for i in range(2000) for action in "AC"]), 1)
    long.clear()
    for engine in (long, short):
        engine.apply(rows(rec("A"), rec("A", order_id=2)), 5000)
    assert long.image() == short.image()
    assert long.state_hash() == short.state_hash()
    short.apply(rows(rec("C", order_id=2)), 5002)
    assert long.state_hash() != short.state_hash()


def test_a_restored_engine_goes_on_like_one_that_never_stopped() -> None:
    records, pair = plausible(3, 4000, width=300, crossing=0.1), Pair("uncross")
    for at in range(0, 4000, 500):
        pair.apply(records[at : at + 500], at + 1, effects=False)
        pair.restore()


def test_a_frozen_state_does_not_follow_its_engine() -> None:
    engine = golden_state("numba")
    frozen = engine.freeze()
    engine.apply(rows(rec("R", side="N")), 10)
    assert frozen() == GOLDEN.read_bytes()


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_damage_anywhere_is_found() -> None:
    good = GOLDEN.read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        with pytest.raises(ImageError):
            image.decode(bytes(bad))
    for length in range(len(good)):
        with pytest.raises(ImageError):
            image.decode(good[:length])
    with pytest.raises(ImageError):
        image.decode(good + b"\0")


def test_a_newer_version_asks_for_an_upgrade() -> None:
    body = bytearray(GOLDEN.read_bytes()[:-4])
    struct.pack_into("<H", body, 4, 3)
    with pytest.raises(ImageError, match="version 3, this program reads 1, 2: upgrade"):
        image.decode(sealed(bytes(body)))


def test_sizes_are_checked_before_anything_is_allocated() -> None:
    good = GOLDEN.read_bytes()
    with pytest.raises(ImageError, match="over the limit"):
        image.decode(good, max_bytes=len(good) - 1)
    body = bytearray(good[:-4])
    struct.pack_into("<Q", body, 16, 2**60)  # so many books
    with pytest.raises(ImageError, match="cut short"):
        image.decode(sealed(bytes(body)))


@pytest.mark.parametrize("table", ["levels", "books"])
def test_tables_that_do_not_fit_each_other_are_refused_in_spite_of_a_good_checksum(table: str) -> None:
    frozen = golden_state("numba").state()
    if table == "levels":
        frozen.levels["orders"][0] += 1
        frozen.levels["orders"][1] -= 1
    frozen.books[:] = frozen.books[::-1] if table == "books" else frozen.books
    with pytest.raises(ImageError, match="do not fit"):
        image.decode(image.encode(frozen))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", ["of a book", "of a shard", "of no book"])
def test_records_held_back_that_cannot_be_are_refused_in_spite_of_a_good_checksum(
    wrong: str, kind: str
) -> None:
    engine = make_engine("raw", kind)
    engine.apply(rows(*[rec("A", instrument_id=book) for book in range(8)]), 1)
    n = {"of a book": EVENT_RECORDS_MAX, "of a shard": CARRY_RECORDS_MAX, "of no book": 1}[wrong]
    carry = np.repeat(rows(rec("A", flags=0)), n)
    carry["instrument_id"] = {"of a book": 7, "of a shard": np.arange(n) % 8, "of no book": 9}[wrong]
    ordinals = np.arange(n, dtype=np.uint64) + 9
    good, bad = (slice(1, None), slice(None)) if wrong != "of no book" else (slice(1, 1), slice(None))
    frozen = engine.state()

    def with_carry(part: slice) -> bytes:
        return image.encode(dataclasses.replace(frozen, carry=carry[part], carry_ordinals=ordinals[part]))

    assert restore_engine(with_carry(good), kind).image() == with_carry(good)
    with pytest.raises(ImageError, match="damaged"):
        restore_engine(with_carry(bad), kind)


def test_the_same_order_twice_in_an_image_is_refused() -> None:
    frozen = golden_state("numba").state()
    plain = np.flatnonzero(frozen.orders["aggregate"] == 0)
    frozen.orders["order_id"][plain[1]] = frozen.orders["order_id"][plain[0]]
    with pytest.raises(ImageError, match="cannot be"):
        restore_engine(image.encode(frozen), "numba")


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": None},
        {"ordinal": "x"},
        {"symbols": 7},
        {"symbols": [[1]]},
        {"symbols": [["x", "y"]]},
        {"stale": ...},
    ],
)
def test_a_shard_image_whose_header_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    state = ShardState("raw")
    header = {**state.header(), **wrong}
    if header["stale"] is ...:
        del header["stale"]
    with pytest.raises(ImageError, match="header is damaged"):
        ShardState.restore(_shard_image(header, state.engine.image()))


def _shard_image(header: dict[str, object], body: bytes) -> bytes:
    head = msgpack.packb(header)
    return b"".join((struct.pack("<4sHHIQ", b"MBOS", 1, 0, len(head), 0), head, body))
