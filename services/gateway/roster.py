"""Who reads what: topics, and the groups of clients that share them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from services.gateway.channels import KINDS, ShardTopics
from services.gateway.clients import Client, Group
from services.gateway.feedstate import FeedState
from services.gateway.instruments import Instrument
from services.gateway.subscription import Subscription
from services.gateway.topic import Topic, TopicKey
from services.gateway.vector import ShardKey

TOPIC_IDLE_S = 30.0  # an unused topic is kept this long, so that who reconnects finds its ring


class Roster:
    """Of one hub; topics are made when first asked for and dropped when nobody has read them for a while."""

    def __init__(self, state: FeedState) -> None:
        self._state = state
        self.topics: dict[TopicKey, Topic] = {}
        self.by_shard: dict[ShardKey, ShardTopics] = {}
        self.groups: dict[Any, Group] = {}
        self._prefixed: dict[Group, None] = {}  # groups whose `prefix` holds something

    def _topic(self, key: TopicKey, instrument: Instrument) -> Topic:
        """The topic of a key, made if nobody has it yet."""
        topic = self.topics.get(key)
        if topic is None:
            books = self._state.books[key.shard]
            topic = KINDS[key.channel](key, books, instrument.symbol, instrument.dataset)
            topic.idle_since = time.monotonic()
            self.topics[key] = topic
            self.by_shard.setdefault(key.shard, ShardTopics()).add(topic)
            if key.channel == "mbo":
                self._state.want_orders(key.shard, time.monotonic())
        return topic

    def join(self, client: Client, subscription: Subscription, instruments: list[Instrument]) -> Group:
        """Put a client into the group of its subscription and scope."""
        principal = client.principal
        name = (subscription, principal.scope_key)
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(name, subscription, principal.allows)
            group.last_write = time.monotonic()
        for instrument in instruments:
            self.add_views(group, instrument)
            self._expect(group, instrument)
        client.group = group
        group.clients[client] = None
        return group

    def add_views(self, group: Group, instrument: Instrument) -> list[Topic]:
        """Topics of the instrument that the group did not have; none of a shard that this gateway does not serve."""
        if instrument.key not in self._state.books:
            return []
        keys = group.subscription.keys(instrument)
        return group.add(self._topic(key, instrument) for key in keys)

    def _expect(self, group: Group, instrument: Instrument) -> None:
        """Ids that a named symbol has later in a file: trades alone cannot be made up for once their book is met."""
        directory = self._state.directory
        if "trades" in group.subscription.channels and group.subscription.covers(instrument):
            for other in directory.namesakes(instrument):
                if other.key in self._state.books and not directory.changed(other):
                    keys = group.subscription.keys(other)
                    group.add(self._topic(key, other) for key in keys if key.channel == "trades")

    def leave(self, client: Client) -> None:
        """The group ends with its last client."""
        group = client.group
        if group is None or group.clients.pop(client, 0) is not None or group.clients:
            return
        self.groups.pop(group.name, None)
        group.leave()
        now = time.monotonic()
        for topic in group.topics:
            topic.idle_since = now

    def drop(self, topic: Topic) -> None:
        for group in list(topic.groups):
            group.remove(topic)
        self.topics.pop(topic.key, None)
        self.by_shard[topic.key.shard].remove(topic)

    def idle(self, now: float) -> list[Topic]:
        """Topics that nobody has read for a while."""
        return [t for t in self.topics.values() if not t.groups and now - t.idle_since > TOPIC_IDLE_S]

    def has_orders(self, key: ShardKey) -> bool:
        """Whether somebody reads orders of the shard."""
        return key in self.by_shard and bool(self.by_shard[key].mbo)

    # -- what goes before the chunks of a drain ----------------------------------------------------------------------

    def before(self, group: Group, blocks: list[bytes]) -> None:
        """Say hello and snapshots first."""
        group.prefix.extend(blocks)
        self._prefixed[group] = None

    def prefixes(self) -> Iterator[tuple[Group, list[bytes]]]:
        """What `before` was told since the last time."""
        prefixed, self._prefixed = self._prefixed, {}
        for group in prefixed:
            blocks, group.prefix = group.prefix, []
            yield group, blocks
