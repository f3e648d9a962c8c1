"""The best prices a venue's book was published with: BBO rows as they are, or from the overlay in an auction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.shards import ShardBooks
from shared.orderbook.engine import Batch
from shared.orderbook.pick import pick
from shared.records import AUCTION, BBO, Rows, joined

_SAME = [name for name in BBO.names or () if name in (AUCTION.names or ()) and name != "reserved"]


def published_bbo(books: ShardBooks, batch: Batch, wanted: NDArray[np.uint32]) -> Rows:
    """Best-price changes (layout BBO) of instruments in `wanted` (sorted), in order, as published for their venue.

    While a book has an overlay its raw BBO is not published; the AUCTION row of the same event end is. Call before
    `books.fold(batch)`.
    """
    changes, auctions = pick(batch.bbo, wanted), pick(batch.auctions, wanted)
    changed = set(changes["instrument_id"].tolist()) if books.overlays else ()
    overlaid = {key for key in books.overlays if key[1] in changed}
    if not overlaid and not len(auctions):
        return changes
    return _with_auctions(changes, auctions, overlaid)


def _with_auctions(changes: Rows, auctions: Rows, overlaid: set[tuple[int, int]]) -> Rows:
    """At one event end the AUCTION row speaks for the BBO row; without one, an overlay in force silences it."""
    at_end: dict[tuple[int, int, int], list[Any]] = {}
    for column, rows in enumerate((changes, auctions)):
        for row in rows:
            key = (int(row["ordinal"]), int(row["publisher_id"]), int(row["instrument_id"]))
            at_end.setdefault(key, [None, None])[column] = row
    found = []
    for (_, publisher, instrument), (change, auction) in sorted(at_end.items(), key=lambda item: item[0][0]):
        book = (publisher, instrument)
        if auction is not None and auction["present"]:
            overlaid.add(book)
            row = np.zeros(1, BBO)
            for name in _SAME:
                row[name] = auction[name]
            found.append(row)
            continue
        if auction is not None:
            overlaid.discard(book)
        if change is not None and book not in overlaid:
            found.append(change.reshape(1))
    return joined(found) if found else changes[:0]
