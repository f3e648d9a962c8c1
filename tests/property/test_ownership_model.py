"""Every interleaving of the small ownership model keeps its promises; a protocol without the random part does not."""

import pytest

from tests.property import ownership_model as model
from tests.property.search import Violation


def test_nothing_is_lost_doubled_or_committed_by_two_owners() -> None:
    graph = model.explore()
    assert len(graph) > 50_000
    assert not model.stuck(graph)


def test_an_epoch_alone_does_not_fence_after_a_rollback() -> None:
    """The checker finds the fault that the random part of a token is there for: this test can fail."""
    with pytest.raises(Violation, match="rollback"):
        model.explore(random_tokens=False)
