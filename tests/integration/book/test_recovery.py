"""A book worker comes back to the very same state: from image, stream or persist's store; else it says it is stale."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.book import recovery, service
from services.book.service import BookService
from services.book.settings import BookSettings
from services.ingest.router import split
from shared import images, metrics
from shared.broker import Broker, Entry
from shared.orderbook.engines import make_engine
from shared.orderbook.shard import ShardState
from shared.records import Rows
from shared.wire.codec import InEntry, decode_in, decode_out, encode_records
from shared.wire.keys import parse_id, stream_id
from tests.integration.ingest.test_publisher import SHARDS, Writer
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.sources import ArraySource

FEED = "test"
LEASE_MS = 900  # of tests in which a shard takes longer than that to open


class Worker:
    """A BookService stepped by hand."""

    def __init__(self, broker_url: str, prefix: str, **options: object) -> None:
        settings = BookSettings(broker=broker_url, prefix=prefix, poll_ms=20, block_ms=5, image_s=3600, **options)  # type: ignore[arg-type]  # fmt: skip
        self.service = BookService(settings)
        self.service.start()

    def step_until(self, done: Callable[[], bool]) -> None:
        def probe() -> bool:
            self.service.step()
            return done()

        eventually(probe, timeout_s=30, every_s=0)

    def hashes(self) -> dict[int, str]:
        return {shard: owned.state.state_hash() for (_, shard), owned in self.service.owned.items()}

    def stop(self) -> None:
        self.service.drain()
        self.service.close()


@pytest.fixture
def sent() -> Rows:
    return random_rows(600, instruments=20, seed=5)


@pytest.fixture
def worker(broker_url: str, prefix: str) -> Iterator[Callable[[], Worker]]:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker(broker_url, prefix))
        return made[-1]

    yield make
    for one in made:
        one.service.close()


def offsets(broker: Broker) -> list[tuple[bytes | None, bytes | None]]:
    """(committed, end of the input) of every shard."""
    keys = broker.keys
    tails = broker.last_ids([keys.shard(FEED, shard, "in") for shard in range(SHARDS)])
    done = broker.pipe([("HGET", keys.shard(FEED, shard, "pos"), "book") for shard in range(SHARDS)])
    return [(book, tail.id if tail else None) for book, tail in zip(done, tails, strict=True)]


def images_written(broker: Broker) -> bool:
    """The last images are of the ends of their shards."""
    keys = broker.keys
    newest = broker.pipe([("HGET", keys.shard(FEED, shard, "pos"), "book_image") for shard in range(SHARDS)])
    return [tail for _, tail in offsets(broker)] == newest


@pytest.fixture
def done(
    broker_url: str, prefix: str, broker: Broker, worker: Callable[[], Worker], sent: Rows
) -> dict[int, str]:
    """A feed that has been taken to its end by a worker that is gone; the state hashes it left."""
    Writer(broker_url, prefix, ArraySource([sent])).start().run()
    first = worker()
    first.step_until(lambda: all(a == b for a, b in offsets(broker)) and images_written(broker))
    left = first.hashes()
    first.stop()
    return left


def test_leases_are_kept_while_many_shards_take_long_to_open(
    broker_url: str, prefix: str, broker: Broker, done: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening one shard takes longer than a lease lives, and all must be opened: none that was taken is lost."""
    for shard in range(SHARDS):
        drop_image(broker, shard)
    monkeypatch.setattr(recovery, "PAGE_ENTRIES", 4)

    monkeypatch.setattr(recovery, "decode_in", slow_decode)
    heir = Worker(broker_url, prefix, lease_ms=LEASE_MS)
    lost = metrics.get("mbo_book_epochs_lost_total").labels(FEED)
    before = lost._value.get()
    heir.step_until(lambda: len(heir.service.owned) == SHARDS)
    until = time.monotonic() + 1.5 * LEASE_MS / 1000
    heir.step_until(lambda: time.monotonic() > until)
    assert lost._value.get() == before
    assert heir.hashes() == done
    heir.service.close()


def test_leases_of_all_feeds_are_kept_while_a_shard_of_one_takes_long_to_open(
    broker_url: str, prefix: str, broker: Broker, done: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(broker_url, prefix, ArraySource([random_rows(9)]), feed="aside").start().run()
    for shard in range(SHARDS):
        drop_image(broker, shard)
    monkeypatch.setattr(recovery, "PAGE_ENTRIES", 4)
    monkeypatch.setattr(recovery, "decode_in", slow_decode)
    heir = Worker(broker_url, prefix, lease_ms=LEASE_MS)
    lost = metrics.get("mbo_book_epochs_lost_total").labels("aside")
    before = lost._value.get()
    heir.step_until(lambda: len(heir.service.owned) == 2 * SHARDS)
    assert lost._value.get() == before
    heir.service.close()


def test_a_gap_met_while_a_commit_is_on_its_way_costs_one_shard_only(
    broker_url: str,
    prefix: str,
    broker: Broker,
    worker: Callable[[], Worker],
    sent: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The replies of that commit are still to come on the connection on which the shard is released."""
    monkeypatch.setattr(service, "PIPELINE_RECORDS", 0)
    writer = Writer(broker_url, prefix, ArraySource([sent])).start()
    one = worker()
    one.step_until(lambda: len(one.service.owned) == SHARDS and all(a == b for a, b in offsets(broker)))
    writer.run(10)
    one.step_until(lambda: one.service._pending is not None)
    after_a_gap(broker, 0)
    one.step_until(lambda: one.service.facts()["stale"] == 1)
    assert {shard for (_, shard), owned in one.service.owned.items() if owned.state.stale} == {0}


def test_gaps_that_were_mended_are_forgotten(
    broker_url: str, prefix: str, broker: Broker, worker: Callable[[], Worker], sent: Rows
) -> None:
    """Only a gap that outlives every recovery is passed over."""
    writer = Writer(broker_url, prefix, ArraySource([sent])).start()
    one = worker()
    one.step_until(lambda: len(one.service.owned) == SHARDS)
    for _ in range(service.MAX_RECOVERIES + 1):
        writer.run(2)
        one.step_until(lambda: len(one.service.owned) == SHARDS and all(a == b for a, b in offsets(broker)))
        owned = one.service.owned[FEED, 0]
        at = owned.state.ordinal + 10
        gap = Entry(stream_id(owned.state.session, at).encode(), encode_records(sent[:1], at, 0, 0, 0))
        one.service._apply((FEED, 0), owned, [gap])
    one.step_until(lambda: len(one.service.owned) == SHARDS)
    assert one.service.facts()["stale"] == 0


def test_a_worker_that_lost_its_shard_removes_no_image(
    broker_url: str, prefix: str, broker: Broker, worker: Callable[[], Worker], done: dict[int, str]
) -> None:
    """Neither of the two that are kept, by which the new owner's successor starts."""
    one = take_over(worker)
    again = Writer(broker_url, prefix, ArraySource([random_rows(90, seed=9)], identity="again"))
    again.start().run()
    one.step_until(lambda: all(a == b for a, b in offsets(broker)) and images_written(broker))
    shard = one.service.owned[FEED, 0]
    kept = images.pointers(broker, FEED, 0)
    assert len(kept) == 2
    key = broker.keys.shard(FEED, 0, f"img:{shard.offset}:again")
    one.service._images.submit(shard, key, shard.offset, 0.0, shard.state.freeze())
    broker.call("HSET", broker.keys.shard(FEED, 0, "lease"), "token", "99:another", "epoch", 99)
    one.step_until(lambda: one.service.owned.get((FEED, 0)) is not shard)
    assert all(images.fetch(broker, pointer) for pointer in kept)


def slow_decode(blob: bytes) -> InEntry:
    time.sleep(0.06)
    return decode_in(blob)


def after_a_gap(broker: Broker, shard: int) -> None:
    """An entry that does not follow the last one of its shard."""
    stream = broker.keys.shard(FEED, shard, "in")
    (tail,) = broker.last_ids([stream])
    assert tail is not None
    session, ordinal = parse_id(tail.id)
    blob = encode_records(random_rows(1), ordinal + 10, 0, 0, 0)
    broker.call("XADD", stream, stream_id(session, ordinal + 10), "d", blob)


def take_over(worker: Callable[[], Worker]) -> Worker:
    heir = worker()
    heir.step_until(lambda: len(heir.service.owned) == SHARDS)
    return heir


def drop_image(broker: Broker, shard: int) -> None:
    keys = broker.keys
    found = broker.hash(keys.shard(FEED, shard, "img"))
    assert found
    broker.call("DEL", keys.shard(FEED, shard, "img"))


def lose_all(broker: Broker) -> None:
    """No shard has images any more, or more of its stream than the last entry."""
    for shard in range(SHARDS):
        drop_image(broker, shard)
        broker.call("XTRIM", broker.keys.shard(FEED, shard, "in"), "MAXLEN", "=", 1)


def test_the_state_is_that_of_one_engine_over_the_source(done: dict[int, str], sent: Rows) -> None:
    for shard, records in enumerate(split(sent, SHARDS)):
        engine = make_engine("uncross")
        engine.clear(ordinal=1)
        engine.apply(records, 2)
        engine.end(len(records) + 2)
        assert engine.state_hash() == done[shard]


def test_recovery_from_the_image(worker: Callable[[], Worker], done: dict[int, str]) -> None:
    assert take_over(worker).hashes() == done


def test_recovery_from_the_stream_when_an_image_is_damaged(
    worker: Callable[[], Worker], broker: Broker, done: dict[int, str]
) -> None:
    for shard in range(SHARDS):
        found = broker.call("KEYS", broker.keys.shard(FEED, shard, "img:*").replace("[", "\\["))
        for key in found:
            broker.call("HSET", key, "0", b"damaged")
    assert take_over(worker).hashes() == done


def test_recovery_from_the_stream_without_images(
    worker: Callable[[], Worker], broker: Broker, done: dict[int, str]
) -> None:
    for shard in range(SHARDS):
        drop_image(broker, shard)
    assert take_over(worker).hashes() == done


def test_recovery_from_the_store_when_the_stream_is_trimmed(
    worker: Callable[[], Worker],
    broker: Broker,
    broker_url: str,
    prefix: str,
    done: dict[int, str],
    tmp_path: Path,
) -> None:
    command = [
        sys.executable,
        "-m",
        "services.persist",
        "--broker",
        broker_url,
        "--prefix",
        prefix,
        "--data",
        str(tmp_path),
    ]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MBO_")}
    persist = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    try:
        keys = broker.keys
        eventually(
            lambda: (
                [tail for _, tail in offsets(broker)]
                == broker.pipe(
                    [("HGET", keys.shard(FEED, shard, "pos"), "persist") for shard in range(SHARDS)]
                )
                and broker.call("HGET", keys.history, FEED)
            ),
            timeout_s=60,
        )
        lose_all(broker)
        assert take_over(worker).hashes() == done
    finally:
        persist.terminate()
        persist.wait(30)


def test_without_any_of_them_a_shard_is_stale_and_says_so(
    worker: Callable[[], Worker],
    broker: Broker,
    broker_url: str,
    prefix: str,
    done: dict[int, str],
    sent: Rows,
) -> None:
    lose_all(broker)
    heir = take_over(worker)
    assert heir.service.facts()["stale"] == SHARDS
    again = Writer(
        broker_url, prefix, ArraySource([sent, {"type": "gap", "reason": "test"}], identity="again")
    )
    again.start().run()
    heir.step_until(lambda: all(a == b for a, b in offsets(broker)))
    last = broker.last_ids([broker.keys.shard(FEED, shard, "out") for shard in range(SHARDS)])
    assert all(tail is not None and decode_out(tail.d).stale for tail in last)


def test_a_damaged_image_of_the_store_makes_the_shard_stale_too(
    worker: Callable[[], Worker], broker: Broker, done: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> ShardState:
        return ShardState.restore(b"damaged")

    monkeypatch.setattr(recovery, "from_history", damaged)
    lose_all(broker)
    assert take_over(worker).service.facts()["stale"] == SHARDS


def test_a_new_session_cures_a_stale_shard(
    worker: Callable[[], Worker],
    broker: Broker,
    broker_url: str,
    prefix: str,
    done: dict[int, str],
    sent: Rows,
) -> None:
    lose_all(broker)
    heir = take_over(worker)
    Writer(broker_url, prefix, ArraySource([sent], identity="again")).start().run()
    heir.step_until(lambda: all(a == b for a, b in offsets(broker)))
    assert heir.service.facts()["stale"] == 0
    assert heir.hashes() == done
