"""Derived MBP rows: Databento's own on the truth file, the engine's levels on any other."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import databento
import numpy as np
import pytest

from services.persist.local import LocalHistory
from shared.broker import Broker
from shared.export import export
from shared.export.layouts import MBP1, MBP10
from shared.export.mbp import Mbp
from shared.orderbook.engines import make_engine
from shared.records import Rows
from shared.units import F_LAST, F_SNAPSHOT, F_TOB, SIDE_ASK, SIDE_BID, UNDEF_PX
from tests.support.mbo import random_rows
from tests.support.recording import Feed, drain, load, writer

ARL = "arl-20250717.mbo.v1.dbn"


def _derived(rows: Rows, depth: int, cut: int = 700) -> Rows:
    book = Mbp(depth)
    made = [row for at in range(0, len(rows), cut) for row in book.rows(rows[at : at + cut])]
    return np.concatenate([np.empty(0, MBP1 if depth == 1 else MBP10), *made, *book.end()])


def _levels(row: np.void, side: str, depth: int = 10) -> list[list[int]]:
    names = [(f"{side}_px_{k:02d}", f"{side}_sz_{k:02d}", f"{side}_ct_{k:02d}") for k in range(depth)]
    return [[int(row[name]) for name in level] for level in names if row[level[0]] != UNDEF_PX]


def _store(
    broker: Broker, broker_url: str, prefix: str, data: Path, rows: Rows, symbols: dict[int, str]
) -> LocalHistory:
    feed = Feed(broker, dataset="XNAS.ITCH")
    for instrument, symbol in symbols.items():
        feed.mapping(instrument, symbol)
    feed.records(rows)
    recorder = writer(broker_url, prefix, data, block_rows=900, image_records=1200)
    recorder.open()
    drain(recorder)
    recorder.close()
    return LocalHistory(data)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # databento's, with pandas 3.1
def test_mbp10_of_arl_out_of_the_store_is_the_truth_row_for_row(
    market_data: Path, broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    rows, symbols = load(market_data / ARL)
    history = _store(broker, broker_url, prefix, tmp_path, rows, symbols)
    symbol = next(iter(symbols.values()))
    packed = (market_data / "arl-20250717.truth.jsonl.gz").read_bytes()
    truth = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    made = b"".join(export(history, "feed", symbol, "mbp-10", "dbn").chunks)
    found = databento.DBNStore.from_bytes(made).to_ndarray()
    assert len(found) == len(truth)
    for row, true in zip(found, truth, strict=True):
        said = (row["action"].decode(), int(row["sequence"]), _levels(row, "bid"), _levels(row, "ask"))
        assert said == (true["action"], true["sequence"], true["bids"], true["asks"])
    middle = int(rows["ts_recv"][3000])
    late = b"".join(export(history, "feed", symbol, "mbp-10", "dbn", start=middle).chunks)
    assert made.endswith(late[-(found["ts_recv"] >= middle).sum() * MBP10.itemsize :])
    top = b"".join(export(history, "feed", symbol, "mbp-1", "dbn").chunks)
    frame = databento.DBNStore.from_bytes(top).to_df()
    assert set(frame["symbol"]) == {symbol}
    last = next(row for row in reversed(truth) if row["bids"] and row["asks"])
    assert frame["bid_px_00"].iloc[-1] == last["bids"][0][0] / 1e9


@pytest.mark.parametrize("depth", [1, 10])
@pytest.mark.parametrize("name", ["clx5-20250924.mbo.dbn", "esm4-20240508-snapshot.mbo.dbn.zst", "made"])
def test_every_change_of_the_best_levels_has_a_row_with_the_book_after_it(
    name: str, depth: int, request: pytest.FixtureRequest
) -> None:
    if name == "made":
        rows = random_rows(3000, instruments=1)
        rows["price"] = 10**9 * (100 + np.random.default_rng(5).integers(-9, 9, 3000))
    else:
        rows = load(request.getfixturevalue("market_data") / name)[0]
        rows = rows[: 20_000 if "esm4" in name else 5000]
    rows["sequence"] = np.arange(len(rows))  # so that a row says which record it speaks of
    found = _derived(rows, depth)
    engine, key = make_engine("raw"), (int(rows["publisher_id"][0]), int(rows["instrument_id"][0]))
    single = rows.copy()
    single["flags"] |= F_LAST
    shown = {int(row["sequence"]): row for row in found if row["action"] != ord("T")}
    before: list[list[list[int]]] = [[], []]
    for index in range(len(rows)):
        engine.apply(single[index : index + 1], index + 1)
        hidden = rows["flags"][index] & F_SNAPSHOT and not rows["flags"][index] & F_LAST
        if hidden and index not in shown:
            continue
        after = [[list(level) for level in engine.levels(*key, side, depth)] for side in (SIDE_BID, SIDE_ASK)]
        row = shown.get(index)
        if row is not None:
            assert [_levels(row, "bid", depth), _levels(row, "ask", depth)] == after
        elif rows["action"][index] not in (ord("T"), ord("F")) and before != after:
            assert _is_the_booking_of_a_trade(rows, index)
        before = after
    assert int((found["action"] == ord("T")).sum()) == int((rows["action"] == ord("T")).sum())
    part = rows[-1500:]
    assert _derived(part, depth, cut=1).tobytes() == _derived(part, depth, cut=1500).tobytes()


def _is_the_booking_of_a_trade(rows: Rows, index: int) -> bool:
    """Whether a T and its F stand right before a record: then the trade's own row shows the book after it."""
    actions = rows["action"][max(0, index - 200) : index].tobytes().decode().rstrip("F")
    return actions.endswith("T") and rows["action"][index - 1] == ord("F")


def test_top_of_book_records_are_followed_by_asking_the_engine() -> None:
    rows = random_rows(8, instruments=1)
    rows["action"], rows["flags"] = ord("A"), F_TOB | F_LAST
    rows["side"] = np.frombuffer(b"BABABABA", np.uint8)
    rows["price"] = 10**9 * np.array([99, 101, 98, 102, 99, 101, 99, UNDEF_PX // 10**9])
    rows["price"][7] = UNDEF_PX
    found = _derived(rows, 1)
    assert [(row["bid_px_00"] // 10**9, row["ask_px_00"] // 10**9) for row in found[1:6]] == [
        (99, 101), (98, 101), (98, 102), (99, 102), (99, 101),
    ]  # fmt: skip
    assert found["ask_px_00"][-1] == UNDEF_PX
