"""The entry codec: golden bytes, round trips, and a clear error on anything else."""

from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import WireError
from shared.orderbook.engine import Batch
from shared.records import AUCTION, BBO, LEVEL, MBO, TOUCHED, TRADE, Rows
from shared.wire import codec

GOLDEN = Path(__file__).parent / "golden"


def records() -> Rows:
    rows = np.zeros(2, MBO)
    rows["length"], rows["rtype"] = 14, 160
    rows["publisher_id"], rows["instrument_id"] = 1, 432669
    rows["ts_event"], rows["ts_recv"] = [1, 2], [3, 4]
    rows["order_id"], rows["price"], rows["size"] = [2**64 - 1, 7], [65_400_000_000, -5], [1, 2**32 - 1]
    rows["action"], rows["side"], rows["flags"] = [65, 67], [66, 65], [0, 128]
    rows["ts_in_delta"], rows["sequence"] = [-1, 9], [10, 11]
    return rows


def batch() -> Batch:
    columns = []
    for seed, layout in enumerate((BBO, TRADE, LEVEL, AUCTION, TOUCHED), 1):
        columns.append(
            np.frombuffer(bytes((seed * 7 + i) % 251 for i in range(layout.itemsize * seed)), layout)
        )
    return Batch(*columns)


SAMPLES = {
    "in-records": codec.encode_records(records(), 41, 1_000, 2_000, 77, 5),
    "in-control": codec.encode_control({"type": "mapping", "instrument_id": 5, "symbol": "CLX5"}, 9, 1, 2, 3),
    "out-records": codec.encode_out(batch(), n=2, first=41, ts_due=1, ts_ingest=2, ts_book=3, stale=False),
    "out-control": codec.encode_out(
        batch(),
        n=1,
        first=1,
        ts_due=1,
        ts_ingest=2,
        ts_book=3,
        stale=True,
        control={"type": "begin", "session": 4},
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_wire_has_not_changed(name: str) -> None:
    """To change the format on purpose: raise codec.VERSION, keep reading n-1, add new golden files."""
    assert SAMPLES[name] == (GOLDEN / f"{name}.v1.bin").read_bytes()


def test_records_come_back() -> None:
    entry = codec.decode_in(SAMPLES["in-records"])
    assert (
        entry.n,
        entry.first,
        entry.last,
        entry.ts_due,
        entry.ts_ingest,
        entry.position,
        entry.beyond,
    ) == (
        2,
        41,
        42,
        1000,
        2000,
        77,
        5,
    )
    assert entry.records is not None
    assert entry.records.tobytes() == records().tobytes()


def test_control_comes_back() -> None:
    entry = codec.decode_in(SAMPLES["in-control"])
    assert entry.control == {"type": "mapping", "instrument_id": 5, "symbol": "CLX5"}
    assert entry.records is None


@pytest.mark.parametrize(
    ("name", "control"), [("out-records", None), ("out-control", {"type": "begin", "session": 4})]
)
def test_output_comes_back(name: str, control: dict[str, object] | None) -> None:
    entry = codec.decode_out(SAMPLES[name])
    assert entry.control == control
    assert entry.stale is (name == "out-control")
    for got, sent in zip(entry.batch[:5], batch()[:5], strict=True):
        assert got is not None
        assert sent is not None
        assert got.tobytes() == sent.tobytes()


@pytest.mark.parametrize("decode", [codec.decode_in, codec.decode_out])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_cut_entry_is_refused(name: str, decode: object) -> None:
    blob = SAMPLES[name]
    for end in (0, 1, 5, len(blob) // 2, len(blob) - 1):
        with pytest.raises(WireError):
            decode(blob[:end])  # type: ignore[operator]


@given(st.binary(max_size=300))
def test_garbage_is_refused(blob: bytes) -> None:
    for decode in (codec.decode_in, codec.decode_out):
        with pytest.raises(WireError):
            decode(blob)


def test_a_newer_version_is_refused_with_advice() -> None:
    fields = msgpack.unpackb(SAMPLES["in-control"], strict_map_key=False)
    with pytest.raises(WireError, match="upgrade"):
        codec.decode_in(msgpack.packb([99, *fields[1:]]))


def test_a_wrong_count_is_refused() -> None:
    fields = msgpack.unpackb(SAMPLES["in-records"], strict_map_key=False)
    fields[2] = 3
    with pytest.raises(WireError, match="says 3 records"):
        codec.decode_in(msgpack.packb(fields))


@pytest.mark.parametrize(
    ("name", "decode"), [("in-records", codec.decode_in), ("out-control", codec.decode_out)]
)
@pytest.mark.parametrize(
    ("field", "value"), [(2, "2"), (2, 0), (2, 2.0), (3, None), (3, -41), (3, 0), (3, 2**63 - 1), (4, [])]
)
def test_numbers_that_cannot_be_are_refused(name: str, decode: object, field: int, value: object) -> None:
    fields = msgpack.unpackb(SAMPLES[name], strict_map_key=False)
    fields[field] = value
    with pytest.raises(WireError):
        decode(msgpack.packb(fields))  # type: ignore[operator]


def test_a_control_without_its_map_is_refused() -> None:
    fields = msgpack.unpackb(SAMPLES["out-control"], strict_map_key=False)
    for decode in (codec.decode_in, codec.decode_out):
        with pytest.raises(WireError):
            decode(msgpack.packb(fields[:8]))
