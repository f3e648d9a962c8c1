"""Times in queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import times
from services.gateway.problems import Problem


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1758751199000000001", 1758751199000000001),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01.000000001Z", 10**9 + 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01 00:01", 60 * 10**9),
        ("2025-09-24T21:00:00.5z", 1758747600500000000),
    ],
)
def test_a_time_is_exact_to_the_nanosecond(text: str, ns: int) -> None:
    assert times.parse_time({"t": text}, "t") == ns


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_problem(text: str) -> None:
    try:
        found = times.parse_time({"t": text}, "t")
    except Problem as problem:
        found = problem.status
    assert found is None or found == 400 or 0 <= found < 2**63
