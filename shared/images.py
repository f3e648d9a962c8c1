"""Book images in the broker: how they lie there, and how book workers and gateways read them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import zstandard

from shared.broker import Broker
from shared.errors import ImageError
from shared.orderbook.shard import ShardState
from shared.wire.keys import stream_id

CHUNK_BYTES = 1 << 20
MAX_IMAGE_BYTES = 2 << 30  # decompressed; a larger claim is refused unread
STAGED_TTL_S = 3600  # of chunks whose commit never came
LEVEL = 1


class Staged(NamedTuple):
    """An image that lies in the broker, not yet named by a commit."""

    offset: str
    key: str
    pointer: str  # the JSON for `{feed:NN}:img`
    size: int


def stage(broker: Broker, key: str, offset: str, at: float, image: bytes) -> Staged:
    """Write an image's chunks under `key`, to expire unless a commit names them."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(image)
    chunks = [packed[i : i + CHUNK_BYTES] for i in range(0, len(packed), CHUNK_BYTES)]
    broker.call("DEL", key)
    for index, chunk in enumerate(chunks):
        broker.call("HSET", key, index, chunk)
    broker.call("EXPIRE", key, STAGED_TTL_S)
    digest = hashlib.sha256(packed).hexdigest()
    pointer = {
        "offset": offset,
        "key": key,
        "chunks": len(chunks),
        "bytes": len(packed),
        "at": at,
        "sha256": digest,
    }
    return Staged(offset, key, json.dumps(pointer), len(packed))


def pointers(broker: Broker, feed: str, shard: int) -> list[dict[str, Any]]:
    """The kept images of a shard, newest first."""
    table = broker.hash(broker.keys.shard(feed, shard, "img"))
    return [json.loads(table[name]) for name in ("newest", "previous") if name in table]


def fetch(broker: Broker, pointer: dict[str, Any]) -> bytes:
    """The image a pointer names; ImageError if it is missing or damaged."""
    names = [str(index) for index in range(int(pointer["chunks"]))]
    parts = broker.call("HMGET", pointer["key"], *names) if names else []
    if not parts or any(part is None for part in parts):
        raise ImageError(f"image {pointer['key']} is gone or incomplete", key=pointer["key"])
    packed = b"".join(parts)
    if hashlib.sha256(packed).hexdigest() != pointer["sha256"]:
        raise ImageError(f"image {pointer['key']} is damaged: its checksum differs", key=pointer["key"])
    size = zstandard.frame_content_size(packed)
    if not 0 < size <= MAX_IMAGE_BYTES:
        raise ImageError(f"image {pointer['key']} claims {size} bytes, the limit is {MAX_IMAGE_BYTES}")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=MAX_IMAGE_BYTES)


def load(broker: Broker, pointer: dict[str, Any], kind: str = "numba") -> ShardState:
    """The state an image holds; ImageError if it cannot be used."""
    state = ShardState.restore(fetch(broker, pointer), kind=kind)
    if stream_id(state.session, state.ordinal) != pointer["offset"]:
        raise ImageError(f"image {pointer['key']} is of another offset than its name says")
    return state
