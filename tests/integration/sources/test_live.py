"""Databento Live against a gateway that speaks its protocol.

The real client connects, everything goes wrong once.
"""

from __future__ import annotations

from pathlib import Path

import databento
import databento_dbn as dbn
import numpy as np
import pytest

from services.ingest.sources.base import EndOfSource
from shared.errors import UsageError
from shared.orderbook.reference import ReferenceBooks
from shared.records import Rows
from shared.units import F_LAST, F_SNAPSHOT
from tests.integration.sources.conftest import COUNT, SYMBOLS, Count
from tests.integration.sources.taken import CONTROLS, Make, Taken, same
from tests.support import eventually
from tests.support.fake_live_gateway import KEY, FakeGateway, messages


def test_the_clients_own_live_class_connects(gateway: FakeGateway) -> None:
    """The fake is held to the real client: it authenticates, subscribes and decodes every record."""
    host, port = gateway.address.split(":")
    client = databento.Live(key=KEY, gateway=host, port=int(port))
    seen: list[str] = []
    client.subscribe("TEST.SET", "mbo", ["S1", "S2"], snapshot=True)
    client.add_callback(lambda record: seen.append(type(record).__name__))
    client.start()
    wanted = int(np.isin(gateway.records["instrument_id"], [10_001, 10_002]).sum())
    eventually(lambda: seen.count("MBOMsg") + seen.count("MboMsg") >= wanted)
    assert "SymbolMappingMsg" in seen
    assert client.symbology_map == {10_001: "S1", 10_002: "S2"}
    client.stop()
    client.block_for_close(timeout=5)


def test_everything_comes_with_symbols_and_definitions(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    taken = Taken(live()).until(COUNT)
    assert same(taken.records, market_rows)
    assert [each["type"] for each in taken.controls] == ["mapping", "definition"] * len(SYMBOLS)
    assert taken.controls[1]["tick_px"] == 10_000_000
    assert [(each.schema, each.snapshot) for each in gateway.requests[0]] == [
        ("mbo", True),
        ("definition", False),
    ]


def test_only_the_symbols_asked_for_come(live: Make, market_rows: Rows) -> None:
    mine = market_rows[np.isin(market_rows["instrument_id"], [10_001, 10_003])]
    taken = Taken(live(symbols=("S1", "S3"))).until(len(mine))
    assert same(taken.records, mine)
    assert {each["symbol"] for each in taken.controls} == {"S1", "S3"}


def test_twelve_broken_connections_leave_the_same_records(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    gateway.drops.extend(int(size) for size in np.random.default_rng(1).integers(50_000, 140_000, 12))
    gateway.rate = 60_000
    taken = Taken(live()).until(COUNT)
    assert same(taken.records, market_rows)
    assert counted("reconnects_total", why="broken") + counted("reconnects_total", why="closed") == 12
    assert counted("replayed_records_total") > 0
    assert counted("up") == 1
    assert taken.gaps() == []
    taken.source.close()
    assert counted("up") == 0


@pytest.mark.slow
def test_fifty_broken_connections_leave_the_same_records(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    gateway.drops.extend(int(size) for size in np.random.default_rng(2).integers(45_000, 70_000, 50))
    gateway.rate = 5_000
    assert same(Taken(live()).until(COUNT).records, market_rows)
    assert counted("reconnects_total", why="broken") + counted("reconnects_total", why="closed") == 50


def test_a_gateway_that_closes_in_order_is_come_back_to(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.limit = COUNT // 2
    taken = Taken(live()).until(COUNT // 2)
    gateway.hang_up()
    gateway.hang_ups = 3
    gateway.limit = COUNT
    assert same(taken.until(COUNT).records, market_rows)
    assert gateway.connections >= 5


def test_definitions_of_the_time_between_two_connections_are_asked_for(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.limit = COUNT // 2
    taken = Taken(live()).until(COUNT // 2)
    gateway.hang_up()
    gateway.limit = COUNT
    taken.until(COUNT)
    book, definitions = gateway.requests[1]
    assert book.start is not None
    assert (definitions.schema, definitions.start) == ("definition", book.start)
    assert len(taken.controls) == CONTROLS, "those known already are not given again"


def test_statuses_come_in_their_places_and_once_though_replays_bring_them_again(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.statuses = _halt(market_rows, 8_000, 12_000)
    first = live(status=True)
    taken = Taken(first)
    for place in (8_002, 12_002):
        gateway.limit = place
        taken.until(place)
        gateway.drop()
    first.close()
    assert [each.schema for each in gateway.requests[-1]] == ["mbo", "definition", "status"]
    gateway.limit = COUNT
    again = Taken(live(status=True), taken.position, first.spec).until(COUNT - sum(map(len, taken.rows)))
    assert same(np.concatenate((taken.records, again.records)), market_rows)
    assert again.controls == [], "nothing is said again by another process"
    statuses = [each for each in taken.controls if each["type"] == "status"]
    assert [(each["instrument_id"], each["action"], each["reason"]) for each in statuses] == [
        (10_001, "halt", "luld_pause"),
        (10_001, "trading", "none"),
    ]
    assert taken.places("status") == [8_000, 12_000]


def test_statuses_of_segments_that_are_not_read_again_are_known_after_a_restart(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.statuses = _halt(market_rows, 2_000, 3_000)
    gateway.limit, gateway.rate = COUNT // 2, 20_000  # as it comes, or all of it is one segment
    first = live(status=True, journal_bytes=400_000)
    taken = Taken(first).until(COUNT // 2)
    first.close()
    again = Taken(live(status=True, journal_bytes=400_000), taken.position, first.spec)
    again.read_on(lambda: len(gateway.requests) == 2)
    for raw in gateway.statuses.values():
        gateway.send(raw)
    gateway.limit = COUNT
    again.until(COUNT // 2)
    assert again.controls == []


def test_statuses_are_not_asked_for_unless_wanted(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.statuses = _halt(market_rows, 8_000, 12_000)
    assert len(Taken(live()).until(COUNT).controls) == CONTROLS


def _halt(market: Rows, begin: int, end: int) -> dict[int, bytes]:
    """One instrument does not trade from one record to another."""
    times = market["ts_event"].tolist()
    return {
        begin: messages.status(10_001, times[begin], dbn.StatusAction.HALT, dbn.StatusReason.LULD_PAUSE),
        end: messages.status(10_001, times[end], dbn.StatusAction.TRADING, dbn.StatusReason.NONE),
    }


def test_a_new_process_goes_on_from_the_journal(gateway: FakeGateway, live: Make, market_rows: Rows) -> None:
    gateway.limit = 9000
    first = live()
    taken = Taken(first).until(9000)
    first.close()
    gateway.limit = COUNT
    for position in (taken.position, taken.position - 5000, 3, 0):
        again = live()
        assert again.identity == first.identity
        rest = Taken(again, position, first.spec).until(
            COUNT - 9000 + taken.position - max(position, CONTROLS)
        )
        assert same(rest.records, market_rows[max(position - CONTROLS, 0) :])
        assert len(rest.controls) == max(CONTROLS - position, 0)
        again.close()
    assert all(each[0].start for each in gateway.requests[1:]), "no second snapshot"


def test_the_journal_is_dbn_limited_in_size_and_says_from_where_it_can_replay(
    gateway: FakeGateway, live: Make, market_rows: Rows, tmp_path: Path
) -> None:
    gateway.rate = 40_000
    source = live(journal_bytes=300_000)
    taken = Taken(source).until(COUNT)
    source.close()
    files = sorted(tmp_path.glob("journal/live-*/*/*.dbn"))
    assert sum(path.stat().st_size for path in files) < 700_000
    oldest = int(files[0].stem.split("-")[1])
    assert oldest > 0
    mbo = [
        record
        for record in databento.DBNStore.from_bytes(files[0].read_bytes())
        if isinstance(record, dbn.MBOMsg)
    ]
    assert mbo[0].order_id == market_rows["order_id"][oldest - CONTROLS]
    again = live()
    rest = Taken(again, oldest + 7, source.spec).until(COUNT - (oldest + 7 - CONTROLS))
    assert same(rest.records, market_rows[oldest + 7 - CONTROLS :])
    again.close()
    lost = Taken(live(), 5, source.spec)
    lost.read_on(lost.gaps)
    assert "journal" in lost.gaps()[0]["reason"]
    assert taken.gaps() == []


@pytest.mark.parametrize("restarted", ["", "before the gap was noted", "after it"])
def test_a_snapshot_that_broke_between_two_books_is_asked_for_again(
    gateway: FakeGateway, live: Make, market_rows: Rows, restarted: str
) -> None:
    """No book's snapshot is open then, but some have not begun: a replay would not bring them. Restarted or not."""
    gateway.cursor = gateway.limit = 10_000
    rows = messages.snapshot(market_rows[:10_000], None)
    ends = np.flatnonzero(rows["flags"] & F_LAST)
    gateway.break_after = int(ends[1]) + 1
    source = live()
    taken = Taken(source).until(gateway.break_after)
    position = taken.position
    if restarted == "after it":  # it is in the journal, and taken for not given out
        taken.read_on(taken.gaps)
    before = 1
    if restarted:
        source.close()
        before = len(gateway.requests)
        taken = Taken(live(), position, source.spec)
    # the market goes on once the next snapshot is of these 10,000: one of all of it has no last record to wait for
    taken.read_on(
        lambda: (
            len(gateway.requests) > before
            and gateway.sessions
            and gateway.sessions[-1].sent_bytes > rows.nbytes
        )
    )
    gateway.limit = COUNT
    taken.read_on(lambda: same(taken.records[-1:], market_rows[-1:]))
    taken.recovers()
    books, truth = ReferenceBooks("raw"), ReferenceBooks("raw")
    books.apply(taken.records, 1)
    truth.apply(market_rows, 1)
    assert all(
        books.levels(*key, side) == truth.levels(*key, side) for key in truth.books() for side in (66, 65)
    )


def test_a_record_cut_by_a_kill_is_not_given_out_again_in_part(
    gateway: FakeGateway, live: Make, market_rows: Rows, tmp_path: Path
) -> None:
    gateway.limit = 5000
    source = live()
    Taken(source).until(5000)
    source.close()
    (path,) = tmp_path.glob("journal/live-*/*/*.dbn")
    path.write_bytes(path.read_bytes()[: -(56 * 100 + 11)])
    gateway.limit = COUNT
    rest = Taken(live(), 0, source.spec).until(COUNT)
    assert same(rest.records, market_rows)


def test_outside_the_replay_window_is_a_gap_and_a_snapshot(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.limit = 8000
    taken = Taken(live()).until(8000)
    gateway.oldest_index = 9000
    gateway.drop(cursor=12_000)
    taken.read_on(lambda: sum(map(len, taken.rows)) > 8000)
    gateway.limit = COUNT
    taken.read_on(lambda: same(taken.records[-1:], market_rows[-1:]))
    taken.recovers()
    assert "replay window" in taken.gaps()[0]["reason"]
    assert "instrument_id" not in taken.gaps()[0]
    assert gateway.requests[-1][0].snapshot
    after = taken.records[8000:]
    assert same(after[-8000:], market_rows[12_000:])
    assert (after[:-8000]["flags"] & F_SNAPSHOT != 0).all()
    books, truth = ReferenceBooks("raw"), ReferenceBooks("raw")
    books.apply(taken.records, 1)
    truth.apply(market_rows, 1)
    for key in truth.books():
        for side in (66, 65):
            assert books.levels(*key, side) == truth.levels(*key, side)


def test_a_snapshot_cut_in_two_is_asked_for_again(
    gateway: FakeGateway, live: Make, market_rows: Rows
) -> None:
    gateway.cursor = gateway.limit = 10_000
    gateway.drops.append(9_000)
    gateway.limit = COUNT
    taken = Taken(live())
    taken.read_on(lambda: same(taken.records[-1:], market_rows[-1:]))
    taken.recovers()
    assert [each["reason"] for each in taken.gaps()] == ["the connection broke inside a snapshot"]
    books, truth = ReferenceBooks("raw"), ReferenceBooks("raw")
    books.apply(taken.records, 1)
    truth.apply(market_rows, 1)
    assert all(
        books.levels(*key, side) == truth.levels(*key, side) for key in truth.books() for side in (66, 65)
    )


def test_without_a_snapshot_the_books_begin_stale(gateway: FakeGateway, live: Make) -> None:
    taken = Taken(live(snapshot=False)).until(COUNT)
    assert taken.controls[0]["type"] == "gap"
    assert not gateway.requests[0][0].snapshot


def ended(taken: Taken) -> bool:
    try:
        taken.more()
    except EndOfSource:
        return True
    return False


def test_the_session_ends_before_the_first_record_at_the_end(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    end = int(market_rows["ts_recv"][12_000])
    taken = Taken(live(end=end))
    eventually(lambda: ended(taken), every_s=0)
    assert same(taken.records, market_rows[market_rows["ts_recv"] < end])
    assert counted("up") == 0
    with pytest.raises(EndOfSource):
        taken.more()


def test_a_market_that_is_quiet_at_the_end_is_ended_by_a_heartbeat(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    gateway.heartbeat_s = 0.05
    gateway.limit = 9000
    taken = Taken(live(end=int(market_rows["ts_recv"][-1]) + 1)).until(9000)
    taken.read_on(lambda: counted("heartbeats_total") >= 2)
    gateway.limit = COUNT  # the heartbeats so far were before the end
    eventually(lambda: ended(taken), every_s=0)
    assert same(taken.records, market_rows)


def test_a_replay_from_a_moment_begins_stale(gateway: FakeGateway, live: Make, market_rows: Rows) -> None:
    gateway.cursor = gateway.limit = 15_000
    start = int(market_rows["ts_event"][5_000])
    rest = market_rows[int(np.flatnonzero(market_rows["ts_event"] >= start)[0]) :]
    gateway.limit = COUNT
    taken = Taken(live(start=start)).until(len(rest))
    assert same(taken.records, rest)
    assert [(each.start, each.snapshot) for each in gateway.requests[0][:1]] == [(start, False)]
    assert [each["reason"] for each in taken.gaps()] == ["begins without a snapshot"]


def test_a_window_is_a_session_of_its_own(live: Make) -> None:
    names = {live(**window).identity for window in ({}, {"end": 5}, {"start": 3, "end": 5}, {"start": 5})}
    assert len(names) == 4
    with pytest.raises(UsageError, match="--start must be before --end"):
        live(start=5, end=5)
