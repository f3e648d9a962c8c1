"""Leases on a real broker: fair, fenced, given back at once, taken when expired."""

from __future__ import annotations

import pytest

from services.book.ownership import Ownership
from shared.broker import Broker
from shared.clock import SystemClock
from tests.support import eventually

SHARDS = 5


def member(broker: Broker, name: str, ttl_ms: int = 60_000, fixed: frozenset[int] | None = None) -> Ownership:
    return Ownership(broker, SystemClock(), "test", SHARDS, name, ttl_ms, fixed)


def settle(*members: Ownership) -> None:
    """Let everybody poll until nothing changes."""
    for _ in range(6):
        for one in members:
            table = one.poll()
            one.release(one.surplus(table))
            for shard in one.wanted(table):
                one.take(shard)


def test_one_worker_takes_all(broker: Broker) -> None:
    alone = member(broker, "a")
    settle(alone)
    assert sorted(alone.tokens) == list(range(SHARDS))


def test_a_joining_worker_gets_its_share(broker: Broker) -> None:
    a, b = member(broker, "a"), member(broker, "b")
    settle(a)
    settle(a, b)
    assert sorted([*a.tokens, *b.tokens]) == list(range(SHARDS))
    assert (len(a.tokens), len(b.tokens)) == (3, 2)


def test_a_leaving_worker_gives_all_back_at_once(broker: Broker) -> None:
    a, b = member(broker, "a"), member(broker, "b")
    settle(a, b)
    b.leave()
    settle(a)
    assert sorted(a.tokens) == list(range(SHARDS))


def test_a_dead_workers_shards_are_taken_when_they_expire(broker: Broker) -> None:
    dead, heir = member(broker, "dead", ttl_ms=150), member(broker, "heir")
    settle(dead)
    epochs = {shard: int(token.split(":")[0]) for shard, token in dead.tokens.items()}

    def taken() -> bool:
        settle(heir)
        return len(heir.tokens) == SHARDS

    eventually(taken, timeout_s=5)
    assert all(int(token.split(":")[0]) == epochs[shard] + 1 for shard, token in heir.tokens.items())
    assert sorted(dead.renew()) == list(range(SHARDS))
    assert not dead.tokens


def test_a_held_lease_cannot_be_taken_or_renewed_by_another(broker: Broker) -> None:
    a, b = member(broker, "a"), member(broker, "b")
    assert a.take(0)
    assert not b.take(0)
    b.tokens[0] = "1:made-up"
    assert b.renew() == [0]
    assert a.renew() == []


def test_releasing_with_an_old_token_changes_nothing(broker: Broker) -> None:
    a = member(broker, "a")
    assert a.take(0)
    old = a.tokens[0]
    assert a.take(0)  # the same owner again: a new epoch
    late = member(broker, "a")
    late.tokens[0] = old
    late.release([0])
    assert a.renew() == []


@pytest.mark.parametrize("fixed", [frozenset({1, 3}), frozenset({4})])
def test_a_static_assignment_takes_only_its_shards(broker: Broker, fixed: frozenset[int]) -> None:
    pinned = member(broker, "a", fixed=fixed)
    settle(pinned)
    assert set(pinned.tokens) == fixed


def test_a_restarted_worker_need_not_wait_for_its_own_leases(broker: Broker) -> None:
    before = member(broker, "a")
    settle(before)
    after = member(broker, "a")  # the same name, as the launcher gives it again
    settle(after)
    assert sorted(after.tokens) == list(range(SHARDS))
    assert sorted(before.renew()) == list(range(SHARDS))  # what is left of the first is fenced


def test_a_take_says_whether_the_last_owner_had_died(broker: Broker) -> None:
    """What MboWorkerLost tells apart: a worker that was scaled down releases first."""
    a, b = member(broker, "a", ttl_ms=200), member(broker, "b", ttl_ms=200)
    assert a.take(0) == "free"
    a.release([0])
    assert b.take(0) == "free"
    assert eventually(lambda: a.take(0), timeout_s=10) == "expired"
