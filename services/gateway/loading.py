"""Where a shard starts, and starts again after a gap: the newest image that can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator

from services.gateway.vector import ShardKey
from shared import images, logs
from shared.broker import Broker
from shared.errors import ImageError
from shared.orderbook.shard import ShardState
from shared.wire.keys import parse_id

log = logs.get("gateway")


def engine_kind() -> str:
    return os.environ.get("MBO_ENGINE", "numba")


def candidates(broker: Broker, key: ShardKey, before: tuple[int, int] | None = None) -> Iterator[ShardState]:
    """The usable images of a shard, newest first; only those at or before a position if one is given."""
    for pointer in images.pointers(broker, key.feed, key.shard):
        if before is not None and parse_id(pointer["offset"]) > before:
            continue
        try:
            yield images.load(broker, pointer, engine_kind())
        except ImageError as error:
            log.limited("image not usable", feed=key.feed, shard=key.shard, detail=str(error))
