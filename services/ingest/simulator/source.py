"""The simulated market as a source: the same spec gives the same feed, from any position."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.ingest.simulator.market import DATASET, MarketSpec
from services.ingest.simulator.simulation import CHUNK_RECORDS, Simulation
from services.ingest.sources.base import Chunk
from services.ingest.sources.sequence import Sequence
from shared.errors import SourceError

_SHARE_OF_SECOND = 20  # a chunk holds a 20th of a second of market time: paced replay stays smooth


class SimulatorSource:
    """`fixed_start`: the market's clock begins where the spec says.

    Else it belongs to the session, not the identity.
    """

    is_live = False
    dataset = DATASET

    def __init__(self, spec: MarketSpec, *, fixed_start: bool) -> None:
        self._spec = spec
        self.spec: Mapping[str, Any] = spec.to_map()
        facts = {**spec.to_map(), "start": spec.start if fixed_start else None}
        self.identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        self.total = None if spec.messages is None else spec.messages + 2 * spec.instruments
        self._sequence: Sequence | None = None

    def open(self, position: int, spec: Mapping[str, Any]) -> None:
        """The start time is that of `spec`.

        Everything before `position` is simulated again (3 M records a second).
        """
        self.close()
        market = replace(self._spec, start=int(spec.get("start", self._spec.start)))
        chunk = int(min(max(market.rate / _SHARE_OF_SECOND, 256), CHUNK_RECORDS))
        self._sequence = Sequence(Simulation(market, chunk).items())
        if not self._sequence.skip(position):
            raise SourceError(
                f"the simulation ends before position {position}: it was started with other options"
            )

    def read(self, limit: int, timeout_s: float) -> Chunk | None:
        assert self._sequence is not None, "open() first"
        return self._sequence.read(limit)

    def close(self) -> None:
        self._sequence = None
