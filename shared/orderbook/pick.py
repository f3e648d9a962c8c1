"""Rows of the instruments somebody looks at, out of the rows of all."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from shared.records import Rows

_U4 = nb.types.Array(nb.uint32, 1, "C")
_U4_RO = nb.types.Array(nb.uint32, 1, "C", readonly=True)
_INT = nb.int64


@nb.njit(  # type: ignore[untyped-decorator]
    [_INT(_U4, _INT, _INT, _U4, _INT[::1]), _INT(_U4_RO, _INT, _INT, _U4, _INT[::1])], cache=True, nogil=True
)
def _found(words: Any, at: Any, step: Any, wanted: Any, found: Any) -> Any:
    """Numbers of the rows (`step` words, the id at word `at`) that are wanted, into `found`; how many."""
    n, last = 0, wanted.shape[0] - 1
    for i in range(found.shape[0]):
        number = words[at + i * step]
        low, high = 0, last
        while low < high:
            middle = (low + high) >> 1
            if wanted[middle] < number:
                low = middle + 1
            else:
                high = middle
        if wanted[low] == number:
            found[n] = i
            n += 1
    return n


def pick(rows: Rows, wanted: NDArray[np.uint32]) -> Rows:
    """The rows, in their order, whose `instrument_id` is in `wanted` (sorted); itself if that is all of them."""
    if not len(rows):
        return rows
    if not len(wanted):
        return rows[:0]
    found = np.empty(len(rows), np.int64)
    assert rows.dtype.fields is not None
    at, step = rows.dtype.fields["instrument_id"][1] // 4, rows.dtype.itemsize // 4
    n = int(_found(np.ascontiguousarray(rows).view(np.uint32), at, step, wanted, found))
    return rows if n == len(rows) else rows[found[:n]]
