"""Access to Redis or Valkey, standalone or cluster: packed commands over redis-py's connections, one thread a Broker.

redis-py makes the connection (URL, password, TLS); a round trip here is one packed write and the replies it owes, on
one connection held for good, at about half the CPU of a redis-py pipeline. There are no silent retries: a lost reply
is BrokerLost, and the caller's compare-and-append makes its retry safe.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import compress, repeat
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    ExecAbortError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)
from redis.retry import Retry

from shared import metrics
from shared.errors import BrokerError, BrokerFull, BrokerLost, UsageError
from shared.settings import hide_password
from shared.wire.keys import Keys

Command = tuple[Any, ...]

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 10.0
MAX_BLOCK_MS = 5_000  # of an XREAD; below REPLY_TIMEOUT_S, or a quiet stream would look like a lost broker
CLUSTER_POLL_S = 0.001
CLUSTER_POLL_MOST_S = 0.01
SCRIPTS = ("append", "commit", "fence", "lease", "set", "trim")
# What trying again can cure: no connection, a server that loads or fails over, a cluster that moves slots.
TRANSIENT = (
    ConnectionError,
    TimeoutError,
    OSError,
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
    AskError,  # and MOVED
    NoScriptError,
    ExecAbortError,
)


class Entry(NamedTuple):
    """One stream entry: its ID and its field `d`."""

    id: bytes
    d: bytes


@cache
def script_source(name: str) -> str:
    return resources.files("shared.wire").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")


class _Node:
    """One connection to one server, scripts loaded on it."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.pool = pool
        self._connection: Any = None
        self.shas: dict[str, str] = {}

    @property
    def connection(self) -> Any:
        if self._connection is None:
            # not pool.make_connection(): it counts what it ever made, and refuses the hundred and first for good
            connection: Any = self.pool.connection_class(**self.pool.connection_kwargs)
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
            self._connection = connection
            for name in SCRIPTS:
                connection.send_command("SCRIPT", "LOAD", script_source(name), check_health=False)
            self.shas = {name: connection.read_response().decode() for name in SCRIPTS}
        return self._connection

    def send(self, commands: Sequence[Command]) -> None:
        connection = self.connection
        pack = connection.pack_command
        connection.send_packed_command(
            [part for command in commands for part in pack(*command)], check_health=False
        )

    def receive(self, timeout_s: float | None = None) -> Any:
        if timeout_s is None:
            return self.connection.read_response()
        return self.connection.read_response(timeout=timeout_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


class Pending(NamedTuple):
    """Commands on their way: pass to `Broker.finish` before anything else is sent on this Broker."""

    groups: list[tuple[_Node, list[int], bool]]  # node, indices of the commands sent to it, whether in MULTI
    size: int
    call: str  # what the round trip is for, as in mbo_broker_call_seconds; "" for one that waits on purpose
    sent_at: float  # monotonic

    @property
    def sockets(self) -> list[socket.socket]:
        """Where the replies will come: an event loop waits until each is readable, then calls `finish`."""
        return list({id(node): node.connection._sock for node, _, _ in self.groups}.values())


class Broker:
    """One connection (a node each on a cluster). Not thread-safe: a thread that talks makes its own."""

    def __init__(self, url: str, prefix: str = "", *, name: str = "mbo", password: str | None = None) -> None:
        self.url, self.keys, self.name = url, Keys(prefix), name
        options: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": REPLY_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": name,
        }
        if password:
            options["password"] = password
        self._options = options
        try:
            self._seed = _Node(redis.ConnectionPool.from_url(url, **options))
        except ValueError as error:
            raise UsageError(
                f"broker URL: {error}; say redis://HOST:PORT, rediss://… or unix:///PATH"
            ) from error
        self.is_cluster: bool | None = None
        self._role = name.partition("-")[0]
        self._was_lost = False
        self._call_seconds = {
            call: metrics.get("mbo_broker_call_seconds").labels(self._role, call)
            for call in ("pipe", "read", "transact")
        }
        self._nodes: dict[tuple[str, int], _Node] = {}
        self._slots: list[tuple[int, int, tuple[str, int]]] = []

    # -- topology ---------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect now and learn whether it is a cluster; raises BrokerLost.

        On a cluster that was seen before, any node will do that answers and knows where all slots are.
        """
        known = sorted({address for _, _, address in self._slots})
        nodes = [self._seed, *map(self._node_at, known)]
        for node in nodes:
            try:
                self._learn(node)
                break
            except (RedisError, OSError) as error:
                node.close()
                if node is nodes[-1] or not isinstance(error, TRANSIENT):
                    self._fail(error)
        if self._was_lost:
            self._was_lost = False
            metrics.get("mbo_broker_reconnects_total").labels(self._role).inc()

    def _learn(self, node: _Node) -> None:
        node.send([("INFO", "cluster")])
        self.is_cluster = b"cluster_enabled:1" in node.receive()
        if self.is_cluster:
            node.send([("CLUSTER", "SLOTS")])
            here = str(node.pool.connection_kwargs.get("host", ""))  # what a node means that names no host
            slots = [
                (int(low), int(high), (host.decode() if host else here, int(port)))
                for low, high, (host, port, *_), *_ in node.receive()
            ]
            if sum(high - low + 1 for low, high, _ in slots) < REDIS_CLUSTER_HASH_SLOTS:
                raise ClusterDownError("a cluster node knows no node for some slots")
            self._slots = slots

    def _node_at(self, address: tuple[str, int]) -> _Node:
        if address not in self._nodes:
            kwargs = {**self._seed.pool.connection_kwargs, "host": address[0], "port": address[1]}
            pool = redis.ConnectionPool(connection_class=self._seed.pool.connection_class, **kwargs)
            self._nodes[address] = _Node(pool)
        return self._nodes[address]

    def _node(self, key: Any) -> _Node:
        if self.is_cluster is None:
            self.connect()
        if not self.is_cluster:
            return self._seed
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        for low, high, address in self._slots:
            if low <= slot <= high:
                return self._node_at(address)
        raise ClusterDownError(f"no cluster node serves slot {slot}")

    def _all_nodes(self) -> list[_Node]:
        """Every node that serves slots; the one server if it is no cluster."""
        if self.is_cluster is None:
            self.connect()
        if not self.is_cluster:
            return [self._seed]
        return [self._node_at(address) for address in sorted({address for _, _, address in self._slots})]

    def _fail(self, error: Exception) -> Any:
        """Drop connections and raise the error of ours that says what it means."""
        self.close()
        said = f"the cluster is moving slots ({error})" if isinstance(error, AskError) else str(error)
        text = f"{hide_password(self.url)}: {said or type(error).__name__}"
        if isinstance(error, OutOfMemoryError):
            raise BrokerFull(
                "the broker is out of memory: raise maxmemory or let readers catch up"
            ) from error
        if isinstance(error, AuthenticationError | NoPermissionError):
            raise BrokerError(f"broker {text} (refused our credentials)") from error
        if isinstance(error, TRANSIENT):
            self._was_lost = True
            raise BrokerLost(f"broker {text}") from error
        raise BrokerError(f"broker {text}") from error

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        for node in (self._seed, *self._nodes.values()):
            node.close()
        self._nodes.clear()
        self.is_cluster = None

    # -- commands ---------------------------------------------------------------------------------------------------

    def call(self, *command: Any) -> Any:
        """One command, routed by its first key; the reply."""
        return self.pipe([command])[0]

    def pipe(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one round trip a node, in order within a node; raises on the first error reply."""
        return self.finish(self.begin(commands, multi=False))

    def transact(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands as one MULTI/EXEC (one a slot on a cluster), so that blocked readers wake once."""
        return self.finish(self.begin(commands, multi=True))

    def begin(self, commands: Sequence[Command], *, multi: bool) -> Pending:
        """Send without waiting; the one flush in flight of a self-clocked writer."""
        try:
            groups: dict[tuple[int, int], tuple[_Node, list[int], bool]] = {}
            for index, command in enumerate(commands):
                key = _first_key(command)
                node = self._node(key)
                slot = key_slot(str(key).encode()) if self.is_cluster and multi else 0
                groups.setdefault((id(node), slot), (node, [], multi))[1].append(index)
            for node, indices, as_multi in groups.values():
                batch: list[Command] = [self._resolve(commands[i], node) for i in indices]
                if as_multi and len(batch) > 1:
                    batch = [("MULTI",), *batch, ("EXEC",)]
                node.send(batch)
            return Pending(list(groups.values()), len(commands), _kind(commands, multi), time.monotonic())
        except (RedisError, OSError) as error:
            return self._fail(error)  # type: ignore[no-any-return]

    def finish(self, pending: Pending) -> list[Any]:
        """The replies of `begin`, in the order of its commands."""
        replies: list[Any] = [None] * pending.size
        failure: Exception | None = None
        try:
            for node, indices, multi in pending.groups:
                if multi and len(indices) > 1:
                    queued = [_receive(node) for _ in range(len(indices) + 1)]  # OK of MULTI, QUEUED of each
                    failure = failure or next((q for q in queued if isinstance(q, Exception)), None)
                    answer = _receive(node)
                    results = answer if isinstance(answer, list) else [answer] * len(indices)
                else:
                    results = [_receive(node) for _ in indices]
                for index, reply in zip(indices, results, strict=True):
                    if isinstance(reply, Exception):
                        failure = failure or reply
                    replies[index] = reply
            if failure is not None:
                raise failure
            if pending.call:
                self._call_seconds[pending.call].observe(time.monotonic() - pending.sent_at)
            return replies
        except (RedisError, OSError) as error:
            return self._fail(error)  # type: ignore[no-any-return]

    def script(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """The command that runs a script of shared/wire/scripts; pass it to call, pipe or transact."""
        return ("EVALSHA", f"@{name}", len(keys), *keys, *args)

    @staticmethod
    def _resolve(command: Command, node: _Node) -> Command:
        if command[0] == "EVALSHA":
            _ = node.connection
            return (command[0], node.shas[command[1][1:]], *command[2:])
        return command

    # -- streams ----------------------------------------------------------------------------------------------------

    def read(self, after: Mapping[str, str], *, count: int, block_ms: int = 0) -> dict[str, list[Entry]]:
        """New entries of streams after the given IDs, at most `count` a stream; {} if none came within `block_ms`.

        On a cluster the nodes are asked in turn: one XREAD never spans slots.
        """
        block_ms = min(block_ms, MAX_BLOCK_MS)
        if not after:
            time.sleep(block_ms / 1000)
            return {}
        deadline = time.monotonic() + block_ms / 1000
        pause = CLUSTER_POLL_S
        while True:
            found = self.end_read(self.begin_read(after, count=count, block_ms=block_ms))
            if found or not self.is_cluster or time.monotonic() >= deadline:
                return found
            time.sleep(pause)
            pause = min(pause * 1.5, CLUSTER_POLL_MOST_S)

    def begin_read(self, after: Mapping[str, str], *, count: int, block_ms: int = 0) -> Pending:
        """Send `read` without waiting for its reply; `end_read` takes it. On a cluster it does not block."""
        if self.is_cluster is None:
            self.connect()
        if self.is_cluster:
            return self.begin(
                [("XREAD", "COUNT", count, "STREAMS", name, last) for name, last in after.items()],
                multi=False,
            )
        block = ("BLOCK", block_ms) if block_ms > 0 else ()
        return self.begin(
            [("XREAD", "COUNT", count, *block, "STREAMS", *after, *after.values())], multi=False
        )

    def end_read(self, pending: Pending) -> dict[str, list[Entry]]:
        return {name: entries for reply in self.finish(pending) for name, entries in _entries(reply).items()}

    def last_ids(self, streams: Sequence[str]) -> list[Entry | None]:
        """The last entry of each stream."""
        replies = self.pipe([("XREVRANGE", name, "+", "-", "COUNT", 1) for name in streams])
        return [Entry(reply[0][0], reply[0][1][1]) if reply else None for reply in replies]

    def hash(self, key: str) -> dict[str, str]:
        """HGETALL as text."""
        flat = self.call("HGETALL", key)
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def time_ms(self, key: str) -> int:
        """The clock of the server that holds `key`, in ms: leases are judged by it."""
        try:
            node = self._node(key)
            node.send([("TIME",)])
            seconds, micros = node.receive()
        except (RedisError, OSError) as error:
            self._fail(error)
        return int(seconds) * 1000 + int(micros) // 1000

    # -- server -----------------------------------------------------------------------------------------------------

    def info(self, *sections: str) -> list[dict[str, str]]:
        """INFO of every node, in a fixed order; of one server if it is no cluster."""
        found = []
        for (reply,) in self._ask_all([("INFO", *sections)]):
            if isinstance(reply, Exception):
                self._fail(reply)
            found.append(dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line))
        return found

    def rewrite_logs(self, wanted: Sequence[bool]) -> list[str]:
        """Have the wanted nodes (in the order of `info`) rewrite their AOF in the background; what refusals say."""
        replies = self._ask_all([("BGREWRITEAOF",)], wanted)
        return [str(reply) for (reply,) in replies if isinstance(reply, Exception)]

    def check_settings(self) -> list[str]:
        """What of the broker's settings endangers exactly-once or latency, one line each; [] if all is well."""
        wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        wishes = {"appendfsync": "everysec", "auto-aof-rewrite-percentage": "0"}
        said = []
        for replies in self._ask_all([("CONFIG", "GET", name) for name in (*wanted, *wishes)]):
            for (name, value), reply in zip((wanted | wishes).items(), replies, strict=True):
                got = reply[1].decode() if isinstance(reply, list) and len(reply) > 1 else None
                if got is not None and got != value:
                    said.append(f"broker setting {name} is {got}, should be {value}")
        return list(dict.fromkeys(said))

    def _ask_all(self, commands: Sequence[Command], wanted: Sequence[bool] | None = None) -> list[list[Any]]:
        """The replies of every (wanted) node to commands without a key; an error reply stands as a value."""
        try:
            asked = list(compress(self._all_nodes(), wanted or repeat(True)))
            for node in asked:
                node.send(commands)
            return [[_receive(node) for _ in commands] for node in asked]
        except (RedisError, OSError) as error:
            return self._fail(error)  # type: ignore[no-any-return]


def fullest(nodes: Sequence[Mapping[str, str]]) -> tuple[int, int]:
    """(used, limit) in bytes of the node, of `info`, that will be the first to take nothing more; limit 0 is none."""
    rows = [(int(node["used_memory"]), int(node.get("maxmemory", 0))) for node in nodes]
    return max(rows, key=lambda row: (row[0] / row[1] if row[1] else 0.0, row[0]))


def _receive(node: _Node) -> Any:
    """A reply, or the error reply as a value, so that the replies behind it are still read."""
    try:
        return node.receive()
    except ResponseError as error:
        return error


def _kind(commands: Sequence[Command], multi: bool) -> str:
    """Whose time a round trip counts as; "" for a read that blocks."""
    if multi:
        return "transact"
    if commands and commands[0][0] == "XREAD":
        return "" if "BLOCK" in commands[0] else "read"
    return "pipe"


def _first_key(command: Command) -> Any:
    if command[0] == "EVALSHA":
        return command[3]
    if command[0] == "XREAD":
        return command[command.index("STREAMS") + 1]
    return command[1] if len(command) > 1 else ""


def _entries(reply: Any) -> dict[str, list[Entry]]:
    if not reply:
        return {}
    return {
        name.decode(): [Entry(entry[0], entry[1][1]) for entry in entries if entry[1]]
        for name, entries in reply
    }
