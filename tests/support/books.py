"""Short ways to write an order book test: records in a line each, one engine of each kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.records import MBO, Rows
from shared.units import F_LAST

KEY = (1, 7)


def rec(
    action: str, side: str = "B", price: int = 100, size: int = 1, order_id: int = 1, **fields: Any
) -> Any:
    """One record that ends its event, of book (1, 7)."""
    return {
        "length": 14, "rtype": 160, "publisher_id": 1, "instrument_id": 7, "action": ord(action), "side": ord(side),
        "price": price, "size": size, "order_id": order_id, "flags": F_LAST, **fields,
    }  # fmt: skip


def rows(*records: Any) -> Rows:
    out = np.zeros(len(records), MBO)
    for i, fields in enumerate(records):
        out[i]["ts_event"], out[i]["ts_recv"], out[i]["sequence"] = 1000 + i, 2000 + i, 3000 + i
        for name, value in fields.items():
            out[i][name] = value
    return out
