"""The kernels: the exchange (price-time priority books and the messages every change sends), then the
traders.

One module on purpose: numba's cache is keyed by the file of the function that is called, so a change of an
inner function in another file would leave stale machine code behind. `_inner` functions are called by kernels
only.

The exchange: a resting order's place follows the documented rule (MARKET_DATA.md): a changed price or a
larger size goes to the back of its queue, a smaller size keeps its place. An iceberg's refill is a new place
at the back: C, then A.

The traders: one call of `act` is one event of one book. Parameters are fitted by eye to CLX5 of 24 September
2025 (the README has the table): action mix, sizes (P(size >= n) ~ n^-2), distance of new orders from the best
price, spread, depth by level, clustering of arrivals.
"""

# mypy: disable-error-code="no-any-return,untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from services.ingest.simulator.market import STYLE_CME
from services.ingest.simulator.state import ASK, BID, NO_ORDER, PHASE_HALT, PHASE_PREOPEN, State
from shared.units import (
    ACTION_ADD,
    ACTION_CANCEL,
    ACTION_CLEAR,
    ACTION_FILL,
    ACTION_MODIFY,
    ACTION_TRADE,
    F_BAD_TS_RECV,
    F_LAST,
    F_PUBLISHER_SPECIFIC,
    F_SNAPSHOT,
    RTYPE_MBO,
    SIDE_ASK,
    SIDE_BID,
    SIDE_NONE,
    UNDEF_PX,
)

# Without reference counting (nothing is allocated here) it runs 2.2 times as fast; without wrappers of the inner
# functions it compiles in half the time. numba's type hints know neither.
_jit: Any = njit
_kernel = _jit(cache=True, nogil=True, _nrt=False)
_inner = _jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)

Out = NDArray[Any]  # layout MBO; the caller leaves room for the largest event
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)

BURST = 15.0  # arrivals are so much denser in a burst
_P_TAKE = 0.046
_P_MODIFY = 0.085
_P_ICEBERG = 0.01
_P_GTC = 0.3
_RECENT = 3
# Chance of a pause and of a wait of milliseconds before the next event, in a flurry and out of one, and of a flurry.
_HOT_PAUSE, _HOT_WAIT = 0.014, 0.06
_CALM_PAUSE, _CALM_WAIT = 0.266, 0.34
_P_HOT = 0.05


@_inner
def rnd(s: State) -> float:
    """Uniform in (0, 1), from the state's own splitmix64: equal on every machine, disturbed by nobody."""
    z = s.g[0].rng + _STEP
    s.g[0].rng = z
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@_inner
def normal(s: State) -> float:
    """Roughly standard normal: four uniforms, cheaper than the exact one and without far tails."""
    return (rnd(s) + rnd(s) + rnd(s) + rnd(s) - 2.0) * 1.7320508


@_inner
def stamp(s: State, b: int) -> None:
    """A packet: the venue's next sequence number, and the time it is received (never before the last one)."""
    publisher = s.books[b].publisher
    s.venues[publisher].seq += np.uint32(1)
    # from the venue to the capture: an AR(1) of its logarithm around 200 us, so that neighbours are alike
    s.g[0].delay = 0.999 * s.g[0].delay + 0.03 * normal(s)
    recv = s.g[0].now + np.uint64(200_000.0 * np.exp(s.g[0].delay) - 2_000.0 * np.log(rnd(s)))
    s.g[0].recv = max(recv, s.g[0].recv + np.uint64(40))


@_inner
def emit(
    out: Out, n: int, s: State, b: int, action: int, side: int, oid: int, px: int, size: int, flags: int
) -> int:
    """Write one record; px in 1e-9. Returns n + 1."""
    r = out[n]
    book = s.books[b]
    r.length = 14
    r.rtype = RTYPE_MBO
    r.publisher_id = book.publisher
    r.instrument_id = book.instrument
    r.ts_event = s.g[0].now
    r.order_id = oid
    r.price = px
    r.size = size
    r.flags = flags
    r.channel_id = s.venues[book.publisher].channel
    r.action = action
    r.side = side
    r.ts_recv = s.g[0].recv
    base = 14_400 if book.style == STYLE_CME else 165_500
    r.ts_in_delta = base + np.int32(2_600.0 * normal(s))
    r.sequence = s.venues[book.publisher].seq
    s.books[b].records += 1
    return n + 1


@_inner
def side_char(side: int) -> int:
    return SIDE_BID if side == BID else SIDE_ASK


@_inner
def end_flags(style: int) -> int:
    return F_LAST if style == STYLE_CME else F_LAST | F_PUBLISHER_SPECIFIC


@_inner
def price_of(s: State, b: int, tick: int) -> int:
    return s.books[b].base_px + tick * s.books[b].tick_px


@_inner
def link(s: State, b: int, o: int) -> None:
    """To the back of the queue of its price; keeps the best prices."""
    order = s.orders[o]
    px = order.px
    level = s.levels[b, order.side, px]
    s.orders[o].prev = level.tail
    s.orders[o].next = NO_ORDER
    if level.tail == NO_ORDER:
        s.levels[b, order.side, px].head = o
    else:
        s.orders[level.tail].next = o
    s.levels[b, order.side, px].tail = o
    s.levels[b, order.side, px].count += 1
    s.levels[b, order.side, px].size += order.size
    if order.side == BID:
        if px > s.books[b].bid:
            s.books[b].bid = px
    elif px < s.books[b].ask:
        s.books[b].ask = px


@_inner
def unlink(s: State, b: int, o: int) -> None:
    """Out of its queue; finds the next best price if its level was the last of the best."""
    order = s.orders[o]
    px, side = order.px, order.side
    if order.prev == NO_ORDER:
        s.levels[b, side, px].head = order.next
    else:
        s.orders[order.prev].next = order.next
    if order.next == NO_ORDER:
        s.levels[b, side, px].tail = order.prev
    else:
        s.orders[order.next].prev = order.prev
    s.levels[b, side, px].count -= 1
    s.levels[b, side, px].size -= order.size
    if s.levels[b, side, px].count == 0:
        if side == BID and px == s.books[b].bid:
            while px >= 0 and s.levels[b, BID, px].count == 0:
                px -= 1
            s.books[b].bid = px
        elif side == ASK and px == s.books[b].ask:
            width = s.levels.shape[2]
            while px < width and s.levels[b, ASK, px].count == 0:
                px += 1
            s.books[b].ask = px


@_inner
def new_order(s: State, b: int, side: int, px: int, size: int, oid: int) -> int:
    """A resting order at the back of its queue; the caller has seen to it that there is room."""
    s.g[0].free -= 1
    o = s.free[s.g[0].free]
    slot = s.books[b].live
    s.live[b, slot] = o
    s.books[b].live = slot + 1
    if side == BID:
        s.books[b].bids += 1
    s.orders[o].id = oid
    s.orders[o].ts = s.g[0].now
    s.orders[o].seq = s.venues[s.books[b].publisher].seq
    s.orders[o].px = px
    s.orders[o].size = size
    s.orders[o].peak = 0
    s.orders[o].hidden = 0
    s.orders[o].slot = slot
    s.orders[o].side = side
    s.orders[o].gtc = 0
    link(s, b, o)
    return o


@_inner
def drop_order(s: State, b: int, o: int) -> None:
    """Out of the book and back to the stack."""
    unlink(s, b, o)
    last = s.books[b].live - 1
    moved = s.live[b, last]
    s.live[b, s.orders[o].slot] = moved
    s.orders[moved].slot = s.orders[o].slot
    s.live[b, last] = NO_ORDER
    s.books[b].live = last
    if s.orders[o].side == BID:
        s.books[b].bids -= 1
    s.free[s.g[0].free] = o
    s.g[0].free += 1


@_inner
def next_id(s: State, b: int) -> int:
    publisher = s.books[b].publisher
    s.venues[publisher].next_id += np.uint64(1 + int(rnd(s) * 3.0))
    return s.venues[publisher].next_id


@_inner
def submit(out: Out, n: int, s: State, b: int, side: int, px: int, size: int, flags: int) -> int:
    """A new resting order: A."""
    stamp(s, b)
    o = new_order(s, b, side, px, size, next_id(s, b))
    return emit(out, n, s, b, ACTION_ADD, side_char(side), s.orders[o].id, price_of(s, b, px), size, flags)


@_inner
def cancel(out: Out, n: int, s: State, b: int, o: int, flags: int) -> int:
    """A resting order goes: C of its displayed size."""
    stamp(s, b)
    order = s.orders[o]
    n = emit(
        out,
        n,
        s,
        b,
        ACTION_CANCEL,
        side_char(order.side),
        order.id,
        price_of(s, b, order.px),
        order.size,
        flags,
    )
    drop_order(s, b, o)
    return n


@_inner
def reduce(out: Out, n: int, s: State, b: int, o: int, to: int) -> int:
    """A smaller size keeps its place: M at CME, partial C at NASDAQ."""
    stamp(s, b)
    order = s.orders[o]
    px, char, style = price_of(s, b, order.px), side_char(order.side), s.books[b].style
    if style == STYLE_CME:
        n = emit(out, n, s, b, ACTION_MODIFY, char, order.id, px, to, F_LAST)
    else:
        n = emit(out, n, s, b, ACTION_CANCEL, char, order.id, px, order.size - to, end_flags(style))
    s.levels[b, order.side, order.px].size -= order.size - to
    s.orders[o].size = to
    return n


@_inner
def replace(out: Out, n: int, s: State, b: int, o: int, px: int, size: int) -> int:
    """Another price or a larger size: to the back of the queue. M at CME, C and A of a new id at NASDAQ."""
    side, style = s.orders[o].side, s.books[b].style
    if style != STYLE_CME:
        n = cancel(out, n, s, b, o, 0)
        o = new_order(s, b, side, px, size, next_id(s, b))
        return emit(
            out,
            n,
            s,
            b,
            ACTION_ADD,
            side_char(side),
            s.orders[o].id,
            price_of(s, b, px),
            size,
            end_flags(style),
        )
    stamp(s, b)
    unlink(s, b, o)
    s.orders[o].px = px
    s.orders[o].size = size
    s.orders[o].ts = s.g[0].now
    s.orders[o].seq = s.venues[s.books[b].publisher].seq
    link(s, b, o)
    return emit(
        out, n, s, b, ACTION_MODIFY, side_char(side), s.orders[o].id, price_of(s, b, px), size, F_LAST
    )


@_inner
def defer(s: State, action: int, side: int, oid: int, px: int, size: int) -> None:
    p = s.g[0].pending
    s.pending[p].action = action
    s.pending[p].side = side
    s.pending[p].id = oid
    s.pending[p].px = px
    s.pending[p].size = size
    s.g[0].pending = p + 1


@_inner
def fill(out: Out, n: int, s: State, b: int, o: int, size: int, px: int, refills: bool) -> int:
    """`size` of a resting order trades at px (1e-9).

    At CME the F goes out now and the book's change is deferred.
    """
    order = s.orders[o]
    char, style, own_px = side_char(order.side), s.books[b].style, price_of(s, b, order.px)
    left = order.size - size
    if style == STYLE_CME:
        n = emit(out, n, s, b, ACTION_FILL, char, order.id, px, size, 0)
    else:
        n = emit(out, n, s, b, ACTION_FILL, char, order.id, px, size, end_flags(style))
        n = emit(out, n, s, b, ACTION_CANCEL, char, order.id, own_px, size, end_flags(style))
    if left > 0:
        if style == STYLE_CME:
            defer(s, ACTION_MODIFY, char, order.id, own_px, left)
        s.orders[o].size = left
        s.levels[b, order.side, order.px].size -= size
        return n
    if style == STYLE_CME:
        defer(s, ACTION_CANCEL, char, order.id, own_px, size)
    if not refills or order.hidden == 0:
        drop_order(s, b, o)
        return n
    shown = min(order.peak, order.hidden)
    unlink(s, b, o)
    s.orders[o].hidden = order.hidden - shown
    s.orders[o].size = shown
    s.orders[o].ts = s.g[0].now
    link(s, b, o)
    if style == STYLE_CME:
        defer(s, ACTION_ADD, char, order.id, own_px, shown)
        return n
    s.orders[o].id = next_id(s, b)
    return emit(out, n, s, b, ACTION_ADD, char, s.orders[o].id, own_px, shown, end_flags(style))


@_inner
def send_deferred(out: Out, n: int, s: State, b: int) -> int:
    """Send the deferred changes of an event as one packet."""
    count = s.g[0].pending
    if count:
        stamp(s, b)
    for i in range(count):
        p = s.pending[i]
        n = emit(out, n, s, b, p.action, p.side, p.id, p.px, p.size, 0)
    s.g[0].pending = 0
    return n


@_inner
def finish(out: Out, n: int, s: State, b: int) -> int:
    """The end of an event: what is deferred, the last record with F_LAST."""
    n = send_deferred(out, n, s, b)
    out[n - 1].flags = end_flags(s.books[b].style)
    return n


@_inner
def take(out: Out, n: int, s: State, b: int, side: int, size: int, limit: int, rests: bool) -> int:
    """An aggressive order of `side` trades up to tick `limit`; what is left rests there, or is gone."""
    stamp(s, b)
    style = s.books[b].style
    oid = next_id(s, b)
    other = ASK if side == BID else BID
    last = -1
    # icebergs refill in the same event: bounded, so that an event has a largest size
    for _ in range(64):
        best = s.books[b].ask if side == BID else s.books[b].bid
        if size == 0 or best < 0 or best >= s.levels.shape[2]:
            break
        if (side == BID and best > limit) or (side == ASK and best < limit):
            break
        if best == last:
            n = send_deferred(out, n, s, b)  # a refill has to be in the book before it trades
        last = best
        s.books[b].last = best
        px = price_of(s, b, best)
        part = min(size, s.levels[b, other, best].size)
        size -= part
        count = s.levels[b, other, best].count
        if style == STYLE_CME:
            n = emit(out, n, s, b, ACTION_TRADE, side_char(side), oid, px, part, 0)
        o = s.levels[b, other, best].head
        while part > 0 and count > 0:
            after = s.orders[o].next
            one = min(part, s.orders[o].size)
            if style != STYLE_CME:
                n = emit(out, n, s, b, ACTION_TRADE, side_char(side), 0, px, one, end_flags(style))
            n = fill(out, n, s, b, o, one, px, True)
            part -= one
            count -= 1
            o = after
    if size > 0 and rests:
        o = new_order(s, b, side, limit, size, oid)
        defer(s, ACTION_ADD, side_char(side), oid, price_of(s, b, limit), size)
    return finish(out, n, s, b)


@_inner
def auction_price(s: State, b: int) -> tuple[int, int]:
    """(tick, matched size) of an auction now; (0, 0): not crossed. The rule of shared/orderbook/uncross.py.

    The most matched size; then the least surplus; then closest to the last trade, or to the middle of the marginal
    bid and ask if there was none; then the lower.
    """
    i, j = s.books[b].bid, s.books[b].ask
    matched, done_bid, done_ask, low, high = 0, 0, 0, 0, 0
    while i >= 0 and j < s.levels.shape[2] and i >= j:
        high, low = i, j
        step = min(s.levels[b, BID, i].size - done_bid, s.levels[b, ASK, j].size - done_ask)
        matched, done_bid, done_ask = matched + step, done_bid + step, done_ask + step
        if done_bid == s.levels[b, BID, i].size:
            done_bid = 0
            i -= 1
            while i >= 0 and s.levels[b, BID, i].count == 0:
                i -= 1
        if done_ask == s.levels[b, ASK, j].size:
            done_ask = 0
            j += 1
            while j < s.levels.shape[2] and s.levels[b, ASK, j].count == 0:
                j += 1
    if matched == 0:
        return 0, 0
    last = s.books[b].last
    anchor = low + high if last < 0 else 2 * last  # twice the tick
    best, best_surplus, best_far = low, -1, 0
    for which in range(5):
        px = low if which == 0 else high if which == 1 else last if which == 2 else i if which == 3 else j
        if px < low or px > high:
            continue
        surplus = -done_bid if i >= px else 0
        for tick in range(px, i + 1):
            surplus += s.levels[b, BID, tick].size
        if j <= px:
            surplus += done_ask
        for tick in range(j, px + 1):
            surplus -= s.levels[b, ASK, tick].size
        surplus = abs(surplus)
        far = abs(2 * px - anchor)
        if (
            best_surplus < 0
            or surplus < best_surplus
            or (surplus == best_surplus and (far < best_far or (far == best_far and px < best)))
        ):
            best, best_surplus, best_far = px, surplus, far
    return best, matched


@_inner
def uncross(out: Out, n: int, s: State, b: int) -> int:
    """The auction: everything that crosses trades at one price, as one event.

    T and F have side N, as at CME.
    """
    tick, matched = auction_price(s, b)
    if matched == 0:
        return n
    stamp(s, b)
    s.books[b].last = tick
    px = price_of(s, b, tick)
    style = s.books[b].style
    n = emit(out, n, s, b, ACTION_TRADE, SIDE_NONE, 0, px, matched, 0)
    for side in (BID, ASK):
        left = matched
        while left > 0:
            best = s.books[b].bid if side == BID else s.books[b].ask
            o = s.levels[b, side, best].head
            one = min(left, s.orders[o].size)
            n = emit(out, n, s, b, ACTION_FILL, SIDE_NONE, s.orders[o].id, px, one, 0)
            order = s.orders[o]
            rest = order.size - one
            own_px = price_of(s, b, order.px)
            if rest == 0:
                defer(s, ACTION_CANCEL, side_char(side), order.id, own_px, one)
                drop_order(s, b, o)
            else:
                if style == STYLE_CME:
                    defer(s, ACTION_MODIFY, side_char(side), order.id, own_px, rest)
                else:
                    defer(s, ACTION_CANCEL, side_char(side), order.id, own_px, one)
                s.orders[o].size = rest
                s.levels[b, side, order.px].size -= one
            left -= one
    return finish(out, n, s, b)


@_inner
def clear(out: Out, n: int, s: State, b: int, flags: int) -> int:
    """R: every order is gone."""
    while s.books[b].live > 0:
        drop_order(s, b, s.live[b, s.books[b].live - 1])
    stamp(s, b)
    return emit(out, n, s, b, ACTION_CLEAR, SIDE_NONE, 0, UNDEF_PX, 0, flags)


@_inner
def snapshot(out: Out, n: int, s: State, b: int) -> int:
    """R, then every order in queue order, flagged as Databento's snapshots are; the last with F_LAST."""
    flags = F_SNAPSHOT | F_BAD_TS_RECV
    stamp(s, b)
    n = emit(out, n, s, b, ACTION_CLEAR, SIDE_NONE, 0, UNDEF_PX, 0, flags)
    width = s.levels.shape[2]
    for side in (BID, ASK):
        for i in range(width):
            px = width - 1 - i if side == BID else i
            o = s.levels[b, side, px].head
            while o != NO_ORDER:
                order = s.orders[o]
                n = emit(
                    out, n, s, b, ACTION_ADD, side_char(side), order.id, price_of(s, b, px), order.size, flags
                )
                out[n - 1].ts_event = order.ts
                out[n - 1].sequence = order.seq
                out[n - 1].ts_in_delta = 0
                o = order.next
    out[n - 1].flags = flags | F_LAST
    return n


@_inner
def expire(out: Out, n: int, s: State, b: int) -> int:
    """The close: day orders are cancelled, one event each; good-till-cancel orders stay."""
    for slot in range(s.books[b].live - 1, -1, -1):
        o = s.live[b, slot]
        if s.orders[o].gtc == 0:
            n = cancel(out, n, s, b, o, end_flags(s.books[b].style))
    return n


# --- the traders ---


@_inner
def draw_size(s: State, style: int) -> int:
    """Contracts: heavy tail, 3 in 4 are single. Shares: round lots, with odd ones."""
    if style == STYLE_CME:
        return min(int(1.0 / np.sqrt(rnd(s))), 250)
    u = rnd(s)
    if u < 0.62:
        return 100
    if u < 0.80:
        return 1 + int(rnd(s) * 99.0)
    return 100 * min(int(1.0 / np.sqrt(rnd(s))), 100)


@_inner
def draw_distance(s: State) -> int:
    """Ticks behind the best price at which a new order rests."""
    u = rnd(s)
    if u < 0.52:
        return 0
    if u < 0.68:
        return 1 + int((u - 0.52) * (4.0 / 0.16))
    if u < 0.72:
        return 5 + int((u - 0.68) * (7.0 / 0.04))
    return min(12 + int(45.0 * (rnd(s) ** -0.6 - 1.0)), 250)


@_inner
def pick_live(s: State, b: int) -> int:
    """A resting order: often one of the newest (most orders live for milliseconds), else any."""
    live = s.books[b].live
    u = rnd(s)
    if u < 0.50:
        slot = live - 1 - int(rnd(s) * min(_RECENT, live))
    elif u < 0.75:
        slot = live - 1 - int(rnd(s) * min(10 * _RECENT, live))
    else:
        slot = int(rnd(s) * live)
    return s.live[b, slot]


@_inner
def own_price(s: State, b: int, side: int) -> int:
    """The tick of a new resting order that trades with nobody."""
    width = s.levels.shape[2]
    bid, ask = s.books[b].bid, s.books[b].ask
    value = s.values[s.books[b].value]
    if bid < 0 or ask >= width:  # one side is empty: around what it is worth
        if side == BID:
            px = min(int(value) - int(rnd(s) * 3.0), ask - 1)
        else:
            px = max(int(value) + 1 + int(rnd(s) * 3.0), bid + 1)
    else:
        distance = draw_distance(s)
        inside = ask - bid > 1 and rnd(s) < 0.3
        if side == BID:
            px = bid + 1 if inside else min(bid, int(value + 1.0)) - distance
        else:
            px = ask - 1 if inside else max(ask, int(value)) + distance
    return min(max(px, 1), width - 2)


@_inner
def act_taker(out: Out, n: int, s: State, b: int, drift: float) -> int:
    """A marketable order: one level mostly, sometimes a sweep; one in six leaves its rest in the book."""
    buys = rnd(s) < 0.5 + max(-0.42, min(0.42, drift * 0.3))
    side = BID if buys else ASK
    size = draw_size(s, s.books[b].style)
    if rnd(s) < 0.05:
        size *= 8
    depth = 0 if rnd(s) < 0.75 else 1 + int(rnd(s) * 4.0)
    width = s.levels.shape[2]
    limit = min(s.books[b].ask + depth, width - 2) if buys else max(s.books[b].bid - depth, 1)
    return take(out, n, s, b, side, size, limit, rnd(s) < 0.16)


@_inner
def act_modify(out: Out, n: int, s: State, b: int) -> int:
    """Most changes are of price, towards the market or away; some of size."""
    o = pick_live(s, b)
    order = s.orders[o]
    u = rnd(s)
    size = order.size
    if u < 0.06 and size > 1:
        return reduce(out, n, s, b, o, 1 + int(rnd(s) * (size - 1)))
    if u < 0.065:
        return replace(out, n, s, b, o, order.px, size + draw_size(s, s.books[b].style))
    if u > 0.72:
        size = draw_size(s, s.books[b].style)
    v = rnd(s)
    ticks = 1 if v < 0.55 else 2 + int(rnd(s) * 2.0) if v < 0.62 else 5 + int(rnd(s) * 20.0)
    towards = rnd(s) < 0.58
    width = s.levels.shape[2]
    if order.side == BID:
        px = max(1, min(order.px + ticks if towards else order.px - ticks, s.books[b].ask - 1))
    else:
        px = min(width - 2, max(order.px - ticks if towards else order.px + ticks, s.books[b].bid + 1))
    if px == order.px:
        return cancel(out, n, s, b, o, end_flags(s.books[b].style))
    return replace(out, n, s, b, o, px, size)


@_inner
def act_add(out: Out, n: int, s: State, b: int, flags: int) -> int:
    """A maker or a patient trader rests an order; the side with fewer orders is likelier."""
    book = s.books[b]
    side = BID if rnd(s) * (book.live + 2) > book.bids + 1 else ASK
    size = draw_size(s, book.style)
    n = submit(out, n, s, b, side, own_price(s, b, side), size, flags)
    o = s.live[b, s.books[b].live - 1]
    if rnd(s) < _P_ICEBERG:
        s.orders[o].peak = size
        s.orders[o].hidden = size * (3 + int(rnd(s) * 12.0))
    if rnd(s) < _P_GTC:
        s.orders[o].gtc = 1
    return n


@_inner
def act_preopen(out: Out, n: int, s: State, b: int) -> int:
    """Before an auction: limit orders of both sides around the value, crossing or not; nothing trades."""
    book = s.books[b]
    flags = end_flags(book.style)
    if book.live > 10 and rnd(s) < 0.3 * book.live / book.target:
        return cancel(out, n, s, b, pick_live(s, b), flags)
    side = BID if rnd(s) < 0.5 else ASK
    width = s.levels.shape[2]
    px = int(s.values[book.value] + (2.5 if side == ASK else -2.5) + 3.5 * normal(s))
    return submit(out, n, s, b, side, min(max(px, 1), width - 2), draw_size(s, book.style), flags)


@_inner
def act(out: Out, n: int, s: State, b: int, single: bool) -> int:
    """One event of book b at time g.now. `single`: of one record only, A or C (to end a file at an exact count)."""
    book = s.books[b]
    flags = end_flags(book.style)
    width = s.levels.shape[2]
    value = s.values[book.value] + 0.06 * normal(s)
    s.values[book.value] = min(
        max(value + 2e-6 * (width / 2 - value), width / 2 - width / 3), width / 2 + width / 3
    )
    full = book.live >= s.live.shape[1] - 2
    if book.phase == PHASE_HALT or (full and single):
        return cancel(out, n, s, b, pick_live(s, b), flags) if book.live > 20 else n
    if book.phase == PHASE_PREOPEN and not full:
        return act_preopen(out, n, s, b)
    if book.bid < 0 or book.ask >= width:
        return act_add(out, n, s, b, flags)
    drift = value - 0.5 * (book.bid + book.ask)
    if not single:
        u = rnd(s)
        if u < _P_TAKE + min(0.2, 0.02 * abs(drift)) and not full:
            return act_taker(out, n, s, b, drift)
        if u < _P_TAKE + _P_MODIFY and book.live > 20:
            return act_modify(out, n, s, b)
    if full or rnd(s) < 0.475 * book.live / book.target:
        o = pick_live(s, b)
        touch = rnd(s)  # the best prices are where orders go first
        if touch < 0.16:
            o = s.levels[b, BID, book.bid].tail if touch < 0.08 else s.levels[b, ASK, book.ask].tail
        if drift < -0.8 and rnd(s) < 0.5:  # makers pull quotes that have become too good
            o = s.levels[b, BID, book.bid].tail
        elif drift > 0.8 and rnd(s) < 0.5:
            o = s.levels[b, ASK, book.ask].tail
        return cancel(out, n, s, b, o, flags)
    return act_add(out, n, s, b, flags)


@_inner
def next_gap(s: State, b: int) -> float:
    """ns to a book's next event.

    Over all: 0.66 follow within microseconds, 0.20 within milliseconds, 0.14 after a pause that keeps the mean. Between
    two pauses lies a group of events: a few, or (one group in twenty, half of all events) a flurry of 70 or so.
    """
    book = s.books[b]
    mean = book.mean_ns
    short, middle = min(60_000.0, 0.25 * mean), min(15e6, 0.3 * mean)
    pause, wait = (_HOT_PAUSE, _HOT_WAIT) if book.hot else (_CALM_PAUSE, _CALM_WAIT)
    u = rnd(s)
    if u >= pause + wait:
        gap = short * np.exp(1.3 * normal(s))
    elif u >= pause:
        gap = middle * np.exp(1.3 * normal(s))
    else:
        s.books[b].hot = 1 if rnd(s) < _P_HOT else 0
        # slow changes of activity: an AR(1) of its logarithm, stepped once a pause
        s.books[b].active = np.exp(0.93 * np.log(book.active) + 0.55 * normal(s))
        rest = (mean - 2.33 * (0.66 * short + 0.20 * middle)) / 0.14
        gap = -np.log(rnd(s)) * max(rest, 0.2 * mean) / book.active / 3.06
    if s.g[0].now < book.burst_until:
        gap /= BURST
    return gap + min(5_000.0, 0.05 * mean)


@_inner
def sift(s: State) -> None:
    """Put the root of the heap where it belongs after its time grew."""
    count = len(s.heap_ts)
    ts, b, at = s.heap_ts[0], s.heap_book[0], 0
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and s.heap_ts[child + 1] < s.heap_ts[child]:
            child += 1
        if s.heap_ts[child] >= ts:
            break
        s.heap_ts[at], s.heap_book[at] = s.heap_ts[child], s.heap_book[child]
        at = child
    s.heap_ts[at], s.heap_book[at] = ts, b


@_kernel
def run(out: Out, n: int, room: int, until: int, single: bool, s: State) -> int:
    """Events in order of time, from record n on, until `out` has no room for `room` more or the next one is
    due at
    `until` (ns) or later. Returns the number of records in `out`."""
    limit = len(out) - room
    due = np.uint64(until)  # compared with a signed number, both would become floats and lose 256 ns
    while n <= limit and s.heap_ts[0] < due:
        b = s.heap_book[0]
        s.g[0].now = s.heap_ts[0]
        n = act(out, n, s, b, single)
        s.heap_ts[0] += np.uint64(next_gap(s, b))
        sift(s)
    return n


@_inner
def seed_orders(s: State, b: int, count: int) -> None:
    """Good-till-cancel orders from earlier days, as they rest before the first message."""
    width = s.levels.shape[2]
    now = s.g[0].now
    for i in range(count):
        side = BID if rnd(s) < 0.5 else ASK
        behind = 3 + int(25.0 * (rnd(s) ** -0.6 - 1.0))
        px = width // 2 - behind if side == BID else width // 2 + 1 + behind
        s.g[0].now = now - np.uint64((count - i) * 60_000_000_000)
        px = min(max(px, 1), width - 2)
        o = new_order(s, b, side, px, draw_size(s, s.books[b].style), next_id(s, b))
        s.orders[o].gtc = 1
    s.g[0].now = now


UNCROSS, CLEAR, SNAPSHOT, EXPIRE, SEED = range(5)


@_kernel
def special(out: Out, n: int, s: State, b: int, what: int, count: int) -> int:
    """What the exchange does by itself to book b.

    One kernel for all of it: each one costs a second to compile.
    """
    if what == UNCROSS:
        return uncross(out, n, s, b)
    if what == CLEAR:
        return clear(out, n, s, b, F_LAST | F_BAD_TS_RECV)
    if what == SNAPSHOT:
        return snapshot(out, n, s, b)
    if what == EXPIRE:
        return expire(out, n, s, b)
    seed_orders(s, b, count)
    return n
