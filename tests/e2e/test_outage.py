"""A persister that is away for long on a live feed: the books go on, the broker stays small, nothing is missing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.ingest.router import split
from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.simulation import Simulation
from shared.broker import Broker
from shared.units import F_SNAPSHOT
from shared.wire.keys import parse_id
from tests.chaos.__main__ import stored_by_shard
from tests.chaos.processes import running, send
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.fake_live_gateway import KEY, FakeGateway
from tests.support.pipeline import Pipeline

COUNT, RATE, INSTRUMENTS, SHARDS = 400_000, 25_000, 16, 4
MEMORY = 24 << 20  # a day's worth of records in small: the market is larger than the broker may become
NODE_MEMORY = 12 << 20  # of a cluster node that has half of the shards
SYMBOLS = {10_001 + index: f"S{index + 1}" for index in range(INSTRUMENTS)}


def offsets(broker: Broker, feed: str, reader: str) -> list[int]:
    keys = broker.keys
    found = broker.pipe([("HGET", keys.shard(feed, shard, "pos"), reader) for shard in range(SHARDS)])
    return [parse_id(text or b"0-0")[1] for text in found]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The memory of a broker (of each node of a cluster of its own, if the tests run on one), and how to get it."""
    if not Pipeline.default_broker:
        yield MEMORY, ("--broker-memory", str(MEMORY))
        return
    with Cluster(tmp_path / "cluster", proxied=False) as cluster:
        for node in cluster.nodes:
            node.client().config_set("maxmemory", NODE_MEMORY)
        yield NODE_MEMORY, ("--broker", cluster.url)


@pytest.mark.slow
def test_a_long_outage_of_persist_on_a_live_feed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: tuple[int, tuple[str, ...]]
) -> None:
    limit, options = small
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    spec = MarketSpec(seed=5, instruments=INSTRUMENTS, messages=COUNT, rate=3000, day_s=COUNT / 3000)
    market = np.concatenate([item for item in Simulation(spec).items() if not isinstance(item, dict)])
    data, feed = tmp_path / "data", "test.set"
    with (
        FakeGateway(market, dict(SYMBOLS), rate=RATE) as gateway,
        Pipeline(
            data, "--source", "live", "--dataset", "TEST.SET", "--gateway", gateway.address, "--policy", "raw",
            *options, "--shards", str(SHARDS), env={"MBO_IMAGE_RECORDS": "10000"},
        ) as pipeline,
    ):  # fmt: skip
        pipeline.address()
        broker = Broker(pipeline.url, pipeline.prefix, name="test")
        eventually(lambda: min(offsets(broker, feed, "persist")) > 100, timeout_s=60)
        persist = next(process.pid for process in running(pipeline.process.pid) if process.role == "persist")
        os.kill(persist, signal.SIGSTOP)
        try:
            stopped = offsets(broker, feed, "persist")
            memory: list[int] = []

            def all_in_the_books() -> bool:
                memory.append(max(int(node["used_memory"]) for node in broker.info("memory")))
                ends = broker.last_ids([broker.keys.shard(feed, shard, "in") for shard in range(SHARDS)])
                done = offsets(broker, feed, "book")
                at_end = [parse_id(end.id)[1] if end else 0 for end in ends] == done
                return gateway.cursor == COUNT and sum(done) >= COUNT and at_end

            eventually(all_in_the_books, timeout_s=120, every_s=0.1)
        finally:
            send(persist, signal.SIGCONT)
        assert offsets(broker, feed, "persist") == stopped
        assert max(memory) < limit * 0.8
        floors = [
            parse_id(broker.call("XRANGE", broker.keys.shard(feed, s, "in"), "-", "+", "COUNT", 1)[0][0])[1]
            for s in range(SHARDS)
        ]
        assert all(floor > at for floor, at in zip(floors, stopped, strict=True)), "trimmed past persist"
        eventually(lambda: offsets(broker, feed, "persist") == offsets(broker, feed, "book"), timeout_s=120)
        broker.close()
        assert pipeline.stop() == 0
        assert "Traceback" not in pipeline.log
    stored = stored_by_shard(data)
    for shard, records in enumerate(split(market, SHARDS)):
        assert stored[shard].endswith(records.tobytes()), "byte for byte what the gateway sent"
        before = np.frombuffer(stored[shard][: -records.nbytes], market.dtype)
        assert (before["flags"] & F_SNAPSHOT).all()
