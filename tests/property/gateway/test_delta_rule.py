"""Who follows the README's rule has the true book: under drops, reconnects, slowness, sessions, shards that change
hands, reloads and two gateways."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.gateway import subscription, vector
from services.gateway.clients import Client
from services.gateway.hub import Hub
from services.gateway.instruments import Feed
from services.gateway.items import FeedRows, Item, Loaded
from services.gateway.limits import Lease
from services.gateway.principal import Principal
from services.gateway.settings import GatewaySettings
from services.gateway.sse import StreamEndpoint
from services.gateway.vector import ShardKey
from shared.orderbook.shard import ShardState
from shared.units import px_to_str
from shared.wire.codec import InEntry, OutEntry
from tests.support.mbo import record, rows
from tests.support.sse import Got, blocks, fold

KEY = ShardKey("f", 0)
BUDGET = 600


class Pipe:
    """A connection whose reader is as fast as the test says."""

    def __init__(self) -> None:
        self.unread = b""
        self.body = b""
        self.slow = False
        self.closed = False

    def write(self, data: bytes) -> None:
        self.unread += data
        if not self.slow:
            self.read()

    def read(self) -> None:
        self.body, self.unread = self.body + self.unread, b""

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return len(self.unread)

    def take(self) -> tuple[list[Got], str]:
        """Events read so far, and the last id."""
        text, body = b"", self.body
        while body:
            line, _, body = body.partition(b"\r\n")
            length = int(line, 16)
            if length == 0 or len(body) < length:
                break
            text, body = text + body[:length], body[length + 2 :]
        ids = [line[4:] for line in text.decode().split("\n") if line.startswith("id: ")]
        return list(blocks(text.decode())), ids[-1] if ids else ""


class Gateways:
    """Two hubs that read the same entries at their own times, and the engine that knows the truth."""

    def __init__(self) -> None:
        config = GatewaySettings(client_budget_bytes=BUDGET, slow_after_s=1e9)
        self.hubs = [Hub(config, name) for name in "ab"]
        self.inputs: list[tuple[int, InEntry]] = []
        self.entries: list[tuple[int, OutEntry]] = []
        self.images: list[tuple[int, int, bytes]] = []  # session, ordinal, image
        self.taken = [(0, 0), (0, 0)]  # (session, ordinal) of each gateway
        self.session = 0
        self.ordinal = 0
        self.state = ShardState("uncross", kind="reference")
        for hub in self.hubs:
            feed = Feed("f", "F", 1, 1, "open", "uncross")
            hub._fold([Item("feed", None, 0, FeedRows(feed, {"1": '{"symbol": "ONE"}'}))])
            hub._fold([Item("load", KEY, 0, Loaded(None, "uncross"))])
        self.begin()

    def begin(self) -> None:
        self.session, self.ordinal = self.session + 1, 0
        self.commit(None, {"type": "begin", "session": self.session, "policy": "uncross"}, 1)

    def commit(self, records: Any, control: Any, n: int) -> None:
        entry = InEntry(n, self.ordinal + 1, 0, 0, 0, records, control)
        self.ordinal += n
        self.inputs.append((self.session, entry))
        batch = self.state.apply(entry)
        out = OutEntry(n, entry.first, 0, 0, 0, False, control, batch)
        self.entries.append((self.session, out))

    def image(self) -> None:
        self.images.append((self.session, self.ordinal, self.state.image()))

    def hand_over(self, rng: np.random.Generator) -> None:
        """The broker lost its tail and a shard its owner: the same input and more is committed in other batches."""
        lost: list[Any] = []
        while self.inputs[-1][1].records is not None and len(lost) < rng.integers(1, 4):
            self.entries.pop()
            lost.insert(0, self.inputs.pop()[1].records)
        self.state = ShardState("uncross", kind="reference")
        for _, entry in self.inputs:
            self.state.apply(entry)
        if lost:
            self.ordinal -= sum(map(len, lost))
            records = np.concatenate((*lost, some(int(rng.integers(1, 4)), rng)))
            self.images = [one for one in self.images if one[:2] <= (self.session, self.ordinal)]
            for part in np.split(records, np.unique(rng.integers(0, len(records), 2))):
                if len(part):
                    self.commit(part, None, len(part))

    def read(self, index: int, limit: int | None = None) -> None:
        """One drain of a gateway: up to `limit` entries it does not have, as its reader hands them over."""
        new = [(session, out) for session, out in self.entries if (session, out.last) > self.taken[index]]
        items = [Item("out", KEY, session, out) for session, out in new[:limit]]
        if items:
            self.taken[index] = (new[:limit][-1][0], new[:limit][-1][1].last)
        self.hubs[index].take(items)

    def reload(self, index: int) -> None:
        """The gateway lost its place: the newest image, and on from there."""
        if self.images:
            session, ordinal, image = self.images[-1]
            loaded = Loaded(ShardState.restore(image, kind="reference"), "uncross")
            self.hubs[index].take([Item("load", KEY, session, loaded)])
            self.taken[index] = (session, ordinal)

    def truth(self, depth: int) -> dict[str, dict[str, tuple[int, int]]]:
        sides = self.state.engine.view(1, 1, depth or None)
        return {
            name: {px_to_str(px): (size, count) for px, size, count in side}
            for name, side in zip(("bids", "asks"), sides, strict=True)
        }


class Reader:
    """One client: what it holds over all its connections."""

    def __init__(self, gateways: Gateways, depth: int) -> None:
        self.gateways, self.depth = gateways, depth
        self.events: list[Got] = []
        self.id = ""
        self.pipe: Pipe | None = None
        self.client: Client | None = None
        self.at = 0

    def connect(self, index: int) -> None:
        self.drop()
        hub = self.at_hub = self.gateways.hubs[index]
        self.at = index
        self.pipe = Pipe()
        principal = Principal()
        from collections import Counter

        client = Client(self.pipe, principal, Lease(Counter(), ()), 0.0, 1e12)
        wanted = subscription.parse(
            {"symbols": "ONE", "channels": "book,bbo", "depth": str(self.depth) if self.depth else "all"}
        )
        group = hub.join(client, wanted, subscription.resolve(wanted, hub.state.directory))
        endpoint = StreamEndpoint.__new__(StreamEndpoint)
        endpoint.hub = hub
        asyncio.run(endpoint._welcome(client, group, vector.parse(self.id)))
        self.client = client

    def drop(self) -> None:
        """The connection breaks: what was not read is lost."""
        if self.pipe is not None and self.client is not None:
            events, self.id = self.pipe.take()[0], self.pipe.take()[1] or self.id
            self.events += events
            self.at_hub.remove(self.client)
        self.pipe = self.client = None

    def view(self) -> dict[str, Any]:
        events = self.events + (self.pipe.take()[0] if self.pipe else [])
        return next((view for name, view in fold(events).items() if name.startswith("book")), {})

    def runs_forward(self) -> bool:
        """No `bbo` is older than the one before it, unless a hello said that it starts over."""
        last = 0
        for event in self.events + (self.pipe.take()[0] if self.pipe else []):
            if event.name == "hello" and not all(view["resumed"] for view in event.data["views"]):
                last = 0
            elif event.name == "bbo":
                if event.data["ordinal"] < last:
                    return False
                last = event.data["ordinal"]
        return True

    def bbo(self) -> dict[str, Any] | None:
        events = self.events + (self.pipe.take()[0] if self.pipe else [])
        return next((e.data for e in reversed(events) if e.name == "bbo"), None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.integers(1, 3), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("trade"), st.integers(1, 12), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("connect"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(st.just("slow"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("catch"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("begin"), st.just(0), st.just(0)),
        st.tuples(st.just("image"), st.just(0), st.just(0)),
        st.tuples(st.just("reload"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("hand over"), st.just(0), st.integers(0, 2**32 - 1)),
    ),
    min_size=10,
    max_size=100,
)


def some(count: int, rng: np.random.Generator) -> Any:
    """Some adds, cancels and changes near a touch that also crosses now and then."""
    found = []
    for _ in range(count):
        action = rng.choice(["A", "A", "C", "M"])
        side = rng.choice(["B", "A"])
        found.append(
            record(
                str(action),
                str(side),
                100 + int(rng.integers(-2, 3)),
                int(rng.integers(1, 4)),
                int(rng.integers(1, 9)),
            )
        )
    return rows(*found)


# A client was slow while its gateway went back to an older image and on again.
REWOUND: list[tuple[str, int, Any]] = [
    ("image", 0, 0), ("trade", 2, 0), ("begin", 0, 0), ("slow", 0, True), ("read", 0, 1), ("begin", 0, 0),
    ("catch", 0, 0), ("reload", 0, 0), ("slow", 0, False), ("catch", 0, 0),
]  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@example(steps=REWOUND)
@given(steps=STEPS)
def test_whoever_follows_the_rule_has_the_true_book(steps: list[tuple[str, int, Any]]) -> None:
    gateways = Gateways()
    readers = [Reader(gateways, depth) for depth in (0, 0, 2)]
    for index in (0, 1):  # both have the topics, and so their rings
        gateways.read(index)
        readers[index].connect(index)
    for kind, which, what in steps:
        if kind == "trade":
            gateways.commit(some(which, np.random.default_rng(what)), None, which)
        elif kind == "read":
            gateways.read(which, what)
        elif kind == "connect":
            readers[which].connect(what)
        elif kind == "slow" and readers[which].pipe is not None:
            pipe = readers[which].pipe
            assert pipe is not None
            pipe.slow = bool(what)
            if not what:
                pipe.read()
        elif kind == "catch":
            gateways.hubs[which].laggards.catch_up(0.0)
        elif kind == "begin":
            gateways.begin()
        elif kind == "image":
            gateways.image()
        elif kind == "reload":
            gateways.reload(which)
        elif kind == "hand over":
            gateways.hand_over(np.random.default_rng(what))
    for index in (0, 1):
        gateways.read(index)
    for reader in readers:
        if reader.pipe is None:
            reader.connect(0)
        assert reader.pipe is not None
        reader.pipe.slow = False
        reader.pipe.read()
    for hub in gateways.hubs:
        hub.laggards.catch_up(0.0)
    for reader in readers:
        view, truth = reader.view(), gateways.truth(reader.depth)
        assert {side: view[side] for side in ("bids", "asks")} == truth
        assert reader.runs_forward()
        bbo = reader.bbo()
        for side, best in (("bids", "bid"), ("asks", "ask")):
            first = next(iter(truth[side].items()), None)
            assert first is None or (bbo is not None and bbo[best] == [first[0], *first[1]])
