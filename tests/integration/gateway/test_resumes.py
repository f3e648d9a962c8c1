"""A client that is cut off anywhere and comes back to any gateway has every trade and every record once, in order."""

from __future__ import annotations

import random

from shared.broker import Broker
from shared.client import Client
from tests.support.gateway import Feed, Gateway, Stream
from tests.support.mbo import record, rows

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
