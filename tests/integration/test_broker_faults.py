"""Everything a broker can do to ingest and a book worker in the middle of their work: at the end all is there once.

One server, and a cluster of three: there the fault strikes the node of the feed's own keys, or one with shards only.
"""

from __future__ import annotations

import secrets
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
from shared.wire.keys import Keys, parse_id
from tests.integration.ingest.test_publisher import SHARDS, check_exactly_once
from tests.support import eventually
from tests.support.cluster import Cluster, node_of
from tests.support.mbo import random_rows
from tests.support.replica import Pair
from tests.support.sources import ArraySource

FEED = "test"
RECORDS = 3000
LOADED = 8000  # commands in a log: a server that loads answers once every 1,024 of them
Server = Pair | Cluster


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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("c")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """One under which a shard is on the first node of a cluster, which may have a spare, and not all are on that of the
    feed's own keys."""
    while True:
        keys = Keys(f"t{secrets.token_hex(4)}.")
        nodes = {node_of(keys.shard(FEED, shard, "in")) for shard in range(SHARDS)}
        if 0 in nodes and nodes != {node_of(keys.feed(FEED, "meta"))}:
            return keys.prefix


@pytest.fixture(params=["pair", "node of the feed", "node of shards"])
def server(request: pytest.FixtureRequest, prefix: str) -> Server:
    if request.param == "pair":
        pair: Pair = request.getfixturevalue("pair")
        return pair
    cluster: Cluster = request.getfixturevalue("cluster")
    keys = Keys(prefix)
    feed = node_of(keys.feed(FEED, "meta"))
    shards = [node_of(keys.shard(FEED, shard, "in")) for shard in range(SHARDS)]
    cluster.aim(
        feed if request.param == "node of the feed" else next(node for node in shards if node != feed)
    )
    return cluster


@pytest.fixture
def sent() -> Rows:
    return random_rows(RECORDS, instruments=20, seed=7)


@pytest.fixture
def both(request: pytest.FixtureRequest, prefix: str, sent: Rows) -> Iterator[Both]:
    """In the middle of their work, on the server of the test."""
    name = next(name for name in ("server", "pair", "cluster", "with_spare") if name in request.fixturenames)
    made = Both(request.getfixturevalue(name).url, prefix, sent)
    made.until(lambda: made.feed.publisher.position > RECORDS // 4 and len(made.worker.owned) == SHARDS)
    assert not made.errors
    yield made
    made.close()


def check_all(server: Server, prefix: str, both: Both, sent: Rows) -> None:
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
    server: Server, prefix: str, both: Both, sent: Rows, size: int
) -> None:
    server.proxy.break_after(size)
    both.until(lambda: both.failed_with("BrokerLost"))
    server.proxy.heal()
    check_all(server, prefix, both, sent)


@pytest.mark.parametrize("steps", range(6))
def test_replies_that_are_lost(server: Server, prefix: str, both: Both, sent: Rows, steps: int) -> None:
    """The broker has done what it was asked, and nobody hears of it."""
    both.steps(steps)
    server.proxy.lose_replies()
    both.until(lambda: both.failed_with("BrokerLost"))
    server.proxy.heal()
    check_all(server, prefix, both, sent)


def test_a_restart_that_loses_nothing(server: Server, prefix: str, both: Both, sent: Rows) -> None:
    server.restart()
    both.until(lambda: both.failed_with("BrokerLost"))
    check_all(server, prefix, both, sent)


@pytest.mark.parametrize("size", [1, 100, 3_000, 20_000, 60_000])
def test_a_restart_after_the_end_of_the_log_was_cut(
    server: Server, prefix: str, both: Both, sent: Rows, size: int
) -> None:
    server.restart(cut_bytes=size)
    check_all(server, prefix, both, sent)


def test_a_broker_that_is_loading_its_log_is_waited_for(
    server: Server, prefix: str, both: Both, sent: Rows
) -> None:
    keys = Keys(prefix)
    there = next(
        key
        for key in (keys.feed(FEED, "x"), *(keys.shard(FEED, shard, "x") for shard in range(SHARDS)))
        if server.has(key)
    )
    with server.primary.client().pipeline(transaction=False) as pipe:
        for number in range(LOADED):
            pipe.set(there, number)
        pipe.execute()
    server.proxy.cut()
    server.primary.kill()
    server.primary.start("--key-load-delay", "500", wait=False)  # µs a command
    server.proxy.heal()
    # the other nodes of a cluster may have given it up before it is asked
    both.until(lambda: both.failed_with("loading") or both.failed_with("cluster is down"))
    server.primary.client().config_set("key-load-delay", 0)
    eventually(server.primary.answers, timeout_s=60)
    check_all(server, prefix, both, sent)


def test_a_broker_that_is_full_takes_nothing_and_everything_once_there_is_room(
    server: Server, prefix: str, both: Both, sent: Rows
) -> None:
    client = server.primary.client()
    client.config_set("maxmemory", 1)
    both.until(lambda: sum("BrokerFull" in error for error in both.errors) >= 4)
    broker = Broker(server.url, prefix)
    there = [key for shard in range(SHARDS) if server.has(key := broker.keys.shard(FEED, shard, "in"))]
    before = broker.last_ids(there)
    both.steps(5)
    assert before == broker.last_ids(there)
    broker.close()
    client.config_set("maxmemory", 0)
    check_all(server, prefix, both, sent)


@pytest.mark.parametrize("lag_s", [0.0, 0.05])
def test_a_fail_over_to_a_replica_that_lags(
    pair: Pair, prefix: str, both: Both, sent: Rows, lag_s: float
) -> None:
    """What the primary took after the replica stopped following is lost: entries, offsets and leases together."""
    pair.wait_linked()
    pair.replica.call("REPLICAOF", "NO", "ONE")
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
    old = pair.primary
    old.call("REPLICAOF", "127.0.0.1", str(pair.replica.port))
    both.until(lambda: both.failed_with("READONLY") or both.failed_with("BrokerLost"))
    old.call("REPLICAOF", "NO", "ONE")
    pair.replica.call("REPLICAOF", "127.0.0.1", str(pair.primary.port))
    check_all(pair, prefix, both, sent)
    pair.wait_linked()


def test_a_slot_that_moves_to_another_node_with_what_is_in_it(
    cluster: Cluster, prefix: str, both: Both, sent: Rows
) -> None:
    """First some keys are there and some here (ASK, TRYAGAIN), then all are there (MOVED)."""
    stream = Keys(prefix).shard(FEED, 0, "in")
    there = (node_of(stream) + 1) % 3
    cluster.start_move(stream, there)
    both.steps(5)
    assert cluster.move_keys(stream, there, 2) == 2
    both.until(lambda: both.failed_with("moving slots") or both.failed_with("Multiple keys"))
    both.steps(5)
    cluster.end_move(stream, there)
    both.errors.clear()
    both.steps(1)
    check_all(cluster, prefix, both, sent)


@pytest.fixture(scope="module")
def with_spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("s"), spare=True) as running:
        yield running


@pytest.mark.parametrize("times", range(2))
def test_a_cluster_node_that_dies_and_its_replica_takes_over(
    with_spare: Cluster, prefix: str, both: Both, sent: Rows, times: int
) -> None:
    """Also of the node that everybody was told of: the others know the cluster."""
    with_spare.fail_over()
    check_all(with_spare, prefix, both, sent)


def test_a_cluster_node_that_hands_its_slots_to_its_replica_says_moved(
    with_spare: Cluster, prefix: str, both: Both, sent: Rows
) -> None:
    with_spare.hand_over()
    both.until(lambda: both.failed_with("moving slots"))
    check_all(with_spare, prefix, both, sent)
