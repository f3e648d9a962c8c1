"""What a live source counts, as metrics of its feed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.ingest.sources.connection import Why
from shared import metrics
from shared.dbn.messages import ERROR_CODES, RTYPES


class LiveMetrics:
    """Every count is there from the start (0), so that an increase is seen the first time."""

    def __init__(self, feed: str) -> None:
        get, self._feed = metrics.get, feed
        metrics.zero("mbo_ingest_live_", feed=feed, code=ERROR_CODES)
        self.connected = get("mbo_ingest_live_up").labels(feed)
        self.pending_bytes = get("mbo_ingest_live_pending_bytes").labels(feed)
        self.heartbeats = get("mbo_ingest_live_heartbeats_total").labels(feed)
        self.slow_warnings = get("mbo_ingest_live_slow_warnings_total").labels(feed)
        self.silences = get("mbo_ingest_live_silences_total").labels(feed)
        self.replayed_records = get("mbo_ingest_live_replayed_records_total").labels(feed)
        self._reconnects = get("mbo_ingest_live_reconnects_total")
        self._errors = get("mbo_ingest_live_errors_total")
        self._passed_over = get("mbo_ingest_live_passed_over_records_total")

    def reconnect(self, why: Why) -> None:
        self._reconnects.labels(self._feed, why).inc()

    def error(self, code: str) -> None:
        self._errors.labels(self._feed, code).inc()

    def pass_over(self, counts: NDArray[np.int64]) -> None:
        """Count `counts` (by rtype) and set them to 0."""
        for rtype in np.flatnonzero(counts).tolist():
            self._passed_over.labels(self._feed, RTYPES.get(rtype, "other")).inc(int(counts[rtype]))
            counts[rtype] = 0
