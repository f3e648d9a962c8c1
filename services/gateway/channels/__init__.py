"""The channels of a stream: one topic class each, and the topics of a shard by channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from services.gateway.channels.bars import BarsTopic
from services.gateway.channels.bbo import BboTopic
from services.gateway.channels.book import BookTopic
from services.gateway.channels.mbo import MboTopic
from services.gateway.channels.status import StatusTopic
from services.gateway.channels.trades import TradesTopic
from services.gateway.topic import Topic

KINDS: dict[str, type[Topic]] = {
    "bbo": BboTopic,
    "book": BookTopic,
    "trades": TradesTopic,
    "mbo": MboTopic,
    "bars": BarsTopic,
    "status": StatusTopic,
}


class ShardTopics:
    """What is subscribed of one shard, by instrument: a drain looks up what happened here and leaves the rest alone."""

    def __init__(self) -> None:
        self.bbo: dict[int, list[BboTopic]] = {}
        self.book: dict[int, list[BookTopic]] = {}
        self.trades: dict[int, list[TradesTopic]] = {}
        self.mbo: dict[int, list[MboTopic]] = {}
        self.bars: dict[int, list[BarsTopic]] = {}
        self.status: dict[int, list[StatusTopic]] = {}
        self._wanted: dict[tuple[str, ...], NDArray[np.uint32]] = {}

    def wanted(self, *channels: str) -> NDArray[np.uint32]:
        """Sorted ids of the instruments with topics of these channels."""
        found = self._wanted.get(channels)
        if found is None:
            ids = set().union(*(self._of_channel(channel) for channel in channels))
            found = self._wanted[channels] = np.array(sorted(ids), np.uint32)
        return found

    def _of_channel(self, channel: str) -> dict[int, list[Topic]]:
        found: dict[int, list[Topic]] = getattr(self, channel)
        return found

    def add(self, topic: Topic) -> None:
        self._wanted.clear()
        self._of_channel(topic.key.channel).setdefault(topic.key.instrument_id, []).append(topic)

    def remove(self, topic: Topic) -> None:
        self._wanted.clear()
        topics = self._of_channel(topic.key.channel)
        topics[topic.key.instrument_id].remove(topic)
        if not topics[topic.key.instrument_id]:
            del topics[topic.key.instrument_id]

    def of(self, instrument_id: int) -> list[Topic]:
        """Every topic of one instrument."""
        return [t for channel in KINDS for t in self._of_channel(channel).get(instrument_id, ())]

    def __iter__(self) -> Iterator[Topic]:
        """Every topic; a copy, so that topics may come and go meanwhile."""
        return iter([t for channel in KINDS for topics in self._of_channel(channel).values() for t in topics])
