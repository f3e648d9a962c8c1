"""Market by price from market by order: the rows Databento's schemas mbp-1 and mbp-10 have.

A row for every trade (T) and for every A, C, M or R that changes one of the first levels, in the order of the records,
each with the levels after it. F and N make none. `depth` is the best level that changed (0 for trades). Sizes of levels
are u32 in DBN: larger sums are cut to the largest u32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.orderbook.books import Books
from shared.records import Rows
from shared.units import ACTION_ADD, ACTION_CANCEL, ACTION_CLEAR, ACTION_MODIFY, ACTION_TRADE, UNDEF_PX

_COPIED = (
    "publisher_id", "instrument_id", "ts_event", "price", "size", "action", "side", "flags", "ts_recv", "ts_in_delta",
    "sequence",
)  # fmt: skip
_LEVEL = ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct")
_MAX_U32 = 2**32 - 1
_PIECE = 2048  # records at a time: 1 MB of states


class MbpRows:
    """Rows of one layout (mbp-1 or mbp-10: fields `bid_px_00`… as DBN has them) for records given in order.

    `engine`: where to start from, for example a restored image; it is applied to. Its levels are raw.
    """

    def __init__(self, layout: np.dtype[Any], rtype: int, engine: Books | None = None) -> None:
        self.layout, self.rtype = layout, rtype
        names = layout.names or ()
        self.depth = sum(name.startswith("bid_px_") for name in names)
        self.engine = engine or Books("raw", outputs="bbo")
        self._before: dict[tuple[int, int], NDArray[np.int64]] = {}

    def _state(self, key: tuple[int, int]) -> NDArray[np.int64]:
        """The levels of a book before these records: what is known, else what the engine has."""
        if key not in self._before:
            state = np.zeros((self.depth, 6), np.int64)
            state[:, :2] = UNDEF_PX
            for column, side in enumerate(b"BA"):
                for i, level in enumerate(self.engine.levels(*key, side, self.depth)):
                    state[i, column::2] = np.array(level)
            self._before[key] = state
        return self._before[key]

    def add(self, records: Rows, first: int) -> Rows:
        """Rows of the records, whose ordinals are first, first + 1, …"""
        parts = [self._add(records[at : at + _PIECE], first + at) for at in range(0, len(records), _PIECE)]
        return np.concatenate(parts) if parts else np.zeros(0, self.layout)

    def _add(self, records: Rows, first: int) -> Rows:
        keys = records["publisher_id"].astype(np.int64) << 32 | records["instrument_id"]
        found, group = np.unique(keys, return_inverse=True)
        starts = [self._state((key >> 32, key & 0xFFFF_FFFF)) for key in found.tolist()]
        after = self.engine.tops(records, first, self.depth)
        changed = np.zeros((len(records), self.depth), bool)
        for i, start in enumerate(starts):
            mine = np.flatnonzero(group == i) if len(starts) > 1 else np.arange(len(records))
            states = after[mine]
            before = np.concatenate((start[None], states[:-1]))
            changed[mine] = (states != before).any(axis=2)
            key = int(found[i])
            self._before[key >> 32, key & 0xFFFF_FFFF] = states[-1].copy()
        action = records["action"]
        moves = np.isin(action, (ACTION_ADD, ACTION_CANCEL, ACTION_MODIFY, ACTION_CLEAR)) & changed.any(
            axis=1
        )
        return self._rows(records, after, changed, np.flatnonzero(moves | (action == ACTION_TRADE)))

    def _rows(self, records: Rows, after: Any, changed: Any, chosen: Any) -> Rows:
        rows = np.zeros(len(chosen), self.layout)
        rows["length"], rows["rtype"] = self.layout.itemsize // 4, self.rtype
        for name in _COPIED:
            rows[name] = records[name][chosen]
        rows["depth"] = np.where(rows["action"] == ACTION_TRADE, 0, changed[chosen].argmax(axis=1))
        levels = after[chosen]
        for level in range(self.depth):
            for column, name in enumerate(_LEVEL):
                values = levels[:, level, column]
                rows[f"{name}_{level:02d}"] = values if column < 2 else np.minimum(values, _MAX_U32)
        return rows
