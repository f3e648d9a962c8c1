"""DBN metadata: what we write is what Databento's library reads, and the other way round."""

from __future__ import annotations

import databento_dbn
import pytest

from shared.dbn import Interval, Metadata, SymbolMapping
from shared.dbn.metadata import date_to_ns, decode, encode, ns_to_date
from shared.errors import SourceError

FULL = Metadata(
    dataset="GLBX.MDP3",
    schema="mbo",
    start=1_758_742_200_000_000_000,
    end=1_758_751_200_000_000_000,
    limit=5,
    symbols=("CLX5", "ESZ5"),
    partial=("ESZ5",),
    not_found=("NOPE",),
    mappings=(
        SymbolMapping("CLX5", (Interval(20250924, 20250925, "432669"), Interval(20250925, 20250926, "7"))),
        SymbolMapping("ESZ5", (Interval(20250924, 20250926, "9"),)),
    ),
)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_metadata_survives_a_round_trip_in_every_version(version: int) -> None:
    meta = Metadata(
        **{name: getattr(FULL, name) for name in FULL.__dataclass_fields__} | {"version": version}
    )
    blob = encode(meta)
    assert decode(blob[3], blob[8:]) == meta
    assert len(blob) == 8 + int.from_bytes(blob[4:8], "little")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_databento_reads_our_metadata(version: int) -> None:
    meta = Metadata(
        **{name: getattr(FULL, name) for name in FULL.__dataclass_fields__} | {"version": version}
    )
    policy = databento_dbn.VersionUpgradePolicy.AS_IS
    theirs = databento_dbn.Metadata.decode(encode(meta), upgrade_policy=policy)
    assert (theirs.version, theirs.dataset, str(theirs.schema)) == (version, "GLBX.MDP3", "mbo")
    assert (theirs.start, theirs.end, theirs.limit) == (FULL.start, FULL.end, 5)
    assert theirs.symbols == ["CLX5", "ESZ5"]
    assert theirs.not_found == ["NOPE"]
    assert [each["symbol"] for each in theirs.mappings["CLX5"]] == ["432669", "7"]


def test_we_read_databentos_metadata() -> None:
    theirs = databento_dbn.Metadata(
        dataset="XNAS.ITCH", start=1, stype_out=databento_dbn.SType.INSTRUMENT_ID, schema=None, stype_in=None, end=None,
        symbols=[], partial=[], not_found=[], mappings=[],
    )  # fmt: skip
    blob = bytes(theirs)
    ours = decode(blob[3], blob[8:])
    assert (ours.dataset, ours.schema, ours.stype_in, ours.end, ours.mappings) == (
        "XNAS.ITCH",
        None,
        None,
        None,
        (),
    )


def test_instruments_are_named_by_interval_whichever_way_the_mapping_points() -> None:
    named = FULL.instruments()
    assert [(one.instrument_id, one.symbol) for one in named] == [(9, "ESZ5"), (432669, "CLX5"), (7, "CLX5")]
    assert named[2].start_ns == date_to_ns(20250925)
    turned = Metadata(
        dataset="X", stype_in="instrument_id", stype_out="raw_symbol",
        mappings=(SymbolMapping("9", (Interval(20250924, 20250926, "ESZ5"),)),),
    )  # fmt: skip
    assert [(one.instrument_id, one.symbol) for one in turned.instruments()] == [(9, "ESZ5")]


def test_a_mapping_without_an_id_names_nothing() -> None:
    meta = Metadata(dataset="X", mappings=(SymbolMapping("A", (Interval(20250924, 20250925, ""),)),))
    assert meta.instruments() == []


def test_dates_and_times_agree() -> None:
    assert ns_to_date(date_to_ns(20240229) or 0) == 20240229
    assert date_to_ns(0) is None


def test_too_long_names_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        encode(Metadata(dataset="A" * 17))
    with pytest.raises(ValueError, match="longer"):
        encode(Metadata(dataset="A", version=1, symbols=("B" * 22,)))


@pytest.mark.parametrize(
    ("version", "blob", "says"),
    [
        (4, b"", "newer"),
        (3, b"\0" * 50, "too short"),
        (3, b"\0" * 16 + b"\x99\x00" + b"\x01" * 200, "schema 153"),
        (3, encode(FULL)[8:200], "past"),
    ],
)
def test_broken_metadata_is_one_clear_error(version: int, blob: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        decode(version, blob)
