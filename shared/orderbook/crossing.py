"""What the kernel does with a book whose sides meet: the overlay of policy `uncross`, the executions of `execute`.

The same rules over lists are uncross.py; tests hold the two together.
"""

from __future__ import annotations

from typing import Any

from shared.orderbook import layout as lo
from shared.orderbook.intrinsics import apart, get, get4, inline, put
from shared.orderbook.pools import I, U, add_to, level_at, order_at, side_at
from shared.orderbook.sides import chunk_at, directory_at, take
from shared.units import UNDEF_PX

NEVER = -(2**63)  # a key below all others


@inline
def _level(at: Any, chunk: Any, j: Any) -> Any:
    return get(chunk_at(at, chunk), 2 * j + 1) if j >= 0 else I(0)


@inline
def _worse(at: Any, side: Any, chunk: Any, place: Any, j: Any) -> Any:
    """(chunk, its place in the directory, index in it) of the next worse level; index −1: there is none."""
    j -= 1
    if j < 0 and place > 0:
        place -= 1
        chunk = get4(directory_at(at, side), place)
        j = get4(at.chunk_n, chunk) - 1
    return chunk, place, j


@inline
def _match(at: Any, book: Any) -> Any:
    """Walk both sides from their best while they meet: (size matched, marginal bid, marginal ask, where each stopped).

    Where: chunk, place, index, level (0: the side is used up) and what is left of that level.
    """
    bids, asks = side_at(book, 0), side_at(book, 1)
    cb, db, jb = get(bids, lo.CHUNK), get(bids, lo.CHUNKS) - 1, get(bids, lo.LEVELS_IN) - 1
    ca, da, ja = get(asks, lo.CHUNK), get(asks, lo.CHUNKS) - 1, get(asks, lo.LEVELS_IN) - 1
    lb, la = _level(at, cb, jb), _level(at, ca, ja)
    size_b, size_a = get(level_at(at, lb), 1), get(level_at(at, la), 1)
    matched, high, low = I(0), I(0), I(0)
    while lb and la and get(level_at(at, lb), 0) >= ~get(level_at(at, la), 0):
        high, low = get(level_at(at, lb), 0), ~get(level_at(at, la), 0)
        step = min(size_b, size_a)
        matched, size_b, size_a = matched + step, size_b - step, size_a - step
        if size_b == 0:
            cb, db, jb = _worse(at, bids, cb, db, jb)
            lb = _level(at, cb, jb)
            size_b = get(level_at(at, lb), 1)
        if size_a == 0:
            ca, da, ja = _worse(at, asks, ca, da, ja)
            la = _level(at, ca, ja)
            size_a = get(level_at(at, la), 1)
    return matched, high, low, (cb, db, jb, lb, size_b), (ca, da, ja, la, size_a)


@apart
def execute(at: Any, book: Any, slot: Any, state: Any) -> Any:
    """Apply the executions of a crossed book to its orders; returns its state."""
    matched = _match(at, book)[0]
    if matched:
        state |= lo.MOVED | lo.BEST | lo.BEST << 1
        take(at, book, slot << 1, matched, True, state)
        take(at, book, slot << 1 | 1, matched, True, state)
    return state


@inline
def _orders_left(at: Any, lv: Any, left: Any) -> Any:
    """Orders of a level of which `left` remains, taken from the front of the queue."""
    level = level_at(at, lv)
    n, taken, i = get4(level, lo.L_COUNT), get(level, 1) - left, get4(level, lo.L_HEAD)
    while taken and get4(order_at(at, i), lo.O_SIZE) <= taken:
        taken -= get4(order_at(at, i), lo.O_SIZE)
        i = get4(order_at(at, i), lo.O_NEXT)
        n -= 1
    return n


@inline
def _surplus(at: Any, side: Any, where: Any, key: Any, enough: Any) -> Any:
    """What is left of a side at `key` or better, `where` it stopped; may stop counting above `enough`."""
    chunk, place, j, lv, surplus = where
    while surplus <= enough:
        chunk, place, j = _worse(at, side, chunk, place, j)
        lv = _level(at, chunk, j)
        if lv == 0 or get(level_at(at, lv), 0) < key:
            break
        surplus += get(level_at(at, lv), 1)
    return surplus


@apart
def _price(at: Any, book: Any, high: Any, low: Any, bid: Any, ask: Any) -> Any:
    """Least surplus, then closest to the last trade, then the lowest: uncross.py says why five candidates do."""
    bid_px, ask_px = get(level_at(at, bid[3]), 0), ~get(level_at(at, ask[3]), 0)
    last = get(book, lo.LAST_PX)
    anchor = (low & high) + ((low ^ high) >> 1) if last == UNDEF_PX else last
    found, least, nearest = low, I(UNDEF_PX), U(0)
    for candidate in range(5):
        price = low
        if candidate == 1:
            price = high
        elif candidate == 2 and bid[3]:
            price = bid_px
        elif candidate == 3 and ask[3]:
            price = ask_px
        elif candidate == 4 and last != UNDEF_PX:
            price = anchor
        if price < low or price > high:
            continue
        surplus = I(0)
        if bid[3] and price <= bid_px:
            surplus = _surplus(at, side_at(book, 0), bid, price, least)
        elif ask[3] and price >= ask_px:
            surplus = _surplus(at, side_at(book, 1), ask, ~price, least)
        distance = U(price) - U(anchor) if price >= anchor else U(anchor) - U(price)
        if surplus < least or (
            surplus == least and (distance < nearest or (distance == nearest and price < found))
        ):
            found, least, nearest = price, surplus, distance
    return found


@inline
def _publish(book: Any, word: Any, value: Any) -> Any:
    """Set a word of the overlay; 1 if it was another."""
    changed = I(get(book, lo.AUCTION + word) != value)
    put(book, lo.AUCTION + word, value)
    return changed


@apart
def overlay(at: Any, book: Any, meets: Any, ordinal: Any) -> Any:
    """Make the overlay anew at an event end, with a row if it has changed."""
    price, size = I(0), I(0)
    bid_px, bid_sz, bid_ct = I(UNDEF_PX), I(0), I(0)
    ask_px, ask_sz, ask_ct = I(UNDEF_PX), I(0), I(0)
    if meets:
        size, high, low, bid, ask = _match(at, book)
        if bid[3]:
            bid_px, bid_sz, bid_ct = get(level_at(at, bid[3]), 0), bid[4], _orders_left(at, bid[3], bid[4])
        if ask[3]:
            ask_px, ask_sz, ask_ct = ~get(level_at(at, ask[3]), 0), ask[4], _orders_left(at, ask[3], ask[4])
        put(book, lo.BOUND, min(low, bid_px) if bid[3] else I(NEVER))
        put(book, lo.BOUND + 1, ~max(high, ask_px) if ask[3] else I(NEVER))
        price = _price(at, book, high, low, bid, ask)
    changed = _publish(book, 0, I(meets)) + _publish(book, 1, price) + _publish(book, 2, size)
    changed += _publish(book, 3, bid_px) + _publish(book, 4, bid_sz) + _publish(book, 5, bid_ct)
    changed += _publish(book, 6, ask_px) + _publish(book, 7, ask_sz) + _publish(book, 8, ask_ct)
    if changed:
        row = get(at.meta, lo.AT_AUCTIONS) + get(at.meta, lo.AUCTION_ROWS) * (lo.AUCTION_ROW_WORDS * 8)
        add_to(at.meta, lo.AUCTION_ROWS, 1)
        put(row, 0, ordinal)
        put(row, 1, get(book, lo.TS_EVENT))
        put(row, 2, get(book, lo.TS_RECV))
        put(row, 3, get(book, lo.HEAD) | I(meets) << 48)
        put(row, 4, price)
        put(row, 5, size)
        put(row, 6, bid_px)
        put(row, 7, ask_px)
        put(row, 8, bid_sz)
        put(row, 9, ask_sz)
        put(row, 10, bid_ct | ask_ct << 32)
