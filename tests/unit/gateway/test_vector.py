"""An id is an opaque vector of positions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway import vector
from services.gateway.vector import Position, ShardKey

VECTORS = st.dictionaries(
    st.builds(ShardKey, st.sampled_from(["a", "glbx.mdp3", "b-1_x"]), st.integers(0, 255)),
    st.builds(Position, st.just(3), st.integers(0, 2**53)),
    max_size=8,
)


@given(VECTORS)
def test_an_id_reads_back_as_it_was_written(position: dict[ShardKey, Position]) -> None:
    assert vector.parse(vector.encode(position)) == position


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_a_value_error(text: str) -> None:
    try:
        found = vector.parse(text)
    except ValueError:
        return
    assert vector.parse(vector.encode(found)) == found
