"""The list of processes in the broker: each is there while it lives, and those that were killed are forgotten."""

from __future__ import annotations

import json
import time

from shared.broker import Broker
from shared.runner import PROC_FORGET_S, Registration
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
