"""Databento Live when something is refused, damaged, slow or silent: what the user sees, what the source does."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, get_args

import databento_dbn as dbn
import numpy as np
import pytest

from services.ingest.sources import connection
from shared import metrics
from shared.errors import SourceError, UsageError
from shared.records import Rows
from shared.units import F_SNAPSHOT, UNDEF_TS
from tests.integration.sources.conftest import COUNT, Count
from tests.integration.sources.taken import CONTROLS, Make, Taken, same
from tests.support import eventually
from tests.support.fake_live_gateway import KEY, FakeGateway, messages


def fails(taken: Taken, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        eventually(taken.more, timeout_s=10, every_s=0)
    with pytest.raises(SourceError):
        taken.more()


def test_a_wrong_key_ends_with_a_line_that_does_not_hold_it(
    live: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", "db-this-key-is-wrong-0000000000")
    source = live()
    with pytest.raises(SourceError, match=r"Authentication failed.*check DATABENTO_API_KEY") as caught:
        eventually(Taken(source).more, every_s=0)
    assert "db-this-key" not in str(caught.value)


def test_not_entitled_ends_with_what_the_gateway_says(live: Make) -> None:
    fails(Taken(live(dataset="OTHER.SET")), "Not entitled to dataset OTHER.SET")


def test_too_many_sessions_are_waited_for(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    gateway.refusals.extend(["User has reached their open connection limit"] * 3)
    assert same(Taken(live()).until(COUNT).records, market_rows)
    assert gateway.connections == 4
    assert counted("reconnects_total", why="refused") == 3


def test_a_gateway_that_does_not_answer_is_hung_up_on(
    gateway: FakeGateway, live: Make, market_rows: Rows, monkeypatch: pytest.MonkeyPatch, counted: Count
) -> None:
    """What is left open counts towards the account's limit of sessions."""
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.2)
    gateway.mute = 2
    assert same(Taken(live()).until(COUNT).records, market_rows)
    assert counted("reconnects_total", why="unreachable") == 2
    eventually(lambda: gateway.open_connections == 1)


def test_a_gateway_that_lets_us_in_and_brings_nothing_is_not_hammered(
    gateway: FakeGateway, live: Make, market_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def shortest(low: float, _high: float) -> float:
        pauses.append(low)
        return low

    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(random, "uniform", shortest)
    gateway.rejects.extend([("try later", dbn.ErrorCode.INTERNAL_ERROR)] * 5)
    assert same(Taken(live()).until(COUNT).records, market_rows)
    assert len(pauses) == 5


def test_what_the_client_refuses_to_send_ends_with_what_it_says(live: Make) -> None:
    fails(Taken(live(stype_in="instrument_id", symbols=("ESZ5",))), "ESZ5")


def test_an_unknown_symbol_is_said_and_the_others_come(
    live: Make, market_rows: Rows, capsys: Any, counted: Count
) -> None:
    mine = market_rows[market_rows["instrument_id"] == 10_001]
    assert same(Taken(live(symbols=("S1", "TYPO"))).until(len(mine)).records, mine)
    assert "Failed to resolve symbol: TYPO" in capsys.readouterr().err
    assert counted("errors_total", code="symbol_resolution_failed") == 1


@pytest.mark.parametrize("symbols", [("TYPO",), ("ESH4", "ESM4", "ES")])
def test_unknown_symbols_alone_end(live: Make, symbols: tuple[str, ...]) -> None:
    fails(Taken(live(symbols=symbols)), f"Failed to resolve symbol: {symbols[-1]}: check --symbols")


def test_a_symbol_is_not_unknown_because_a_longer_one_is(live: Make, market_rows: Rows) -> None:
    mine = market_rows[market_rows["instrument_id"] == 10_001]
    assert same(Taken(live(symbols=("S1", "S1.FUT", "XS1", "S1-S2", "S10"))).until(len(mine)).records, mine)


def test_a_refused_subscription_ends(gateway: FakeGateway, live: Make) -> None:
    gateway.rejects.append(("no license for schema mbo", dbn.ErrorCode.INVALID_SUBSCRIPTION))
    fails(Taken(live()), "no license for schema mbo")


def test_a_key_revoked_during_the_session_ends(gateway: FakeGateway, live: Make) -> None:
    taken = Taken(live()).until(COUNT)
    gateway.send(messages.error("API key deactivated", dbn.ErrorCode.API_KEY_DEACTIVATED))
    fails(taken, "API key deactivated")


def test_records_skipped_for_a_slow_reader_are_a_gap_and_a_snapshot(gateway: FakeGateway, live: Make) -> None:
    taken = Taken(live()).until(COUNT)
    gateway.send(messages.error("skipped 12 records", dbn.ErrorCode.SKIPPED_RECORDS_AFTER_SLOW_READING))
    taken.read_on(lambda: taken.gaps() and taken.records[-1]["flags"] & F_SNAPSHOT)
    assert taken.gaps()[0]["reason"] == "slow reader: skipped 12 records"


def test_a_slow_reader_warning_is_counted_and_said(
    gateway: FakeGateway, live: Make, capsys: Any, counted: Count
) -> None:
    taken = Taken(live()).until(COUNT)
    gateway.send(messages.system("client is slow", dbn.SystemCode.SLOW_READER_WARNING))
    taken.read_on(lambda: counted("slow_warnings_total") == 1)
    assert "client is slow" in capsys.readouterr().err


def test_records_of_another_schema_are_passed_over_and_counted(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    gateway.limit = 1000
    taken = Taken(live()).until(1000)
    gateway.send(bytes(dbn.TradeMsg(1, 10_001, 5, 100, 1, dbn.Action.TRADE, dbn.Side.BID, 0, 6)))
    gateway.limit = COUNT
    assert same(taken.until(COUNT).records, market_rows)
    assert counted("passed_over_records_total", type="trades") == 1


def test_records_of_a_type_that_is_not_known_yet_are_passed_over(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    """Databento adds types; the stream says how long each is."""
    gateway.limit = 1000
    taken = Taken(live()).until(1000)
    gateway.send(bytes([8, 250]) + bytes(30))
    gateway.limit = COUNT
    assert same(taken.until(COUNT).records, market_rows)
    assert counted("passed_over_records_total", type="other") == 1
    assert gateway.connections == 1


def test_a_symbol_that_changes_during_the_day_is_mapped_again(gateway: FakeGateway, live: Make) -> None:
    taken = Taken(live()).until(COUNT)
    gateway.send(messages.mapping(10_001, "NEW") + messages.mapping(10_001, "NEW"))
    taken.read_on(lambda: taken.controls[-1]["symbol"] == "NEW")
    taken.more()
    assert len(taken.controls) == CONTROLS + 1, "a repetition is not given again"


def test_something_that_is_no_dbn_gateway_ends(gateway: FakeGateway, live: Make) -> None:
    gateway.first_bytes = b"HTTP/1.1 400 Bad Request"
    fails(Taken(live()), "not DBN: is --gateway right")


def test_damaged_bytes_are_survived_by_a_new_connection(
    gateway: FakeGateway, live: Make, market_rows: Rows, counted: Count
) -> None:
    gateway.limit = 5000
    taken = Taken(live()).until(5000)
    gateway.send(b"\x00" * 64)
    taken.read_on(lambda: gateway.connections >= 2)
    gateway.limit = COUNT
    assert same(taken.until(COUNT).records, market_rows)
    assert counted("reconnects_total", why="damaged") == 1


def test_a_gateway_that_falls_silent_is_left(
    gateway: FakeGateway, live: Make, market_rows: Rows, monkeypatch: pytest.MonkeyPatch, counted: Count
) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.2)
    gateway.heartbeat_s = 1e9
    gateway.limit = 5000
    taken = Taken(live()).until(5000)
    taken.read_on(lambda: gateway.connections >= 2)
    gateway.limit = COUNT
    assert same(taken.until(COUNT).records, market_rows)
    assert counted("reconnects_total", why="silent") >= 1


def test_a_jump_in_ts_recv_is_said(gateway: FakeGateway, live: Make, capsys: Any, counted: Count) -> None:
    late = gateway.records.copy()
    late["ts_recv"][COUNT // 2 :] += np.uint64(120_000_000_000)
    gateway.records = late
    gateway.rate = 100_000
    Taken(live()).until(COUNT)
    assert "live silence" in capsys.readouterr().err
    assert counted("silences_total") == 1


def test_records_without_a_ts_recv_are_no_silence(gateway: FakeGateway, live: Make, counted: Count) -> None:
    gateway.records = gateway.records.copy()
    gateway.records["ts_recv"][[0, 1000, COUNT - 1]] = UNDEF_TS
    gateway.rate = 100_000
    Taken(live()).until(COUNT)
    assert counted("silences_total") == 0


def test_every_reason_of_a_reconnect_is_counted_from_the_start(live: Make, counted: Count) -> None:
    live()
    (row,) = [row for row in metrics.METRICS if row.name == "mbo_ingest_live_reconnects_total"]
    assert set(row.values["why"]) == set(get_args(connection.Why))
    assert b'mbo_ingest_live_reconnects_total{feed="live-test_every_reason' in metrics.render()


def test_an_unreachable_gateway_is_tried_again_and_said(live: Make, capsys: Any, counted: Count) -> None:
    taken = Taken(live(gateway="127.0.0.1:1"))
    taken.read_on(lambda: "cannot be reached" in capsys.readouterr().err)
    assert counted("reconnects_total", why="unreachable") >= 1


def test_a_slow_reader_of_ours_leaves_the_rest_with_the_gateway(
    gateway: FakeGateway, live: Make, market_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_PENDING_BYTES", 100_000)
    source = live()
    taken = Taken(source).until(1)
    assert source._stream is not None
    line = source._stream._connection
    assert line is not None
    eventually(lambda: line.pending_bytes >= 50_000)  # below half of the limit reading goes on
    before = time.monotonic()
    eventually(lambda: time.monotonic() - before > 0.1)
    assert line.pending_bytes < 400_000
    assert same(taken.until(COUNT).records, market_rows)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dataset": ""}, "needs --dataset"),
        ({"gateway": "nowhere"}, "host:port"),
        ({"key_file": Path("/no/such/file")}, "key-file"),
        ({"journal_bytes": 5}, "journal-bytes"),
        ({"stype_in": "ticker"}, "--stype-in ticker: one of instrument_id, raw_symbol"),
    ],
)
def test_wrong_options_are_refused(live: Make, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        live(**options)


def test_the_key_may_be_in_a_file_and_must_be_somewhere(
    live: Make, market_rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY")
    with pytest.raises(UsageError, match="DATABENTO_API_KEY or --key-file"):
        live()
    (tmp_path / "key").write_text(KEY + "\n")
    assert same(Taken(live(key_file=tmp_path / "key")).until(COUNT).records, market_rows)
