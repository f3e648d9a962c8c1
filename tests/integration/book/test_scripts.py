"""The Lua scripts do what the ownership model says: random histories, step by step, on a real broker."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from shared.broker import Broker
from shared.wire.keys import parse_id
from tests.property import ownership_model as model

TTL_MS = 60_000


class Real:
    """The broker's half of the protocol by its scripts, in the model's words."""

    def __init__(self, broker: Broker, name: str) -> None:
        keys = broker.keys
        self.broker, self.name = broker, name
        self.lease = keys.shard(name, 0, "lease")
        self.keys = [keys.shard(name, 0, part) for part in ("out", "lease", "pos", "img")]

    def _lease(self, verb: str, owner: str, text: str, ttl_ms: int = TTL_MS) -> list[bytes]:
        return list(self.broker.call(*self.broker.script("lease", [self.lease], [verb, owner, text, ttl_ms])))

    def expire(self) -> None:
        self.broker.call("HSET", self.lease, "until", 0)

    def take(self, worker: int, rnd: int) -> bool:
        return self._lease("take", f"w{worker}", f"r{rnd}")[0] == b"OK"

    def release(self, token: model.Token) -> None:
        self._lease("release", "any", text_of(token))

    def commit(self, token: model.Token, expected: int, value: int) -> str:
        args = [text_of(token), offset_of(expected), offset_of(expected + 1), str(value), ""]
        return str(self.broker.call(*self.broker.script("commit", self.keys, args))[0].decode())

    def state(self) -> tuple[int, list[int]]:
        offset = self.broker.call("HGET", self.keys[2], "book") or b"0-0"
        rows = self.broker.call("XRANGE", self.keys[0], "-", "+")
        return parse_id(offset)[1], [int(fields[1]) for _, fields in rows]


def text_of(token: model.Token) -> str:
    return f"{token[0]}:r{token[1]}"


def offset_of(number: int) -> str:
    return f"1-{number}" if number else "0-0"


@pytest.mark.parametrize("seed", range(25))
def test_scripts_agree_with_the_model(broker: Broker, seed: int) -> None:
    rng = random.Random(seed)
    real, ideal = Real(broker, f"m{seed}"), model.Broker()
    tokens: list[model.Token] = [(9, 9)]
    for step in range(60):
        action = rng.choice(("take", "take", "expire", "release", "commit", "commit", "commit"))
        if action == "take":
            worker = rng.randrange(3)
            after = ideal.take(worker, step)
            assert real.take(worker, step) is (after is not None)
            if after is not None:
                assert after.token is not None
                ideal = after
                tokens.append(after.token)
        elif action == "expire":
            real.expire()
            ideal = replace(ideal, is_live=False)
        elif action == "release":
            token = rng.choice(tokens)
            real.release(token)
            ideal = ideal.release(token)
        else:
            token, expected = rng.choice(tokens[-3:]), max(0, ideal.offset - rng.randrange(3))
            word, after = ideal.commit(token, expected, expected + 1)
            assert real.commit(token, expected, expected + 1) == word
            ideal = after
        assert real.state() == (ideal.offset, [value for value, _ in ideal.out])


def test_a_paused_owner_cannot_renew_what_expired(broker: Broker) -> None:
    real = Real(broker, "z")
    assert real.take(1, 1)
    real.expire()
    assert real._lease("renew", "w1", "1:r1")[0] == b"FENCED"
