"""Final books as JSON lines: what `mbo rebuild --every final` prints and `--drain` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from shared.orderbook.engine import Engine, Level
from shared.units import SIDE_ASK, SIDE_BID


def final_lines(engine: Engine, symbols: Mapping[int, str], depth: int | None = None) -> Iterator[str]:
    """One JSON object a book, by (publisher_id, instrument_id): levels of the policy's view, best first, in 1e-9."""
    for publisher_id, instrument_id in engine.books():
        bids, asks = engine.view(publisher_id, instrument_id, depth)
        best = [engine.levels(publisher_id, instrument_id, side, 1) for side in (SIDE_BID, SIDE_ASK)]
        orders = sum(
            level.count
            for side in (SIDE_BID, SIDE_ASK)
            for level in engine.levels(publisher_id, instrument_id, side)
        )
        line = {
            "publisher_id": publisher_id,
            "instrument_id": instrument_id,
            "symbol": symbols.get(instrument_id),
            "orders": orders,
            "bids": _levels(bids),
            "asks": _levels(asks),
            "crossed": bool(best[0] and best[1] and best[0][0].price > best[1][0].price),
            "anomalies": engine.anomalies(publisher_id, instrument_id),
            "records": engine.records(publisher_id, instrument_id),
        }
        yield json.dumps(line, separators=(",", ":"))


def _levels(levels: list[Level]) -> list[list[int]]:
    return [[level.price, level.size, level.count] for level in levels]
