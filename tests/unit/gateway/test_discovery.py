"""Which shards a gateway follows."""

from __future__ import annotations

import pytest

from services.gateway.discovery import shard_filter
from shared.errors import UsageError


def test_a_shard_list_is_checked() -> None:
    assert [s for s in range(9) if shard_filter("0-2,7")(s)] == [0, 1, 2, 7]
    assert shard_filter("")(255)
    with pytest.raises(UsageError):
        shard_filter("0-x")
