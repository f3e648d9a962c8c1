"""`bars`: 1 s and 1 m bars of the trades of one view, by ts_recv."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.gateway import encode
from services.gateway.topic import Topic
from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX, UNDEF_TS

PERIODS = {"1s": 1_000_000_000, "1m": 60_000_000_000}


class Bar:
    """One bar: `ts` is its inclusive start in ns, prices in 1e-9."""

    __slots__ = ("buy", "close", "high", "low", "open", "sell", "trades", "ts", "volume")

    def __init__(self, ts: int, price: int) -> None:
        self.ts, self.open, self.high, self.low, self.close = ts, price, price, price, price
        self.volume = self.buy = self.sell = self.trades = 0

    def add(self, price: int, size: int, side: int) -> None:
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += size
        self.trades += 1
        if side == SIDE_BID:
            self.buy += size
        elif side == SIDE_ASK:
            self.sell += size

    def body(self, period: str) -> dict[str, Any]:
        """Members of the schema `bar`."""
        prices = {name: encode.price(getattr(self, name)) for name in ("open", "high", "low", "close")}
        return {
            "period": period, "ts": str(self.ts), **prices, "volume": self.volume, "buy_volume": self.buy,
            "sell_volume": self.sell, "trades": self.trades,
        }  # fmt: skip


class Bars:
    """The open bar of each period, and what changed since `take`."""

    def __init__(self) -> None:
        self._open: dict[str, Bar] = {}
        self._closed: list[tuple[str, Bar]] = []
        self._grown: set[str] = set()

    def trade(self, ts_recv: int, price: int, size: int, side: int) -> None:
        """A trade without a price or time belongs to no bar."""
        if price == UNDEF_PX or ts_recv == UNDEF_TS:
            return
        self.clock(ts_recv)
        for period, length in PERIODS.items():
            if period not in self._open:
                self._open[period] = Bar(ts_recv - ts_recv % length, price)
            self._open[period].add(price, size, side)
            self._grown.add(period)

    def clock(self, ts_recv: int) -> bool:
        """Close the bars that end at or before `ts_recv`; whether any did. Time that runs back closes nothing."""
        done = [p for p, bar in self._open.items() if ts_recv != UNDEF_TS and bar.ts + PERIODS[p] <= ts_recv]
        for period in done:
            self._closed.append((period, self._open.pop(period)))
            self._grown.discard(period)
        return bool(done)

    def take(self) -> list[tuple[dict[str, Any], bool]]:
        """(bar, closed) of every bar that closed or grew since the last call."""
        found = [(bar.body(period), True) for period, bar in self._closed]
        found.extend((self._open[period].body(period), False) for period in sorted(self._grown))
        self._closed.clear()
        self._grown.clear()
        return found

    def current(self) -> list[dict[str, Any]]:
        return [bar.body(period) for period, bar in sorted(self._open.items())]


class BarsTopic(Topic):
    """Bars while they grow, a few times a second, and once closed."""

    min_interval_s = 0.25

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._bars = Bars()

    def forget(self) -> None:
        self._bars = Bars()

    def take(self, row: tuple[int, ...]) -> None:
        """A TRADE row, as `rows.tolist()` gives it."""
        self._bars.trade(ts_recv=row[3], price=row[4], size=row[5], side=row[9])

    def tick(self, ts_recv: int) -> bool:
        """Market time has reached `ts_recv`: bars before it close; whether any did."""
        return self._bars.clock(ts_recv)

    def _events(self, bars: Iterable[tuple[dict[str, Any], bool]]) -> bytes:
        head = {**self.head, "publisher_id": self.key.publisher, "session": self.books.session}
        return b"".join(encode.event("bar", {**head, **bar, "closed": closed}) for bar, closed in bars)

    def chunk(self, now_ns: int) -> bytes:
        self.q = self.books.ordinal
        return self._events(self._bars.take())

    def snapshot(self, now_ns: int) -> bytes:
        return self._events((bar, False) for bar in self._bars.current())
