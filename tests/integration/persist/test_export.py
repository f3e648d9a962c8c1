"""Exports are the source, record for record, in every format; read by other people's libraries."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from databento_dbn import Compression, Encoding, Transcoder

from services.__main__ import dispatch
from services.export import by_name, parse_time
from services.persist.local import LocalHistory
from shared.broker import Broker
from shared.dbn import Metadata
from shared.errors import UsageError
from shared.export import FORMATS, export
from shared.export.formats import make_encoder
from shared.history_types import HistoryError
from shared.records import MBO, Rows
from shared.units import UNDEF_PX, UNDEF_TS, px_from_str
from tests.support.dbn_files import read_dbn
from tests.support.mbo import START_NS, random_rows
from tests.support.recording import Feed, drain, load, writer

FILES = [
    "clx5-20250924.mbo.dbn", "arl-20250717.mbo.v1.dbn", "arl-20250717.mbo.v2.dbn.zst", "arl-20250717.mbo.v3.dbn.zst",
    "esm4-20240508-snapshot.mbo.dbn.zst",
]  # fmt: skip
FIELDS = [name for name in MBO.names or () if name != "length"]


def _store(
    broker: Broker,
    broker_url: str,
    prefix: str,
    data: Path,
    rows: Rows,
    symbols: dict[int, str],
    **feed: object,
) -> Feed:
    made = Feed(broker, shards=2, dataset="GLBX.MDP3", **feed)  # type: ignore[arg-type]
    for instrument, symbol in symbols.items():
        made.mapping(instrument, symbol)
    made.records(rows)
    recorder = writer(broker_url, prefix, data, block_rows=3000)
    recorder.open()
    drain(recorder)
    recorder.close()
    return made


@pytest.fixture
def small(broker: Broker, broker_url: str, prefix: str, tmp_path: Path) -> Rows:
    """Three instruments, odd values among them, in tmp_path."""
    rows = random_rows(3000, instruments=3)
    rows["action"][::4] = ord("T")
    rows["price"][7::50], rows["ts_event"][9::60] = UNDEF_PX, UNDEF_TS
    rows["price"][3] = -123_456_789
    rows["order_id"][11] = 2**64 - 1
    rows["ts_in_delta"][5] = -(2**31)
    _store(broker, broker_url, prefix, tmp_path, rows, {1: "ONE", 2: "TWO", 3: 'T"HR,EE'})
    return rows


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # databento's, with pandas 3.1
@pytest.mark.parametrize("name", FILES)
def test_a_file_through_broker_and_store_is_exported_as_it_was(
    name: str, market_data: Path, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows, symbols = load(market_data / name)
    _store(broker, broker_url, prefix, tmp_path, rows, symbols)
    instrument, symbol = next(iter(symbols.items()))
    source = read_dbn(market_data / name).to_ndarray()
    for out in ("out.dbn", "out.dbn.zst"):
        assert dispatch(["export", symbol, "--data", str(tmp_path), "--out", str(tmp_path / out)]) == 0
        read = read_dbn(tmp_path / out)
        assert read.to_ndarray().tobytes() == source[source["instrument_id"] == instrument].tobytes()
    frame = read_dbn(tmp_path / "out.dbn").to_df()
    assert set(frame["symbol"]) == {symbol}  # the metadata names the instrument on every day


def test_csv_and_json_say_every_field_exactly(small: Rows, tmp_path: Path) -> None:
    history = LocalHistory(tmp_path)
    for symbol, instrument in (("ONE", 1), ('T"HR,EE', 3)):
        mine = small[small["instrument_id"] == instrument]
        texts = [
            b"".join(export(history, "feed", symbol, "mbo", form).chunks).decode() for form in ("csv", "json")
        ]
        flat = [line | line.pop("hd") for line in map(json.loads, texts[1].splitlines())]
        for found in (csv.DictReader(io.StringIO(texts[0])), flat):
            lines = list(found)
            assert {line["symbol"] for line in lines} == {symbol}
            back = np.zeros(len(lines), MBO)
            back["length"] = 14
            for name in FIELDS:
                back[name] = [_value(name, line[name]) for line in lines]
            assert back.tobytes() == mine.tobytes()


@pytest.mark.parametrize("schema", ["mbo", "mbp-1", "mbp-10", "trades", "ohlcv-1s"])
@pytest.mark.parametrize("name", FILES[:2])
def test_csv_and_json_are_byte_for_byte_what_databento_writes(
    name: str, schema: str, market_data: Path, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows, symbols = load(market_data / name)
    rows["price"] -= 70_000_000_000  # below zero too, as spreads have them
    _store(broker, broker_url, prefix, tmp_path, rows[:9000], symbols)
    (symbol,) = symbols.values()
    made = {
        form: b"".join(export(LocalHistory(tmp_path), "feed", symbol, schema, form).chunks)
        for form in ("dbn", "csv", "json")
    }
    for form, encoding in (("csv", Encoding.CSV), ("json", Encoding.JSON)):
        theirs = io.BytesIO()
        transcoder = Transcoder(
            theirs, encoding, Compression.NONE, pretty_px=True, pretty_ts=False, map_symbols=True
        )
        transcoder.write(made["dbn"])
        transcoder.flush()
        assert made[form].count(b"\n") > 20
        assert made[form] == theirs.getvalue()


def _value(name: str, text: str | int | None) -> int:
    if name in ("action", "side"):
        return ord(str(text))
    if name == "price":
        return UNDEF_PX if text in ("", None) else px_from_str(str(text))
    return UNDEF_TS if text in ("", None) else int(text)


def test_parquet_has_exact_decimals_and_times(small: Rows, tmp_path: Path) -> None:
    history = LocalHistory(tmp_path)
    out = tmp_path / "out.parquet"
    with out.open("wb") as file:
        for chunk in export(history, "feed", "ONE", "mbo", "parquet").chunks:
            file.write(chunk)
    table = pq.read_table(out)
    mine = small[small["instrument_id"] == 1]
    prices = [None if px == UNDEF_PX else px for px in mine["price"].tolist()]
    assert [None if px is None else int(px.scaleb(9)) for px in table["price"].to_pylist()] == prices
    times = table["ts_event"].cast("int64").to_pylist()
    assert times == [None if ts == UNDEF_TS else ts for ts in mine["ts_event"].tolist()]
    for name in ("order_id", "size", "flags", "ts_in_delta", "sequence", "publisher_id"):
        assert table[name].to_pylist() == mine[name].tolist()


def test_small_batches_share_a_parquet_row_group() -> None:
    """Of one of many instruments a stored block has a few rows."""
    encoder = make_encoder("parquet", MBO, Metadata(dataset="TEST"))
    batches = [random_rows(10, seed=seed) for seed in range(30)]
    made = b"".join([encoder.head(), *(encoder.encode(rows, "ONE") for rows in batches), encoder.tail()])
    file = pq.ParquetFile(io.BytesIO(made))
    assert (file.num_row_groups, file.read()["size"].to_pylist()) == (
        1,
        np.concatenate(batches)["size"].tolist(),
    )


def test_trades_and_bars_are_read_by_databento(small: Rows, tmp_path: Path) -> None:
    mine = small[(small["instrument_id"] == 2)]
    trades = mine[mine["action"] == ord("T")]
    history = LocalHistory(tmp_path)
    for schema, name in (("trades", "t.dbn"), ("bars", "b.dbn"), ("ohlcv-1s", "s.dbn")):
        (tmp_path / name).write_bytes(b"".join(export(history, "feed", "TWO", schema, "dbn").chunks))
    read = read_dbn(tmp_path / "t.dbn").to_ndarray()
    for name in ("ts_event", "ts_recv", "price", "size", "sequence", "flags", "ts_in_delta"):
        assert (read[name] == trades[name]).all()
    (span,) = history.spans("feed", "TWO")
    stored = np.concatenate(list(history.trades(span)))
    for name in ("b.dbn", "s.dbn"):
        bars = read_dbn(tmp_path / name).to_ndarray()
        priced = stored[(stored["price"] != UNDEF_PX) & (stored["ts_event"] != np.uint64(UNDEF_TS))]
        assert int(bars["volume"].sum()) == int(priced["size"].sum()) > 0
        assert (bars["open"][0], bars["close"][-1]) == (priced["price"][0], priced["price"][-1])


def test_a_range_is_by_ts_recv_with_its_end_left_out(small: Rows, tmp_path: Path) -> None:
    start, end = START_NS + 500_000, START_NS + 1_500_000
    made = export(LocalHistory(tmp_path), "feed", "ONE", "mbo", "dbn", start=start, end=end)
    size = sum(len(chunk) for chunk in made.chunks)
    inside = (
        (small["ts_recv"] >= np.uint64(start))
        & (small["ts_recv"] < np.uint64(end))
        & (small["instrument_id"] == 1)
    )
    assert (made.rows, size > inside.sum() * 56) == (int(inside.sum()), True)


def test_one_session_is_exported_unless_all_are_asked_for(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    first, second = random_rows(700, seed=1), random_rows(900, seed=2)
    second["ts_recv"] += np.uint64(10**12)
    _store(broker, broker_url, prefix, tmp_path, first, {1: "ONE"}, identity="a")
    _store(broker, broker_url, prefix, tmp_path, second, {1: "ONE"}, session=2, identity="b")
    history = LocalHistory(tmp_path)

    def count(**how: object) -> int:
        made = export(history, "feed", "ONE", "mbo", "dbn", **how)  # type: ignore[arg-type]
        assert sum(len(chunk) for chunk in made.chunks) > 0
        return made.rows

    ones = [int((rows["instrument_id"] == 1).sum()) for rows in (first, second)]
    assert count() == count(session=2) == ones[1]
    assert count(start=START_NS) == count(session=1) == ones[0]
    assert count(end=START_NS + 10**9) == ones[0]  # the newest session that covers the time
    assert count(session="all") == sum(ones)
    with pytest.raises(HistoryError, match="no recorded session 9"):
        count(session=9)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["NOPE"], "no instrument 'NOPE'"), (["ONE", "--start", "yesterday"], "ns since the epoch"),
        (["ONE", "--feed", "x"], "no feed 'x'"),
        (["ONE", "--session", "x"], "neither a number"),
        (["ONE", "--start", "7", "--end", "7"], "not after"), (["OTHER.SET:ONE"], "no instrument"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_clear_line_and_leaves_no_file(
    args: list[str], message: str, small: Rows, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        dispatch(["export", *args, "--data", str(tmp_path), "--out", str(tmp_path / "x.dbn")])
    assert (caught.value.exit_status, list(tmp_path.glob("x.dbn*"))) == (2, [])


def test_an_empty_data_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        dispatch(["export", "X", "--data", str(tmp_path), "--out", str(tmp_path / "x.dbn")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("17", 17), ("1970-01-01", 0), ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123_456_789),
     ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500_000_000)],
)  # fmt: skip
def test_times_are_exact_to_the_nanosecond(text: str, expected: int) -> None:
    assert parse_time(text, "--start") == expected


@pytest.mark.parametrize("text", ["-5", "1969-12-31", "2023-11-14T22:13:20.1234567891Z", "2023-02-30"])
def test_what_is_no_time_anywhere_else_is_none_here(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        parse_time(text, "--start")


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # databento's, with pandas 3.1
def test_an_id_is_exported_under_the_name_it_had(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = random_rows(900, instruments=1)
    rows["ts_recv"][500:] += np.uint64(86_400 * 10**9)  # another day, another name
    feed = Feed(broker)
    for symbol, part in (("OLD", rows[:500]), ("NEW", rows[500:])):
        feed.mapping(1, symbol)
        feed.records(part)
    recorder = writer(broker_url, prefix, tmp_path, block_rows=300)
    recorder.open()
    drain(recorder)
    recorder.close()
    made = {
        form: b"".join(export(LocalHistory(tmp_path), "feed", "1", "mbo", form).chunks) for form in FORMATS
    }
    (tmp_path / "x.dbn").write_bytes(made["dbn"])
    wanted = ["OLD"] * 500 + ["NEW"] * 400
    assert read_dbn(tmp_path / "x.dbn").to_df()["symbol"].tolist() == wanted
    assert [line["symbol"] for line in csv.DictReader(made["csv"].decode().splitlines())] == wanted
    assert pq.read_table(io.BytesIO(made["parquet"]))["symbol"].to_pylist() == wanted


SPREAD = "UD:1V: GN 2533155"  # as CME names user-defined spreads


def test_a_symbol_with_colons_is_found_as_it_is_and_behind_its_dataset(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = random_rows(400, instruments=2)
    _store(broker, broker_url, prefix, tmp_path, rows, {1: SPREAD, 2: "ONE"})
    for text in (SPREAD, f"GLBX.MDP3:{SPREAD}", f"feed:{SPREAD}"):
        assert dispatch(["export", text, "--data", str(tmp_path), "--out", str(tmp_path / "x.csv")]) == 0
        lines = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
        assert {line["symbol"] for line in lines} == {SPREAD}
        assert len(lines) == (rows["instrument_id"] == 1).sum()


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.dbn.zst", "dbn"), ("a.csv", "csv"), ("b.jsonl", "json"), ("c.parquet", "parquet"), ("plain", "dbn")],
)
def test_a_file_name_chooses_the_format(name: str, form: str) -> None:
    assert by_name(name) == form
