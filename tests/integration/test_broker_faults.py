"""Everything a broker can do to ingest and a book worker in the middle of their work: at the end all is there once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from services.book.service import BookService
from services.book.settings import BookSettings
from services.ingest.feed import Feed
from services.ingest.router import split
from services.ingest.settings import IngestSettings
from shared.broker import Broker
from shared.clock import SystemClock
from shared.errors import MboError
from shared.orderbook.engines import make_engine
from shared.records import Rows
from shared.wire.codec import decode_out
from shared.wire.keys import parse_id
from tests.integration.ingest.test_publisher import SHARDS, check_exactly_once
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.mbo import random_rows
from tests.support.replica import Pair
from tests.support.sources import ArraySource

FEED = "test"
RECORDS = 3000


class Both:
    """An ingest feed and a book worker, stepped in turn; what is recoverable resets them, as shared/runner.py does."""

    def __init__(self, url: str, prefix: str, sent: Rows) -> None:
        ingest = IngestSettings(
            broker=url,
            prefix=prefix,
            shards=SHARDS,
            entry_records=20,
            readers=("book",),
            floor_ms=0,
            lease_ms=60_000,
        )
        book = BookSettings(
            broker=url, prefix=prefix, poll_ms=20, block_ms=1, image_s=3600, owner="b", lease_ms=60_000
        )
        self.feed = Feed(ArraySource([sent]), FEED, ingest, SystemClock(), "i", None)
        self.worker = BookService(book)
        self.errors: list[str] = []
        self._started = False

    def step(self) -> None:
        for act, reset in ((self.feed.step, self.feed.reset), (self._work, self._reset)):
            try:
                act()
            except MboError as error:
                if not error.recoverable:
                    raise
                self.errors.append(f"{type(error).__name__}: {error}")
                reset()

    def _work(self) -> None:
        if not self._started:
            self.worker.start()
            self._started = True
        self.worker.step()

    def _reset(self) -> None:
        self._started = False
        self.worker.reset()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def until(self, done: Callable[[], bool]) -> None:
        def probe() -> bool:
            self.step()
            return done()

        try:
            eventually(probe, timeout_s=60, every_s=0)
        except AssertionError as error:
            owned = {key: each.offset for key, each in self.worker.owned.items()}
            raise AssertionError(
                f"{error}; errors {self.errors[-5:]}; sent {self.feed.facts()}; owned {owned}"
            ) from None

    def failed_with(self, name: str) -> bool:
        return any(name in error for error in self.errors)

    def finish(self) -> None:
        def all_committed() -> bool:
            ends = self.feed.publisher.ordinals
            done = {shard: owned.offset for (_, shard), owned in self.worker.owned.items()}
            return (
                self.feed.has_ended
                and len(done) == SHARDS
                and all(parse_id(done[shard])[1] == ends[shard] for shard in range(SHARDS))
            )

        self.until(all_committed)
        self.worker._finish()

    def close(self) -> None:
        self.feed.close()
        self.worker.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("p")) as running:
        yield running


@pytest.fixture
def sent() -> Rows:
    return random_rows(RECORDS, instruments=20, seed=7)


@pytest.fixture
def both(pair: Pair, prefix: str, sent: Rows) -> Iterator[Both]:
    made = Both(pair.url, prefix, sent)
    made.until(lambda: made.feed.publisher.position > RECORDS // 4 and len(made.worker.owned) == SHARDS)
    assert not made.errors
    yield made
    made.close()


def check_all(server: Pair | Cluster, prefix: str, both: Both, sent: Rows) -> None:
    """Each record and ordinal is there once, in input and output; the books are those of one engine over the source."""
    both.finish()
    broker = Broker(server.url, prefix)
    check_exactly_once(broker, sent)
    for shard, records in enumerate(split(sent, SHARDS)):
        engine = make_engine("uncross")
        engine.clear(ordinal=1)
        engine.apply(records, 2)
        engine.end(len(records) + 2)
        assert both.worker.owned[FEED, shard].state.state_hash() == engine.state_hash()
        at = last = 0
        for entry_id, fields in broker.call("XRANGE", broker.keys.shard(FEED, shard, "out"), "-", "+"):
            entry = decode_out(fields[1])
            session, ordinal = parse_id(entry_id)
            if session != at:  # the feed's node lost its metadata: a session from the source's beginning
                at, last = session, 0
            assert (entry.first, entry.last) == (last + 1, ordinal)
            last = entry.last
        assert last == len(records) + 2
    broker.close()


@pytest.mark.parametrize("size", [1, 50, 333, 2_000, 10_000])
def test_a_connection_that_breaks_in_the_middle_of_a_pipeline(
    pair: Pair, prefix: str, both: Both, sent: Rows, size: int
) -> None:
    pair.proxy.break_after(size)
    both.until(lambda: both.failed_with("BrokerLost"))
    pair.proxy.heal()
    check_all(pair, prefix, both, sent)


@pytest.mark.parametrize("steps", range(6))
def test_replies_that_are_lost(pair: Pair, prefix: str, both: Both, sent: Rows, steps: int) -> None:
    """The broker has done what it was asked, and nobody hears of it."""
    both.steps(steps)
    pair.proxy.lose_replies()
    both.until(lambda: both.failed_with("BrokerLost"))
    pair.proxy.heal()
    check_all(pair, prefix, both, sent)


def test_a_restart_that_loses_nothing(pair: Pair, prefix: str, both: Both, sent: Rows) -> None:
    pair.restart()
    both.steps(3)
    assert both.failed_with("BrokerLost")
    check_all(pair, prefix, both, sent)


@pytest.mark.parametrize("size", [1, 100, 3_000, 20_000, 60_000])
def test_a_restart_after_the_end_of_the_log_was_cut(
    pair: Pair, prefix: str, both: Both, sent: Rows, size: int
) -> None:
    pair.restart(cut_bytes=size)
    check_all(pair, prefix, both, sent)


def test_a_broker_that_is_loading_its_log_is_waited_for(
    pair: Pair, prefix: str, both: Both, sent: Rows
) -> None:
    pair.proxy.cut()
    pair.primary.kill()
    pair.primary.start(
        None, "--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024", wait=False
    )
    pair.proxy.heal()
    both.until(lambda: both.failed_with("loading"))
    pair.primary.client().config_set("key-load-delay", 0)
    eventually(pair.primary.answers, timeout_s=60)
    check_all(pair, prefix, both, sent)


def test_a_broker_that_is_full_takes_nothing_and_everything_once_there_is_room(
    pair: Pair, prefix: str, both: Both, sent: Rows
) -> None:
    client = pair.primary.client()
    client.config_set("maxmemory", 1)
    both.until(lambda: sum("BrokerFull" in error for error in both.errors) >= 4)
    broker = Broker(pair.url, prefix)
    before = broker.last_ids([broker.keys.shard(FEED, shard, "in") for shard in range(SHARDS)])
    both.steps(5)
    assert before == broker.last_ids([broker.keys.shard(FEED, shard, "in") for shard in range(SHARDS)])
    broker.close()
    client.config_set("maxmemory", 0)
    check_all(pair, prefix, both, sent)


@pytest.mark.parametrize("lag_s", [0.0, 0.05])
def test_a_fail_over_to_a_replica_that_lags(
    pair: Pair, prefix: str, both: Both, sent: Rows, lag_s: float
) -> None:
    """What the primary took after the replica stopped following is lost: entries, offsets and leases together."""
    pair.wait_linked()
    pair.replica.client().execute_command("REPLICAOF", "NO", "ONE")
    if lag_s:
        until = time.monotonic() + lag_s
        both.until(lambda: time.monotonic() > until)
    pair.fail_over()
    check_all(pair, prefix, both, sent)


def test_a_primary_that_became_a_replica_is_not_written_to(
    pair: Pair, prefix: str, both: Both, sent: Rows
) -> None:
    """READONLY is a fail-over that is not over yet: try again."""
    pair.wait_linked()
    old = pair.primary.client()
    old.execute_command("REPLICAOF", "127.0.0.1", str(pair.replica.port))
    both.until(lambda: both.failed_with("READONLY") or both.failed_with("BrokerLost"))
    old.execute_command("REPLICAOF", "NO", "ONE")
    pair.replica.client().execute_command("REPLICAOF", "127.0.0.1", str(pair.primary.port))
    check_all(pair, prefix, both, sent)
    pair.wait_linked()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("c")) as running:
        yield running


@pytest.mark.parametrize("cut_bytes", [0, 2_000, 30_000])
@pytest.mark.parametrize("index", range(3))
def test_a_cluster_node_that_dies_and_comes_back_behind_the_others(
    cluster: Cluster, prefix: str, sent: Rows, index: int, cut_bytes: int
) -> None:
    """Its shards, leases and offsets are as they were a moment ago, those of the other nodes as they are."""
    both = Both(cluster.url, prefix, sent)
    both.until(lambda: both.feed.publisher.position > RECORDS // 4 and len(both.worker.owned) == SHARDS)
    cluster.restart(index, cut_bytes)
    check_all(cluster, prefix, both, sent)
    both.close()
