"""Key names: one slot a shard, stable shards, IDs that parse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from shared.wire.keys import Keys, feed_name, parse_id, shard_of, stream_id


def test_keys_of_a_shard_share_a_slot() -> None:
    keys = Keys("p.")
    names = [
        keys.shard("glbx", 3, name)
        for name in ("in", "out", "lease", "pos", "img", "img:1-5:2:ab", "writer", "back")
    ]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert key_slot(keys.shard("glbx", 4, "in").encode()) != key_slot(names[0].encode())


def test_shards_never_move() -> None:
    """The assignment is part of the stored streams: changing the hash would lose books."""
    assert [shard_of(i, 4) for i in range(12)] == [0, 2, 0, 3, 1, 0, 2, 1, 3, 2, 0, 3]
    assert [shard_of(i, 16) for i in (432669, 2**32 - 1, 0)] == [
        shard_of(i, 16) for i in (432669, 2**32 - 1, 0)
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 256))
def test_a_shard_is_within_range(instrument_id: int, shards: int) -> None:
    assert 0 <= shard_of(instrument_id, shards) < shards


@given(st.integers(0, 2**40), st.integers(0, 2**60))
def test_ids_come_back(session: int, ordinal: int) -> None:
    assert parse_id(stream_id(session, ordinal)) == (session, ordinal)


def test_feed_names() -> None:
    assert feed_name("GLBX.MDP3") == "glbx.mdp3"
    assert feed_name("a b{c}") == "a-b-c-"
    with pytest.raises(ValueError, match="no feed name"):
        feed_name("  ")
