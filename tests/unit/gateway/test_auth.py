"""What is loopback."""

from __future__ import annotations

import pytest

from services.gateway.auth import is_loopback


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_known_by_its_address(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside
