"""The trading day: pre-open, the opening auction, halts, bursts of news, a venue's recovery, the close."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from services.ingest.simulator.market import NS, MarketSpec

OPEN_DAY, AUCTION, HALT, REOPEN, BURST, RECOVER, CLOSE = range(7)
_MESSAGES_A_BURST = 80_000  # of all instruments together
_DAY_NS = 86_400 * NS
_NIGHT_NS = NS  # between two days that follow each other at once


class Happening(NamedTuple):
    """What is to be done at `ts` (ns). `instrument`: index, or -1 for all of them."""

    ts: int
    kind: int
    instrument: int


def day_start(spec: MarketSpec, day: int) -> int:
    """ns of the beginning of trading day 0, 1, …"""
    length = round(spec.day_s * NS)
    if not spec.overnight:
        return spec.start + day * (length + _NIGHT_NS)
    return spec.start + day * -(-(length + _NIGHT_NS) // _DAY_NS) * _DAY_NS


def plan_day(spec: MarketSpec, day: int) -> list[Happening]:
    """Everything of one day, in order; follows from seed and day alone."""
    rng = np.random.default_rng([spec.seed, day])
    start, length = day_start(spec, day), round(spec.day_s * NS)
    opens = start + round(min(spec.preopen_s, spec.day_s / 4) * NS)
    plan = [
        Happening(start, OPEN_DAY, -1),
        Happening(opens, AUCTION, -1),
        Happening(start + length, CLOSE, -1),
    ]

    def during(low: float, high: float) -> int:
        return opens + int((start + length - opens) * rng.uniform(low, high))

    bursts = max(1, min(200, round(spec.day_s * spec.rate / _MESSAGES_A_BURST)))
    plan += [Happening(during(0.02, 0.97), BURST, int(rng.integers(spec.instruments))) for _ in range(bursts)]
    for _ in range(max(1, spec.instruments // 40)):
        which, at = int(rng.integers(spec.instruments)), during(0.25, 0.8)
        pause = max(length // 150, NS // 10)
        plan += [
            Happening(at, HALT, which),
            Happening(at + pause, REOPEN, which),
            Happening(at + 2 * pause, AUCTION, which),
        ]
    recoveries = max(1, spec.instruments // 100)
    plan += [
        Happening(during(0.3, 0.9), RECOVER, int(rng.integers(spec.instruments))) for _ in range(recoveries)
    ]
    return sorted(plan)
