"""DBN records other than MBO: symbol mappings, definitions, statuses, errors, system messages.

`fields` of the first three are those of the control entries in shared/wire/README.md. Layouts: dbn record.rs,
with the older ones of v1.rs and v2.rs; they are told apart by length.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.units import PX_SCALE, RTYPE_MBO, UNDEF_PX, UNDEF_TS

RTYPE_STATUS = 18
RTYPE_DEFINITION = 19
RTYPE_ERROR = 21
RTYPE_MAPPING = 22
RTYPE_SYSTEM = 23
SURFACED = (RTYPE_STATUS, RTYPE_DEFINITION, RTYPE_ERROR, RTYPE_MAPPING, RTYPE_SYSTEM)
RTYPES = {
    0: "trades", 1: "mbp-1", 10: "mbp-10", 17: "ohlcv", 18: "status", 19: "definition", 20: "imbalance",
    21: "error", 22: "symbol-mapping", 23: "system", 24: "statistics", 32: "ohlcv-1s", 33: "ohlcv-1m",
    34: "ohlcv-1h", 35: "ohlcv-1d", 36: "ohlcv-eod", RTYPE_MBO: "mbo", 177: "cmbp-1", 192: "cbbo-1s",
    193: "cbbo-1m", 194: "tcbbo", 195: "bbo-1s", 196: "bbo-1m",
}  # fmt: skip

SYSTEM_CODES = ("heartbeat", "subscription_ack", "slow_reader_warning", "replay_completed", "end_of_interval")
ERROR_CODES = (
    "unset", "auth_failed", "api_key_deactivated", "connection_limit_exceeded", "symbol_resolution_failed",
    "invalid_subscription", "internal_error", "skipped_records_after_slow_reading", "replay_data_aged_out",
)  # fmt: skip
STATUS_ACTIONS = (
    "none", "pre_open", "pre_cross", "quoting", "cross", "rotation", "new_price_indication", "trading",
    "halt", "pause", "suspend", "pre_close", "close", "post_close", "ssr_change", "not_available_for_trading",
)  # fmt: skip
STATUS_REASONS = {
    0: "none", 1: "scheduled", 2: "surveillance_intervention", 3: "market_event", 4: "instrument_activation",
    5: "instrument_expiration", 6: "recovery_in_process", 10: "regulatory", 11: "administrative",
    12: "non_compliance", 13: "filings_not_current", 14: "sec_trading_suspension", 15: "new_issue",
    16: "issue_available", 17: "issues_reviewed", 18: "filing_reqs_satisfied", 30: "news_pending",
    31: "news_released", 32: "news_and_resumption_times", 33: "news_not_forthcoming", 40: "order_imbalance",
    50: "luld_pause", 60: "operational", 70: "additional_information_requested", 80: "merger_effective",
    90: "etf", 100: "corporate_action", 110: "new_security_offering", 120: "market_wide_halt_level1",
    121: "market_wide_halt_level2", 122: "market_wide_halt_level3", 123: "market_wide_halt_carryover",
    124: "market_wide_halt_resumption", 130: "quotation_not_available",
}  # fmt: skip

Layout = np.dtype[Any]


def _layout(size: int, fields: dict[str, tuple[int, str]]) -> Layout:
    """A layout of `size` bytes with some fields by offset, after the header that every record has."""
    header = {"publisher_id": (2, "<u2"), "instrument_id": (4, "<u4"), "ts_event": (8, "<u8")}
    every = {**header, **fields}
    return np.dtype(
        {
            "names": list(every),
            "offsets": [offset for offset, _ in every.values()],
            "formats": [kind for _, kind in every.values()],
            "itemsize": size,
        }
    )


_DEFINITION = {
    "ts_recv": (16, "<u8"),
    "tick": (24, "<i8"),
    "display_factor": (32, "<i8"),
    "expiration": (40, "<u8"),
}
LAYOUTS: dict[tuple[int, int], Layout] = {
    (RTYPE_MAPPING, 80): _layout(
        80, {"in": (16, "S22"), "out": (38, "S22"), "start": (64, "<u8"), "end": (72, "<u8")}
    ),
    (RTYPE_MAPPING, 176): _layout(
        176, {"in": (17, "S71"), "out": (89, "S71"), "start": (160, "<u8"), "end": (168, "<u8")}
    ),
    (RTYPE_DEFINITION, 360): _layout(
        360,
        {
            **_DEFINITION,
            "unit_qty": (88, "<i8"),
            "multiplier": (160, "<i4"),
            "currency": (186, "S4"),
            "raw": (200, "S22"),
        },
    ),
    (RTYPE_DEFINITION, 400): _layout(
        400,
        {
            **_DEFINITION,
            "unit_qty": (88, "<i8"),
            "multiplier": (164, "<i4"),
            "currency": (186, "S4"),
            "raw": (200, "S71"),
        },
    ),
    (RTYPE_DEFINITION, 520): _layout(
        520,
        {
            **_DEFINITION,
            "unit_qty": (80, "<i8"),
            "multiplier": (176, "<i4"),
            "currency": (224, "S4"),
            "raw": (238, "S71"),
        },
    ),
    (RTYPE_ERROR, 80): _layout(80, {"text": (16, "S64")}),
    (RTYPE_ERROR, 320): _layout(320, {"text": (16, "S302"), "code": (318, "u1"), "is_last": (319, "u1")}),
    (RTYPE_SYSTEM, 80): _layout(80, {"text": (16, "S64")}),
    (RTYPE_SYSTEM, 320): _layout(320, {"text": (16, "S303"), "code": (319, "u1")}),
    (RTYPE_STATUS, 40): _layout(40, {"ts_recv": (16, "<u8"), "action": (24, "<u2"), "reason": (26, "<u2")}),
}


class Message(NamedTuple):
    """`kind`: mapping, definition, status, error or system."""

    kind: str
    instrument_id: int
    ts_event: int  # ns
    fields: dict[str, Any]

    def control(self) -> dict[str, Any]:
        """The payload of a control entry (only for mapping, definition and status)."""
        return {"type": self.kind, "instrument_id": self.instrument_id, **self.fields}


def _ts(value: Any) -> int | None:
    return None if int(value) in (0, UNDEF_TS) else int(value)


def _decimal(value: int) -> str:
    text = f"{Decimal(value) / PX_SCALE:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def decode(record: NDArray[np.uint8]) -> Message | None:
    """The message of one whole record's bytes; None if its type or length is not known here."""
    rtype, size = int(record[1]), int(record[0]) * 4
    layout = LAYOUTS.get((rtype, size)) or LAYOUTS.get((rtype, size - 8))  # 8 more with ts_out
    if layout is None:
        return None
    row = np.frombuffer(record, layout, 1)[0]

    def text(name: str) -> str:
        return bytes(row[name]).split(b"\0", 1)[0].decode("utf-8", "replace")

    fields: dict[str, Any]
    if rtype == RTYPE_MAPPING:
        # as the databento client reads it: the output symbol, unless that is an instrument id
        symbol = text("in") if text("out").isdigit() else text("out")
        fields = {"symbol": symbol, "start": _ts(row["start"]), "end": _ts(row["end"])}
        return Message("mapping", int(row["instrument_id"]), int(row["ts_event"]), fields)
    if rtype == RTYPE_DEFINITION:
        multiplier: str | None = None
        if 0 < int(row["multiplier"]) < 2**31 - 1:
            multiplier = str(int(row["multiplier"]))
        elif 0 < int(row["unit_qty"]) < UNDEF_PX:
            multiplier = _decimal(int(row["unit_qty"]))
        tick, factor = int(row["tick"]), int(row["display_factor"])
        fields = {
            "symbol": text("raw"),
            "tick_px": tick if 0 < tick < UNDEF_PX else None,
            "multiplier": multiplier,
            "currency": text("currency") or None,
            "expiration": _ts(row["expiration"]),
            "display_factor": factor if 0 < factor < UNDEF_PX else None,
        }
        return Message("definition", int(row["instrument_id"]), int(row["ts_event"]), fields)
    if rtype == RTYPE_STATUS:
        action, reason = int(row["action"]), int(row["reason"])
        fields = {
            "action": STATUS_ACTIONS[action] if action < len(STATUS_ACTIONS) else str(action),
            "reason": STATUS_REASONS.get(reason, str(reason)),
            "ts": int(row["ts_event"]),
        }
        return Message("status", int(row["instrument_id"]), int(row["ts_event"]), fields)
    assert layout.names is not None
    code = int(row["code"]) if "code" in layout.names else 255
    words = ERROR_CODES if rtype == RTYPE_ERROR else SYSTEM_CODES
    fields = {"text": text("text"), "code": words[code] if code < len(words) else "unset"}
    if rtype == RTYPE_SYSTEM and code == 255 and fields["text"] == "Heartbeat":
        fields["code"] = "heartbeat"  # version 1 has no code
    return Message(
        "error" if rtype == RTYPE_ERROR else "system", int(row["instrument_id"]), int(row["ts_event"]), fields
    )
