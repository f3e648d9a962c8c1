"""Fair shares: by rank, adding up, no worker idle while there is work."""

from hypothesis import given
from hypothesis import strategies as st

from services.book.ownership import fair_share


@given(st.sets(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=9), st.integers(0, 64))
def test_shares_add_up_and_differ_by_at_most_one(workers: set[str], shards: int) -> None:
    alive = sorted(workers)
    shares = [fair_share(worker, alive, shards) for worker in alive]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


def test_a_worker_that_is_not_alive_has_no_share() -> None:
    assert fair_share("x", ["a", "b"], 8) == 0
