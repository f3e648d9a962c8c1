"""What ends a service and how: a stop while the broker is away is not a failure."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from shared.admin import AdminServer, Health, check
from shared.client import http_client
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heeded_while_a_service_is_being_made(number: signal.Signals) -> None:
    """A historical source downloads there, for hours, and asks whether it may."""
    code = (
        "import sys, time\n"
        "from shared.runner import run\n"
        "from shared.settings import ServiceSettings\n"
        "def make(_): print('making', flush=True); time.sleep(60)\n"
        "sys.exit(run(make, ServiceSettings()))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "making\n"
            process.send_signal(number)
            assert process.wait(10) == 0
        finally:
            process.kill()


@pytest.fixture
def admin() -> Iterator[AdminServer]:
    health = Health("book")
    health.set(True)
    server = AdminServer("127.0.0.1", 0, health)
    server.routes["/drain"] = lambda: (200, {"ended": True})
    yield server
    server.close()


def test_a_health_check_does_not_go_by_way_of_a_proxy(
    admin: AdminServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Docker sets HTTP_PROXY in every container where its user has one: all of them would be unhealthy."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    port = int(admin.address.rsplit(":", 1)[1])
    assert check(ServiceSettings(broker="", admin_port=port)) == 0
    assert '"ready": true' in capsys.readouterr().out
    with http_client(timeout=5.0) as http:
        assert http.get(f"{admin.address}/readyz").status_code == 200


def test_a_web_page_cannot_stop_a_service(admin: AdminServer) -> None:
    """A form of any site can be posted to a port of this machine; a browser then says its origin."""
    with http_client(timeout=5.0) as http:
        assert (
            http.post(f"{admin.address}/drain", headers={"Origin": "https://example.com"}).status_code == 403
        )
        assert http.post(f"{admin.address}/drain", headers={"Origin": "null"}).status_code == 403
        assert http.post(f"{admin.address}/drain").json() == {"ended": True}
