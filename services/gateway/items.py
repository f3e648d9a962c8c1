"""What reader and discovery hand to the hub, in the order it was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from services.gateway.instruments import Feed
from services.gateway.vector import ShardKey
from shared.orderbook.shard import ShardState
from shared.wire.codec import InEntry, OutEntry


class Loaded(NamedTuple):
    """A shard starts here: an image, or the beginning of its stream (None). `lost`: nothing can be loaded."""

    state: ShardState | None
    policy: str
    at: tuple[int, int] = (0, 0)  # (session, ordinal) after which the reader goes on
    lost: bool = False


class FeedRows(NamedTuple):
    """`{feed}:meta` and `{feed}:instruments` as the broker has them."""

    feed: Feed
    rows: Mapping[str, str]


class Item(NamedTuple):
    """What happened to a feed or a shard."""

    kind: Literal["feed", "load", "out", "in", "orders"]
    key: ShardKey | None
    session: int
    value: FeedRows | Loaded | OutEntry | InEntry | ShardState

    @property
    def breaks(self) -> bool:
        """Whether what came before must be published first: views start over here."""
        if self.kind == "load":
            return True
        control = self.value.control if isinstance(self.value, OutEntry) else None
        return control is not None and control["type"] == "begin"
