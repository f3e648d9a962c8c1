"""A query becomes a subscription."""

from __future__ import annotations

import pytest

from services.gateway import subscription
from services.gateway.problems import Problem


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"symbols": ""},
        {"symbols": "A", "channels": ""},
        {"symbols": "A", "channels": "book,what"},
        {"symbols": "A", "depth": "0"},
        {"symbols": "A", "depth": "1001"},
        {"symbols": "A", "interval": "x"},
        {"symbols": "A", "publisher": "70000"},
        {"symbols": "A", "encoding": "xml"},
        {"symbols": "A", "compress": "2"},
        {"symbols": "A", "more": "1"},
        {"symbols": "A", "depth": "٣"},
        {"symbols": ",".join(map(str, range(3000)))},
    ],
)
def test_a_wrong_query_is_a_400_that_names_the_parameter(query: dict[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        subscription.parse(query)
    assert caught.value.status == 400
    assert caught.value.parameter


def test_a_query_is_the_same_subscription_in_any_order() -> None:
    one = subscription.parse({"symbols": "A,A, B", "channels": "trades,bbo,bbo"})
    two = subscription.parse({"symbols": "A,B", "channels": "bbo,trades"})
    assert one == two
    assert hash(one) == hash(two)
    assert subscription.parse({"symbols": "A", "depth": "all"}).depth == 0
