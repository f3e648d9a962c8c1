"""Connected streams and the groups they form: equal subscriptions share topics, chunks and one framed write."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from services.gateway.limits import Lease
from services.gateway.principal import Principal
from services.gateway.shards import ShardBooks
from services.gateway.subscription import Subscription
from services.gateway.topic import Topic
from services.gateway.vector import Position, ShardKey

COMPRESS_LEVEL = 1


class Transport(Protocol):
    """What the hub needs of a connection: uvicorn's transport, or a test's."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...


class Client:
    """One stream. `lag` holds the vector it stood at when it fell behind; None while it keeps up."""

    __slots__ = (
        "closed",
        "expires",
        "group",
        "lag",
        "lag_since",
        "lag_told",
        "lease",
        "opened",
        "pending",
        "pending_bytes",
        "principal",
        "ready",
        "transport",
    )

    def __init__(
        self, transport: Transport, principal: Principal, lease: Lease, opened: float, expires: float
    ) -> None:
        self.transport = transport
        self.principal = principal
        self.lease = lease
        self.opened = opened  # monotonic s
        self.expires = expires  # monotonic s: maximum age, or the credential's end
        self.group: Group | None = None
        self.ready = False  # hello and snapshots are out
        self.pending: list[bytes] = []  # live blocks while a resume is read
        self.pending_bytes = 0
        self.lag: dict[ShardKey, Position] | None = None
        self.lag_since = 0.0
        self.lag_told = 0  # what its group had been told then, as Group.told
        self.closed = False


class Group:
    """Clients with the same subscription (and scope): one block a drain for all of them."""

    def __init__(self, name: Any, subscription: Subscription, allowed: Callable[[str, str], bool]) -> None:
        self.name, self.subscription, self.allowed = name, subscription, allowed
        self.topics: list[Topic] = []
        self.clients: dict[Client, None] = {}
        self.prefix: list[bytes] = []  # hello and snapshots that go before the chunks of this drain
        self.last_write = 0.0
        self.sent: dict[ShardKey, Position] = {}  # where its clients stand after the last block
        self.told = 0  # Topic.starts at that time: a topic started later is still to be announced
        self._packer = _full_flush_packer() if subscription.compress else None
        self._books: dict[ShardKey, ShardBooks] = {}  # of its topics

    def add(self, topics: Iterable[Topic]) -> list[Topic]:
        """Topics not yet in the group, now added."""
        fresh = [topic for topic in topics if self not in topic.groups]
        for topic in fresh:
            topic.groups.add(self)
            self.topics.append(topic)
            self._books[topic.key.shard] = topic.books
        return fresh

    def remove(self, topic: Topic) -> None:
        self.topics.remove(topic)
        self._books = {each.key.shard: each.books for each in self.topics}

    def leave(self) -> None:
        for topic in self.topics:
            topic.groups.discard(self)

    def position(self) -> dict[ShardKey, Position]:
        """Where the group's shards stand."""
        return {key: Position(books.session, books.ordinal) for key, books in self._books.items()}

    def frame(self, payload: bytes) -> bytes:
        """The payload as clients get it on the wire: compressed once where asked for, as one HTTP chunk."""
        if self._packer is not None:
            payload = self._packer(payload)
        return chunked(payload)

    def private(self, payload: bytes) -> bytes:
        """A payload for one client only: decodes at any point of the stream."""
        return chunked(_full_flush_packer()(payload) if self._packer is not None else payload)

    @property
    def compressed(self) -> bool:
        return self._packer is not None


def _full_flush_packer() -> Callable[[bytes], bytes]:
    """Raw deflate blocks that end with Z_FULL_FLUSH: they decode for late joiners and over dropped blocks."""
    packer = zlib.compressobj(COMPRESS_LEVEL, zlib.DEFLATED, -15)
    return lambda payload: packer.compress(payload) + packer.flush(zlib.Z_FULL_FLUSH)


def chunked(payload: bytes) -> bytes:
    """HTTP/1.1 chunk framing."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
