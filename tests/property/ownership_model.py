"""The ownership protocol as a small model: every interleaving of two workers and a broker that may lose its tail.

One page. The broker's half is what shared/wire/scripts/{lease,commit}.lua do (tests/integration/book/test_scripts.py
holds the two against each other); the workers' half is what services/book does: take a free lease, recover from the
broker's offset, commit one record after another with (token, expected offset), drop everything on a refusal.

Faults, at any step: a worker crashes, pauses (and wakes as a zombie that still believes), loses a reply; a lease
expires; the broker comes back without its last states, which can undo leases, epochs, offsets and entries together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from tests.property import search
from tests.property.search import Violation, can_reach

RECORDS = 2  # of input to commit
WORKERS = 2
MAX_TAKES = 3  # in one history; the random parts of tokens are numbered by it
MAX_ROLLBACKS = 1
MAX_CRASHES = 1
HISTORY = 3  # broker states it can fall back to

Token = tuple[int, int]  # epoch, random


@dataclass(frozen=True)
class Broker:
    epoch: int = 0
    token: Token | None = None
    owner: int | None = None
    is_live: bool = False  # the lease has not expired
    offset: int = 0
    out: tuple[tuple[int, Token], ...] = ()  # (value, who wrote it); value n is right only for entry n

    def take(self, worker: int, random: int) -> Broker | None:
        if self.is_live and self.owner != worker:
            return None
        return replace(self, epoch=self.epoch + 1, token=(self.epoch + 1, random), owner=worker, is_live=True)

    def release(self, token: Token) -> Broker:
        return replace(self, token=None, owner=None, is_live=False) if self.token == token else self

    def commit(self, token: Token, expected: int, value: int) -> tuple[str, Broker]:
        if self.token != token:
            return "FENCED", self
        if self.offset != expected:
            return ("DONE" if self.offset == expected + 1 else "DIVERGED"), self
        return "OK", replace(self, offset=expected + 1, out=(*self.out, (value, token)))


@dataclass(frozen=True)
class Worker:
    mode: str = "up"  # up, paused, dead
    token: Token | None = None
    applied: int = 0  # records its books hold
    committed: int = 0  # what it believes is committed


@dataclass(frozen=True)
class World:
    broker: Broker = Broker()
    workers: tuple[Worker, ...] = (Worker(),) * WORKERS
    past: tuple[Broker, ...] = ()  # earlier broker states, newest last
    takes: int = 0
    rollbacks: int = 0
    crashes: int = 0

    def with_worker(self, index: int, worker: Worker) -> World:
        return replace(self, workers=(*self.workers[:index], worker, *self.workers[index + 1 :]))

    def with_broker(self, broker: Broker) -> World:
        if broker == self.broker:
            return self
        return replace(self, broker=broker, past=(*self.past, self.broker)[-HISTORY:])


def steps(world: World, *, random_tokens: bool = True) -> Iterator[tuple[str, World]]:
    """Every next world. `random_tokens=False` leaves the epoch alone in the token: the checker must find the fault."""
    broker = world.broker
    if broker.is_live:
        yield "expire", world.with_broker(replace(broker, is_live=False))
    if world.rollbacks < MAX_ROLLBACKS:
        for state in world.past:
            yield "rollback", replace(world, broker=state, past=(), rollbacks=world.rollbacks + 1)
    for index, worker in enumerate(world.workers):
        if worker.mode == "dead":
            continue
        if world.crashes < MAX_CRASHES:
            yield (
                f"crash {index}",
                replace(world.with_worker(index, Worker("dead")), crashes=world.crashes + 1),
            )
        if worker.mode == "paused":
            yield f"wake {index}", world.with_worker(index, replace(worker, mode="up"))
            continue
        yield f"pause {index}", world.with_worker(index, replace(worker, mode="paused"))
        if worker.token is None:
            yield from _take(world, index, random_tokens=random_tokens)
        else:
            yield from _work(world, index, worker)


def _take(world: World, index: int, *, random_tokens: bool) -> Iterator[tuple[str, World]]:
    random = world.takes if random_tokens else 0
    taken = world.broker.take(index, random)
    if taken is None or world.takes >= MAX_TAKES:
        return
    # Recovery: books are rebuilt to the offset the broker says, under the token it gave.
    worker = Worker("up", taken.token, taken.offset, taken.offset)
    after = replace(world.with_broker(taken), takes=world.takes + 1)
    yield f"take {index}", after.with_worker(index, worker)
    yield f"take {index}, reply lost", after


def _work(world: World, index: int, worker: Worker) -> Iterator[tuple[str, World]]:
    token = worker.token
    assert token is not None
    yield (
        f"release {index}",
        world.with_broker(world.broker.release(token)).with_worker(index, Worker()),
    )
    if worker.applied == worker.committed and worker.applied < RECORDS:
        worker = replace(worker, applied=worker.applied + 1)
    if worker.applied == worker.committed:
        return
    word, broker = world.broker.commit(token, worker.committed, worker.applied)
    twins = [i for i, other in enumerate(world.workers) if other.token == token]
    if word == "OK" and len(twins) > 1:
        raise Violation(f"workers {twins} may both commit under {token}")
    after = world.with_broker(broker)
    if word in ("OK", "DONE"):
        yield f"commit {index}", after.with_worker(index, replace(worker, committed=worker.applied))
        yield f"commit {index}, reply lost", after.with_worker(index, worker)
    else:
        yield f"refused {index}: {word}", world.with_worker(index, Worker())


def check(world: World) -> None:
    """Nothing lost, doubled or wrong in what is committed."""
    values = [value for value, _ in world.broker.out]
    if values != list(range(1, world.broker.offset + 1)):
        raise Violation(f"output {values} at offset {world.broker.offset}")


def explore(*, random_tokens: bool = True) -> dict[World, list[World]]:
    """All reachable worlds and their successors; raises Violation with the shortest way there."""
    return search.explore(World(), partial(steps, random_tokens=random_tokens), check)


def stuck(graph: dict[World, list[World]]) -> list[World]:
    """Worlds with a living worker and takes to spare from which the input can never be committed in full."""
    reach = can_reach(graph, lambda world: world.broker.offset == RECORDS)
    return [
        w
        for w in graph
        if w not in reach and w.takes < MAX_TAKES and any(x.mode != "dead" for x in w.workers)
    ]
