"""The HTTP server and the limits of its process."""

from __future__ import annotations

import resource

import pytest

from services.gateway.http import within_files
from services.gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    ("files", "connections", "streams"),
    [
        ((256, 256), 192, 128),
        ((10, 10), 1, 1),
        ((1024, 4096), 4032, 3968),
        ((1024, resource.RLIM_INFINITY), 20_000, 10_000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 20_000, 10_000),
    ],
)
def test_there_are_no_more_connections_than_files(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], connections: int, streams: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: files)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    found = within_files(GatewaySettings())
    assert (found.max_connections, found.max_streams) == (connections, streams)
    assert [limits[0] for limits in asked] == {(1024, 4096): [4096], (1024, -1): [1_048_576]}.get(files, [])
