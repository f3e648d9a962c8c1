"""Every interleaving of a feed's owners keeps its promises; without its rules the checker finds what they are for."""

import pytest

from tests.property import feed_model as model
from tests.property.search import Violation


def test_a_feed_on_nodes_that_roll_back_apart_is_whole_and_never_stuck() -> None:
    graph = model.explore()
    assert len(graph) > 20_000
    assert not model.stuck(graph)


def test_without_comparing_epochs_a_zombie_takes_the_shards_back() -> None:
    with pytest.raises(Violation, match="zombie"):
        model.explore(compares=False)


def test_without_the_random_part_a_rolled_back_lease_makes_two_writers() -> None:
    with pytest.raises(Violation, match="rolls back"):
        model.explore(random_tokens=False)
