"""The broker away for long, and back; a cluster as one broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from shared.broker import Broker
from shared.embedded import EmbeddedBroker
from shared.errors import BrokerLost
from tests.support import eventually
from tests.support.cluster import Cluster, first_slot, node_of
from tests.support.node import Node


def test_a_broker_that_was_away_for_however_many_tries_is_reached_again(tmp_path: Path) -> None:
    """redis-py's pool counts the connections it ever made, and refuses the hundred and first."""
    server = EmbeddedBroker(tmp_path / "b")
    broker = Broker(server.url, name="test")
    for _ in range(300):
        with pytest.raises(BrokerLost, match="No such file"):
            broker.call("PING")
    server.start()
    try:
        assert broker.call("PING") == b"PONG"
    finally:
        broker.close()
        server.stop()


def answers(broker: Broker, key: str) -> bool:
    try:
        return bool(broker.call("SET", key, 1))
    except BrokerLost:
        return False


def test_every_node_of_a_cluster_is_asked_also_when_the_first_is_gone_for_good(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", spare=True) as cluster:
        broker = Broker(cluster.url, name="test")
        ports = sorted(proxy.port for proxy in cluster.proxies[:3])
        assert [int(row["tcp_port"]) for row in broker.info("server")] == [
            cluster.nodes[index].port
            for port in ports
            for index, proxy in enumerate(cluster.proxies)
            if proxy.port == port
        ]
        cluster.fail_over(for_good=True)
        eventually(lambda: all(answers(broker, f"key {number}") for number in range(20)), timeout_s=60)
        assert len(broker.info("memory")) == 3
        assert broker.check_settings() == []
        wanted = [row["tcp_port"] != str(cluster.nodes[1].port) for row in broker.info("server")]
        assert broker.rewrite_logs(wanted) == []

        def rewritten() -> list[bool]:
            return [any(node.folder.glob("appendonlydir/*.aof.2.incr.aof")) for node in cluster.nodes[1:3]]

        eventually(lambda: rewritten()[1])
        assert not rewritten()[0]
        broker.close()


def test_a_cluster_node_that_has_lost_the_others_is_not_the_only_one_asked(tmp_path: Path) -> None:
    alone = Node(tmp_path / "n", "--cluster-enabled", "yes")  # in the place of the first, with its slots
    alone.start()
    try:
        alone.call("CLUSTER", "ADDSLOTSRANGE", 0, first_slot(1) - 1)
        with Cluster(tmp_path / "c") as cluster:
            broker = Broker(cluster.url, name="test")
            keys = [key for key in map(str, range(100)) if node_of(key) != 0]
            assert all(answers(broker, key) for key in keys)
            cluster.proxies[0].switch(alone.socket)
            cluster.proxies[0].heal()
            broker.close()
            eventually(lambda: all(answers(broker, key) for key in keys))
            broker.close()
    finally:
        alone.kill()


def test_a_cluster_node_that_names_no_host_is_where_it_was_asked(tmp_path: Path) -> None:
    """One that never met another does not know its own address."""
    node = Node(tmp_path / "n", "--cluster-enabled", "yes")
    node.start()
    try:
        node.call("CLUSTER", "ADDSLOTSRANGE", 0, REDIS_CLUSTER_HASH_SLOTS - 1)
        broker = Broker(f"redis://127.0.0.1:{node.port}/0", name="test")
        eventually(lambda: answers(broker, "key"))
        assert {address for _, _, address in broker._slots} == {("127.0.0.1", node.port)}
        broker.close()
    finally:
        node.kill()
