"""The list of processes in the broker: each is there while it lives, and those that were killed are forgotten."""

from __future__ import annotations

import json
import time

import pytest

from shared import registration as module
from shared.broker import Broker
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
