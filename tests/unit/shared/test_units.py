"""Prices cross between integers of 1e-9 and exact decimal text without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.units import px_from_str, px_to_str


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_price_survives_its_text(price: int) -> None:
    assert px_from_str(px_to_str(price)) == price


def test_text_has_no_trailing_zeros() -> None:
    assert [px_to_str(p) for p in (65_400_000_000, -1, 0, 10**9)] == ["65.4", "-0.000000001", "0", "1"]


@pytest.mark.parametrize("text", ["0.0000000001", "99999999999"])
def test_text_that_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1e-9"):
        px_from_str(text)
