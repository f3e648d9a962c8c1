"""What a symbol names."""

from __future__ import annotations

import json

import pytest

from services.gateway.instruments import Directory, Feed
from services.gateway.vector import ShardKey


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
