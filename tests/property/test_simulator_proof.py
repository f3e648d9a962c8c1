"""The simulator's truth = the kernel = the reference, on long markets; the full length is a command of its own."""

from __future__ import annotations

import pytest

from shared.orderbook.engine import Engine
from tests.property.simulator_proof import Unequal, compare_queues, prove, spec_of


def test_a_small_market_is_proved_in_all_its_parts() -> None:
    reports = [prove(spec_of(120_000, 12, seed), 0, 1, checkpoints=3) for seed in (1, 2)]
    for report in reports:
        assert report.records == report.in_part == 120_000
        assert report.checkpoints >= 3
        assert report.auctions >= 2 * report.books - report.books // 4
        assert report.trades > 1000


def test_parts_cover_every_record_once() -> None:
    spec = spec_of(60_000, 7, 3)
    assert sum(prove(spec, part, 3, checkpoints=1).in_part for part in range(3)) == 60_000


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One order that swaps places in its queue fails the proof."""
    spec = spec_of(30_000, 4, 1)

    def swapped(simulation: object, engine: Engine, where: str, only: object = None) -> int:
        simulation._state.orders["size"][simulation._state.live[0, 0]] += 1  # type: ignore[attr-defined]
        return compare_queues(simulation, engine, where)  # type: ignore[arg-type]

    monkeypatch.setattr("tests.property.simulator_proof.compare_queues", swapped)
    with pytest.raises(Unequal, match="queues of"):
        prove(spec, 0, 1, reference=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_million_records_of_five_hundred_instruments() -> None:
    """Truth = kernel on all; the reference's share of it is `python -m tests.property.simulator_proof --part i/n`."""
    report = prove(spec_of(100_000_000, 500, 7), 0, 1, reference=False)
    assert report.records == 100_000_000
