"""When each record is due: at once, by a rate, or by market time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.clock import Clock
from shared.errors import UsageError
from shared.records import Rows, recv_times

NS = 1_000_000_000


class Pacer:
    """Due times of records in order. `speed`: "max" or a factor of market time (ts_recv); `rate`: records a second."""

    def __init__(self, clock: Clock, speed: str = "max", rate: float = 0.0) -> None:
        try:
            self._factor = 0.0 if speed == "max" else float(speed)
        except ValueError:
            raise UsageError(f"--speed {speed!r}: say max or a factor such as 1 or 10") from None
        if self._factor < 0 or rate < 0 or (speed != "max" and self._factor == 0):
            raise UsageError("--speed and --rate must be above 0")
        self._clock, self._rate = clock, rate
        self._sent = 0
        self._start_ns = 0  # wall clock of the first record
        self._first_ts = 0  # market time of the first record that has one
        self._newest_ts = 0

    @property
    def is_paced(self) -> bool:
        return bool(self._rate or self._factor)

    def due(self, records: Rows) -> NDArray[np.int64]:
        """Wall-clock ns at which each record is due, never decreasing; call once for each record, in order.

        A record without a ts_recv is due with the one before it.
        """
        now = self._clock.now_ns()
        count = len(records)
        if not self.is_paced:
            return np.full(count, now, np.int64)
        self._start_ns = self._start_ns or now
        if self._rate:
            times = self._start_ns + ((np.arange(self._sent, self._sent + count) / self._rate) * NS).astype(
                np.int64
            )
            self._sent += count
            return times
        stamps = recv_times(records)
        if not self._newest_ts:
            self._first_ts = self._newest_ts = int(next(iter(stamps[stamps > 0]), 0))
        market = np.maximum.accumulate(np.maximum(stamps, np.uint64(self._newest_ts)))
        self._newest_ts = int(market[-1])
        since = (market - np.uint64(self._first_ts)).astype(np.float64)
        return self._start_ns + (since / self._factor).astype(np.int64)
