"""Pick the MBO records out of a stream of mixed DBN records: one pass, one kernel."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from shared.dbn.messages import RTYPES, SURFACED
from shared.records import MBO, Rows
from shared.units import MBO_BYTES, RTYPE_MBO

MORE = 0  # the rest is no whole record: more bytes are needed
FULL = 1  # as many records as were asked for
MESSAGE = 2  # a record to be decoded by itself begins here
DAMAGED = 3  # what begins here is no DBN record

_KNOWN = np.zeros(256, np.uint8)
for _rtype in RTYPES:
    _KNOWN[_rtype] = 1
for _rtype in SURFACED:
    _KNOWN[_rtype] = 2
_ANY = np.maximum(_KNOWN, 1)
_MIN_BYTES = 16


@numba.njit(cache=True, nogil=True)
def _split(
    block: NDArray[np.uint8], at: int, out: NDArray[np.uint8], limit: int, known: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> tuple[int, int, int]:  # fmt: skip
    end = len(block)
    taken = 0
    while True:
        if taken == limit:
            return at, taken, FULL
        if at + 2 > end:
            return at, taken, MORE
        size = block[at] * np.int64(4)
        rtype = block[at + 1]
        kind = known[rtype]
        if (
            size < _MIN_BYTES
            or kind == 0
            or (rtype == RTYPE_MBO and size != MBO_BYTES and size != MBO_BYTES + 8)
        ):
            return at, taken, DAMAGED
        if at + size > end:
            return at, taken, MORE
        if rtype == RTYPE_MBO:
            to = taken * MBO_BYTES
            for i in range(MBO_BYTES):
                out[to + i] = block[at + i]
            out[to] = MBO_BYTES // 4
            taken += 1
        elif kind == 2:
            return at, taken, MESSAGE
        else:
            counts[rtype] += 1
        at += int(size)


class Piece(NamedTuple):
    at: int  # where reading goes on
    records: Rows
    why: int  # MORE, FULL, MESSAGE or DAMAGED


def split(
    block: NDArray[np.uint8], at: int, limit: int, counts: NDArray[np.int64], *, any_type: bool = False
) -> Piece:
    """At most `limit` MBO records from offset `at`, without ts_out; other known types go to `counts`.

    `any_type`: so do unknown ones, by their length; else they are damage.
    """
    room = min(limit, (len(block) - at) // MBO_BYTES)
    out = np.empty(max(room, 0) * MBO_BYTES, np.uint8)
    at, taken, why = _split(block, at, out, max(room, 1), _ANY if any_type else _KNOWN, counts)
    return Piece(at, out[: taken * MBO_BYTES].view(MBO), why)
