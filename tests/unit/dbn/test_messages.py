"""Records beside MBO: decoded as Databento's library decodes them, in every version.

Mixed files are taken apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import databento_dbn as dbn
import numpy as np
import pytest

from shared.dbn import Metadata, Reader
from shared.dbn.messages import ERROR_CODES, LAYOUTS, STATUS_ACTIONS, STATUS_REASONS, SYSTEM_CODES, decode
from shared.dbn.metadata import encode
from shared.errors import SourceError
from tests.support.mbo import random_rows

CLASSES = {
    (22, 80): dbn.SymbolMappingMsgV1, (22, 176): dbn.SymbolMappingMsg,
    (19, 360): dbn.InstrumentDefMsgV1, (19, 400): dbn.InstrumentDefMsgV2, (19, 520): dbn.InstrumentDefMsg,
    (21, 80): dbn.ErrorMsgV1, (21, 320): dbn.ErrorMsg, (23, 80): dbn.SystemMsgV1, (23, 320): dbn.SystemMsg,
    (18, 40): dbn.StatusMsg,
}  # fmt: skip
THEIR_NAMES = {
    "in": "stype_in_symbol", "out": "stype_out_symbol", "start": "start_ts", "end": "end_ts",
    "tick": "min_price_increment", "unit_qty": "unit_of_measure_qty", "multiplier": "contract_multiplier",
    "raw": "raw_symbol",
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(LAYOUTS))
def test_layouts_are_databentos(key: tuple[int, int]) -> None:
    theirs = np.dtype(CLASSES[key]._dtypes)
    ours = LAYOUTS[key]
    assert theirs.itemsize == ours.itemsize == key[1]
    assert ours.fields is not None
    assert theirs.fields is not None
    for name, (kind, offset, *_) in ours.fields.items():
        text = "err" if key[0] == 21 else "msg"
        their_kind, their_offset = theirs.fields[text if name == "text" else THEIR_NAMES.get(name, name)][:2]
        assert (offset, kind.itemsize) == (their_offset, their_kind.itemsize), name


def test_words_are_databentos() -> None:
    assert [str(each.name).lower() for each in dbn.StatusAction.variants()] == list(STATUS_ACTIONS)
    assert {each.value: each.name.lower() for each in dbn.StatusReason.variants()} == STATUS_REASONS
    assert [str(each) for each in dbn.ErrorCode.variants()][:8] == list(ERROR_CODES[1:])
    assert [str(each) for each in dbn.SystemCode.variants()][:5] == list(SYSTEM_CODES)


def raw(message: Any) -> bytes:
    return bytes(message)


MAPPING = dbn.SymbolMappingMsg(
    publisher_id=0, instrument_id=7, ts_event=5, stype_in=dbn.SType.RAW_SYMBOL, stype_in_symbol="ESZ6",
    stype_out=dbn.SType.RAW_SYMBOL, stype_out_symbol="ESZ6", start_ts=10, end_ts=2**64 - 1,
)  # fmt: skip
TO_ID = dbn.SymbolMappingMsg(
    publisher_id=0, instrument_id=7, ts_event=5, stype_in=dbn.SType.CONTINUOUS, stype_in_symbol="ES.c.0",
    stype_out=dbn.SType.INSTRUMENT_ID, stype_out_symbol="7", start_ts=10, end_ts=20,
)  # fmt: skip
STATUS = dbn.StatusMsg(
    publisher_id=1,
    instrument_id=7,
    ts_event=5,
    ts_recv=6,
    action=dbn.StatusAction.HALT,
    reason=dbn.StatusReason.LULD_PAUSE,
)
SYSTEM = dbn.SystemMsg(ts_event=5, msg="Heartbeat", code=dbn.SystemCode.HEARTBEAT)
ERROR = dbn.ErrorMsg(ts_event=5, err="no such symbol", code=dbn.ErrorCode.SYMBOL_RESOLUTION_FAILED)


def test_messages_become_controls() -> None:
    def control(message: Any) -> dict[str, Any]:
        found = decode(np.frombuffer(raw(message), np.uint8))
        assert found is not None
        return found.control()

    assert control(MAPPING) == {
        "type": "mapping",
        "instrument_id": 7,
        "symbol": "ESZ6",
        "start": 10,
        "end": None,
    }
    assert control(TO_ID)["symbol"] == "ES.c.0"
    assert control(STATUS) == {
        "type": "status", "instrument_id": 7, "action": "halt", "reason": "luld_pause", "ts": 5,
    }  # fmt: skip


def test_system_and_error_messages_say_their_code() -> None:
    system, error = (decode(np.frombuffer(raw(each), np.uint8)) for each in (SYSTEM, ERROR))
    assert system is not None
    assert error is not None
    assert (system.kind, system.fields) == ("system", {"text": "Heartbeat", "code": "heartbeat"})
    assert (error.kind, error.fields["code"]) == ("error", "symbol_resolution_failed")


def test_a_mixed_file_is_taken_apart_in_order(tmp_path: Path) -> None:
    records = random_rows(3000)
    trade = bytes(dbn.TradeMsg(1, 7, 5, 100, 1, dbn.Action.TRADE, dbn.Side.BID, 0, 6))
    blob = b"".join(
        (encode(Metadata(dataset="L", schema=None, stype_in=None)), raw(MAPPING), records[:1000].tobytes(),
         trade, raw(STATUS), raw(SYSTEM), trade, records[1000:].tobytes(), raw(ERROR))
    )  # fmt: skip
    path = tmp_path / "mixed.dbn"
    path.write_bytes(blob)
    with Reader(path) as reader:
        parts = list(reader.parts())
    kinds = [
        len(part.records) if part.records is not None else part.message and part.message.kind
        for part in parts
    ]
    assert kinds == ["mapping", 1000, "status", "system", 2000, "error"]
    assert reader.skipped == {"trades": 2}
    found = np.concatenate([part.records for part in parts if part.records is not None])
    assert found.tobytes() == records.tobytes()


def test_garbage_between_mixed_records_is_located(tmp_path: Path) -> None:
    head = encode(Metadata(dataset="L", schema=None, stype_in=None)) + raw(MAPPING)
    path = tmp_path / "mixed.dbn"
    path.write_bytes(head + b"\x02\xa0" + bytes(100))
    with Reader(path) as reader, pytest.raises(SourceError, match=f"record 0 at byte {len(head)} is damaged"):
        list(reader.parts())


def test_the_real_live_session_gives_its_five_mbo_records(market_data: Path) -> None:
    with Reader(market_data / "live-session.mixed.dbn.zst") as reader:
        parts = list(reader.parts())
    assert sum(len(part.records) for part in parts if part.records is not None) == 5
    definitions = [
        part.message for part in parts if part.message is not None and part.message.kind == "definition"
    ]
    assert definitions[0].fields["tick_px"] == 250_000_000
    assert definitions[0].fields["multiplier"] == "50"
    assert {part.message.fields["symbol"] for part in parts if part.message is not None} == {"ESZ4"}


@pytest.mark.parametrize(
    "name", ["arl-20250717.mbo.v1.dbn", "arl-20250717.mbo.v2.dbn.zst", "arl-20250717.mbo.v3.dbn.zst"]
)
def test_real_files_of_every_version_hold_the_same(market_data: Path, name: str) -> None:
    with Reader(market_data / "arl-20250717.mbo.v1.dbn") as first, Reader(market_data / name) as other:
        expected = b"".join(part.records.tobytes() for part in first.parts() if part.records is not None)
        assert (
            b"".join(part.records.tobytes() for part in other.parts() if part.records is not None) == expected
        )
        assert other.metadata.instruments() == first.metadata.instruments()
    assert len(expected) == 5886 * 56
