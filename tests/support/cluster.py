"""A cluster of three servers on loopback, a proxy in front of each: clients that discover it go through the proxies."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from tests.support import eventually
from tests.support.node import Node
from tests.support.proxy import Proxy

NODES = 3
NODE_TIMEOUT_MS = 2000


def first_slot(index: int) -> int:
    """Where the slots of a node begin."""
    return SLOTS * index // NODES


def node_of(key: str) -> int:
    """Which node has the slot of a key, before any slot has moved."""
    return next(index for index in range(NODES) if key_slot(key.encode()) < first_slot(index + 1))


class Cluster:
    """Context manager; `url` is one node's, the others are discovered. Faults strike the node that `aim` chose.

    `spare`: a fourth node follows the first and takes over when that has been dead for `NODE_TIMEOUT_MS`.
    `proxied`: False leaves the proxies out, for tests that break nothing.
    """

    def __init__(self, folder: Path, *, spare: bool = False, proxied: bool = True) -> None:
        self.nodes, self.proxies = [], []
        for index in range(NODES + spare):
            node = Node(
                folder / str(index), "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
                "--repl-diskless-sync-delay", "0",
            )  # fmt: skip
            if proxied:
                self.proxies.append(Proxy(node.socket))
                node.options += ("--cluster-announce-port", str(self.proxies[-1].port))
            self.nodes.append(node)
        self._struck = 0
        self.url = f"redis://127.0.0.1:{self.proxies[0].port if proxied else self.nodes[0].port}/0"

    def __enter__(self) -> Cluster:
        for node in self.nodes:
            node.start()
        for index, node in enumerate(self.nodes[:NODES]):
            slots = first_slot(index), first_slot(index + 1) - 1
            node.call("CLUSTER", "ADDSLOTSRANGE", *slots)
        for node in self.nodes[1:]:
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port)
        self.wait_whole()
        for node in self.nodes[NODES:]:
            node.call("CLUSTER", "REPLICATE", self.id_of(0))
            eventually(partial(self.follows, node), timeout_s=60)
        return self

    def wait_whole(self) -> None:
        """Until every node knows every other and serves."""
        eventually(lambda: all(self._is_whole(node) for node in self.nodes), timeout_s=60)

    def _is_whole(self, node: Node) -> bool:
        try:
            said = node.call("CLUSTER", "INFO").decode().splitlines()
        except redis.RedisError:
            return False
        return "cluster_state:ok" in said and f"cluster_known_nodes:{len(self.nodes)}" in said

    def id_of(self, index: int) -> str:
        return str(self.nodes[index].call("CLUSTER", "MYID").decode())

    @staticmethod
    def follows(node: Node) -> bool:
        """Whether it is a replica that is up to date."""
        try:
            said = node.client().info("replication")
        except redis.RedisError:
            return False
        return bool(said["role"] == "slave" and said["master_link_status"] == "up")

    # -- what happens to it ------------------------------------------------------------------------------------------

    def aim(self, index: int) -> None:
        self._struck = index

    def has(self, key: str) -> bool:
        """Whether the node that faults strike has a key's slot."""
        return node_of(key) == self._struck

    @property
    def primary(self) -> Node:
        return self.nodes[self._struck]

    @property
    def proxy(self) -> Proxy:
        return self.proxies[self._struck]

    def restart(self, cut_bytes: int = 0) -> None:
        """SIGKILL the node and start it again, without the last bytes of its log if so wanted."""
        self.proxy.cut()
        self.primary.restart(cut_bytes)
        self.proxy.heal()

    @property
    def led_by_spare(self) -> bool:
        return bool(self.nodes[NODES].client().role()[0] == b"master")

    def fail_over(self, *, for_good: bool = False) -> None:
        """Whichever of the first node and the spare leads dies; the other takes over without what it was not sent.

        The dead one comes back as its replica, unless it is dead `for_good`.
        """
        old, new = (NODES, 0) if self.led_by_spare else (0, NODES)
        eventually(lambda: self.follows(self.nodes[new]), timeout_s=60)
        self.proxies[old].cut()
        self.nodes[old].kill()
        eventually(lambda: self.nodes[new].client().role()[0] == b"master", timeout_s=60)
        if not for_good:
            self.nodes[old].start()
            self.proxies[old].heal()

    def hand_over(self) -> None:
        """The follower of the two leads from now on, by agreement: nothing is lost, the other says MOVED."""
        new = self.nodes[0 if self.led_by_spare else NODES]
        eventually(lambda: self.follows(new), timeout_s=60)

        def leads() -> bool:
            with contextlib.suppress(redis.RedisError):  # the leader is cut off just now, or it is all done
                new.call("CLUSTER", "FAILOVER")
            return bool(new.client().role()[0] == b"master")

        eventually(leads, timeout_s=60, every_s=1)  # an offer that the leader does not take expires

    def start_move(self, key: str, to: int) -> None:
        """The slot of a key begins to move: a client is sent to the new node for what is there already."""
        slot, here = key_slot(key.encode()), node_of(key)
        self.nodes[to].call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(here))
        self.nodes[here].call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))

    def move_keys(self, key: str, to: int, count: int) -> int:
        """Move some keys of a slot that has begun to move; how many."""
        source, target = self.nodes[node_of(key)], self.nodes[to]
        keys = source.call("CLUSTER", "GETKEYSINSLOT", key_slot(key.encode()), count)
        for each in keys:
            source.call("MIGRATE", "127.0.0.1", target.port, each, 0, 5000)
        return len(keys)

    def end_move(self, key: str, to: int) -> None:
        """Move the rest; from here on the old node says MOVED."""
        while self.move_keys(key, to, 100):
            pass
        for node in (self.nodes[to], *self.nodes):
            node.call("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", self.id_of(to))

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies:
            proxy.close()
        for node in self.nodes:
            node.kill()
