"""The broker away for long, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.broker import Broker
from shared.embedded import EmbeddedBroker
from shared.errors import BrokerLost


def test_a_broker_that_was_away_for_however_many_tries_is_reached_again(tmp_path: Path) -> None:
    """redis-py's pool counts the connections it ever made, and refuses the hundred and first."""
    server = EmbeddedBroker(tmp_path / "b")
    broker = Broker(server.url, name="test")
    for _ in range(300):
        with pytest.raises(BrokerLost, match="No such file"):
            broker.call("PING")
    server.start()
    try:
        assert broker.call("PING") == b"PONG"
    finally:
        broker.close()
        server.stop()
