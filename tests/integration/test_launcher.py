"""The launcher and its broker: killed at any time it is started again, and given up only when it never starts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.launcher import BROKER_TRIES, Launcher
from shared.embedded import EmbeddedBroker
from shared.errors import BrokerError
from shared.runner import StopFlag
from tests.support import eventually


class Fragile(EmbeddedBroker):
    """Is killed in the middle of its next `deaths` starts."""

    deaths = 0
    starts = 0

    def _wait(self) -> None:
        self.starts += 1
        if self.deaths:
            self.deaths -= 1
            assert self.process is not None
            self.process.kill()
        super()._wait()


@pytest.fixture
def broker(tmp_path: Path) -> Fragile:
    return Fragile(tmp_path / "b")


def test_a_broker_that_is_killed_while_it_starts_again_is_started_once_more(broker: Fragile) -> None:
    broker.start()
    launcher, stop = Launcher(broker, []), StopFlag()
    thread = threading.Thread(target=launcher.run, args=(stop, lambda: False))
    thread.start()
    try:
        broker.deaths = BROKER_TRIES - 1
        assert broker.process is not None
        broker.process.kill()
        eventually(lambda: broker.starts == 1 + BROKER_TRIES and broker.alive, timeout_s=30)
    finally:
        stop.event.set()
        thread.join(20)
        launcher.stop()


def test_a_broker_that_never_starts_ends_the_pipeline_with_its_last_words(broker: Fragile) -> None:
    broker.start()
    broker.deaths = BROKER_TRIES
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait()
    with pytest.raises(BrokerError, match="ended with status -9"):
        Launcher(broker, []).run(StopFlag(), lambda: False)
