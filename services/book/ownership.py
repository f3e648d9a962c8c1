"""Who owns which shard of a feed: leases in the broker, a fair share by rank, no coordinator.

Every worker polls the same table (members with their deadline, leases with theirs, the broker's clock) and acts only
for itself: above its share it releases, below it takes what is free or expired. Shares are by rank in the sorted list
of living members (S/alive, the first S mod alive one more), so they always add up to S and nobody idles.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from shared.broker import Broker
from shared.clock import Clock

FORGET_MS = 60_000  # a dead member's row is removed after this time


class Lease(NamedTuple):
    owner: str
    until_ms: int


class Table(NamedTuple):
    """What a worker sees in one poll, all by the broker's clock."""

    now_ms: int
    members: dict[str, int]  # worker -> until_ms
    leases: list[Lease]  # by shard

    def alive(self) -> list[str]:
        return sorted(worker for worker, until in self.members.items() if until > self.now_ms)

    def is_free(self, shard: int, worker: str) -> bool:
        """Whether `worker` may take it; a lease in its own name is a former life's, which the new token fences."""
        lease = self.leases[shard]
        return lease.owner in ("", worker) or lease.until_ms <= self.now_ms


def fair_share(worker: str, alive: list[str], shards: int) -> int:
    """How many of `shards` belong to `worker`: shares differ by at most one and add up to `shards`."""
    if worker not in alive:
        return 0
    base, extra = divmod(shards, len(alive))
    return base + (alive.index(worker) < extra)


class Ownership:
    """One worker's membership and leases in one feed."""

    def __init__(
        self,
        broker: Broker,
        clock: Clock,
        feed: str,
        shards: int,
        worker: str,
        ttl_ms: int,
        fixed: frozenset[int] | None,
    ) -> None:
        self.broker, self.clock, self.feed, self.shards = broker, clock, feed, shards
        self.worker, self.ttl_ms, self.fixed = worker, ttl_ms, fixed
        self.tokens: dict[int, str] = {}
        self._renew_at = 0.0

    def poll(self) -> Table:
        """Say that this worker lives, and read the table."""
        keys = self.broker.keys
        members_key = keys.feed(self.feed, "workers")
        now_ms = self.broker.time_ms(members_key)
        until_ms = (
            now_ms + self.ttl_ms * 2 // 3
        )  # the least a lease may have left: shares grow before it runs out
        rows = self.broker.pipe(
            [("HSET", members_key, self.worker, until_ms), ("HGETALL", members_key)]
            + [
                ("HMGET", keys.shard(self.feed, shard, "lease"), "owner", "until")
                for shard in range(self.shards)
            ]
        )
        flat = rows[1]
        members = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        leases = [Lease(owner.decode() if owner else "", int(until or 0)) for owner, until in rows[2:]]
        long_dead = [worker for worker, until in members.items() if until < now_ms - FORGET_MS]
        if long_dead:
            self.broker.call("HDEL", members_key, *long_dead)
        return Table(now_ms, members, leases)

    def surplus(self, table: Table) -> list[int]:
        """Shards to release now, so that others get their share."""
        if self.fixed is not None:
            return []
        over = len(self.tokens) - fair_share(self.worker, table.alive(), self.shards)
        return sorted(self.tokens)[:over] if over > 0 else []

    def wanted(self, table: Table) -> list[int]:
        """Free shards to take now, in random order so that workers seldom meet."""
        free = [s for s in range(self.shards) if s not in self.tokens and table.is_free(s, self.worker)]
        if self.fixed is not None:
            return [s for s in free if s in self.fixed]
        under = fair_share(self.worker, table.alive(), self.shards) - len(self.tokens)
        random.shuffle(free)
        return free[: max(under, 0)]

    def _script(self, verb: str, shard: int, text: str) -> tuple[object, ...]:
        key = self.broker.keys.shard(self.feed, shard, "lease")
        return self.broker.script("lease", [key], [verb, self.worker, text, self.ttl_ms])

    def take(self, shard: int) -> str | None:
        """Take a shard: `free` if nobody had it, `expired` if its owner died or stalled; None if another was faster."""
        reply = self.broker.call(*self._script("take", shard, secrets.token_hex(8)))
        if reply[0] != b"OK":
            return None
        self.tokens[shard] = reply[1].decode()
        return "expired" if reply[2].decode() not in ("", self.worker) else "free"

    def renew(self) -> list[int]:
        """Heartbeat of all leases when it is due; the shards that were lost."""
        now = self.clock.monotonic()
        if now < self._renew_at or not self.tokens:
            return []
        self._renew_at = now + self.ttl_ms / 3000
        owned = list(self.tokens.items())
        replies = self.broker.pipe([self._script("renew", shard, token) for shard, token in owned])
        lost = [shard for (shard, _), reply in zip(owned, replies, strict=True) if reply[0] != b"OK"]
        for shard in lost:
            del self.tokens[shard]
        return lost

    def release(self, shards: Iterable[int]) -> None:
        """Give shards up at once; others take them at their next poll."""
        owned = [(shard, self.tokens.pop(shard)) for shard in list(shards) if shard in self.tokens]
        if owned:
            self.broker.pipe([self._script("release", shard, token) for shard, token in owned])

    def leave(self) -> None:
        """Leave the feed: membership first, so that the others' shares grow before the shards are free."""
        self.broker.call("HDEL", self.broker.keys.feed(self.feed, "workers"), self.worker)
        self.release(list(self.tokens))
