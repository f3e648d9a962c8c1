"""The list of processes in the broker: each is there while it lives, and those that were killed are forgotten."""

from __future__ import annotations

import json
import time

import pytest

from shared import registration as module
from shared.broker import Broker
from shared.pipeline import overview
from shared.registration import PROC_FORGET_S, Registration
from shared.settings import ServiceSettings
from tests.support import eventually


def test_a_process_is_listed_while_it_lives_and_the_long_dead_are_forgotten(
    broker_url: str, prefix: str, broker: Broker
) -> None:
    now = time.time()
    for name, at in (("dead", now - PROC_FORGET_S - 1), ("just-killed", now - 20)):
        broker.call("HSET", broker.keys.procs, name, json.dumps({"role": "book", "at": at}))
    registration = Registration(ServiceSettings(broker=broker_url, prefix=prefix), "book", "", dict)
    try:
        eventually(lambda: registration.id in broker.hash(broker.keys.procs))
        assert set(broker.hash(broker.keys.procs)) == {registration.id, "just-killed"}
    finally:
        registration.close()
    assert set(broker.hash(broker.keys.procs)) == {"just-killed"}


@pytest.mark.parametrize("wrong_s", [-60, 60])
def test_a_host_whose_clock_is_wrong_is_listed_all_the_same(
    broker_url: str, prefix: str, broker: Broker, monkeypatch: pytest.MonkeyPatch, wrong_s: int
) -> None:
    monkeypatch.setattr(module, "REGISTER_S", 60)
    true = time.time
    with monkeypatch.context() as there:
        there.setattr(time, "time", lambda: true() + wrong_s)
        registration = Registration(ServiceSettings(broker=broker_url, prefix=prefix), "book", "", dict)
        eventually(lambda: broker.hash(broker.keys.procs))
    try:
        (row,) = overview(broker)["processes"]
    finally:
        registration.close()
    assert row["id"] == registration.id
    assert row["age_s"] < 30


def test_facts_that_cannot_be_had_once_do_not_end_the_listing(
    broker_url: str, prefix: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read beside the service's loop, which may be changing them."""
    monkeypatch.setattr(module, "REGISTER_S", 0.01)
    asked = 0

    def facts() -> dict[str, int]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("dictionary changed size during iteration")
        return {"asked": asked}

    registration = Registration(ServiceSettings(broker=broker_url, prefix=prefix), "book", "", facts)
    try:
        eventually(lambda: registration.id in broker.hash(broker.keys.procs))
    finally:
        registration.close()
