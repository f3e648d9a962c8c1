"""The broker as compose and Kubernetes run it, wherever a Docker-compatible socket answers (podman's does)."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import broker_users
from shared.broker import Broker
from tests.deploy.tools import ROOT
from tests.support import eventually

IMAGES = ("redis:7.4-bookworm",)
PORT = 6379


def _engine_answers() -> bool:
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(address.removeprefix("unix://"))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return probe.recv(64).split(b" ")[1:2] == [b"200"]
        except OSError:
            return False


@pytest.fixture(params=IMAGES)
def container(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, str]]]:
    """(address, passwords) of a broker with our settings and users."""
    if not _engine_answers():
        pytest.skip("no Docker-compatible socket answers (set DOCKER_HOST; podman: `podman system service`)")
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer

    passwords = broker_users.write(tmp_path / "secrets")
    os.chmod(tmp_path, 0o755)
    os.chmod(tmp_path / "secrets", 0o755)
    made = (
        DockerContainer(request.param)
        .with_command("redis-server /etc/mbo/broker.conf --aclfile /run/acl/users.acl --dir /data")
        .with_volume_mapping(str(ROOT / "shared" / "broker.conf"), "/etc/mbo/broker.conf", "ro")
        .with_volume_mapping(str(tmp_path / "secrets" / "acl"), "/run/acl", "ro")
        .with_exposed_ports(PORT)
    )
    with made:
        # get_exposed_port asks for a network mode that podman does not tell
        port = made.get_docker_client().port(made.get_wrapped_container().id, PORT)
        yield f"127.0.0.1:{port}", passwords


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # docker-py's
def test_the_container_takes_our_settings_users_and_scripts(container: tuple[str, dict[str, str]]) -> None:
    address, passwords = container
    broker = Broker(f"redis://ingest@{address}/0", name="ingest", password=passwords["ingest"])

    def reachable() -> bool:
        try:
            return bool(broker.call("PING") == b"PONG")
        except Exception:  # noqa: BLE001 - not listening yet
            return False

    eventually(reachable)
    assert broker.check_settings() == []
    key = broker.keys.feed("f" + secrets.token_hex(4), "lease")
    assert broker.call(*broker.script("lease", [key], ["take", "me", "ab", 1000]))[0] == b"OK"
    assert broker.call(*broker.script("lease", [key], ["take", "you", "cd", 1000]))[0] == b"HELD"
    broker.close()
