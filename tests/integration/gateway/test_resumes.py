"""A client that is cut off anywhere and comes back to any gateway has every trade and every record once, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway import hub
from services.persist.process import ReaderProcess
from services.persist.settings import PersistSettings
from shared.broker import Broker
from shared.client import Client
from tests.support import eventually, recording
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import record, rows
from tests.support.sse import Stream

ROUNDS = 12
QUERY = "symbols=ONE&channels=mbo,trades"


def test_trades_and_records_survive_any_cut_in_any_gateway(
    broker_url: str, prefix: str, broker: Broker
) -> None:
    rng = random.Random(3)
    feed = Feed(broker, symbols={1: "ONE", 2: "TWO"})
    sent: list[int] = []
    trades: list[int] = []
    sequence = 0

    def market() -> None:
        """A few entries whose last record of each instrument ends its event."""
        nonlocal sequence
        for _ in range(rng.randint(1, 6)):
            found = []
            for _ in range(rng.randint(1, 5)):
                sequence += 1
                number, action = rng.choice((1, 1, 2)), rng.choice("AACT")
                flags = rng.choice((0, 128, 128))
                fields = {"instrument_id": number, "sequence": sequence, "flags": flags}
                found.append(
                    record(
                        action, rng.choice("BA"), 100 + rng.randint(-9, 9), 2, rng.randint(1, 40), **fields
                    )
                )
                if number == 1:
                    sent.append(sequence)
                    if action == "T":
                        trades.append(sequence)
            feed.records(rows(*found))
        close()

    def close() -> None:
        """The instrument's event ends, so that streams move up to here."""
        nonlocal sequence
        sequence += 1
        sent.append(sequence)
        feed.records(rows(record("N", "N", 0, 0, 0, instrument_id=1, sequence=sequence)))

    feed.image()
    got: list[int] = []
    got_trades: list[int] = []
    rule = Client("http://unused", symbols="ONE")

    def take(stream: Stream, count: int) -> str:
        """Follow the rule over the first `count` events; the last id among them."""
        for event in stream.events[:count]:
            taken = rule.take(event.name, event.data)
            if taken is not None and event.name == "mbo":
                got.extend(row[9] for row in taken.data["rows"])
            elif taken is not None and event.name == "trade":
                got_trades.append(event.data["sequence"])
        return next((mark for at, mark in reversed(stream.marks) if at <= count), "")

    with Gateway(broker_url, prefix) as one, Gateway(broker_url, prefix) as two:
        last_id = ""
        for round_ in range(ROUNDS):
            gateway = rng.choice((one, two))
            gateway.caught_up(feed)
            stream = Stream(gateway.url, QUERY, last_id=last_id)
            stream.first("heartbeat")
            if not last_id:
                stream.first("snapshot")
            market()
            stream.until_id("test.feed", 0, feed.ordinals[0] - rng.randint(0, 3) if round_ else 1)
            stream.close()
            assert round_ == 0 or all(v["resumed"] for v in stream.all("hello")[0]["views"])
            whole = len(stream.events)
            last_id = take(stream, whole if not round_ else rng.randint(min(2, whole), whole)) or last_id
        close()
        one.caught_up(feed)
        stream = Stream(one.url, QUERY, last_id=last_id)
        stream.until_id("test.feed", 0, feed.ordinals[0])
        stream.close()
        take(stream, len(stream.events))
    rule.close()
    assert got == sent
    assert got_trades == trades


class Recorded:
    """A persister's store of the feed with a reader beside it; the streams hold only the newest entries."""

    def __init__(self, broker_url: str, prefix: str, data: Path) -> None:
        self.reader = ReaderProcess(PersistSettings(broker=broker_url, prefix=prefix, data=str(data)))
        self._where = (broker_url, prefix, data)

    def take(self, broker: Broker, feed: Feed) -> None:
        """Store everything, then trim both streams to the newest image's entry."""
        feed.image()
        feed.records(rows(record("N", "N", 0, 0, 0, instrument_id=2)))
        feed.image()
        writer = recording.writer(*self._where, feed.name, image_records=300)
        writer.open()
        recording.drain(writer)
        writer.close()
        self.reader.watch()
        eventually(lambda: broker.hash(broker.keys.history), timeout_s=60)
        for stream in ("in", "out"):
            feed.trim(stream, feed.ordinals[0])


def events(feed: Feed, rng: random.Random, count: int, numbers: list[int], trades: list[int]) -> None:
    """Entries of both instruments whose events overlap; `numbers` gets the sequences of ONE."""
    newest = len(numbers) + count
    for sequence in range(len(numbers) + 1, newest + 1):
        action = rng.choice("AACT")
        price, size, order = 100 + rng.randint(-9, 9), rng.randint(1, 9), rng.randint(1, 40)
        flags = 128 if sequence == newest else rng.choice((0, 128))
        mine = record(action, rng.choice("BA"), price, size, order, sequence=sequence, flags=flags)
        other = record("A", "B", price, size, sequence, instrument_id=2, flags=rng.choice((0, 128)))
        feed.records(rows(other, mine))
        numbers.append(sequence)
        if action == "T":
            trades.append(sequence)


@pytest.mark.parametrize("sessions", [1, 2])
def test_what_the_streams_no_longer_hold_comes_from_the_recording(
    broker_url: str, prefix: str, broker: Broker, tmp_path: Path, sessions: int
) -> None:
    rng = random.Random(5)
    feed = Feed(broker, symbols={1: "ONE", 2: "TWO"})
    recorded = Recorded(broker_url, prefix, tmp_path)
    sent: list[int] = []
    trades: list[int] = []
    feed.image()
    rule = Client("http://unused", symbols="ONE")
    got: dict[str, list[int]] = {"mbo": [], "trade": []}

    def take(stream: Stream) -> None:
        for event in stream.events:
            taken = rule.take(event.name, event.data)
            if taken is not None and event.name == "mbo":
                got["mbo"].extend(row[9] for row in taken.data["rows"])
            elif taken is not None and event.name == "trade":
                got["trade"].append(event.data["sequence"])

    with Gateway(broker_url, prefix) as one:
        one.caught_up(feed)
        stream = Stream(one.url, QUERY)
        stream.first("snapshot")
        events(feed, rng, 30, sent, trades)
        stream.until_id(feed.name, 0, feed.ordinals[0])
        stream.close()
        take(stream)
    events(feed, rng, 2500, sent, trades)
    if sessions == 2:
        feed.begin()
        events(feed, rng, 500, sent, trades)
    recorded.take(broker, feed)
    try:
        with Gateway(broker_url, prefix) as two:
            two.caught_up(feed)
            again = Stream(two.url, QUERY, last_id=stream.id)
            resumed = {view["channel"]: view["resumed"] for view in again.first("hello")["views"]}
            assert resumed == {"mbo": sessions == 1, "trades": True}
            again.first("heartbeat")
            events(feed, rng, 20, sent, trades)
            again.until_id(feed.name, 0, feed.ordinals[0])
            again.check()
            again.close()
            take(again)
    finally:
        recorded.reader.close()
        rule.close()
    assert got["trade"] == trades
    if sessions == 1:
        assert got["mbo"] == sent


def test_without_a_recording_it_says_that_something_is_missing(
    broker_url: str, prefix: str, broker: Broker
) -> None:
    feed = Feed(broker)
    with Gateway(broker_url, prefix) as one:
        one.caught_up(feed)
        first = Stream(one.url, "symbols=ONE&channels=trades")
        first.first("heartbeat")
        first.close()
    for _ in range(3):
        feed.records(rows(record("T", "B", 100, 1, 1)))
    feed.image()
    for stream in ("in", "out"):
        feed.trim(stream, feed.ordinals[0])
    with Gateway(broker_url, prefix) as two:
        two.caught_up(feed)
        again = Stream(two.url, "symbols=ONE&channels=trades", last_id=first.id)
        assert [view["resumed"] for view in again.first("hello")["views"]] == [False]


def test_a_client_ahead_of_its_new_gateway_waits_for_it(broker_url: str, prefix: str, broker: Broker) -> None:
    feed = Feed(broker)
    with Gateway(broker_url, prefix) as one:
        one.caught_up(feed)
        at = feed.ordinals[0] + 1
        stream = Stream(one.url, "symbols=ONE&channels=trades,mbo", last_id=f"{feed.name}:1:0.{at}")
        feed.records(rows(record("T", "B", 100, 1, 1)))
        assert all(view["resumed"] for view in stream.first("hello")["views"])


def test_a_position_in_a_run_that_is_gone_is_no_position_in_another(
    broker_url: str, prefix: str, broker: Broker
) -> None:
    """`mbo up --fresh`, a broker that was replaced: its sessions count from 1 again, and clients come back by id."""
    feed = Feed(broker)
    feed.records(rows(record("A", "B", 99, 5, 1)))
    channels = "symbols=ONE&channels=book,trades,mbo"
    with Gateway(broker_url, prefix) as one:
        one.caught_up(feed)
        stream = Stream(one.url, channels)
        stream.first("heartbeat")
        same = Stream(one.url, channels, last_id=stream.id)
        assert [view["resumed"] for view in same.first("hello")["views"]] == [True, True, True]
    fresh = Feed(Broker(broker_url, f"{prefix}fresh", name="feed"), source="another")
    fresh.records(rows(record("A", "B", 42, 1, 7)))
    with Gateway(broker_url, f"{prefix}fresh") as two:
        two.caught_up(fresh)
        for _ in range(3):
            fresh.records(rows(record("T", "B", 42, 1, 0)))
        two.caught_up(fresh)
        again = Stream(two.url, channels, last_id=stream.id)
        assert [view["resumed"] for view in again.first("hello")["views"]] == [False, False, False]
        assert again.first("snapshot", lambda e: e["channel"] == "book")["bids"] == [["42", 1, 1]]
    fresh.broker.close()


@pytest.fixture
def resuming(broker_url: str, prefix: str, broker: Broker) -> Iterator[tuple[Gateway, Feed, str]]:
    """A gateway whose streams must be read for the id."""
    feed = Feed(broker)
    with Gateway(broker_url, prefix) as gateway:
        feed.records(rows(*(record("T", "B", 100, 1, n) for n in range(1, 9))))
        gateway.caught_up(feed)
        yield gateway, feed, f"{feed.name}:1:0.5"


def test_a_resume_that_fails_in_any_way_leaves_no_client_behind(
    resuming: tuple[Gateway, Feed, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _, last_id = resuming

    async def damaged(*_: object) -> None:
        raise ValueError("an entry that cannot be read")

    monkeypatch.setattr(gateway.service.resumer, "read", damaged)
    stream = Stream(gateway.url, "symbols=ONE&channels=trades", last_id=last_id)
    assert stream.first("bye")["reason"] == "failed"
    eventually(lambda: stream.ended and not gateway.service.hub.clients)


def test_what_waits_for_a_resume_has_a_limit(
    resuming: tuple[Gateway, Feed, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, feed, last_id = resuming

    async def for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(gateway.service.resumer, "read", for_ever)
    monkeypatch.setattr(hub, "PENDING_BYTES", 2_000)
    stream = Stream(gateway.url, "symbols=ONE&channels=trades", last_id=last_id)
    eventually(lambda: gateway.service.hub.clients)
    for _ in range(20):
        feed.records(rows(record("T", "B", 100, 1, 1)))
    assert stream.first("bye")["reason"] == "slow"
    assert not gateway.service.hub.clients
