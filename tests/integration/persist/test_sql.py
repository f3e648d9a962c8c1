"""`mbo sql`: records and BBO as tables, conditions pushed to the blocks, the same rows as everywhere else."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.__main__ import dispatch
from services.persist.local import LocalHistory
from services.persist.sql import connect
from shared.broker import Broker
from shared.errors import UsageError
from shared.records import Rows
from tests.support.mbo import START_NS, random_rows
from tests.support.recording import Feed, drain, writer


def _between(rows: Rows, low: int, high: int) -> Any:
    return (rows["ts_recv"] >= np.uint64(START_NS + low)) & (rows["ts_recv"] <= np.uint64(START_NS + high))


@pytest.fixture
def rows(broker: Broker, broker_url: str, prefix: str, tmp_path: Path) -> Rows:
    made = random_rows(4000, instruments=4)
    made["order_id"][17] = 2**64 - 5
    made["ts_event"][5] = 2**64 - 1
    feed = Feed(broker, shards=2)
    for instrument in (1, 2, 3):
        feed.mapping(instrument, f"S{instrument}")
    feed.records(made[:3000])
    feed.mapping(3, "S3B")
    feed.records(made[3000:])
    recorder = writer(broker_url, prefix, tmp_path, block_rows=300)
    recorder.open()
    drain(recorder)
    recorder.close()
    return made


def _ask(data: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    db, _ = connect(data, "feed")
    try:
        return list(db.execute(sql, values))
    finally:
        db.close()


def test_the_query_of_the_readme_gives_the_records_of_a_symbol_and_a_time(rows: Rows, tmp_path: Path) -> None:
    low, high = START_NS + 1_000_000, START_NS + 2_000_000
    sql = "SELECT ts_event, action, side, price, size, order_id FROM mbo WHERE symbol='S2' AND ts_event BETWEEN ? AND ?"
    keep = (
        (rows["instrument_id"] == 2)
        & (rows["ts_event"] >= np.uint64(low))
        & (rows["ts_event"] <= np.uint64(high))
    )
    assert _ask(tmp_path, sql, low, high) == [
        (
            int(r["ts_event"]),
            chr(r["action"]),
            chr(r["side"]),
            int(r["price"]) / 1e9,
            int(r["size"]),
            str(r["order_id"]),
        )
        for r in rows[keep]
    ]


@pytest.mark.parametrize(
    ("where", "keep"),
    [
        ("1", lambda r: r["size"] > 0),
        ("instrument_id = 4", lambda r: r["instrument_id"] == 4),
        ("instrument_id = 1 AND ts_recv >= {t}", lambda r: (r["instrument_id"] == 1) & _between(r, 500_500, 10**12)),
        ("ts_recv > {t} + 499 AND ts_recv < {t} + 5000", lambda r: _between(r, 501_000, 505_499)),
        ("ts_recv BETWEEN {t} + 500 AND {t} + 500", lambda r: _between(r, 501_000, 501_000)),
        ("instrument_id = 1 AND ts_recv >= '{t}'", lambda r: (r["instrument_id"] == 1) & _between(r, 500_500, 10**12)),
        ("ts_recv <= 'a number is less than a text'", lambda r: r["size"] > 0),
        ("ts_event IS NULL", lambda r: r["ts_event"] == np.uint64(2**64 - 1)),
        ("symbol IS NULL", lambda r: r["instrument_id"] == 4),
        ("symbol IN ('S1', 'S2') AND side = 'B'", lambda r: (r["instrument_id"] <= 2) & (r["side"] == ord("B"))),
        ("order_id = '18446744073709551611'", lambda r: r["order_id"] == np.uint64(2**64 - 5)),
        ("ts_recv = 'x' OR ts_recv < NULL", lambda r: r["size"] > 1000),
        ("run = 2", lambda r: r["size"] > 1000),
    ],
)  # fmt: skip
def test_conditions_count_the_same_as_numpy_does(where: str, keep: Any, rows: Rows, tmp_path: Path) -> None:
    sql = f"SELECT count(*), coalesce(sum(size), 0) FROM mbo WHERE {where.format(t=START_NS + 500_500)}"
    mine = rows[keep(rows)]
    assert _ask(tmp_path, sql) == [(len(mine), int(mine["size"].sum()))]


def test_a_symbol_is_an_interval_of_its_id(rows: Rows, tmp_path: Path) -> None:
    found = dict(_ask(tmp_path, "SELECT symbol, count(*) FROM mbo WHERE instrument_id=3 GROUP BY symbol"))
    third = rows["instrument_id"] == 3
    assert found == {"S3": int(third[:3000].sum()), "S3B": int(third[3000:].sum())}
    assert _ask(tmp_path, "SELECT count(*) FROM mbo WHERE symbol='S3B'") == [(found["S3B"],)]


def test_bbo_rows_and_joins_with_the_plain_tables(rows: Rows, tmp_path: Path) -> None:
    history = LocalHistory(tmp_path)
    (span,) = history.spans("feed", "S1")
    stored = np.concatenate(list(history.bbo(span)))
    found = _ask(tmp_path, "SELECT ordinal, bid_px, bid_sz, ask_px, ask_ct FROM bbo WHERE symbol='S1'")
    assert [row[0] for row in found] == stored["ordinal"].tolist()
    assert [row[2] for row in found] == stored["bid_sz"].tolist()
    both = "mbo m JOIN instruments i USING (run, instrument_id)"
    joined = f"SELECT count(*) FROM {both} WHERE m.symbol='S1' AND m.shard=i.shard"
    assert _ask(tmp_path, joined) == [(int((rows["instrument_id"] == 1).sum()),)]


def test_the_command_prints_tables_csv_and_json_and_names_what_is_wrong(
    rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT symbol, count(*) AS n FROM mbo WHERE symbol='S1' GROUP BY 1"
    count = int((rows["instrument_id"] == 1).sum())
    for form in ("table", "csv", "json"):
        assert dispatch(["sql", sql, "--data", str(tmp_path), "--format", form]) == 0
    table, text = capsys.readouterr().out.split("symbol,n")
    assert table.split() == ["symbol", "n", "S1", str(count)]
    assert list(csv.reader(io.StringIO(text)))[1] == ["S1", str(count)]
    assert f'{{"symbol": "S1", "n": {count}}}' in text
    with pytest.raises(UsageError, match="no such column: nope"):
        dispatch(["sql", "SELECT nope FROM mbo", "--data", str(tmp_path)])
    with pytest.raises(UsageError, match="readonly"):
        dispatch(["sql", "DELETE FROM run", "--data", str(tmp_path)])
