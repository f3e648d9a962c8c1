"""Where the pipelines of these tests run."""

from __future__ import annotations

import os

import pytest

from tests.support.pipeline import Pipeline


@pytest.fixture(scope="session", autouse=True)
def _pipelines_run_on_the_named_broker(request: pytest.FixtureRequest) -> None:
    """On brokers of their own, unless `MBO_TEST_BROKER_URL` names one."""
    if os.environ.get("MBO_TEST_BROKER_URL"):
        Pipeline.default_broker = request.getfixturevalue("broker_url")
