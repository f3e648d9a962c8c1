"""A book worker comes back to the very same state: from image, stream or persist's store; else it says it is stale."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.book import recovery
from services.book.service import BookService
from services.book.settings import BookSettings
from services.ingest.router import split
from shared import metrics
from shared.broker import Broker
from shared.orderbook.engines import make_engine
from shared.records import Rows
from shared.wire.codec import InEntry, decode_in, decode_out
from tests.integration.ingest.test_publisher import SHARDS, Writer
from tests.support import eventually
from tests.support.mbo import random_rows
from tests.support.sources import ArraySource

FEED = "test"


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

    def slow(blob: bytes) -> InEntry:
        time.sleep(0.02)
        return decode_in(blob)

    monkeypatch.setattr(recovery, "decode_in", slow)
    heir = Worker(broker_url, prefix, lease_ms=300)
    lost = metrics.get("mbo_book_epochs_lost_total").labels(FEED)
    before = lost._value.get()
    heir.step_until(lambda: len(heir.service.owned) == SHARDS)
    until = time.monotonic() + 0.5
    heir.step_until(lambda: time.monotonic() > until)
    assert lost._value.get() == before
    assert heir.hashes() == done
    heir.service.close()


def take_over(worker: Callable[[], Worker]) -> Worker:
    heir = worker()
    heir.step_until(lambda: len(heir.service.owned) == SHARDS)
    return heir


def drop_image(broker: Broker, shard: int) -> None:
    keys = broker.keys
    found = broker.hash(keys.shard(FEED, shard, "img"))
    assert found
    broker.call("DEL", keys.shard(FEED, shard, "img"))


def trim_all(broker: Broker, shard: int) -> None:
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
        for shard in range(SHARDS):
            drop_image(broker, shard)
            trim_all(broker, shard)
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
    for shard in range(SHARDS):
        drop_image(broker, shard)
        trim_all(broker, shard)
    heir = take_over(worker)
    assert heir.service.facts()["stale"] == SHARDS
    again = Writer(
        broker_url, prefix, ArraySource([sent, {"type": "gap", "reason": "test"}], identity="again")
    )
    again.start().run()
    heir.step_until(lambda: all(a == b for a, b in offsets(broker)))
    last = broker.last_ids([broker.keys.shard(FEED, shard, "out") for shard in range(SHARDS)])
    assert all(tail is not None and decode_out(tail.d).stale for tail in last)


def test_a_new_session_cures_a_stale_shard(
    worker: Callable[[], Worker],
    broker: Broker,
    broker_url: str,
    prefix: str,
    done: dict[int, str],
    sent: Rows,
) -> None:
    for shard in range(SHARDS):
        drop_image(broker, shard)
        trim_all(broker, shard)
    heir = take_over(worker)
    Writer(broker_url, prefix, ArraySource([sent], identity="again")).start().run()
    heir.step_until(lambda: all(a == b for a, b in offsets(broker)))
    assert heir.service.facts()["stale"] == 0
    assert heir.hashes() == done
