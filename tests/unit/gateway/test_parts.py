"""Small parts of the gateway: ids, symbols, queries, times, bars, encodings, limits, published best prices."""

from __future__ import annotations

import json
import resource
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import encode, subscription, times, vector
from services.gateway.asked import allowed
from services.gateway.auth import is_loopback
from services.gateway.channels.bars import Bars
from services.gateway.close_codes import Bye
from services.gateway.discovery import shard_filter
from services.gateway.http import within_files
from services.gateway.instruments import Directory, Feed
from services.gateway.limits import Lease, Limits
from services.gateway.principal import Principal
from services.gateway.problems import Problem
from services.gateway.settings import GatewaySettings
from services.gateway.vector import Position, ShardKey
from shared.errors import UsageError
from shared.orderbook.shard import ShardState
from shared.records import EFFECT
from shared.units import SIDE_ASK, SIDE_BID, UNDEF_PX, UNDEF_TS
from shared.wire.codec import InEntry
from tests.support.mbo import record, rows

VECTORS = st.dictionaries(
    st.builds(ShardKey, st.sampled_from(["a", "glbx.mdp3", "b-1_x"]), st.integers(0, 255)),
    st.builds(Position, st.just(3), st.integers(0, 2**53)),
    max_size=8,
)


@given(VECTORS)
def test_an_id_reads_back_as_it_was_written(position: dict[ShardKey, Position]) -> None:
    assert vector.parse(vector.encode(position)) == position


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_a_value_error(text: str) -> None:
    try:
        found = vector.parse(text)
    except ValueError:
        return
    assert vector.parse(vector.encode(found)) == found


def directory() -> Directory:
    found = Directory()
    row = {
        "symbol": "CLX5",
        "publishers": [1],
        "tick_px": 10_000_000,
        "multiplier": "1000",
        "currency": "USD",
        "expiration": None,
    }
    found.load(
        Feed("glbx.mdp3", "GLBX.MDP3", 4, 1, "open", "uncross"),
        {"7": json.dumps(row), "8": '{"symbol": "ESZ5"}'},
    )
    found.load(
        Feed("xnas", "XNAS.ITCH", 4, 1, "open", "uncross"),
        {"7": '{"symbol": "ARL"}', "9": '{"symbol": "CLX5"}'},
    )
    return found


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ESZ5", [8]),
        ("CLX5", [7, 9]),
        ("GLBX.MDP3:CLX5", [7]),
        ("glbx.mdp3:CLX5", [7]),
        ("xnas:9", [9]),
        ("8", [8]),
        ("7", [7, 7]),
        ("XNAS.ITCH:ALL_SYMBOLS", [7, 9]),
        ("NOPE", []),
        ("xnas:ESZ5", []),
        ("xnas:", []),
        (":CLX5", []),
        ("99999999999", []),
        ("²", []),
    ],
)
def test_a_symbol_is_raw_qualified_or_an_id(text: str, ids: list[int]) -> None:
    assert sorted(i.instrument_id for i in directory().resolve(text)) == ids


def test_a_name_that_changes_is_told_and_publishers_add_up() -> None:
    known = directory()
    key = ShardKey("glbx.mdp3", known.by_id["glbx.mdp3", 7].shard)
    assert known.see(key, 7, 2) is None
    assert known.by_id["glbx.mdp3", 7].publishers == (1, 2)
    renamed = known.see(key, 7, 2, "CLZ5")
    assert renamed is not None
    assert [i.instrument_id for i in known.resolve("CLZ5")] == [7]
    assert renamed.tick_size == "0.01"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"symbols": ""},
        {"symbols": "A", "channels": ""},
        {"symbols": "A", "channels": "book,what"},
        {"symbols": "A", "depth": "0"},
        {"symbols": "A", "depth": "1001"},
        {"symbols": "A", "interval": "x"},
        {"symbols": "A", "publisher": "70000"},
        {"symbols": "A", "encoding": "xml"},
        {"symbols": "A", "compress": "2"},
        {"symbols": "A", "more": "1"},
        {"symbols": "A", "depth": "٣"},
        {"symbols": ",".join(map(str, range(3000)))},
    ],
)
def test_a_wrong_query_is_a_400_that_names_the_parameter(query: dict[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        subscription.parse(query)
    assert caught.value.status == 400
    assert caught.value.parameter


def test_a_query_is_the_same_subscription_in_any_order() -> None:
    one = subscription.parse({"symbols": "A,A, B", "channels": "trades,bbo,bbo"})
    two = subscription.parse({"symbols": "A,B", "channels": "bbo,trades"})
    assert one == two
    assert hash(one) == hash(two)
    assert subscription.parse({"symbols": "A", "depth": "all"}).depth == 0


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1758751199000000001", 1758751199000000001),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01.000000001Z", 10**9 + 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01 00:01", 60 * 10**9),
        ("2025-09-24T21:00:00.5z", 1758747600500000000),
    ],
)
def test_a_time_is_exact_to_the_nanosecond(text: str, ns: int) -> None:
    assert times.parse_time({"t": text}, "t") == ns


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_problem(text: str) -> None:
    try:
        found = times.parse_time({"t": text}, "t")
    except Problem as problem:
        found = problem.status
    assert found is None or found == 400 or 0 <= found < 2**63


def test_bars_close_by_market_time_and_never_run_back() -> None:
    bars = Bars()
    bars.trade(59_500_000_000, 10, 2, SIDE_BID)
    bars.trade(59_900_000_000, 12, 1, SIDE_ASK)
    bars.trade(59_000_000_000, UNDEF_PX, 9, SIDE_ASK)
    bars.trade(UNDEF_TS, 10, 9, SIDE_ASK)
    assert not bars.clock(59_950_000_000)
    assert bars.clock(60_000_000_000)
    closed = {bar["period"]: bar for bar, is_closed in bars.take() if is_closed}
    assert closed["1s"]["high"] == "0.000000012"
    assert (closed["1m"]["volume"], closed["1m"]["buy_volume"], closed["1m"]["sell_volume"]) == (3, 2, 1)
    assert not bars.clock(1)
    assert bars.take() == []


def decode(columns: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A reader of the column encoding, from its description in mbo.json."""
    c = columns["columns"]
    unit = round(float(columns["px_unit"]) * 1e9)
    letters = {
        "n": "none",
        "a": "added",
        "r": "reduced",
        "d": "removed",
        "m": "moved",
        "c": "cleared",
        "p": "replaced",
    }
    out, ordinal, sequence, ts, px = [], 0, 0, int(columns["ts_base"]), 0
    for i in range(len(c["size"])):
        ordinal, sequence, ts = ordinal + c["ordinal"][i], sequence + c["sequence"][i], ts + c["ts_event"][i]
        price = None
        if c["price"][i] is not None:
            px += c["price"][i]
            price = encode.px_text(px * unit)
        out.append(
            (
                ordinal,
                c["action"][i],
                c["side"][i],
                price,
                c["size"][i],
                c["order_id"][i],
                c["flags"][i],
                str(ts),
                str(ts + c["ts_recv"][i]),
                sequence,
                c["publisher_id"][i],
                letters[c["effect"][i]],
                c["size_before"][i],
                c["size_after"][i],
                columns["whys"][c["why"][i]],
            )
        )
    return out


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ACMRTFN"),
            st.sampled_from("BAN"),
            st.sampled_from([UNDEF_PX, -5, 0, 10**7, 65_400_000_000, 123456789]),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**62),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_columns_decode_to_exactly_the_rows(found: list[tuple[Any, ...]]) -> None:
    records = rows(*(record(a, s, 0, size, order) for a, s, _, size, order, _ in found))
    records["price"] = [px for _, _, px, _, _, _ in found]
    records["ts_event"] = [ts for *_, ts in found]
    records["ts_recv"] = records["ts_event"] + np.arange(len(found), dtype=np.uint64)
    effects = np.zeros(len(found), EFFECT)
    effects["ordinal"] = np.arange(len(found)) + 10
    effects["effect"], effects["why"] = np.arange(len(found)) % 7, np.arange(len(found)) % 5
    columns = json.loads(
        encode.orjson.dumps(encode.mbo_columns(records, effects), option=encode.orjson.OPT_SERIALIZE_NUMPY)
    )
    assert decode(columns) == [tuple(row) for row in encode.mbo_rows(records, effects)]


def test_limits_count_by_address_and_key_and_give_back() -> None:
    limits = Limits(GatewaySettings(streams_per_ip=2, connects_per_ip_s=1000.0))
    key = Principal("k", "key", "hash", streams=1)
    first = limits.enter(key, "10.0.0.1")
    assert isinstance(first, Lease)
    assert isinstance(limits.enter(key, "10.0.0.2"), Bye)
    assert isinstance(limits.enter(Principal(), "10.0.0.1"), Lease)
    assert isinstance(limits.enter(Principal(), "10.0.0.1"), Bye)
    first.release()
    first.release()
    assert isinstance(limits.enter(key, "10.0.0.1"), Lease)
    assert all(isinstance(limits.enter(Principal(), "127.0.0.1"), Lease) for _ in range(50))


def test_a_network_of_ipv6_addresses_is_one_client_and_a_made_up_loopback_none() -> None:
    limits = Limits(GatewaySettings(streams_per_ip=2, connects_per_ip_s=1000.0))
    entered = [limits.enter(Principal(), f"2001:db8:0:7::{n:x}") for n in range(5)]
    assert sum(isinstance(each, Lease) for each in entered) == 2
    assert isinstance(limits.enter(Principal(), "2001:db8:0:8::1"), Lease)
    mapped = [limits.enter(Principal(), ip) for ip in ("10.0.0.9", "::ffff:10.0.0.9", "10.0.0.9")]
    assert [isinstance(each, Lease) for each in mapped] == [True, True, False]
    assert isinstance(limits.enter(Principal(), "unix"), Lease)
    proxied = Limits(GatewaySettings(streams_per_ip=2, trusted_proxies=("10.0.0.0/8",)))
    claimed = [proxied.enter(Principal(), "127.0.0.1") for _ in range(3)]
    assert [isinstance(each, Lease) for each in claimed] == [True, True, False]


def test_connects_from_one_address_are_limited_by_rate() -> None:
    limits = Limits(GatewaySettings(streams_per_ip=10_000, connects_per_ip_s=1.0))
    entered = [limits.enter(Principal(), "10.0.0.1") for _ in range(50)]
    assert sum(isinstance(each, Lease) for each in entered) == 10
    assert isinstance(limits.enter(Principal(), "10.0.0.2"), Lease)


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_known_by_its_address(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside


def test_a_shard_list_is_checked() -> None:
    assert [s for s in range(9) if shard_filter("0-2,7")(s)] == [0, 1, 2, 7]
    assert shard_filter("")(255)
    with pytest.raises(UsageError):
        shard_filter("0-x")


def test_published_best_prices_equal_the_view_at_every_event_end() -> None:
    """Folding BBO and AUCTION rows gives, at each event, what the engine itself would publish."""
    from services.gateway.best import published_bbo
    from services.gateway.shards import ShardBooks

    rng = np.random.default_rng(5)
    state = ShardState("uncross", kind="reference")
    books = ShardBooks(ShardKey("f", 0), "uncross")
    last: Any = None
    seen_overlay = False
    for n in range(1, 600):
        entry = InEntry(
            1,
            n,
            0,
            0,
            0,
            rows(
                record(
                    str(rng.choice(list("AAAC"))),
                    str(rng.choice(list("BA"))),
                    100 + int(rng.integers(-4, 5)),
                    int(rng.integers(1, 5)),
                    int(rng.integers(1, 40)),
                )
            ),
            None,
        )
        batch = state.apply(entry)
        for row in published_bbo(books, batch, np.array([1], np.uint32)).tolist():
            bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct = row[7:]
            last = (bid_px, bid_sz, bid_ct), (ask_px, ask_sz, ask_ct)
        books.fold(batch)
        seen_overlay |= bool(books.overlays)
        bids, asks = state.engine.view(1, 1, 1)
        expected = tuple(tuple(side[0]) if side else (UNDEF_PX, 0, 0) for side in (bids, asks))
        got = (
            tuple((px, size, count) if count else (UNDEF_PX, 0, 0) for px, size, count in last)
            if last
            else ((UNDEF_PX, 0, 0),) * 2
        )
        assert got == expected, n
        view = books.view(1, None, None)
        assert ([tuple(x) for x in view.bids], [tuple(x) for x in view.asks]) == tuple(
            [tuple(x) for x in side] for side in state.engine.view(1, 1)
        )
    assert seen_overlay


def test_a_batch_that_overlaps_is_taken_from_the_first_row_one_does_not_have() -> None:
    from shared.client import rows_after

    def row(ordinal: int, flags: int) -> list[Any]:
        return [ordinal, "A", "B", "1", 1, "1", flags]

    batch = [row(5, 0), row(6, 128), row(3, 0), row(9, 128), row(10, 128)]  # row 3 was held back until 9
    assert rows_after(batch, 4) == batch
    assert rows_after(batch, 6) == batch[2:]
    assert rows_after(batch, 8) == batch[2:]
    assert rows_after(batch, 9) == batch[4:]


def test_a_recorded_symbol_may_hold_colons_and_a_key_is_held_against_what_it_means() -> None:
    spread = "UD:1V: GN 2533155"
    means = [("", spread), ("ud", "1V: GN 2533155")]
    assert allowed(Principal(), spread, "trades", "history") == means
    assert allowed(Principal(symbols=("UD:*",)), spread, "trades") == means[:1]
    assert allowed(Principal(symbols=("CL*",)), "GLBX.MDP3:CLX5", "trades") == [("glbx.mdp3", "CLX5")]
    for principal in (Principal(symbols=("CL*",)), Principal(channels=("bbo",))):
        with pytest.raises(Problem, match="no access"):
            allowed(principal, spread, "trades")


@pytest.mark.parametrize(
    ("files", "connections", "streams"),
    [
        ((256, 256), 192, 128),
        ((10, 10), 1, 1),
        ((1024, 4096), 4032, 3968),
        ((1024, resource.RLIM_INFINITY), 20_000, 10_000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 20_000, 10_000),
    ],
)
def test_there_are_no_more_connections_than_files(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], connections: int, streams: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: files)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    found = within_files(GatewaySettings())
    assert (found.max_connections, found.max_streams) == (connections, streams)
    assert [limits[0] for limits in asked] == {(1024, 4096): [4096], (1024, -1): [1_048_576]}.get(files, [])
