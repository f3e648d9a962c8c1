"""Values of the DBN fields, as Databento documents them (dbn: enums.rs, flags.rs), and price units."""

from __future__ import annotations

from decimal import Decimal

PX_SCALE = 1_000_000_000  # one unit of a DBN price is 1e-9
UNDEF_PX = 2**63 - 1  # DBN's null price
UNDEF_TS = 2**64 - 1  # DBN's null timestamp

ACTION_ADD = ord("A")
ACTION_CANCEL = ord("C")
ACTION_MODIFY = ord("M")
ACTION_CLEAR = ord("R")
ACTION_TRADE = ord("T")
ACTION_FILL = ord("F")
ACTION_NONE = ord("N")

SIDE_BID = ord("B")
SIDE_ASK = ord("A")
SIDE_NONE = ord("N")

F_LAST = 128  # last record of the event for its instrument
F_TOB = 64  # top-of-book record, not an individual order
F_SNAPSHOT = 32  # sourced from a replay or snapshot
F_MBP = 16  # aggregated price level, not an individual order
F_BAD_TS_RECV = 8  # ts_recv is inaccurate
F_MAYBE_BAD_BOOK = 4  # an unrecoverable gap was seen in the channel
F_PUBLISHER_SPECIFIC = 2

RTYPE_MBO = 160
MBO_BYTES = 56


def px_to_str(price: int) -> str:
    """The exact decimal text of a price in 1e-9 units, without trailing zeros: 65400000000 -> "65.4"."""
    sign, magnitude = ("-", -price) if price < 0 else ("", price)
    whole, fraction = divmod(magnitude, PX_SCALE)
    return f"{sign}{whole}.{fraction:09d}".rstrip("0").rstrip(".") if fraction else f"{sign}{whole}"


def px_from_str(text: str) -> int:
    """The price in 1e-9 units of an exact decimal text; ValueError if it has more than nine decimals."""
    scaled = Decimal(text) * PX_SCALE
    if scaled != scaled.to_integral_value() or not -(2**63) <= scaled < 2**63:
        raise ValueError(f"price {text!r} is not a multiple of 1e-9 within int64")
    return int(scaled)
