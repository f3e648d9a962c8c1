"""The stream's protocol on a real gateway: snapshot then deltas, resume, sessions, orders, ends."""

from __future__ import annotations

import pytest

from services.gateway import vector
from services.gateway.vector import ShardKey
from shared import metrics
from shared.broker import Broker
from shared.wire.keys import stream_id
from tests.support import eventually
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import record, rows
from tests.support.sse import Stream, book_sides, fold


@pytest.fixture
def feed(broker: Broker) -> Feed:
    return Feed(broker, symbols={1: "ONE", 2: "TWO"})


def add(order: int, side: str, price: float, size: int = 1, **more: int) -> dict[str, object]:
    return record("A", side, price, size, order, **more)


def book_of(
    gateway: Gateway, symbol: str = "ONE", depth: str = "all"
) -> dict[str, dict[str, tuple[int, int]]]:
    return book_sides(gateway.json(f"/v1/book/{symbol}?depth={depth}"))


def test_snapshot_then_deltas_give_the_book(gateway: Gateway, feed: Feed) -> None:
    feed.records(rows(add(1, "B", 99.5, 3), add(2, "A", 100.25, 2)))
    gateway.caught_up(feed)
    stream = Stream(gateway.url, "symbols=ONE&channels=book,bbo,trades,status&depth=all")
    stream.first("snapshot")
    feed.records(rows(add(3, "B", 99.75, 7), record("C", "A", 100.25, 1, 2), record("T", "B", 100.25, 1, 2)))
    feed.records(rows(record("C", "B", 99.5, 3, 1)))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    stream.check()
    (view,) = fold(stream.events).values()
    assert {side: view[side] for side in ("bids", "asks")} == book_of(gateway)
    assert view["bids"] == {"99.75": (7, 1)}
    assert stream.all("bbo")[-1]["bid"] == ["99.75", 7, 1]
    assert [trade["price"] for trade in stream.all("trade")] == ["100.25"]
    chain = [stream.all("snapshot")[0], *stream.all("delta")]
    assert [event["q"] for event in chain[:-1]] == [event["p"] for event in chain[1:]]


def test_top_n_holds_exactly_n_levels(gateway: Gateway, feed: Feed) -> None:
    feed.records(rows(*(add(n, "B", 90 + n) for n in range(1, 6))))
    gateway.caught_up(feed)
    stream = Stream(gateway.url, "symbols=ONE&channels=book&depth=2")
    stream.first("snapshot")
    feed.records(rows(record("C", "B", 95, 1, 5)))
    feed.records(rows(add(9, "B", 99)))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    (view,) = fold(stream.events).values()
    assert view["bids"] == {"99": (1, 1), "94": (1, 1)}


def test_every_bbo_change_is_sent_in_order(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=bbo")
    stream.first("heartbeat")
    feed.records(rows(*(add(n, "B", 90 + n) for n in range(1, 6))))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    assert [event["bid"][0] for event in stream.all("bbo")] == ["91", "92", "93", "94", "95"]
    ordinals = [event["ordinal"] for event in stream.all("bbo")]
    assert ordinals == sorted(ordinals)


def test_a_crossed_book_is_published_uncrossed_with_its_auction(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=book,bbo,status")
    stream.first("heartbeat")
    feed.records(rows(add(1, "B", 101, 5), add(2, "B", 99, 1), add(3, "A", 100, 3), add(4, "A", 102, 1)))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    (view,) = fold(stream.events).values()
    assert view["auction"]["size"] == 3
    assert not view["crossed"]
    assert view["bids"] == {"101": (2, 1), "99": (1, 1)}
    assert view["asks"] == {"102": (1, 1)}
    assert stream.all("bbo")[-1]["bid"] == ["101", 2, 1]
    assert stream.all("status")[-1]["state"] == "auction"
    feed.records(rows(record("C", "B", 101, 5, 1)))
    feed.records(rows(record("C", "A", 100, 3, 3)))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    (view,) = fold(stream.events).values()
    assert view["auction"] is None
    assert stream.all("bbo")[-1]["ask"] == ["102", 1, 1]
    stream.check()


def test_resume_by_id_is_exact_on_the_same_gateway(gateway: Gateway, feed: Feed) -> None:
    first = Stream(gateway.url, "symbols=ONE&channels=book,trades,mbo&depth=all")
    first.first("snapshot", lambda e: e["channel"] == "mbo")
    feed.records(rows(add(1, "B", 99), record("T", "B", 99, 1, 1)))
    first.until_id("test.feed", 0, feed.ordinals[0])
    position = first.id
    first.close()
    feed.records(rows(add(2, "B", 98), record("T", "B", 98, 2, 2), add(5, "A", 105, instrument_id=2)))
    feed.records(rows(add(3, "B", 97)))
    gateway.caught_up(feed)
    second = Stream(gateway.url, "symbols=ONE&channels=book,trades,mbo&depth=all", last_id=position)
    second.until_id("test.feed", 0, feed.ordinals[0])
    second.check()
    assert all(view["resumed"] for view in second.first("hello")["views"])
    assert not second.all("snapshot")
    assert [trade["size"] for trade in second.all("trade")] == [2]
    assert [row[5] for batch in second.all("mbo") for row in batch["rows"]] == ["2", "2", "3"]
    joined = fold([*first.events, *second.events])
    assert {side: next(iter(joined.values()))[side] for side in ("bids", "asks")} == book_of(gateway)


def test_resume_in_another_gateway_is_exact_for_trades_and_orders(
    broker_url: str, prefix: str, gateway: Gateway, feed: Feed
) -> None:
    feed.image()
    first = Stream(gateway.url, "symbols=ONE&channels=book,trades,mbo")
    first.first("snapshot", lambda e: e["channel"] == "mbo")
    feed.records(rows(add(1, "B", 99), record("T", "B", 99, 1, 1)))
    first.until_id("test.feed", 0, feed.ordinals[0])
    gateway.stop()
    for n in range(2, 6):
        feed.records(rows(add(n, "B", 99 - n), record("T", "B", 99, n, n)))
    with Gateway(broker_url, prefix) as other:
        other.caught_up(feed)
        second = Stream(other.url, "symbols=ONE&channels=book,trades,mbo", last_id=first.id)
        second.until_id("test.feed", 0, feed.ordinals[0])
        feed.records(rows(add(9, "B", 50)))
        second.until_id("test.feed", 0, feed.ordinals[0])
        resumed = {view["channel"]: view["resumed"] for view in second.first("hello")["views"]}
        assert resumed == {"book": False, "trades": True, "mbo": True}
        assert [trade["size"] for trade in second.all("trade")] == [2, 3, 4, 5]
        assert [row[5] for b in second.all("mbo") for row in b["rows"]] == [
            "2",
            "2",
            "3",
            "3",
            "4",
            "4",
            "5",
            "5",
            "9",
        ]
        batches = second.all("mbo")
        assert batches[0]["p"] == next(
            v["q"] for v in second.first("hello")["views"] if v["channel"] == "mbo"
        )
        assert [b["q"] for b in batches[:-1]] == [b["p"] for b in batches[1:]]
        second.check()


def test_an_id_the_streams_no_longer_hold_starts_anew(
    broker_url: str, prefix: str, broker: Broker, feed: Feed
) -> None:
    for n in range(1, 6):
        feed.records(rows(add(n, "B", 99 - n), record("T", "B", 99, n, n)))
    feed.image()
    feed.trim("in", 8)
    feed.trim("out", 8)
    with Gateway(broker_url, prefix) as gateway:
        gateway.caught_up(feed)
        old = vector.encode({ShardKey("test.feed", 0): vector.Position(1, 4)})
        stream = Stream(gateway.url, "symbols=ONE&channels=trades,mbo", last_id=old)
        stream.first("snapshot")
        assert [view["resumed"] for view in stream.first("hello")["views"]] == [False, False]
        assert not stream.all("trade")


def test_a_new_session_sends_hello_and_snapshot(gateway: Gateway, feed: Feed) -> None:
    feed.records(rows(add(1, "B", 99)))
    gateway.caught_up(feed)
    stream = Stream(gateway.url, "symbols=ONE&channels=book,trades,mbo")
    stream.first("snapshot", lambda e: e["channel"] == "mbo")
    feed.begin()
    feed.records(rows(add(1, "B", 55), record("T", "B", 55, 1, 1)))
    stream.first("trade")
    stream.first("snapshot", lambda e: e["channel"] == "mbo" and e["session"] == 2)
    assert [view["session"] for hello in stream.all("hello")[1:] for view in hello["views"]] == [2, 2, 2]
    (view,) = fold(stream.events).values()
    assert view["bids"] == {"55": (1, 1)}
    assert stream.all("trade")[0]["session"] == 2
    stream.check()


def test_orders_come_in_queue_order_and_never_past_the_books(gateway: Gateway, feed: Feed) -> None:
    feed.records(rows(add(1, "B", 99, 3), add(2, "B", 99, 4), add(3, "B", 98, 5)))
    gateway.caught_up(feed)
    stream = Stream(gateway.url, "symbols=ONE&channels=mbo,book")
    snapshot = stream.first("snapshot", lambda e: e["channel"] == "mbo")
    assert [(px, [order[0] for order in orders]) for px, orders in snapshot["bids"]] == [
        ("99", ["1", "2"]),
        ("98", ["3"]),
    ]
    feed.publish = False
    feed.records(rows(record("M", "B", 98, 4, 2), record("C", "B", 99, 1, 1)))
    feed.publish = True
    feed.records(rows(record("X", "B", 98, 4, 2)))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    found = [
        (row[1], row[5], row[11], row[12], row[13], row[14]) for b in stream.all("mbo") for row in b["rows"]
    ]
    assert found == [
        ("M", "2", "moved", 4, 4, None),
        ("C", "1", "reduced", 3, 2, None),
        ("X", "2", "none", 0, 0, "bad_action"),
    ]
    place = gateway.json("/v1/orders/ONE/2")
    assert (place["index"], place["ahead"], place["price"], place["level"]) == (1, 5, "98", ["98", 9, 2])


def test_records_wait_for_the_books(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=mbo")
    stream.first("snapshot")
    feed.publish = False
    feed.records(rows(add(1, "B", 99)))
    marker = Stream(gateway.url, "symbols=TWO&channels=bbo")
    marker.first("heartbeat")
    assert not stream.all("mbo")
    feed.release()
    assert stream.first("mbo")["rows"][0][5] == "1"


def test_columns_say_the_same_as_rows(gateway: Gateway, feed: Feed) -> None:
    plain = Stream(gateway.url, "symbols=ONE&channels=mbo")
    packed = Stream(gateway.url, "symbols=ONE&channels=mbo&encoding=columns&compress=1")
    for stream in (plain, packed):
        stream.first("snapshot")
    feed.records(
        rows(
            add(1, "B", 99.25, 3),
            add(2**63 + 5, "A", 101.5, 2),
            record("C", "B", 99.25, 1, 1),
            record("R", "N", 0, 0, 0),
        )
    )
    for stream in (plain, packed):
        stream.until_id("test.feed", 0, feed.ordinals[0])
        stream.check()
    rows_, columns = plain.all("mbo")[0]["rows"], packed.all("mbo")[0]["columns"]
    assert [row[5] for row in rows_] == columns["order_id"]
    assert "".join(row[1] for row in rows_) == columns["action"]
    assert [row[4] for row in rows_] == columns["size"]
    unit = packed.all("mbo")[0]["px_unit"]
    assert float(unit) * columns["price"][0] == float(rows_[0][3])


def test_all_symbols_takes_in_what_appears(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ALL_SYMBOLS&channels=bbo,trades")
    stream.first("hello")
    feed.control({"type": "mapping", "instrument_id": 7, "symbol": "SEVEN"})
    feed.records(rows(add(1, "B", 9, instrument_id=7)))
    assert stream.first("bbo", lambda e: e["symbol"] == "SEVEN")["bid"] == ["9", 1, 1]
    names = {view["symbol"] for hello in stream.all("hello") for view in hello["views"]}
    assert names == {"ONE", "TWO", "SEVEN"}


def test_a_renamed_id_ends_the_stream_so_that_it_follows_the_symbol(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=bbo")
    stream.first("heartbeat")
    feed.control({"type": "mapping", "instrument_id": 1, "symbol": "OTHER"})
    assert stream.first("bye")["reason"] == "remapped"
    again = Stream(gateway.url, "symbols=OTHER&channels=bbo")
    assert again.first("hello")["views"][0]["instrument_id"] == 1


def test_consolidated_unless_a_publisher_is_named(gateway: Gateway, feed: Feed) -> None:
    feed.records(
        rows(
            add(1, "B", 99, 3),
            add(2, "A", 101, 1),
            add(1, "B", 99, 4, publisher_id=2),
            add(2, "A", 100, 1, publisher_id=2),
        )
    )
    gateway.caught_up(feed)
    both = Stream(gateway.url, "symbols=ONE&channels=book,bbo")
    one = Stream(gateway.url, "symbols=ONE&channels=book,bbo&publisher=1")
    assert both.first("snapshot")["bids"] == [["99", 7, 2]]
    assert one.first("snapshot")["bids"] == [["99", 3, 1]]
    assert [venue["publisher_id"] for venue in both.first("snapshot")["venues"]] == [1, 2]
    feed.records(rows(add(3, "A", 98.5, 2, publisher_id=3)))
    crossed = both.first("bbo", lambda e: e["ask"] and e["ask"][0] == "98.5")
    assert crossed["crossed"]
    assert crossed["bid"] == ["99", 7, 2]
    both.check()


@pytest.mark.parametrize("which", [{}, {"instrument_id": 1}])
def test_gap_and_stale_are_said_until_the_books_have_recovered(
    gateway: Gateway, feed: Feed, which: dict[str, int]
) -> None:
    feed.records(rows(add(1, "B", 99)))
    gateway.caught_up(feed)
    stream = Stream(gateway.url, "symbols=ONE&channels=book,bbo,status")
    stream.first("snapshot")
    feed.control({"type": "gap", "reason": "test", "from": 0, "to": None, **which})
    assert stream.first("delta")["stale"]
    assert stream.first("status", lambda e: e["stale"])["state"] == "stale"
    assert stream.first("bbo", lambda e: e["stale"])
    assert gateway.json("/v1/book/ONE")["stale"]
    seen = len(stream.events)
    feed.control({"type": "recovered"})
    gateway.caught_up(feed)
    eventually(lambda: any(e.name == "status" and not e.data["stale"] for e in stream.events[seen:]))
    assert not gateway.json("/v1/book/ONE")["stale"]


def test_a_reader_that_lost_its_place_reloads_and_sends_a_snapshot(
    gateway: Gateway, feed: Feed, broker: Broker
) -> None:
    feed.records(rows(add(1, "B", 99)))
    gateway.caught_up(feed)
    stream = Stream(gateway.url, "symbols=ONE&channels=book")
    stream.first("snapshot")
    feed.publish = False
    feed.records(rows(add(2, "B", 98)))
    (shard, entry), feed.waiting = feed.waiting[0], []
    feed.states[shard].apply(entry)  # committed, and trimmed before this gateway read it
    feed.image()
    feed.publish = True
    feed.records(rows(add(3, "B", 97)))
    stream.until_id("test.feed", 0, feed.ordinals[0])
    (view,) = fold(stream.events).values()
    assert view["bids"] == {"99": (1, 1), "98": (1, 1), "97": (1, 1)}
    assert len(stream.all("hello")) == 2


@pytest.mark.parametrize("stream", ["in", "out"])
def test_an_entry_that_is_not_of_its_stream_is_counted_and_not_folded(
    gateway: Gateway, feed: Feed, stream: str
) -> None:
    feed.records(rows(add(1, "B", 99.5)))
    client = Stream(gateway.url, "symbols=ONE&channels=book,mbo&depth=all")
    client.first("snapshot", lambda e: e["channel"] == "mbo")
    feed.image()
    name = feed.broker.keys.shard(feed.name, 0, stream)
    foreign = feed.broker.last_ids([name])[0]
    assert foreign is not None
    errors = metrics.get("mbo_service_errors_total").labels("gateway", "WireError")
    before = errors._value.get()
    feed.broker.call("XADD", name, stream_id(feed.session, feed.ordinals[0] + 1), "d", foreign.d)
    eventually(lambda: errors._value.get() > before)
    assert gateway.failure is None
    if stream == "out":
        eventually(lambda: gateway.json("/v1/book/ONE")["stale"])
    assert book_of(gateway) == {"bids": {"99.5": (1, 1)}, "asks": {}}


def test_bars_grow_and_close(gateway: Gateway, feed: Feed) -> None:
    second = 1_700_000_000_000_000_000
    stream = Stream(gateway.url, "symbols=ONE&channels=bars")
    stream.first("heartbeat")
    feed.records(
        rows(record("T", "B", 10, 2, 1, ts_recv=second), record("T", "A", 11, 3, 1, ts_recv=second + 5))
    )
    feed.records(rows(record("T", "B", 12, 1, 1, ts_recv=second + 10**9)))
    bar = stream.first("bar", lambda e: e["closed"] and e["period"] == "1s")
    assert (
        bar["open"],
        bar["close"],
        bar["volume"],
        bar["buy_volume"],
        bar["sell_volume"],
        bar["trades"],
    ) == ("10", "11", 5, 2, 3, 2)
    stream.check()


def test_the_drain_says_ended_and_stops(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=book")
    stream.first("heartbeat")
    feed.records(rows(add(1, "B", 99)))
    feed.end()
    status, answer = gateway.service.drained()
    assert (status, answer["ended"]) == (200, True)
    bye = stream.first("bye")
    assert (bye["reason"], bye["retry_ms"]) == ("ended", None)
    (view,) = fold(stream.events).values()
    assert view["bids"] == {"99": (1, 1)}
    eventually(lambda: stream.ended)


def test_sigterm_says_drain_and_when_to_come_back(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=book")
    stream.first("heartbeat")
    gateway.stop(drain=True)
    bye = stream.first("bye")
    assert bye["reason"] == "drain"
    assert bye["retry_ms"] > 0
    eventually(lambda: stream.ended)


def test_an_interval_conflates_and_ends_with_the_newest(gateway: Gateway, feed: Feed) -> None:
    stream = Stream(gateway.url, "symbols=ONE&channels=book,bbo&interval=200")
    stream.first("snapshot")
    for n in range(1, 40):
        feed.records(rows(add(n, "B", 90 + n / 10)))
    stream.first("delta", lambda e: e["q"] == feed.ordinals[0])
    assert len(stream.all("delta")) < 20
    (view,) = fold(stream.events).values()
    assert {side: view[side] for side in ("bids", "asks")} == book_of(gateway, depth="10")
    assert stream.first("bbo", lambda e: e["bid"] == ["93.9", 1, 1])
