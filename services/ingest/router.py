"""Split a batch of records by shard, keeping the order inside each shard."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from shared.records import MBO, Rows

_WORDS = MBO.itemsize // 8
# Read-only in the signature: it then takes writable arrays and views of files alike, one compilation for both.
_IN = nb.types.Array(nb.uint64, 2, "C", readonly=True)
_OUT = nb.uint64[:, ::1]


@nb.njit(nb.void(_IN, _OUT, nb.int64[::1]), cache=True, nogil=True)
def _split(words: Any, out: Any, ends: Any) -> None:
    """Counting sort by shard. `ends` (length S) receives the end of each shard's run in `out`.

    The hash is shared.wire.keys.shard_of; the instrument_id is the upper half of a record's first word.
    """
    n, shards = words.shape[0], ends.shape[0]
    for i in range(n):
        shard = (((words[i, 0] >> 32) * np.uint64(2654435769)) & np.uint64(0xFFFFFFFF)) * np.uint64(
            shards
        ) >> 32
        ends[shard] += 1
    total = 0
    for s in range(shards):
        count = ends[s]
        ends[s] = total
        total += count
    for i in range(n):
        shard = (((words[i, 0] >> 32) * np.uint64(2654435769)) & np.uint64(0xFFFFFFFF)) * np.uint64(
            shards
        ) >> 32
        j = ends[shard]
        for k in range(7):
            out[j, k] = words[i, k]
        ends[shard] = j + 1


def split(records: Rows, shards: int) -> list[Rows]:
    """Records of each shard, contiguous and in their order; index = shard."""
    if shards == 1:
        return [records]
    out: NDArray[np.uint64] = np.empty((len(records), _WORDS), np.uint64)
    ends: NDArray[np.int64] = np.zeros(shards, np.int64)
    _split(np.ascontiguousarray(records).view(np.uint64).reshape(-1, _WORDS), out, ends)
    rows = out.reshape(-1).view(MBO)
    begins = [0, *ends[:-1].tolist()]
    return [rows[begin:end] for begin, end in zip(begins, ends.tolist(), strict=True)]
