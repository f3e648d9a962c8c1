"""Symbols, not ids, through the whole pipeline: an id that changes its symbol, and one id in two datasets."""

from __future__ import annotations

import json
from pathlib import Path

from services.persist.local import LocalHistory
from services.persist.sql import connect
from shared.dbn import Interval, Metadata, SymbolMapping
from shared.records import Rows
from tests.support.dbn_files import write
from tests.support.mbo import record, rows
from tests.support.pipeline import Pipeline

DAY_NS = 86_400_000_000_000
FIRST = 20_000 * DAY_NS  # midnight of 2024-10-04
ID = 7


def orders(price: float, day: int, first_id: int, instrument: int = ID) -> Rows:
    """Two resting orders at noon of a day."""
    made = rows(
        record("A", "B", price, 5, first_id, instrument_id=instrument),
        record("A", "A", price + 1, 3, first_id + 1, instrument_id=instrument),
    )
    made["ts_event"] = made["ts_recv"] = FIRST + day * DAY_NS + DAY_NS // 2
    return made


def names(dataset: str, *by_day: str) -> Metadata:
    """Instrument 7 under another symbol every day."""
    days = range(20241004, 20241004 + len(by_day) + 1)
    mappings = tuple(
        SymbolMapping(symbol, (Interval(days[i], days[i + 1], str(ID)),)) for i, symbol in enumerate(by_day)
    )
    return Metadata(dataset=dataset, start=FIRST, symbols=by_day, mappings=mappings)


def stored(data: Path, feed: str) -> list[tuple[str, str]]:
    db, _ = connect(str(data), feed)
    found = db.cursor().execute("SELECT symbol, order_id FROM mbo ORDER BY ordinal").fetchall()
    db.close()
    return [(symbol, order_id) for symbol, order_id in found]


def test_an_id_changes_its_symbol_over_night_and_is_another_instrument_in_another_dataset(
    tmp_path: Path,
) -> None:
    rolled = write(tmp_path / "rolled.dbn", orders(100, 0, 1), names("ROLL.SET", "OLDZ4", "NEWH5"))
    with rolled.open("ab") as file:
        file.write(orders(200, 1, 11).tobytes())
    other = write(tmp_path / "other.dbn", orders(300, 0, 21), names("OTHER.SET", "THIRD"))
    data = tmp_path / "data"
    with Pipeline(data, "--source", str(rolled), str(other), "--policy", "raw", "--drain") as pipeline:
        assert pipeline.wait() == 0, pipeline.log[-4000:]
    lines = [json.loads(line) for line in (data / "final-books.jsonl").read_text().splitlines()]
    books = {line["symbol"]: (line["instrument_id"], line["bids"], line["asks"]) for line in lines}
    px = 10**9
    assert books == {
        "NEWH5": (ID, [[200 * px, 5, 1]], [[201 * px, 3, 1]]),
        "THIRD": (ID, [[300 * px, 5, 1]], [[301 * px, 3, 1]]),
    }, "the orders of the old symbol are not in the book of the new one"
    assert stored(data, "roll.set") == [("OLDZ4", "1"), ("OLDZ4", "2"), ("NEWH5", "11"), ("NEWH5", "12")]
    assert stored(data, "other.set") == [("THIRD", "21"), ("THIRD", "22")]


def test_a_symbol_has_another_id_every_day(tmp_path: Path) -> None:
    days = (Interval(20241004, 20241005, "7"), Interval(20241005, 20241006, "8"))
    dataset = Metadata(
        dataset="DAILY.SET", start=FIRST, symbols=("ARL",), mappings=(SymbolMapping("ARL", days),)
    )
    path = write(tmp_path / "daily.dbn", orders(100, 0, 1, 7), dataset)
    with path.open("ab") as file:
        file.write(orders(200, 1, 11, 8).tobytes())
    with Pipeline(tmp_path / "data", "--source", str(path), "--drain") as pipeline:
        assert pipeline.wait() == 0, pipeline.log[-4000:]
    history = LocalHistory(tmp_path / "data")
    noons = (FIRST + DAY_NS // 2, FIRST + DAY_NS + DAY_NS // 2)
    found = [history.book_at("daily.set", "ARL", at) for at in (FIRST, *noons)]
    assert [book.span.instrument_id for book in found] == [7, 7, 8]
    bids = [int(book.state.engine.level_rows()["price"].min()) for book in found[1:]]
    assert bids == [100 * 10**9, 200 * 10**9]
