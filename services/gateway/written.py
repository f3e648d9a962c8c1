"""The JSON of the busiest channels, written by compiled code: best prices, changed levels and trades.

A row costs 0.1 µs here and 2 to 4 µs as Python objects: at 500 k records a second most of what the gateway did.
The texts are those of `encode`: prices are exact decimals without trailing zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from shared.records import BBO, BOOK_CROSSED, TRADE, Rows
from shared.units import PX_SCALE, SIDE_ASK, SIDE_BID, SIDE_NONE, UNDEF_PX

_U1 = nb.uint8[::1]
_U1_RO = nb.types.Array(nb.uint8, 1, "C", readonly=True)
_I8 = nb.int64[::1]
_I8_RO = nb.types.Array(nb.int64, 1, "C", readonly=True)
_INT = nb.int64
_U8 = np.uint64

_ROW_BYTES = 360  # of a best-price event without head and tail, at most
_LEVEL_BYTES = 70
_TRADE_BYTES = 256  # of a trade without head and tail, at most
_BBO_WORDS, _TRADE_WORDS = BBO.itemsize // 8, TRADE.itemsize // 8
_FLAGS = 3  # the word of a BBO row with instrument, publisher and flags


def _text(text: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text, np.uint8)


_ORDINAL, _TS_EVENT, _TS_RECV = _text(b',"ordinal":'), _text(b',"ts_event":"'), _text(b'","ts_recv":"')
_BID_IS, _ASK_IS = _text(b'","bid":'), _text(b',"ask":')
_CROSSED_IS, _STALE_IS = _text(b',"crossed":'), _text(b',"stale":')
_END, _PUBLISHER, _PRICE, _SIZE = (
    _text(b',"end":'), _text(b',"publisher_id":'), _text(b',"price":"'), _text(b'","size":')
)  # fmt: skip
_SIDE, _FLAGS_ARE, _SEQUENCE = _text(b',"side":"'), _text(b'","flags":'), _text(b',"sequence":')
_QUOTE = _text(b'"')
_TRUE, _FALSE, _NULL = _text(b"true"), _text(b"false"), _text(b"null")


@nb.njit(_INT(_U1, _INT, _U1_RO), cache=True, nogil=True)
def _put(out: Any, at: Any, text: Any) -> Any:
    for i in range(text.shape[0]):
        out[at + i] = text[i]
    return at + text.shape[0]


@nb.njit(_INT(_U1, _INT, nb.uint64), cache=True, nogil=True)
def _number(out: Any, at: Any, value: Any) -> Any:
    """Decimal digits of an unsigned number."""
    digits, rest = 1, value
    while rest >= _U8(10):
        rest //= _U8(10)
        digits += 1
    for i in range(digits):
        out[at + digits - 1 - i] = 48 + np.int64(value % _U8(10))
        value //= _U8(10)
    return at + digits


@nb.njit(_INT(_U1, _INT, _INT), cache=True, nogil=True)
def _price(out: Any, at: Any, px: Any) -> Any:
    """As `shared.units.px_to_str`."""
    magnitude = _U8(px)
    if px < 0:
        out[at] = 45
        at += 1
        magnitude = _U8(0) - magnitude
    whole, fraction = magnitude // _U8(PX_SCALE), magnitude % _U8(PX_SCALE)
    at = _number(out, at, whole)
    if fraction:
        out[at] = 46
        digits = 9
        while fraction % _U8(10) == _U8(0):
            fraction //= _U8(10)
            digits -= 1
        for i in range(digits):
            out[at + digits - i] = 48 + np.int64(fraction % _U8(10))
            fraction //= _U8(10)
        at += digits + 1
    return at


@nb.njit(_INT(_U1, _INT, _INT, nb.uint64, nb.uint64), cache=True, nogil=True)
def _level(out: Any, at: Any, px: Any, size: Any, count: Any) -> Any:
    """`["price",size,count]`."""
    out[at], out[at + 1] = 91, 34
    at = _price(out, at + 2, px)
    out[at], out[at + 1] = 34, 44
    at = _number(out, at + 2, size)
    out[at] = 44
    at = _number(out, at + 1, count)
    out[at] = 93
    return at + 1


@nb.njit(_INT(_U1, _INT, _INT, _INT, nb.uint64), cache=True, nogil=True)
def _best(out: Any, at: Any, px: Any, size: Any, count: Any) -> Any:
    if px == UNDEF_PX or (size == 0 and count == _U8(0)):
        return _put(out, at, _NULL)
    return _level(out, at, px, _U8(size), count)


@nb.njit(
    [_INT(rows, _INT, _INT, nb.boolean, nb.boolean, _I8, _U1_RO, _U1_RO, _U1) for rows in (_I8, _I8_RO)],
    cache=True,
    nogil=True,
)
def _bbo(
    rows: Any,
    instrument: Any,
    publisher: Any,
    stale: Any,
    anyway: Any,
    last: Any,
    head: Any,
    tail: Any,
    out: Any,
) -> Any:
    """Events of the rows of an instrument (of one publisher, or -1) that differ from `last`, which moves on."""
    at = np.int64(0)
    for row in range(rows.shape[0] // _BBO_WORDS):
        r = row * _BBO_WORDS
        key = _U8(rows[r + _FLAGS])
        if np.int64(key & _U8(0xFFFF_FFFF)) != instrument:
            continue
        if publisher >= 0 and np.int64((key >> _U8(32)) & _U8(0xFFFF)) != publisher:
            continue
        crossed = np.int64((key >> _U8(48)) & _U8(BOOK_CROSSED))
        flags = crossed | (np.int64(stale) << 8)
        same = not anyway and (last[_FLAGS] & 0xFFFF) == flags
        for k in range(4, _BBO_WORDS):
            same = same and rows[r + k] == last[k]
        if same:
            continue
        for k in range(_BBO_WORDS):
            last[k] = rows[r + k]
        last[_FLAGS] = flags | np.int64((key >> _U8(32)) & _U8(0xFFFF)) << 16
        counts = _U8(rows[r + 8])
        at = _put(out, at, head)
        at = _number(out, _put(out, at, _ORDINAL), _U8(rows[r]))
        at = _number(out, _put(out, at, _TS_EVENT), _U8(rows[r + 1]))
        at = _number(out, _put(out, at, _TS_RECV), _U8(rows[r + 2]))
        at = _best(out, _put(out, at, _BID_IS), rows[r + 4], rows[r + 6], counts & _U8(0xFFFF_FFFF))
        at = _best(out, _put(out, at, _ASK_IS), rows[r + 5], rows[r + 7], counts >> _U8(32))
        at = _put(out, _put(out, at, _CROSSED_IS), _TRUE if crossed else _FALSE)
        at = _put(out, _put(out, at, _STALE_IS), _TRUE if stale else _FALSE)
        at = _put(out, at, tail)
    return at


def bbo_events(
    rows: Rows,
    instrument: int,
    publisher: int | None,
    *,
    stale: bool,
    last: Said,
    head: bytes,
    tail: bytes,
    anyway: bool = False,
) -> bytes:
    """`head`, the members of a row, `tail` for each row of the instrument that says something new; moves `last`.

    rows: layout BBO. anyway: also a row that says nothing new.
    """
    out = np.empty(len(rows) * (_ROW_BYTES + len(head) + len(tail)), np.uint8)
    which = -1 if publisher is None else publisher
    words = np.ascontiguousarray(rows).view(np.int64)
    n = _bbo(words, instrument, which, stale, anyway, last.words, _text(head), _text(tail), out)
    return out[:n].tobytes()


@nb.njit([_INT(rows, _INT, _INT, _U1_RO, _U1_RO, _U1) for rows in (_I8, _I8_RO)], cache=True, nogil=True)
def _trades(rows: Any, instrument: Any, publisher: Any, head: Any, tail: Any, out: Any) -> Any:
    """Events of the rows of an instrument, of one publisher or -1."""
    at = np.int64(0)
    for row in range(rows.shape[0] // _TRADE_WORDS):
        r = row * _TRADE_WORDS
        size, key = _U8(rows[r + 5]), _U8(rows[r + 6])
        venue, side = (key >> _U8(32)) & _U8(0xFFFF), np.int64((key >> _U8(48)) & _U8(0xFF))
        if np.int64(size >> _U8(32)) != instrument or (publisher >= 0 and np.int64(venue) != publisher):
            continue
        at = _put(out, at, head)
        at = _number(out, _put(out, at, _ORDINAL), _U8(rows[r]))
        at = _number(out, _put(out, at, _END), _U8(rows[r + 1]))
        at = _number(out, _put(out, at, _PUBLISHER), venue)
        at = _price(out, _put(out, at, _PRICE), rows[r + 4])
        at = _number(out, _put(out, at, _SIZE), size & _U8(0xFFFF_FFFF))
        at = _put(out, at, _SIDE)
        out[at] = side if side in (SIDE_BID, SIDE_ASK) else SIDE_NONE
        at = _number(out, _put(out, at + 1, _FLAGS_ARE), key >> _U8(56))
        at = _number(out, _put(out, at, _SEQUENCE), key & _U8(0xFFFF_FFFF))
        at = _number(out, _put(out, at, _TS_EVENT), _U8(rows[r + 2]))
        at = _number(out, _put(out, at, _TS_RECV), _U8(rows[r + 3]))
        at = _put(out, _put(out, at, _QUOTE), tail)
    return at


def trade_events(rows: Rows, instrument: int, publisher: int | None, *, head: bytes, tail: bytes) -> bytes:
    """`head`, the members of a row, `tail` for each row of the instrument. rows: layout TRADE, each with a price."""
    out = np.empty(len(rows) * (_TRADE_BYTES + len(head) + len(tail)), np.uint8)
    which = -1 if publisher is None else publisher
    words = np.ascontiguousarray(rows).view(np.int64)
    return out[: _trades(words, instrument, which, _text(head), _text(tail), out)].tobytes()


class Said:
    """The row said last: `words` of a BBO row, but number 3 holds crossed, stale << 8 and publisher << 16, or -1."""

    def __init__(self) -> None:
        self.words = np.zeros(_BBO_WORDS, np.int64)
        self.words[_FLAGS] = -1  # nothing yet: no row is equal to it

    @property
    def is_empty(self) -> bool:
        return self.words.item(_FLAGS) == -1

    @property
    def stale(self) -> bool:
        return bool(self.words.item(_FLAGS) >> 8 & 1)

    @property
    def publisher(self) -> int:
        return self.words.item(_FLAGS) >> 16

    def row(self, instrument: int) -> Rows:
        words = self.words.copy()
        words[_FLAGS] = instrument | self.publisher << 32 | (self.words.item(_FLAGS) & BOOK_CROSSED) << 48
        return words.view(BBO)


@nb.njit(_INT(_I8, _INT, _INT, _I8, _INT, _INT, _U1), cache=True, nogil=True)
def _changes(new: Any, place: Any, n: Any, said: Any, m: Any, flip: Any, out: Any) -> Any:
    """JSON list of the levels set, or gone (size and count 0), best first: its bytes. `said` becomes the new side."""
    i, j, at = place + 3 * n, 3 * m, np.int64(1)
    out[0] = 91
    while i > place or j > 0:
        if i > place and j > 0 and new[i - 3] == said[j - 3]:
            i, j = i - 3, j - 3
            if new[i + 1] == said[j + 1] and new[i + 2] == said[j + 2]:
                continue
            at = _level(out, at, new[i] ^ flip, _U8(new[i + 1]), _U8(new[i + 2]))
        elif i == place or (j > 0 and said[j - 3] > new[i - 3]):
            j -= 3
            at = _level(out, at, said[j] ^ flip, _U8(0), _U8(0))
        else:
            i -= 3
            at = _level(out, at, new[i] ^ flip, _U8(new[i + 1]), _U8(new[i + 2]))
        out[at] = 44
        at += 1
    if at == 1:
        out[1] = 93
        return np.int64(2)
    for k in range(3 * n):
        said[k] = new[place + k]
    out[at - 1] = 93
    return at


class SaidSide:
    """A side of a book as it was said last: levels as `LevelBooks.side` has them."""

    def __init__(self, side: int) -> None:
        self.side = side
        self._flip = -1 if side == SIDE_ASK else 0
        self._words, self._n = np.empty(0, np.int64), 0

    def move(self, pool: NDArray[np.int64], place: int, n: int) -> bytes:
        """JSON of the levels that are others in this side, which is the one said last now; b"[]" for none."""
        if 3 * n > len(self._words):
            self._words = np.concatenate((self._words, np.empty(3 * n, np.int64)))
        out = np.empty(2 + _LEVEL_BYTES * (n + self._n), np.uint8)
        length = _changes(pool, place, n, self._words, self._n, self._flip, out)
        self._n = n
        return out[:length].tobytes()

    def move_to(self, levels: Sequence[tuple[int, int, int]]) -> bytes:
        """`move` to levels (price, size, count), best first."""
        words = np.array([(px ^ self._flip, size, count) for px, size, count in reversed(levels)], np.int64)
        return self.move(words.reshape(-1), 0, len(levels))

    @property
    def best(self) -> int | None:
        """The best price."""
        return self._words.item(3 * self._n - 3) ^ self._flip if self._n else None

    def levels(self) -> list[tuple[int, int, int]]:
        """(price, size, count), best first."""
        rows = self._words[: 3 * self._n].reshape(-1, 3)[::-1].tolist()
        return [(px ^ self._flip, size, count) for px, size, count in rows]
