"""What ends a service and how: a stop while the broker is away is not a failure."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import BrokerError, BrokerLost, MboError
from shared.runner import StopFlag, serve
from shared.settings import ServiceSettings


class Stopped:
    """A service that is asked to stop in its first step; `error` comes of draining it."""

    role = "book"

    def __init__(self, stop: StopFlag, error: MboError) -> None:
        self.stop, self.error, self.closed = stop, error, False

    def start(self) -> None:
        pass

    def step(self) -> bool:
        self.stop.event.set()
        return True

    def facts(self) -> dict[str, Any]:
        return {}

    def reset(self) -> None:
        pass

    def drain(self) -> None:
        raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("error", "status"), [(BrokerLost("gone"), 0), (BrokerError("refused"), 1)])
def test_a_stop_while_the_broker_is_away_is_in_order(
    broker_url: str, prefix: str, error: MboError, status: int
) -> None:
    """The launcher takes status 1 for a failure that no restart can cure, and ends everything."""
    stop = StopFlag()
    service = Stopped(stop, error)
    assert serve(service, ServiceSettings(broker=broker_url, prefix=prefix), stop) == status
    assert service.closed
