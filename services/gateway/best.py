"""The best prices a venue's book was published with: BBO rows as they are, or from the overlay in an auction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.shards import BestRow, ShardBooks
from shared.orderbook.engine import Batch
from shared.orderbook.pick import pick
from shared.records import BOOK_CROSSED, Rows

Change = tuple[int, int, BestRow]  # publisher, instrument, the row


def published_bbo(books: ShardBooks, batch: Batch, wanted: NDArray[np.uint32]) -> list[Change]:
    """Best-price changes of instruments in `wanted` (sorted) by ordinal, as published for their venue; `stale` False.

    While a book has an overlay its raw BBO is not published; the AUCTION row of the same event end is. Call before
    `books.fold(batch, …)`.
    """
    changes = [_raw(row) for row in pick(batch.bbo, wanted).tolist()]
    auctions = pick(batch.auctions, wanted)
    overlaid = {key for key in books.overlays if key[1] in wanted}
    if not overlaid and not len(auctions):
        return changes
    return _with_auctions(changes, auctions, overlaid)


def _raw(row: tuple[int, ...]) -> Change:
    ordinal, ts_event, ts_recv, instrument, publisher, flags, _, bid, ask, bid_sz, ask_sz, bid_ct, ask_ct = (
        row
    )
    sides = ((bid, bid_sz, bid_ct), (ask, ask_sz, ask_ct))
    return publisher, instrument, (ordinal, ts_event, ts_recv, *sides, flags & BOOK_CROSSED != 0, False)


def _with_auctions(changes: list[Change], auctions: Rows, overlaid: set[tuple[int, int]]) -> list[Change]:
    """At one event end the AUCTION row speaks for the BBO row; without one, an overlay in force silences it."""
    at_end: dict[tuple[int, int, int], list[Any]] = {}
    for change in changes:
        publisher, instrument, row = change
        at_end.setdefault((row[0], publisher, instrument), [None, None])[0] = change
    for auction in auctions:
        key = (int(auction["ordinal"]), int(auction["publisher_id"]), int(auction["instrument_id"]))
        at_end.setdefault(key, [None, None])[1] = auction
    found: list[Change] = []
    for (ordinal, *book), (change, auction) in sorted(at_end.items(), key=lambda item: item[0][0]):
        publisher, instrument = book
        if auction is not None and auction["present"]:
            overlaid.add((publisher, instrument))
            bid = (int(auction["bid_px"]), int(auction["bid_sz"]), int(auction["bid_ct"]))
            ask = (int(auction["ask_px"]), int(auction["ask_sz"]), int(auction["ask_ct"]))
            times = (int(auction["ts_event"]), int(auction["ts_recv"]))
            found.append((publisher, instrument, (ordinal, *times, bid, ask, False, False)))
            continue
        if auction is not None:
            overlaid.discard((publisher, instrument))
        if change is not None and (publisher, instrument) not in overlaid:
            found.append(change)
    return found
