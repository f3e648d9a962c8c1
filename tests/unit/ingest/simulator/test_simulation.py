"""The simulated market: valid MBO, reproducible, with true books that any rebuild must find again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from services.ingest.simulator.market import STYLE_CME, MarketSpec, instruments
from services.ingest.simulator.simulation import Simulation
from services.ingest.simulator.source import SimulatorSource
from services.ingest.simulator.state import ASK, BID
from services.ingest.sources.factory import make_sources
from services.ingest.sources.options import SourceOptions
from shared.errors import UsageError
from shared.orderbook.reference import ReferenceBooks
from shared.orderbook.uncross import match
from shared.records import Rows
from shared.units import F_LAST, F_SNAPSHOT, SIDE_ASK, SIDE_BID
from tests.support.dbn_files import drain

SPEC = MarketSpec(
    seed=3, instruments=9, messages=30_000, rate=6000, day_s=1.2, preopen_s=0.15, overnight=True
)


def run(spec: MarketSpec, chunk: int = 65_536) -> tuple[Simulation, Rows, list[dict[str, Any]]]:
    simulation = Simulation(spec, chunk)
    rows, controls = [], []
    for item in simulation.items():
        if isinstance(item, dict):
            controls.append(item)
        else:
            rows.append(item)
    return simulation, np.concatenate(rows), controls


@pytest.fixture(scope="module")
def market() -> tuple[Simulation, Rows, list[dict[str, Any]]]:
    return run(SPEC)


def events(rows: Rows) -> list[str]:
    """Each event of each book as its actions, e.g. TFC."""
    out = []
    for key in np.unique(rows[["publisher_id", "instrument_id"]]):
        mine = rows[
            (rows["publisher_id"] == key["publisher_id"]) & (rows["instrument_id"] == key["instrument_id"])
        ]
        ends = np.flatnonzero(mine["flags"] & F_LAST)
        starts = np.concatenate(([0], ends[:-1] + 1))
        out += [mine["action"][a : b + 1].tobytes().decode() for a, b in zip(starts, ends, strict=True)]
    return out


def test_the_count_is_exact_and_equal_specs_give_equal_feeds(market: tuple[Simulation, Rows, Any]) -> None:
    assert len(market[1]) == SPEC.messages
    _, again, controls = run(SPEC, chunk=777)
    assert again.tobytes() == market[1].tobytes(), "whatever the size of chunks"
    assert controls == market[2]
    other = MarketSpec.from_map({**SPEC.to_map(), "seed": 4})
    assert run(other)[1].tobytes() != market[1].tobytes()


def test_a_rebuild_finds_the_true_books_and_queues_without_any_anomaly(
    market: tuple[Simulation, Rows, Any],
) -> None:
    simulation, rows, _ = market
    engine = ReferenceBooks("raw")
    engine.apply(rows, 1)
    engine.end()
    assert engine.anomalies() == {}
    truth = list(simulation.books())
    assert [(one["publisher_id"], one["instrument_id"]) for one in truth] == engine.books()
    assert sum(one["records"] for one in truth) == len(rows)
    for one in truth:
        key = one["publisher_id"], one["instrument_id"]
        assert [list(level) for level in engine.levels(*key, SIDE_BID)] == one["bids"]
        assert [list(level) for level in engine.levels(*key, SIDE_ASK)] == one["asks"]
    for b, book in enumerate(simulation._state.books):
        key = int(book["publisher"]), int(book["instrument"])
        for side, char in ((BID, SIDE_BID), (ASK, SIDE_ASK)):
            assert [order[:3] for order in engine.orders(*key, char)] == list(simulation.orders(b, side))


def test_every_fill_is_of_the_order_that_stands_first(market: tuple[Simulation, Rows, Any]) -> None:
    """Price-time priority.

    An F names the front order of the best level of its side, in continuous trading.
    """
    rows = market[1]
    fills = np.flatnonzero((rows["action"] == ord("F")) & (rows["side"] != ord("N")))
    checked = 0
    engine = ReferenceBooks("raw")
    done = 0
    for index in fills[:800]:
        row = rows[index]
        if rows[index - 1]["action"] != ord("T") or not rows[index - 2]["flags"] & F_LAST:
            continue  # not the first fill of its event: the orders before it are still in the rebuilt book
        engine.apply(rows[done:index], done + 1)
        done = int(index)
        key = int(row["publisher_id"]), int(row["instrument_id"])
        front = next(iter(engine.orders(*key, int(row["side"]))))
        assert front.order_id == row["order_id"]
        checked += 1
    assert checked > 200


def test_books_cross_only_before_an_auction_which_has_the_price_of_our_engine(
    market: tuple[Simulation, Rows, Any],
) -> None:
    rows = market[1]
    engine = ReferenceBooks("raw")
    last: dict[tuple[int, int], int] = {}
    done = auctions = 0
    for index in np.flatnonzero(rows["action"] == ord("T")):
        row = rows[index]
        key = int(row["publisher_id"]), int(row["instrument_id"])
        if row["side"] == ord("N"):
            engine.apply(rows[done:index], done + 1)
            done = int(index)
            sides = [[level[:2] for level in engine.levels(*key, side)] for side in (SIDE_BID, SIDE_ASK)]
            found = match(sides[0], sides[1], last.get(key))
            assert found is not None
            assert (found.price, found.size) == (row["price"], row["size"])
            auctions += 1
        last[key] = int(row["price"])
    assert auctions > 10


def test_shapes_are_those_of_the_venues(market: tuple[Simulation, Rows, Any]) -> None:
    simulation, rows, _ = market
    styles = {int(book["publisher"]): int(book["style"]) for book in simulation._state.books}
    cme = np.isin(rows["publisher_id"], [key for key, style in styles.items() if style == STYLE_CME])
    futures, shares = Counter(events(rows[cme])), Counter(events(rows[~cme]))
    assert futures["TFC"] > futures["TFM"] > 20
    assert futures["TFFCC"] > 5
    assert shares["T"] == shares["F"] > 100, "NASDAQ ends an event after T, F and C alike"
    assert shares["CA"] > 20, "a replace is a cancel and a new order"
    assert not any("M" in shape for shape in shares)
    assert any(shape.startswith("TFCA") for shape in futures), (
        "an iceberg's refill goes to the back of the queue"
    )


def test_times_and_sequences_are_as_venues_send_them(market: tuple[Simulation, Rows, Any]) -> None:
    rows = market[1]
    plain = rows[rows["flags"] & F_SNAPSHOT == 0]
    assert (np.diff(rows["ts_recv"].astype(np.int64)) >= 0).all()
    assert (plain["ts_recv"] > plain["ts_event"]).all()
    assert (rows["ts_in_delta"] >= 0).all()
    for publisher in np.unique(plain["publisher_id"]):
        sequence = plain["sequence"][plain["publisher_id"] == publisher].astype(np.int64)
        assert (np.diff(sequence) >= 0).all()


def test_a_day_opens_halts_recovers_and_closes(market: tuple[Simulation, Rows, Any]) -> None:
    _, rows, controls = market
    statuses = Counter(each["action"] for each in controls if each["type"] == "status")
    assert set(statuses) == {"pre_open", "trading", "halt", "close"}
    assert [each["date"] for each in controls if each["type"] == "day"] == ["2026-01-06", "2026-01-07"]
    shapes = events(rows)
    assert sum(shape.startswith("RA") for shape in shapes) > len(instruments(9)), "snapshots"
    assert Counter(shapes)["R"] == 4 * 3, "shares begin each day with a clear"
    assert rows["flags"][rows["action"] == ord("R")].min() & 8


def test_every_instrument_is_named_and_defined_before_its_records() -> None:
    source = SimulatorSource(SPEC, fixed_start=True)
    _, controls = drain(source, items=18)
    assert [each["type"] for _, each in controls] == ["mapping", "definition"] * 9
    assert {each["symbol"] for _, each in controls} >= {"ESZ6", "NQZ6", "CLF7", "GCG7", "AAPL"}
    assert controls[1][1]["tick_px"] == 250_000_000


def test_any_position_can_be_had_again() -> None:
    spec = MarketSpec.from_map({**SPEC.to_map(), "messages": 5000})
    source = SimulatorSource(spec, fixed_start=True)
    whole, controls = drain(source)
    assert len(whole) + len(controls) >= (source.total or 0)
    for position in (0, 1, 17, 500, 3333, len(whole) + len(controls)):
        rest, later = drain(source, position)
        assert rest.tobytes() == whole[len(whole) - len(rest) :].tobytes()
        assert later == [each for each in controls if each[0] > position]


def test_the_start_belongs_to_the_identity_only_if_it_was_given() -> None:
    def one(**options: Any) -> SimulatorSource:
        (made,) = make_sources(SourceOptions(**options))
        assert isinstance(made, SimulatorSource)
        return made

    assert one().identity == one().identity
    assert one().spec["start"] != one(start=5).spec["start"]
    assert one(start=5).identity == one(start=5).identity != one(start=6).identity
    assert one(seed=2).identity != one().identity


def test_a_session_goes_on_at_its_own_start_time() -> None:
    (first,) = make_sources(SourceOptions(messages=3000))
    records, _ = drain(first)
    (again,) = make_sources(SourceOptions(messages=3000))
    again.open(0, first.spec)
    again.read(1, 0.0)
    (third,) = make_sources(SourceOptions(messages=3000))
    third.spec = first.spec
    assert drain(third)[0].tobytes() == records.tobytes()


@pytest.mark.parametrize("options", [{"instruments": 0}, {"sim_rate": 0.0}])
def test_a_market_without_instruments_or_rate_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_sources(SourceOptions(**options))


def test_one_instrument_and_few_messages_work() -> None:
    for messages in (1, 2, 63, 5_000):
        simulation, rows, _ = run(MarketSpec(instruments=1, messages=messages))
        assert len(rows) == messages == sum(one["records"] for one in simulation.books())
