"""DBN messages that a gateway sends beside records."""

from __future__ import annotations

import time
from typing import Any

import databento_dbn as dbn
import numpy as np

from shared.dbn.messages import LAYOUTS, RTYPE_DEFINITION
from shared.orderbook.reference import ReferenceBooks
from shared.records import MBO, Rows
from shared.units import (
    ACTION_ADD,
    ACTION_CLEAR,
    F_BAD_TS_RECV,
    F_LAST,
    F_SNAPSHOT,
    MBO_BYTES,
    PX_SCALE,
    RTYPE_MBO,
    SIDE_ASK,
    SIDE_BID,
    SIDE_NONE,
    UNDEF_PX,
)


def system(text: str, code: dbn.SystemCode, ts_ns: int | None = None) -> bytes:
    return bytes(dbn.SystemMsg(ts_event=time.time_ns() if ts_ns is None else ts_ns, msg=text, code=code))


def error(text: str, code: dbn.ErrorCode) -> bytes:
    return bytes(dbn.ErrorMsg(ts_event=time.time_ns(), err=text, code=code))


def mapping(instrument_id: int, symbol: str) -> bytes:
    return bytes(
        dbn.SymbolMappingMsg(
            publisher_id=0, instrument_id=instrument_id, ts_event=time.time_ns(), stype_in=dbn.SType.RAW_SYMBOL,
            stype_in_symbol=symbol, stype_out=dbn.SType.RAW_SYMBOL, stype_out_symbol=symbol,
            start_ts=2**64 - 1, end_ts=2**64 - 1,
        )
    )  # fmt: skip


def definition(instrument_id: int, symbol: str, tick_px: int = PX_SCALE // 100) -> bytes:
    """An instrument definition, version 3, of the fields we read."""
    raw = np.zeros(520, np.uint8)
    raw[0], raw[1] = 130, RTYPE_DEFINITION
    row = raw.view(LAYOUTS[RTYPE_DEFINITION, 520])[0]
    row["publisher_id"], row["instrument_id"], row["ts_event"], row["ts_recv"] = 1, instrument_id, 1, 2
    row["tick"], row["display_factor"], row["expiration"] = tick_px, PX_SCALE, 2**64 - 1
    row["unit_qty"], row["multiplier"] = 1000 * PX_SCALE, 2**31 - 1
    row["currency"], row["raw"] = b"USD", symbol.encode()
    return raw.tobytes()


def status(instrument_id: int, ts_ns: int, action: dbn.StatusAction, reason: dbn.StatusReason) -> bytes:
    return bytes(
        dbn.StatusMsg(
            publisher_id=1, instrument_id=instrument_id, ts_event=ts_ns, ts_recv=ts_ns, action=action, reason=reason,
        )
    )  # fmt: skip


def snapshot(taken: Rows, ids: set[int] | None) -> Rows:
    """The books after `taken`, as Databento sends them: R, then adds in queue order, the last with F_LAST."""
    if not len(taken):
        return taken
    ts_ns, ts_recv_ns = int(taken["ts_event"].max()), int(taken["ts_recv"][-1])
    books = ReferenceBooks("raw")
    books.apply(taken, 1)
    books.end()
    rows: list[dict[str, Any]] = []
    flags = F_SNAPSHOT | F_BAD_TS_RECV
    for publisher, instrument in books.books():
        if ids is not None and instrument not in ids:
            continue
        head = {"publisher_id": publisher, "instrument_id": instrument, "flags": flags}
        rows.append({**head, "action": ACTION_CLEAR, "side": SIDE_NONE, "price": UNDEF_PX, "ts_event": ts_ns})
        for side in (SIDE_BID, SIDE_ASK):
            rows += [
                {
                    **head, "action": ACTION_ADD, "side": side, "price": order.price, "size": order.size,
                    "order_id": order.order_id, "ts_event": order.ts_event,
                }
                for order in books.orders(publisher, instrument, side)
            ]  # fmt: skip
        rows[-1]["flags"] = flags | F_LAST
    out = np.zeros(len(rows), MBO)
    out["length"], out["rtype"], out["ts_recv"] = MBO_BYTES // 4, RTYPE_MBO, ts_recv_ns
    for index, fields in enumerate(rows):
        for name, value in fields.items():
            out[index][name] = value
    return out
