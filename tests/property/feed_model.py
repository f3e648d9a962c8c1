"""Ownership of a feed as a small model: a lease on one node, the shards' streams on others, each may roll back.

The broker's half is shared/wire/scripts/{lease,fence,append}.lua, the ingest's half Publisher: take the lease, name
itself the writer of every shard, read where every stream ends, then append one item of the source after the other.
Item n goes to shard n mod SHARDS; what a shard holds is right if it is the source's items for it, in order.

Faults, at any step: crash, pause (and wake as a zombie), expiry, a lost reply, and a node that comes back without its
last states while the others keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tests.property import search
from tests.property.search import Violation, can_reach

ITEMS = 2
SHARDS = 2
OWNERS = 2
MAX_TAKES = 3
MAX_ROLLBACKS = 1
MAX_CRASHES = 1
HISTORY = 2  # states a node can fall back to

Token = tuple[int, int]  # epoch, random


@dataclass(frozen=True)
class Lease:
    epoch: int = 0
    token: Token | None = None
    owner: int | None = None
    is_live: bool = False


@dataclass(frozen=True)
class Shard:
    writer: Token | None = None
    items: tuple[int, ...] = ()


@dataclass(frozen=True)
class Owner:
    mode: str = "up"  # up, paused, dead
    token: Token | None = None
    fenced: int = 0  # shards that name it their writer
    ends: tuple[int, ...] = ()  # items in each shard as it believes; () until it has read them


Node = Lease | Shard


@dataclass(frozen=True)
class World:
    lease: Lease = Lease()
    shards: tuple[Shard, ...] = (Shard(),) * SHARDS
    owners: tuple[Owner, ...] = (Owner(),) * OWNERS
    past: tuple[tuple[Node, ...], ...] = ((),) * (
        1 + SHARDS
    )  # earlier states of the lease's node and of each shard's
    newest: Token = (0, 0)  # of all that ever were the writer of every shard
    takes: int = 0
    rollbacks: int = 0
    crashes: int = 0

    def with_owner(self, index: int, owner: Owner) -> World:
        return replace(self, owners=_put(self.owners, index, owner))

    def _remember(self, node: int, state: Node) -> tuple[tuple[Node, ...], ...]:
        if self.rollbacks >= MAX_ROLLBACKS:
            return ((),) * (1 + SHARDS)
        return _put(self.past, node, (*self.past[node], state)[-HISTORY:])

    def with_lease(self, lease: Lease) -> World:
        return replace(self, lease=lease, past=self._remember(0, self.lease))

    def with_shard(self, index: int, shard: Shard) -> World:
        past = self._remember(1 + index, self.shards[index])
        return replace(self, shards=_put(self.shards, index, shard), past=past)


def _put(row: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*row[:index], value, *row[index + 1 :])


def of_shard(shard: int) -> tuple[int, ...]:
    """The items of the source that belong to a shard."""
    return tuple(range(shard, ITEMS, SHARDS))


def fence(shard: Shard, token: Token, *, compares: bool) -> Shard | None:
    """The shard with a new writer; None if a newer one has it, or another of the same epoch."""
    old = shard.writer
    if compares and old is not None and (old[0] > token[0] or (old[0] == token[0] and old != token)):
        return None
    return replace(shard, writer=token)


def steps(world: World, *, compares: bool = True, random_tokens: bool = True) -> Iterator[tuple[str, World]]:
    """Every next world. Without either rule the checker must find what it is there for."""
    if world.lease.is_live:
        yield "expire", world.with_lease(replace(world.lease, is_live=False))
    if world.rollbacks < MAX_ROLLBACKS:
        yield from _rollbacks(world)
    for index, owner in enumerate(world.owners):
        if owner.mode == "dead":
            continue
        if world.crashes < MAX_CRASHES:
            dead = replace(world.with_owner(index, Owner("dead")), crashes=world.crashes + 1)
            yield f"crash {index}", dead
        if owner.mode == "paused":
            yield f"wake {index}", world.with_owner(index, replace(owner, mode="up"))
            continue
        yield f"pause {index}", world.with_owner(index, replace(owner, mode="paused"))
        if owner.token is None:
            yield from _take(world, index, random_tokens=random_tokens)
        elif owner.fenced < SHARDS:
            after = fence(world.shards[owner.fenced], owner.token, compares=compares)
            if after is None:
                yield f"fence refused {index}", world.with_owner(index, Owner())
            else:
                on = world.with_shard(owner.fenced, after)
                if owner.fenced + 1 == SHARDS:
                    on = replace(on, newest=max(world.newest, owner.token))
                yield f"fence {index}", on.with_owner(index, replace(owner, fenced=owner.fenced + 1))
        elif not owner.ends:
            ends = tuple(len(shard.items) for shard in world.shards)
            yield f"read ends {index}", world.with_owner(index, replace(owner, ends=ends))
        else:
            yield from _append(world, index, owner)


def _rollbacks(world: World) -> Iterator[tuple[str, World]]:
    nothing: tuple[tuple[Node, ...], ...] = ((),) * (1 + SHARDS)
    for node, states in enumerate(world.past):
        for state in states:
            back = replace(world, past=nothing, rollbacks=world.rollbacks + 1)
            if isinstance(state, Lease):
                yield "lease rolls back", replace(back, lease=state)
            else:
                yield (
                    f"shard {node - 1} rolls back",
                    replace(back, shards=_put(world.shards, node - 1, state)),
                )


def _take(world: World, index: int, *, random_tokens: bool) -> Iterator[tuple[str, World]]:
    lease = world.lease
    if (lease.is_live and lease.owner != index) or world.takes >= MAX_TAKES:
        return
    token = (lease.epoch + 1, world.takes if random_tokens else 0)
    after = replace(world.with_lease(Lease(token[0], token, index, True)), takes=world.takes + 1)
    yield f"take {index}", after.with_owner(index, Owner("up", token))
    yield f"take {index}, reply lost", after


def _append(world: World, index: int, owner: Owner) -> Iterator[tuple[str, World]]:
    """The next item that a shard lacks, by compare-and-append; a refusal or a lost reply: all is dropped."""
    wanted = [shard for shard in range(SHARDS) if owner.ends[shard] < len(of_shard(shard))]
    if not wanted and owner.ends != tuple(len(shard.items) for shard in world.shards):
        # Nothing to append, but it polls every shard's node: one that came back has cut the connection.
        yield f"connection lost {index}", world.with_owner(index, Owner())
    for number in wanted[:1]:
        shard, end = world.shards[number], owner.ends[number]
        if shard.writer != owner.token or len(shard.items) != end:
            yield f"append refused {index}", world.with_owner(index, Owner())
            return
        twins = [i for i, other in enumerate(world.owners) if other.token == owner.token]
        if len(twins) > 1:
            raise Violation(f"owners {twins} may both append under {owner.token}")
        if world.rollbacks == 0 and owner.token is not None and owner.token < world.newest:
            raise Violation(f"the zombie {owner.token} appends after {world.newest} had every shard")
        on = world.with_shard(number, replace(shard, items=(*shard.items, of_shard(number)[end])))
        yield f"append {index}", on.with_owner(index, replace(owner, ends=_put(owner.ends, number, end + 1)))
        yield f"append {index}, reply lost", on.with_owner(index, Owner())


def check(world: World) -> None:
    for number, shard in enumerate(world.shards):
        if shard.items != of_shard(number)[: len(shard.items)]:
            raise Violation(f"shard {number} holds {shard.items}")


def explore(*, compares: bool = True, random_tokens: bool = True) -> dict[World, list[World]]:
    """All reachable worlds and their successors; raises Violation with the shortest way there."""
    return search.explore(World(), partial(steps, compares=compares, random_tokens=random_tokens), check)


def stuck(graph: dict[World, list[World]]) -> list[World]:
    """Worlds with a living ingest and takes to spare from which the source can never arrive in full.

    A lease that rolled back behind its shards costs a take for every epoch it lost.
    """

    def has_takes(world: World) -> bool:
        newest = max((shard.writer[0] for shard in world.shards if shard.writer), default=0)
        return MAX_TAKES - world.takes > max(newest - world.lease.epoch, 0)

    reach = can_reach(
        graph, lambda world: all(shard.items == of_shard(n) for n, shard in enumerate(world.shards))
    )
    return [w for w in graph if w not in reach and has_takes(w) and any(x.mode != "dead" for x in w.owners)]
