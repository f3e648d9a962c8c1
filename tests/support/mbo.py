"""Made MBO records for tests: short to write, valid by default."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.records import MBO, Rows
from shared.units import F_LAST, MBO_BYTES, PX_SCALE, RTYPE_MBO

START_NS = 1_700_000_000_000_000_000


def record(
    action: str, side: str = "B", price: float = 100.0, size: int = 1, order_id: int = 1, **fields: Any
) -> dict[str, Any]:
    """One record as fields; `price` in whole units (or pass `price_px` in 1e-9)."""
    return {
        "action": ord(action), "side": ord(side), "price": round(price * PX_SCALE), "size": size, "order_id": order_id,
        "flags": F_LAST, **fields,
    }  # fmt: skip


def rows(*records: dict[str, Any], first_sequence: int = 1) -> Rows:
    """The records as an array; times and sequence count up unless a record says otherwise."""
    out = np.zeros(len(records), MBO)
    out["length"], out["rtype"], out["publisher_id"], out["instrument_id"] = MBO_BYTES // 4, RTYPE_MBO, 1, 1
    for index, fields in enumerate(records):
        out[index]["ts_event"] = out[index]["ts_recv"] = START_NS + index * 1000
        out[index]["sequence"] = first_sequence + index
        for name, value in fields.items():
            out[index][name] = value
    return out


def random_rows(count: int, *, instruments: int = 8, seed: int = 1) -> Rows:
    """Adds and cancels of random instruments and order ids: for tests of transport, not of books."""
    rng = np.random.default_rng(seed)
    out = np.zeros(count, MBO)
    out["length"], out["rtype"], out["publisher_id"] = MBO_BYTES // 4, RTYPE_MBO, 1
    out["instrument_id"] = rng.integers(1, instruments + 1, count)
    out["order_id"] = rng.integers(1, max(count // 4, 2), count)
    out["price"] = rng.integers(90, 110, count) * PX_SCALE
    out["size"] = rng.integers(1, 50, count)
    out["action"] = rng.choice(np.frombuffer(b"AACM", np.uint8), count)
    out["side"] = rng.choice(np.frombuffer(b"BA", np.uint8), count)
    out["flags"] = rng.choice(np.array([0, F_LAST, F_LAST, F_LAST], np.uint8), count)
    out["ts_event"] = out["ts_recv"] = START_NS + np.arange(count) * 1000
    out["sequence"] = np.arange(count)
    return out
