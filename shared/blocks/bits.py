"""Integer columns to a stream of bits and back: every 32 values of a column as wide as the widest of them.

Columns are int64 taken as 64 bits without a sign. `widths[c, k]` is the bits of each of the values 32·k … of column c;
the values follow each other without gaps, column after column, least significant bit first, in u64 words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

RUN = 32  # values of one width


def _leading_zeros(typing_context: Any, word: Any) -> Any:
    """Zero bits above the highest one of a word; 64 for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


leading_zeros: Any = intrinsic(_leading_zeros)


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def pack(cols: Any, widths: Any, out: Any) -> Any:
    """Columns (c, n) into `out` (room for 64 bits a value and two words more), widths (c, runs) filled; words used."""
    n = cols.shape[1]
    at = 0
    fill = np.uint64(0)
    word = np.uint64(0)
    full = np.uint64(64)
    for c in range(cols.shape[0]):
        column = cols[c]
        for k in range(widths.shape[1]):
            low = k * RUN
            high = min(low + RUN, n)
            seen = np.int64(0)
            for i in range(low, high):
                seen |= column[i]
            width = full - leading_zeros(np.uint64(seen))
            widths[c, k] = width
            if width == 0:
                continue
            for i in range(low, high):
                value = np.uint64(column[i])
                word |= value << fill
                fill += width
                if fill >= full:
                    out[at] = word
                    at += 1
                    fill -= full
                    word = value >> (width - fill) if fill else np.uint64(0)
    out[at] = word
    out[at + 1] = 0  # a reader looks at two words for any value
    return at + 2


@njit(cache=True, error_model="numpy", boundscheck=False, nogil=True)
def unpack(words: Any, widths: Any, low: Any, high: Any, cols: Any) -> Any:
    """Rows low[c] … high[c] of each column into the same place of `cols` (c, n); the others are left as they are.

    False if the words are fewer than the widths say, or a width is none.
    """
    n = cols.shape[1]
    runs = widths.shape[1]
    end = (len(words) - 1) * 64
    start = 0
    one = np.uint64(1)
    for c in range(cols.shape[0]):
        column = cols[c]
        for k in range(runs):
            first = k * RUN
            last = min(first + RUN, n)
            width = np.int64(widths[c, k])
            stop = start + width * (last - first)
            if width > 64 or stop > end:
                return False
            a = max(first, low[c])
            b = min(last, high[c])
            if a < b:
                if width == 0:
                    for i in range(a, b):
                        column[i] = 0
                else:
                    mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - width)
                    bit = np.uint64(start + (a - first) * width)
                    step = np.uint64(width)
                    for i in range(a, b):
                        at = bit >> np.uint64(6)
                        shift = bit & np.uint64(63)
                        value = words[at] >> shift | words[at + one] << one << (np.uint64(63) - shift)
                        column[i] = np.int64(value & mask)
                        bit += step
            start = stop
    return True
