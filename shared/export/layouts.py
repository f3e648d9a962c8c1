"""DBN record layouts beside MBO, as databento's client reads them (dbn: record.rs, the same in v1 to v3)."""

from __future__ import annotations

from typing import Any

import numpy as np

_HEAD = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
]
_UPDATE = [
    *_HEAD, ("price", "<i8"), ("size", "<u4"), ("action", "u1"), ("side", "u1"), ("flags", "u1"), ("depth", "u1"),
    ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4"),
]  # fmt: skip


def _levels(depth: int) -> list[tuple[str, str]]:
    columns = (
        ("bid_px", "<i8"),
        ("ask_px", "<i8"),
        ("bid_sz", "<u4"),
        ("ask_sz", "<u4"),
        ("bid_ct", "<u4"),
        ("ask_ct", "<u4"),
    )
    return [(f"{name}_{level:02d}", kind) for level in range(depth) for name, kind in columns]


TRADES: np.dtype[Any] = np.dtype(_UPDATE)
MBP1: np.dtype[Any] = np.dtype(_UPDATE + _levels(1))
MBP10: np.dtype[Any] = np.dtype(_UPDATE + _levels(10))
OHLCV: np.dtype[Any] = np.dtype(
    [*_HEAD, ("open", "<i8"), ("high", "<i8"), ("low", "<i8"), ("close", "<i8"), ("volume", "<u8")]
)

RTYPE_TRADES = 0x00
RTYPE_MBP1 = 0x01
RTYPE_MBP10 = 0x0A
RTYPE_OHLCV = {1: 0x20, 60: 0x21}

for _layout, _bytes in ((TRADES, 48), (MBP1, 80), (MBP10, 368), (OHLCV, 56)):
    if _layout.itemsize != _bytes:  # pragma: no cover
        raise TypeError(f"layout of {_bytes} bytes has {_layout.itemsize}")
