"""What is traded, and where: instruments, venues and the specification of one simulation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shared.units import PX_SCALE

DATASET = "SIM.MBO"
STYLE_CME = 0  # fills of an event first, then the book's changes; reductions by M; one F_LAST an event
STYLE_NASDAQ = 1  # T, F and C each end an event; reductions by partial C; a replace is C and A of a new id
FIRST_INSTRUMENT_ID = 10_001
NS = 1_000_000_000
DEFAULT_START_NS = 1_767_623_400 * NS  # 2026-01-05 14:30 UTC: fixed, so that a seed alone names a file


@dataclass(frozen=True, slots=True)
class Instrument:
    """`venues`: publisher ids. Prices in 1e-9; `activity`: share of messages relative to the others."""

    instrument_id: int
    symbol: str
    tick_px: int
    open_px: int
    multiplier: str
    expiration: int | None  # ns
    activity: float
    venues: tuple[int, ...]

    def controls(self) -> list[dict[str, Any]]:
        """Its mapping and definition entries."""
        return [
            {
                "type": "mapping",
                "instrument_id": self.instrument_id,
                "symbol": self.symbol,
                "start": None,
                "end": None,
            },
            {
                "type": "definition",
                "instrument_id": self.instrument_id,
                "symbol": self.symbol,
                "tick_px": self.tick_px,
                "multiplier": self.multiplier,
                "currency": "USD",
                "expiration": self.expiration,
                "display_factor": PX_SCALE,
            },
        ]


def _expiry(year: int, month: int, day: int) -> int:
    return int(dt.datetime(year, month, day, 21, tzinfo=dt.UTC).timestamp()) * NS


# symbol, tick, opening price, multiplier, expiration, venues
_KNOWN: tuple[tuple[str, float, float, str, int | None, tuple[int, ...]], ...] = (
    ("ESZ6", 0.25, 6850.0, "50", _expiry(2026, 12, 18), (1,)),
    ("NQZ6", 0.25, 25200.0, "20", _expiry(2026, 12, 18), (1,)),
    ("CLF7", 0.01, 58.2, "1000", _expiry(2026, 12, 21), (1,)),
    ("AAPL", 0.01, 268.4, "1", None, (2, 3)),
    ("GCG7", 0.1, 4080.0, "100", _expiry(2027, 2, 24), (1,)),
    ("ZNH7", 0.015625, 112.5, "1000", _expiry(2027, 3, 19), (1,)),
    ("6EZ6", 0.00005, 1.16, "125000", _expiry(2026, 12, 14), (1,)),
    ("MSFT", 0.01, 505.3, "1", None, (2, 3)),
)


def instruments(count: int) -> tuple[Instrument, ...]:
    """`count` instruments: eight known ones, then invented ones of the same kinds.

    Every fourth trades at two venues.
    """
    made = []
    for index in range(count):
        symbol, tick, price, multiplier, expiration, venues = _KNOWN[index % len(_KNOWN)]
        if index >= len(_KNOWN):
            symbol = f"{symbol[:2]}{index + 1:04d}"
        made.append(
            Instrument(
                FIRST_INSTRUMENT_ID + index, symbol, round(tick * PX_SCALE), round(price * PX_SCALE),
                multiplier, expiration, 1.0 / (index + 2) ** 0.8, venues,
            )
        )  # fmt: skip
    return tuple(made)


def style_of(publisher_id: int) -> int:
    return STYLE_CME if publisher_id == 1 else STYLE_NASDAQ


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSpec:
    """Everything a simulation follows from. `rate`: messages a second of market time, all books together."""

    seed: int = 1
    instruments: int = 8
    rate: float = 3000.0
    start: int = DEFAULT_START_NS  # ns
    messages: int | None = None  # None: without end
    day_s: float = 900.0  # a trading day, pre-open included
    preopen_s: float = 5.0
    overnight: bool = False  # True: the next day opens at the same time of the next date; else a second later
    orders: int = 350  # resting orders a book tends to

    def to_map(self) -> dict[str, Any]:
        return {"kind": "sim", **asdict(self)}

    @classmethod
    def from_map(cls, spec: Mapping[str, Any]) -> MarketSpec:
        return cls(**{name: spec[name] for name in cls.__dataclass_fields__ if name in spec})
