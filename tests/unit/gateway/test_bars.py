"""Bars of a live stream."""

from __future__ import annotations

from services.gateway.channels.bars import Bars
from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX, UNDEF_TS


def test_bars_close_by_market_time_and_never_run_back() -> None:
    bars = Bars()
    bars.trade(59_500_000_000, 10, 2, SIDE_BID)
    bars.trade(59_900_000_000, 12, 1, SIDE_ASK)
    bars.trade(59_000_000_000, UNDEF_PX, 9, SIDE_ASK)
    bars.trade(UNDEF_TS, 10, 9, SIDE_ASK)
    assert not bars.clock(59_950_000_000)
    assert bars.clock(60_000_000_000)
    closed = {bar["period"]: bar for bar, is_closed in bars.take() if is_closed}
    assert closed["1s"]["high"] == "0.000000012"
    assert (closed["1m"]["volume"], closed["1m"]["buy_volume"], closed["1m"]["sell_volume"]) == (3, 2, 1)
    assert not bars.clock(1)
    assert bars.take() == []
