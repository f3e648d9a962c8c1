"""The SSE id: an opaque vector of (feed, session, shard → ordinal), as text that fits a header and a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

MAX_CHARS = 16_384
MAX_ORDINAL = 2**53


class ShardKey(NamedTuple):
    feed: str
    shard: int


class Position(NamedTuple):
    session: int
    ordinal: int


Vector = Mapping[ShardKey, Position]


def encode(vector: Vector) -> str:
    """`feed:session:shard.ordinal,shard.ordinal;feed2:…`, feeds and shards sorted."""
    feeds: dict[tuple[str, int], list[str]] = {}
    for key in sorted(vector):
        session, ordinal = vector[key]
        feeds.setdefault((key.feed, session), []).append(f"{key.shard}.{ordinal}")
    return ";".join(f"{feed}:{session}:{','.join(parts)}" for (feed, session), parts in feeds.items())


def id_block(vector: Mapping[ShardKey, Position]) -> bytes:
    """The id-only block that closes a write."""
    return b"id: %b\n\n" % encode(vector).encode()


def said(text: str) -> dict[ShardKey, Position]:
    """What a client's id says; nothing if it is none of ours."""
    try:
        return parse(text)
    except ValueError:
        return {}


def parse(text: str) -> dict[ShardKey, Position]:
    """The vector of an id; ValueError for anything `encode` did not write."""
    if len(text) > MAX_CHARS:
        raise ValueError("the id is too long")
    found: dict[ShardKey, Position] = {}
    for part in filter(None, text.split(";")):
        feed, session, shards = part.split(":")
        if not feed or not session.isascii() or not session.isdecimal():
            raise ValueError("not an id of ours")
        for item in shards.split(","):
            shard, dot, ordinal = item.partition(".")
            if not dot or not (shard + ordinal).isascii() or not (shard.isdecimal() and ordinal.isdecimal()):
                raise ValueError("not an id of ours")
            if len(ordinal) > 16 or len(shard) > 4 or len(session) > 16 or int(ordinal) > MAX_ORDINAL:
                raise ValueError("not an id of ours")
            found[ShardKey(feed, int(shard))] = Position(int(session), int(ordinal))
    return found
