"""Due times: at once, by rate, by market time; never going back."""

import numpy as np
import pytest

from services.ingest.pacing import Pacer
from shared.clock import ManualClock
from shared.errors import UsageError
from shared.units import UNDEF_TS
from tests.support.mbo import random_rows


def test_max_is_due_now() -> None:
    clock = ManualClock()
    assert (Pacer(clock).due(random_rows(5)) == clock.now_ns()).all()


def test_a_rate_spaces_records_evenly_over_batches() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, rate=1000)
    due = np.concatenate([pacer.due(random_rows(3)), pacer.due(random_rows(3))])
    assert (np.diff(due) == 1_000_000).all()
    assert due[0] == clock.now_ns()


def test_market_time_is_scaled_and_never_goes_back() -> None:
    clock = ManualClock()
    pacer = Pacer(clock, speed="2")
    records = random_rows(4)
    records["ts_recv"] = np.array([1_000, 5_000, 3_000, 9_000]) + 10**18
    assert (pacer.due(records) - clock.now_ns()).tolist() == [0, 2_000, 2_000, 4_000]


@pytest.mark.parametrize("speed", ["fast", "0", "-1"])
def test_a_wrong_speed_is_a_usage_error(speed: str) -> None:
    with pytest.raises(UsageError, match="speed"):
        Pacer(ManualClock(), speed=speed)


def test_records_without_a_time_are_due_with_the_one_before() -> None:
    """An undefined ts_recv is the greatest number: by it, all that follows would be due in centuries."""
    clock = ManualClock()
    pacer = Pacer(clock, speed="10")
    records = random_rows(5)
    records["ts_recv"] = [UNDEF_TS, 10**18, UNDEF_TS, 10**18 + 50_000, UNDEF_TS]
    assert (pacer.due(records) - clock.now_ns()).tolist() == [0, 0, 0, 5_000, 5_000]
    records["ts_recv"] = 10**18 + 80_000
    assert (pacer.due(records) - clock.now_ns()).tolist() == [8_000] * 5
