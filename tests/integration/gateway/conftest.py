"""A gateway on each module's own `feed`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.feed import Feed
from tests.support.gateway import Gateway


@pytest.fixture
def gateway(broker_url: str, prefix: str, feed: Feed) -> Iterator[Gateway]:
    with Gateway(broker_url, prefix) as running:
        running.caught_up(feed)
        yield running
