"""Fixtures every test may use: a real broker, a prefix of its own, the real data if it is there."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from shared.broker import Broker
from shared.embedded import EmbeddedBroker
from tests.support.cluster import Cluster

# A busy machine is no failure: nothing here asserts how long an example takes.
hypothesis.settings.register_profile("mbo", deadline=None)
hypothesis.settings.load_profile("mbo")


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """`MBO_TEST_BROKER_URL` (`cluster`: one of the tests' own), else the embedded server; with none, tests fail."""
    url = os.environ.get("MBO_TEST_BROKER_URL")
    if url and url != "cluster":
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="mbo-test-"))
    try:
        if url:
            with Cluster(folder, proxied=False) as cluster:
                yield cluster.url
            return
        server = EmbeddedBroker(folder)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def prefix() -> str:
    """A key prefix of this test's own."""
    return f"t{secrets.token_hex(4)}."


@pytest.fixture
def broker(broker_url: str, prefix: str) -> Iterator[Broker]:
    connection = Broker(broker_url, prefix, name="test")
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of real files (`MBO_TEST_DATA`); tests on it skip by name where it is absent, except in CI."""
    named = os.environ.get("MBO_TEST_DATA", "")
    if not named or not Path(named).is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the real data: MBO_TEST_DATA is {named!r}")
        pytest.skip(f"no real market data (MBO_TEST_DATA is {named!r})")
    return Path(named)
