"""Published best prices."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.gateway.best import published_bbo
from services.gateway.shards import ShardBooks
from services.gateway.vector import ShardKey
from shared.orderbook.shard import ShardState
from shared.units import UNDEF_PX
from shared.wire.codec import InEntry
from tests.support.mbo import record, rows


def test_published_best_prices_equal_the_view_at_every_event_end() -> None:
    """Folding BBO and AUCTION rows gives, at each event, what the engine itself would publish."""
    rng = np.random.default_rng(5)
    state = ShardState("uncross", kind="reference")
    books = ShardBooks(ShardKey("f", 0), "uncross")
    last: Any = None
    seen_overlay = False
    for n in range(1, 600):
        entry = InEntry(
            1,
            n,
            0,
            0,
            0,
            rows(
                record(
                    str(rng.choice(list("AAAC"))),
                    str(rng.choice(list("BA"))),
                    100 + int(rng.integers(-4, 5)),
                    int(rng.integers(1, 5)),
                    int(rng.integers(1, 40)),
                )
            ),
            None,
        )
        batch = state.apply(entry)
        for row in published_bbo(books, batch, np.array([1], np.uint32)).tolist():
            bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct = row[7:]
            last = (bid_px, bid_sz, bid_ct), (ask_px, ask_sz, ask_ct)
        books.fold(batch)
        seen_overlay |= bool(books.overlays)
        bids, asks = state.engine.view(1, 1, 1)
        expected = tuple(tuple(side[0]) if side else (UNDEF_PX, 0, 0) for side in (bids, asks))
        got = (
            tuple((px, size, count) if count else (UNDEF_PX, 0, 0) for px, size, count in last)
            if last
            else ((UNDEF_PX, 0, 0),) * 2
        )
        assert got == expected, n
        view = books.view(1, None, None)
        assert ([tuple(x) for x in view.bids], [tuple(x) for x in view.asks]) == tuple(
            [tuple(x) for x in side] for side in state.engine.view(1, 1)
        )
    assert seen_overlay
