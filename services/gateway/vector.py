"""The SSE id: an opaque vector of (feed, session, shard → ordinal), as text that fits a header and a query."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_CHARS = 16_384
MAX_ORDINAL = 2**53


class ShardKey(NamedTuple):
    feed: str
    shard: int


class Position(NamedTuple):
    session: int
    ordinal: int


Vector = Mapping[ShardKey, Position]
Runs = Mapping[str, tuple[int, str]]  # by feed: its session, and `run_name` of it
NO_RUNS: Runs = {}


def run_name(identity: str, spec: Any) -> str:
    """What tells a session from another of the same number, in a broker that began anew: short, "" if unknown."""
    text = json.dumps([identity, spec], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest() if identity else ""


def encode(vector: Vector, runs: Runs = NO_RUNS) -> str:
    """`feed:session~run:shard.ordinal,shard.ordinal;feed2:…`, feeds and shards sorted; `~run` where it is known."""
    feeds: dict[tuple[str, int], list[str]] = {}
    for key in sorted(vector):
        session, ordinal = vector[key]
        feeds.setdefault((key.feed, session), []).append(f"{key.shard}.{ordinal}")

    def numbered(feed: str, session: int) -> str:
        known, run = runs.get(feed, (0, ""))
        return f"{session}~{run}" if run and session == known else str(session)

    return ";".join(
        f"{feed}:{numbered(feed, session)}:{','.join(parts)}" for (feed, session), parts in feeds.items()
    )


def id_block(vector: Mapping[ShardKey, Position], runs: Runs = NO_RUNS) -> bytes:
    """The id-only block that closes a write."""
    return b"id: %b\n\n" % encode(vector, runs).encode()


def said(text: str, runs: Runs = NO_RUNS) -> dict[ShardKey, Position]:
    """What a client's id says; nothing if it is none of ours, nothing of a feed whose session is another run now."""
    try:
        return parse(text, runs)
    except ValueError:
        return {}


def parse(text: str, runs: Runs = NO_RUNS) -> dict[ShardKey, Position]:
    """The vector of an id; ValueError for anything `encode` did not write."""
    if len(text) > MAX_CHARS:
        raise ValueError("the id is too long")
    found: dict[ShardKey, Position] = {}
    for part in filter(None, text.split(";")):
        feed, numbered, shards = part.split(":")
        session, _, run = numbered.partition("~")
        if not feed or not session.isascii() or not session.isdecimal():
            raise ValueError("not an id of ours")
        for item in shards.split(","):
            shard, dot, ordinal = item.partition(".")
            if not dot or not (shard + ordinal).isascii() or not (shard.isdecimal() and ordinal.isdecimal()):
                raise ValueError("not an id of ours")
            if len(ordinal) > 16 or len(shard) > 4 or len(session) > 16 or int(ordinal) > MAX_ORDINAL:
                raise ValueError("not an id of ours")
            known_session, known = runs.get(feed, (0, ""))
            if not (run and known) or run == known or int(session) != known_session:
                found[ShardKey(feed, int(shard))] = Position(int(session), int(ordinal))
    return found
