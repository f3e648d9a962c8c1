"""Stored bars are those of Databento's OHLCV schemas: of the trades, by ts_recv, one symbol a bar."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from services.persist.local import LocalHistory
from services.persist.store import migrate, store_path
from shared.broker import Broker
from shared.export import export
from shared.records import Rows
from tests.support.dbn_files import read_dbn
from tests.support.mbo import START_NS, random_rows
from tests.support.recording import Feed, drain, load, writer

MINUTE_NS = 60_000_000_000


def _trades(count: int, step_ns: int) -> Rows:
    rows = random_rows(count, instruments=1)
    rows["action"], rows["flags"] = ord("T"), 128
    rows["ts_recv"] = START_NS + np.arange(count, dtype=np.uint64) * np.uint64(step_ns)
    rows["ts_event"] = rows["ts_recv"] - np.uint64(
        700_000_000
    )  # another second, and now and then another minute
    return rows


def _record(broker_url: str, prefix: str, data: Path, *, commit_every: int = 1) -> LocalHistory:
    recorder = writer(broker_url, prefix, data, block_rows=400)
    recorder.open()
    drain(recorder, commit_every=commit_every)
    recorder.close()
    return LocalHistory(data)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # databento's, with pandas 3.1
@pytest.mark.parametrize("name", ["clx5-20250924.mbo.dbn", "arl-20250717.mbo.v3.dbn.zst"])
def test_exported_bars_are_what_databento_derives_from_the_exported_trades(
    name: str, market_data: Path, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    """As in its example "Custom OHLCV bars from trades": resampled by the index of `to_df`, which is ts_recv."""
    rows, symbols = load(market_data / name)
    feed = Feed(broker)
    for instrument, symbol in symbols.items():
        feed.mapping(instrument, symbol)
    feed.records(rows)
    history = _record(broker_url, prefix, tmp_path)
    (symbol,) = symbols.values()
    for schema in ("trades", "ohlcv-1m", "ohlcv-1s"):
        (tmp_path / schema).write_bytes(b"".join(export(history, "feed", symbol, schema, "dbn").chunks))
    trades = read_dbn(tmp_path / "trades").to_df()
    for schema, length in (("ohlcv-1m", "1min"), ("ohlcv-1s", "1s")):
        made = trades.resample(length).agg(
            open=("price", "first"), high=("price", "max"), low=("price", "min"), close=("price", "last"),
            volume=("size", "sum"),
        ).dropna()  # fmt: skip
        found = read_dbn(tmp_path / schema).to_df()
        assert found.index.tolist() == made.index.tolist()
        assert found[list(made.columns)].to_numpy().tolist() == made.to_numpy().tolist()


@pytest.mark.parametrize("commit_every", [1, 1000])
def test_a_bar_is_of_one_symbol_when_an_id_gets_another_in_mid_interval(
    commit_every: int, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = _trades(900, 100_000_000)
    feed = Feed(broker)
    for symbol, part in (("OLD", rows[:333]), ("NEW", rows[333:])):
        feed.mapping(1, symbol)
        feed.records(part, most=100)
    history = _record(broker_url, prefix, tmp_path, commit_every=commit_every)
    db = sqlite3.connect(store_path(tmp_path, "feed"))
    for symbol, part in (("OLD", rows[:333]), ("NEW", rows[333:])):
        (span,) = history.spans("feed", symbol)
        for seconds in (1, 60):
            bars = np.concatenate(list(history.bars(span, seconds)))
            assert (bars["volume"].sum(), bars["trades"].sum()) == (part["size"].sum(), len(part))
            assert (bars["open"][0], bars["close"][-1]) == (part["price"][0], part["price"][-1])
        said = db.execute(
            "SELECT sum(volume) FROM bars WHERE symbol=? AND interval_s=60", (symbol,)
        ).fetchone()
        assert said == (int(part["size"].sum()),)
    db.close()
    whole = history.spans("feed", "1")  # by its id: everything it has been
    assert [span.symbol for span in whole] == ["OLD", "NEW"]
    assert sum(int(bars["trades"].sum()) for span in whole for bars in history.bars(span, 60)) == 900


@pytest.mark.parametrize("commit_every", [1, 1000])
def test_trades_of_an_event_that_another_symbol_interrupts_are_the_old_ones(
    commit_every: int, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = _trades(60, 100_000_000)
    rows["flags"][20:40] = 0  # the event is open when the id gets another symbol
    feed = Feed(broker)
    for symbol, part in (("OLD", rows[:40]), ("NEW", rows[40:])):
        feed.mapping(1, symbol)
        feed.records(part, most=10)
    history = _record(broker_url, prefix, tmp_path, commit_every=commit_every)
    for symbol, part in (("OLD", rows[:40]), ("NEW", rows[40:])):
        (span,) = history.spans("feed", symbol)
        trades = np.concatenate(list(history.trades(span)))
        assert trades["sequence"].tolist() == part["sequence"].tolist()
        bars = np.concatenate(list(history.bars(span, 60)))
        assert (bars["volume"].sum(), bars["trades"].sum()) == (part["size"].sum(), len(part))


def test_a_store_of_before_gets_its_bars_anew_from_its_trades(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows = _trades(900, 100_000_000)
    rows["price"][5], rows["ts_recv"][6] = 2**63 - 1, 2**64 - 1
    feed = Feed(broker)
    for symbol, part in (("OLD", rows[:333]), ("NEW", rows[333:])):
        feed.mapping(1, symbol)
        feed.records(part)
    _record(broker_url, prefix, tmp_path)
    path = store_path(tmp_path, "feed")
    db = sqlite3.connect(path, isolation_level=None)
    wanted = db.execute("SELECT * FROM bar").fetchall()
    older = sqlite3.connect(":memory:", isolation_level=None)
    migrate(older, upto=2)
    db.executescript("DROP VIEW bars; DROP TABLE bar; DELETE FROM migration WHERE number > 2;")
    for (sql,) in older.execute("SELECT sql FROM sqlite_schema WHERE name IN ('bar', 'bars') ORDER BY type"):
        db.execute(sql)
    db.close()
    LocalHistory(tmp_path).sessions("feed")  # whoever reads it first brings it up to date
    db = sqlite3.connect(path)
    assert db.execute("SELECT * FROM bar").fetchall() == wanted
    db.close()
