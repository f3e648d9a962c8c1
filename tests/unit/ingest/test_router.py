"""Routing keeps every record, in order, in the shard that keys.shard_of names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.router import split
from shared.records import MBO
from shared.wire.keys import shard_of
from tests.support.mbo import random_rows


@given(st.lists(st.integers(0, 2**32 - 1), max_size=60), st.integers(1, 9))
def test_each_shard_gets_its_records_in_order(instruments: list[int], shards: int) -> None:
    records = np.zeros(len(instruments), MBO)
    records["instrument_id"], records["order_id"] = instruments, np.arange(len(instruments))
    parts = split(records, shards)
    assert len(parts) == shards
    for shard, part in enumerate(parts):
        wanted = [i for i, instrument in enumerate(instruments) if shard_of(instrument, shards) == shard]
        assert part["order_id"].tolist() == wanted


@pytest.mark.parametrize("writeable", [True, False])
def test_views_of_files_are_taken(writeable: bool) -> None:
    records = random_rows(100)
    records.flags.writeable = writeable
    assert sum(len(part) for part in split(records, 4)) == 100
