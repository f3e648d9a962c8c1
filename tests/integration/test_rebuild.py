"""`mbo rebuild` on real files: whole final books, every ten-level state, bad files; and kernel = reference on them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.__main__ import dispatch
from shared.dbn import Metadata, Reader, Writer
from shared.errors import SourceError, UsageError
from shared.orderbook.engine import POLICIES
from shared.orderbook.engines import make_engine
from shared.records import Rows
from shared.units import F_LAST
from tests.support.orderbook import Pair, plausible

CLX5 = "clx5-20250924.mbo.dbn"
ESM4 = "esm4-20240508-snapshot.mbo.dbn.zst"
LIVE = "live-session.mixed.dbn.zst"
ARL = ("arl-20250717.mbo.v1.dbn", "arl-20250717.mbo.v2.dbn.zst", "arl-20250717.mbo.v3.dbn.zst")


def rebuilt(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    assert dispatch(["rebuild", *argv]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def records_of(path: Path) -> Rows:
    with Reader(path) as reader:
        return np.concatenate([np.array(part.records) for part in reader.parts() if part.records is not None])


def truth_of_arl(market_data: Path) -> list[dict[str, Any]]:
    with gzip.open(market_data / "arl-20250717.truth.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("engine", ["numba", "reference"])
def test_clx5_ends_with_the_whole_book_another_engine_made(
    market_data: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    (line,) = rebuilt(capsys, str(market_data / CLX5), "--engine", engine)
    truth = json.loads((market_data / "clx5-20250924.final-book.json").read_text())
    levels = truth["instruments"][0]["publishers"][0]["levels"]
    for side in ("bids", "asks"):
        wanted = [[round(level["price"] * 1e9), level["size"], level["count"]] for level in levels[side]]
        assert line[side] == wanted
    assert (len(line["bids"]), len(line["asks"])) == (61, 52)
    assert (line["symbol"], line["crossed"], line["records"], line["orders"]) == ("CLX5", True, 38_212, 147)
    # MARKET_DATA.md items 4 and 8.
    assert line["anomalies"] == {
        "unknown_cancel": 1224,
        "unknown_modify": 216,
        "unknown_fill": 30,
        "refill": 7,
    }


@pytest.mark.parametrize("name", ARL)
def test_arl_has_each_of_the_3928_states_in_all_versions_of_dbn(
    market_data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lines = rebuilt(capsys, str(market_data / name), "--every", "record", "--depth", "10")
    truth = truth_of_arl(market_data)
    assert len(truth) == 3928
    assert [line["record"] for line in lines] == list(range(5886))
    for row in truth:
        line = lines[row["after_record"]]
        assert (line["bids"], line["asks"]) == (row["bids"], row["asks"])


def test_event_lines_are_the_states_at_event_ends(
    market_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = market_data / ARL[0]
    ends = np.flatnonzero(records_of(path)["flags"] & F_LAST)
    lines = rebuilt(capsys, str(path), "--every", "event", "--depth", "1")
    assert [line["record"] for line in lines] == ends.tolist()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", [CLX5, ESM4, ARL[0]])
def test_kernel_and_reference_agree_on_every_row_of_real_files(
    market_data: Path, name: str, policy: Any
) -> None:
    records = records_of(market_data / name)
    pair, ordinal = Pair(policy), 1
    for part in np.array_split(records, 60):
        pair.apply(part, ordinal)
        ordinal += len(part)
    pair.end()
    pair.same_views(order_ids=records["order_id"][-50:].tolist())


@pytest.mark.parametrize("name", [pytest.param(CLX5, marks=pytest.mark.slow), ESM4, *ARL, LIVE])
def test_states_of_kernel_and_reference_are_equal_at_every_event_end(market_data: Path, name: str) -> None:
    """Every level, count, order, place and counter: the bytes of the canonical state, after each F_LAST."""
    records = records_of(market_data / name)
    fast, plain = make_engine("raw", "numba"), make_engine("raw", "reference")
    begin = 0
    for last in np.flatnonzero(records["flags"] & F_LAST).tolist():
        for engine in (fast, plain):
            engine.apply(records[begin : last + 1], begin + 1)
        assert fast.image() == plain.image(), f"record {last}"
        begin = last + 1
    assert begin


def test_published_books_are_never_crossed(market_data: Path) -> None:
    """MARKET_DATA.md item 3: CLX5 is crossed from 21:47:19 UTC on."""
    records = records_of(market_data / CLX5)
    engine = make_engine("uncross")
    crossed = 0
    for at in range(0, len(records), 50):
        engine.apply(records[at : at + 50], at)
        bids, asks = engine.view(1, 432669)
        raw = [engine.levels(1, 432669, side, 1) for side in b"BA"]
        crossed += bool(raw[0] and raw[1] and raw[0][0].price >= raw[1][0].price)
        assert not bids or not asks or bids[0].price < asks[0].price
    assert crossed


def test_bad_files_end_in_one_clear_line(market_data: Path) -> None:
    for name, what in (
        ("not-mbo.mbp-10.dbn.zst", "schema mbp-10"),
        ("legacy.mbo.dbz", "legacy DBZ"),
        ("no-such.dbn", "no such file"),
    ):
        with pytest.raises(SourceError, match=what):
            dispatch(["rebuild", str(market_data / name)])


def test_wrong_options_are_usage_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--depth"):
        dispatch(["rebuild", "x.dbn", "--depth", "0"])
    monkeypatch.setenv("MBO_ENGINE", "abacus")
    with pytest.raises(UsageError, match="--engine abacus"):
        dispatch(["rebuild", "x.dbn"])


@pytest.mark.parametrize("policy", POLICIES)
def test_an_interleaved_file_is_each_instrument_and_publisher_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    """Five instruments on each of two venues, order ids the same on both."""
    flows = [plausible(seed, 3000, books=5, crossing=0.05) for seed in (7, 8)]
    flows[1]["publisher_id"] = 2
    records = np.stack(flows, axis=1).reshape(-1)
    records["ts_recv"] = np.arange(len(records)) + 1_760_000_000_000_000_000

    def file(name: str, rows: Rows) -> str:
        with Writer(tmp_path / name, Metadata(dataset="XTST.BOOK")) as out:
            out.write(rows)
        return str(tmp_path / name)

    together = rebuilt(capsys, file("all.dbn", records), "--policy", policy)
    assert len(together) == 10
    for line in together:
        key = (line["publisher_id"], line["instrument_id"])
        mine = records[(records["publisher_id"] == key[0]) & (records["instrument_id"] == key[1])]
        assert rebuilt(capsys, file(f"{key}.dbn", mine), "--policy", policy) == [line]
