"""Which records of a replayed live stream were taken already: exact, by order, never by content.

Real files hold identical records, so content cannot tell. Per (publisher, instrument) we keep M, the largest
ts_event taken, and k, how many records were taken from the first one at M on. A new connection replays an
instrument's records in the same order: everything before the first record at M is known, and so are k records
from there on. If the replay begins later than M for that instrument, records are missing: a gap. Snapshot
records carry the old times of their orders, so they never move M and are counted apart: a replay may hold
them or not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from shared.records import Rows, recv_times
from shared.units import F_LAST, F_SNAPSHOT, UNDEF_TS

_MIN_SLOTS = 1024

LIVE, WAITING, SKIPPING = 0, 1, 2

SLOT: np.dtype[Any] = np.dtype(
    [
        ("key", "u8"),  # 1 + (publisher << 32 | instrument); 0 is free
        ("top", "u8"),  # M; with snapshot records alone: 1 ns after the newest of them
        ("taken", "i8"),  # k
        ("left", "i8"),  # of k, still to be skipped
        ("snaps", "i8"),  # snapshot records taken since M
        ("snaps_left", "i8"),
        ("mode", "u1"),
        ("open", "u1"),  # 1: the last record taken is of a snapshot that has not ended; 2: and it broke there
        ("plain", "u1"),  # a record that is not of a snapshot was taken
        ("pad", "u1", (5,)),
    ]
)

_inner: Any = njit


@_inner(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[untyped-decorator]
def signed(at: int) -> int:
    """A table index beside -1: u64 and i64 together would become floats."""
    return np.int64(at)  # type: ignore[return-value]


@_inner(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[untyped-decorator]
def _count(slots: NDArray[Any], at: int, ts: int) -> None:
    """A record that is not of a snapshot is taken. One without a time is no M, but counts from the last one on."""
    if ts == UNDEF_TS:
        slots[at].taken += slots[at].plain
        slots[at].open = 0
        slots[at].snaps_left = 0
        return
    if ts > slots[at].top or not slots[at].plain:
        slots[at].top = ts
        slots[at].taken = 1
        slots[at].snaps = 0
    else:
        slots[at].taken += 1
    slots[at].plain = 1
    slots[at].open = 0
    slots[at].snaps_left = 0  # what comes now came after every snapshot record that is known


@njit(cache=True, nogil=True)
def _take(
    records: NDArray[Any], begin: int, slots: NDArray[Any], keep: NDArray[np.uint8], only_note: bool
) -> tuple[int, int, int]:
    """Mark what is new, from `begin` on.

    Returns (where it stopped, slots newly used, slot with a gap or -1).
    """
    mask = np.uint64(len(slots) - 1)
    used = 0
    for i in range(begin, len(records)):
        row = records[i]
        key = (np.uint64(row.publisher_id) << np.uint64(32) | np.uint64(row.instrument_id)) + np.uint64(1)
        at = (key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(17)) & mask
        while slots[at].key != key and slots[at].key != np.uint64(0):
            at = (at + np.uint64(1)) & mask
        if slots[at].key == np.uint64(0):
            if used >= len(slots) // 4:
                return i, used, -1  # the table has to grow first
            slots[at].key = key
            used += 1
        ts = row.ts_event
        if row.flags & F_SNAPSHOT:
            # of an instrument with snapshot records alone none is known to be in a replay: two are better
            # than none
            is_known = (slots[at].mode == WAITING and slots[at].plain) or slots[at].snaps_left > 0
            if is_known and not only_note:
                keep[i] = 0
                if slots[at].mode != WAITING:
                    slots[at].snaps_left -= 1
                continue
            keep[i] = 1
            slots[at].snaps += 1
            slots[at].open = 0 if row.flags & F_LAST else max(slots[at].open, 1)
            if not slots[at].plain and ts >= slots[at].top:
                slots[at].top = ts + np.uint64(1)
            continue
        if only_note or slots[at].mode == LIVE:
            if slots[at].open == 2 and not only_note:
                slots[at].open = 0
                return i, used, signed(at)  # the replay did not hold the rest of the snapshot
            keep[i] = 1
            _count(slots, at, ts)
            continue
        if slots[at].mode == WAITING:
            if ts < slots[at].top or ts == UNDEF_TS:
                keep[i] = 0
                continue
            slots[at].left = slots[at].taken
            slots[at].snaps_left = slots[at].snaps
            slots[at].mode = SKIPPING if slots[at].left > 0 else LIVE
            if ts > slots[at].top and slots[at].left > 0:
                slots[at].mode = LIVE
                return i, used, signed(at)  # the record at M is not there
        if slots[at].mode == SKIPPING and slots[at].left > 0:
            slots[at].left -= 1
            if slots[at].left == 0:
                slots[at].mode = LIVE
            keep[i] = 0
            continue
        if slots[at].open == 2:
            slots[at].open = 0
            return i, used, signed(at)
        keep[i] = 1
        _count(slots, at, ts)
    return len(records), used, -1


class Gap(NamedTuple):
    """Records of one instrument are missing between `from_ns` (ts_event taken last) and `to_ns`."""

    instrument_id: int
    from_ns: int
    to_ns: int


class Tracker:
    """What was taken so far. Not thread-safe."""

    def __init__(self, slots: NDArray[Any] | None = None) -> None:
        self._slots = np.zeros(_MIN_SLOTS, SLOT) if slots is None else slots
        self._used = int((self._slots["key"] != 0).sum())
        self.newest_recv = 0  # ns, largest ts_recv taken

    def _grow(self) -> None:
        if self._used * 2 < len(self._slots):
            return
        old = self._slots[self._slots["key"] != 0]
        self._slots = np.zeros(len(self._slots) * 4, SLOT)
        mask = len(self._slots) - 1
        for row in old:
            at = (int(row["key"]) * 0x9E3779B97F4A7C15 % 2**64 >> 17) & mask
            while self._slots[at]["key"]:
                at = (at + 1) & mask
            self._slots[at] = row

    def take(self, records: Rows, *, only_note: bool = False) -> list[Rows | Gap]:
        """The new ones among `records`, and gaps before those they precede.

        `only_note`: all are known to be new.
        """
        out: list[Rows | Gap] = []
        begin = done = 0
        keep = np.empty(len(records), np.uint8)
        while begin < len(records):
            self._grow()
            stopped, used, gap = _take(records, begin, self._slots, keep, only_note)
            self._used += used
            if gap >= 0:
                part = records[done:stopped][keep[done:stopped].view(bool)]
                if len(part):
                    out.append(part)
                slot = self._slots[gap]
                to_ns = int(records[stopped]["ts_event"])
                out.append(Gap((int(slot["key"]) - 1) & 0xFFFFFFFF, int(slot["top"]), to_ns))
                done = stopped
            begin = stopped
        part = records[done:]
        chosen = keep[done:].view(bool)
        if not chosen.all():
            part = part[chosen]
        if len(part):
            out.append(part)
            self.newest_recv = max(self.newest_recv, int(recv_times(part).max()))
        return out

    def reconnect(self, lookback_ns: int) -> int:
        """Expect a replay: the ts_event to subscribe from, 0 if nothing was taken yet.

        It is the lowest M of all instruments, but not more than `lookback_ns` before the newest ts_recv: what
        an instrument that has been quiet for longer sends now is new.
        """
        known = self._slots["key"] != 0
        if not known.any() or not self.newest_recv:
            return 0
        start = max(int(self._slots["top"][known].min()), self.newest_recv - lookback_ns)
        quiet = known & (self._slots["top"] < np.uint64(start))
        self._slots["open"][self._slots["open"] == 1] = 2
        self._slots["mode"][known] = WAITING
        self._slots["mode"][quiet] = LIVE
        return start

    @property
    def has_open_snapshot(self) -> bool:
        """A snapshot that was subscribed to has begun and not ended: no replay brings the rest of it."""
        return bool((self._slots["open"] & (self._slots["plain"] == 0)).any())

    def forget_replay(self) -> None:
        """Take everything that comes: after a gap, before a snapshot that is subscribed to."""
        self._slots["plain"] = 0
        self._slots["mode"] = LIVE
        self._slots["snaps_left"] = 0
        self._slots["open"] = 0

    def state(self) -> NDArray[Any]:
        return self._slots.copy()
