"""A symbol that gets another instrument id: ids are of one day only (MARKET_DATA item 10), clients write symbols."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.broker import Broker
from shared.records import Rows
from shared.wire.keys import shard_of
from tests.integration.gateway.test_recall import served
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import START_NS, record, rows
from tests.support.sse import Stream, book_sides, fold

DAY_NS = 86_400_000_000_000
ALL = "symbols=ONE&channels=bbo,book,trades,mbo"


@pytest.fixture
def feed(broker: Broker) -> Feed:
    """A file of two days names both ids of ONE at its beginning."""
    feed = Feed(broker, symbols={1: "ONE", 8: "ONE"})
    feed.records(day(1, 99.0, instrument_id=1))
    return feed


def day(number: int, bid: float, **instrument: int) -> Rows:
    """A bid that rests and a trade, both of a day."""
    order, trade = 10 * number, record("T", "A", bid, 1, 0, **instrument)
    found = rows(record("A", "B", bid, 5, order, **instrument), trade)
    found["ts_recv"] += number * DAY_NS
    return found


def test_a_symbol_is_the_id_that_trades_now(gateway: Gateway, feed: Feed) -> None:
    assert gateway.json("/v1/book/ONE")["instrument_id"] == 1
    feed.records(day(2, 101.0, instrument_id=8))
    gateway.caught_up(feed)
    assert gateway.json("/v1/book/ONE")["instrument_id"] == 8
    assert gateway.json("/v1/book/ONE?level=3")["instrument_id"] == 8
    assert gateway.json("/v1/book/TEST.FEED:ONE")["bids"] == [["101", 5, 1]]
    assert gateway.json("/v1/book/1")["bids"] == [["99", 5, 1]]
    views = Stream(gateway.url, "symbols=ONE&channels=book").first("hello")["views"]
    assert [view["instrument_id"] for view in views] == [8]


def test_a_symbol_is_one_row_of_the_instruments(gateway: Gateway, feed: Feed) -> None:
    def listed(query: str = "") -> list[tuple[int, list[int]]]:
        found = gateway.json(f"/v1/instruments{query}")
        assert found["total"] == len(found["instruments"])
        return [(row["instrument_id"], row["other_ids"]) for row in found["instruments"]]

    assert listed() == [(1, [8])]
    feed.records(day(2, 101.0, instrument_id=8))
    gateway.caught_up(feed)
    for query in ("", "?search=1", "?search=8", "?limit=1"):
        assert listed(query) == [(8, [1])]


@pytest.mark.parametrize("symbol", ["ONE", "test.feed:ONE"])
def test_a_stream_of_a_symbol_follows_it_to_its_next_id(gateway: Gateway, feed: Feed, symbol: str) -> None:
    stream = Stream(gateway.url, ALL.replace("ONE", symbol))
    by_id = Stream(gateway.url, ALL.replace("ONE", "1"))
    stream.first("snapshot", lambda e: e["channel"] == "mbo")
    by_id.first("snapshot", lambda e: e["channel"] == "mbo")
    feed.records(day(2, 101.0, instrument_id=8))
    feed.records(rows(record("T", "A", 101, 2, 0, instrument_id=8)))
    snapshots = [
        stream.first("snapshot", lambda e, c=channel: e["instrument_id"] == 8 and e["channel"] == c)  # type: ignore[misc]
        for channel in ("book", "mbo")
    ]
    assert snapshots[0]["bids"] == [["101", 5, 1]]
    assert snapshots[1]["bids"], "the orders of the new id"
    assert stream.first("bbo", lambda e: ":8:" in e["view"])["bid"] == ["101", 5, 1]
    stream.first("trade", lambda e: e["size"] == 2)
    assert [(e["price"], e["size"]) for e in stream.all("trade")] == [("101", 1), ("101", 2)]
    stream.check()
    feed.records(rows(record("A", "A", 100, 1, 99, instrument_id=1)))
    by_id.until_id("test.feed", 0, feed.ordinals[0])
    assert not [v for hello in by_id.all("hello") for v in hello["views"] if v["instrument_id"] == 8]


def test_a_mapping_of_tomorrow_that_comes_live_is_followed_too(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, ALL)
    stream.first("snapshot")
    feed.control({"type": "mapping", "instrument_id": 9, "symbol": "ONE"})
    feed.records(day(2, 102.0, instrument_id=9))
    assert stream.first("trade", lambda e: ":9:" in e["view"])["price"] == "102"
    assert stream.first("bbo", lambda e: ":9:" in e["view"] and e["bid"])["bid"] == ["102", 5, 1]
    stream.check()


@pytest.mark.parametrize(
    "symbols", [{1: "ONE", 8: "ONE"}, {1: "ONE", 8: "TWO"}], ids=["named-at-once", "mapped"]
)
@pytest.mark.parametrize("shards", [1, 4])
def test_a_replay_of_a_symbol_goes_on_with_its_next_id(
    broker: Broker, tmp_path: Path, symbols: dict[int, str], shards: int
) -> None:
    feed = Feed(broker, symbols=symbols, shards=shards)
    old, new = shard_of(1, shards), shard_of(8, shards)
    feed.records(day(1, 99.0, instrument_id=1), old)
    if symbols[8] != "ONE":
        feed.records(day(1, 55.0, instrument_id=8), new)
        feed.control({"type": "mapping", "instrument_id": 8, "symbol": "ONE"}, new)
    feed.records(day(2, 101.0, instrument_id=8), new)
    feed.records(day(3, 102.0, instrument_id=8), new)
    with served(broker, feed, tmp_path) as gateway:

        def played(query: str = "", last_id: str = "") -> Stream:
            asked = f"symbols=ONE&channels=book,trades,mbo&speed=max{query}"
            stream = Stream(gateway.url, asked, path="/v1/replay", last_id=last_id)
            stream.first("bye")
            stream.check()
            return stream

        def trades(stream: Stream) -> list[str]:
            return [event["price"] for event in stream.all("trade")]

        whole = played()
        assert trades(whole) == ["99", "101", "102"]
        assert [{v["instrument_id"] for v in e["views"]} for e in whole.all("hello")] == [{1}, {8}]
        (view,) = [view for name, view in fold(whole.events).items() if ":8:" in name]
        assert {side: view[side] for side in ("bids", "asks")} == book_sides(gateway.json("/v1/book/8"))
        assert trades(played(f"&end={START_NS + 3 * DAY_NS}")) == ["99", "101"]
        assert trades(played(f"&end={START_NS + 2 * DAY_NS}")) == ["99"]
        assert trades(played(f"&start={START_NS + 2 * DAY_NS}")) == ["101", "102"]
        for at, last_id in whole.marks:
            before = [event.data["price"] for event in whole.events[:at] if event.name == "trade"]
            assert before + trades(played(last_id=last_id)) == trades(whole)
