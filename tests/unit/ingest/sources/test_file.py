"""Files as a source: order, positions, controls, filters, loops, and what bad input says."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from services.ingest.sources.factory import make_sources
from services.ingest.sources.file import FileSource
from services.ingest.sources.options import SourceOptions
from shared.dbn import Interval, Metadata, SymbolMapping
from shared.errors import SourceError, UsageError
from shared.records import Rows
from shared.units import ACTION_CLEAR, F_LAST, UNDEF_TS
from tests.support.dbn_files import drain, metadata, write
from tests.support.mbo import START_NS, random_rows

HOUR = 3_600_000_000_000
DAY = 24 * HOUR
MIDNIGHT = (START_NS // DAY + 1) * DAY


def source(*paths: Path | str, **options: object) -> FileSource:
    (made,) = make_sources(SourceOptions(source=tuple(map(str, paths)), **options))  # type: ignore[arg-type]
    assert isinstance(made, FileSource)
    return made


def at(start: int, count: int = 100, seed: int = 1, step: int = 1000, **fields: int) -> Rows:
    rows = random_rows(count, seed=seed)
    rows["ts_recv"] = rows["ts_event"] = start + np.arange(count) * step
    for name, value in fields.items():
        rows[name] = value
    return rows


def test_records_come_after_the_mapping_of_their_instrument(tmp_path: Path) -> None:
    rows = at(START_NS)
    one = source(write(tmp_path / "a.dbn", rows, metadata(symbols={"ONE": 1, "TWO": 2})))
    records, controls = drain(one)
    assert records.tobytes() == rows.tobytes()
    assert [(position, each["type"], each["symbol"]) for position, each in controls] == [
        (1, "mapping", "ONE"),
        (2, "mapping", "TWO"),
    ]
    assert one.total == 102


@pytest.mark.parametrize("name", ["a.dbn", "a.dbn.zst"])
def test_any_position_can_be_had_again(tmp_path: Path, name: str) -> None:
    one = source(write(tmp_path / name, at(MIDNIGHT - 50_000, 100)))
    whole, controls = drain(one)
    total = len(whole) + len(controls)
    assert [each["type"] for _, each in controls] == ["mapping", "day"]
    for position in range(total + 1):
        rest, later = drain(one, position, limit=7)
        assert rest.tobytes() == whole[len(whole) - len(rest) :].tobytes()
        assert later == [each for each in controls if each[0] > position]
        assert len(rest) + len(later) == total - position


def test_a_position_past_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="have become shorter"):
        drain(source(write(tmp_path / "a.dbn", at(START_NS))), 102)


def test_a_new_day_is_said_between_records(tmp_path: Path) -> None:
    rows = np.concatenate((at(MIDNIGHT - 5000, 5), at(MIDNIGHT, 5), at(MIDNIGHT + 3 * DAY, 5)))
    records, controls = drain(source(write(tmp_path / "a.dbn", rows, metadata(symbols={}))))
    assert records.tobytes() == rows.tobytes()
    assert controls == [
        (6, {"type": "day", "date": "2023-11-15"}),
        (12, {"type": "day", "date": "2023-11-18"}),
    ]


def test_an_id_that_gets_another_symbol_is_mapped_again_at_its_day(tmp_path: Path) -> None:
    spans = {"OLD": Interval(20231114, 20231115, "1"), "NEW": Interval(20231115, 20231116, "1")}
    meta = Metadata(
        dataset="TEST.SET", mappings=tuple(SymbolMapping(name, (span,)) for name, span in spans.items())
    )
    rows = np.concatenate((at(MIDNIGHT - 5000, 5), at(MIDNIGHT + 7, 5)))
    path = write(tmp_path / "a.dbn", rows, meta)
    _, controls = drain(source(path))
    assert [(position, each.get("symbol", each["type"])) for position, each in controls] == [
        (1, "OLD"),
        (7, "day"),
        (8, "NEW"),
    ]
    only_new, _ = drain(source(path, symbols=("NEW",)))
    assert only_new.tobytes() == rows[5:][rows["instrument_id"][5:] == 1].tobytes()


def test_files_are_merged_by_time_whatever_their_names(tmp_path: Path) -> None:
    late, early = at(START_NS + HOUR), at(START_NS, seed=2)
    between = at(START_NS + 500, 100, 3, step=2 * HOUR // 100)
    for name, rows in (("a.dbn", late), ("b.dbn.zst", early), ("c.dbn", between)):
        write(tmp_path / name, rows, metadata(symbols={name: ord(name[0])}))
    records, controls = drain(source(tmp_path))
    every = np.concatenate((late, early, between))
    assert (records["ts_recv"][1:] >= records["ts_recv"][:-1]).all()
    assert sorted(each.tobytes() for each in records) == sorted(each.tobytes() for each in every)
    assert [each["symbol"] for _, each in controls[:3]] == ["a.dbn", "b.dbn.zst", "c.dbn"]


def test_two_datasets_are_two_sources_and_the_same_content_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path / "a.dbn", at(START_NS), metadata("ONE.SET"))
    write(tmp_path / "b.dbn.zst", at(START_NS), metadata("ONE.SET"))
    write(tmp_path / "c.dbn", at(START_NS), metadata("TWO.SET"))
    made = make_sources(SourceOptions(source=(str(tmp_path / "*"),)))
    assert sorted((one.dataset, one.total) for one in made) == [("ONE.SET", 101), ("TWO.SET", 101)]


def test_identity_follows_content_and_choice_not_the_path(tmp_path: Path) -> None:
    first = source(write(tmp_path / "a.dbn", at(START_NS)))
    assert source(write(tmp_path / "b.dbn.zst", at(START_NS), metadata(version=1))).identity == first.identity
    assert source(tmp_path / "a.dbn", symbols=("ONE",)).identity != first.identity
    assert source(tmp_path / "a.dbn", start=START_NS + 1).identity != first.identity
    assert source(tmp_path / "a.dbn", loop=True).identity != first.identity


def test_only_the_window_asked_for_is_given(tmp_path: Path) -> None:
    rows = at(START_NS)
    path = write(tmp_path / "a.dbn", rows)
    records, _ = drain(source(path, start=START_NS + 10_000, end=START_NS + 20_000))
    assert records.tobytes() == rows[10:20].tobytes(), "from start up to but not including end"


def test_a_window_without_records_is_said(tmp_path: Path) -> None:
    one = source(write(tmp_path / "a.dbn", at(START_NS)), start=START_NS + HOUR)
    assert len(drain(one)[0]) == 0
    assert one.notes == ["nothing was taken of a.dbn: its records begin at 2023-11-14T22:13:20+00:00"]


def test_only_the_symbols_asked_for_are_given_by_name_or_id(tmp_path: Path) -> None:
    rows = at(START_NS)
    path = write(tmp_path / "a.dbn", rows, metadata(symbols={"ONE": 1, "TWO": 2, "SIX": 6}))
    for wanted, ids in ((("ONE",), [1]), (("TWO", "6"), [2, 6]), (("7",), [7])):
        records, controls = drain(source(path, symbols=wanted))
        assert records.tobytes() == rows[np.isin(rows["instrument_id"], ids)].tobytes()
        assert [each["instrument_id"] for _, each in controls] == [each for each in ids if each != 7]


def test_an_unknown_symbol_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", at(START_NS))
    with pytest.raises(SourceError, match=r"TYPO: not in these files of TEST\.SET, which have ONE"):
        source(path, symbols=("TYPO",))


def test_a_record_without_ts_recv_ends_no_day_window_or_loop_and_keeps_its_place(tmp_path: Path) -> None:
    spans = {"OLD": Interval(20231114, 20231115, "1"), "NEW": Interval(20231115, 20231116, "1")}
    meta = Metadata(
        dataset="TEST.SET", mappings=tuple(SymbolMapping(name, (span,)) for name, span in spans.items())
    )
    rows = np.concatenate((at(MIDNIGHT - 5000, 5), at(MIDNIGHT + 7, 5)))
    rows["ts_recv"][[0, 2, 4, 8]] = rows["ts_event"][3] = UNDEF_TS
    one = write(tmp_path / "a.dbn", rows, meta)
    records, controls = drain(source(one))
    assert records.tobytes() == rows.tobytes()
    said = [(position, each.get("symbol", each["type"])) for position, each in controls]
    assert said == [(1, "OLD"), (7, "day"), (8, "NEW")]
    windowed, _ = drain(source(one, end=MIDNIGHT + 7 + 3000))
    assert windowed.tobytes() == rows[:9].tobytes()
    other = at(MIDNIGHT - 4500, 5)
    merged, _ = drain(source(write(tmp_path / "b.dbn", other, meta), one))
    a, b = rows, other
    wanted = (a[:1], b[:1], a[1:3], b[1:3], a[3:5], b[3:], a[5:])  # a[0] has no time before it
    assert merged.tobytes() == np.concatenate(wanted).tobytes()
    looped, _ = drain(source(one, loop=True), items=28)
    again = looped[np.flatnonzero(looped["action"] == ACTION_CLEAR)[-1] + 1 :]
    for name in ("ts_recv", "ts_event"):
        shifts = again[name] - rows[name][: len(again)]
        assert len(again) > 5
        assert ((shifts == 0) == (rows[name][: len(again)] == UNDEF_TS)).all()
        assert (shifts < DAY).all()


def test_a_loop_clears_the_books_and_goes_on_in_time(tmp_path: Path) -> None:
    rows = at(START_NS, instrument_id=1)
    looped = source(write(tmp_path / "a.dbn", rows), loop=True)
    records, controls = drain(looped, items=1 + 100 + 1 + 100 + 1 + 50)
    assert len(records) == 252
    assert [position for position, _ in controls] == [1], "mapped once"
    clears = np.flatnonzero(records["action"] == ACTION_CLEAR)
    assert clears.tolist() == [100, 201]
    assert (np.diff(records["ts_recv"].astype(np.int64)) >= 0).all()
    again = records[101:201].copy()
    shift = again["ts_recv"][0] - rows["ts_recv"][0]
    again["ts_recv"] -= shift
    again["ts_event"] -= shift
    assert again.tobytes() == rows.tobytes()
    assert looped.total is None


def test_a_cut_file_is_taken_to_its_last_whole_record_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", at(START_NS))
    path.write_bytes(path.read_bytes()[:-10])
    one = source(path)
    records, _ = drain(one)
    assert len(records) == 99
    assert "its last 46 bytes are no whole record" in one.notes[0]


def test_records_missing_between_two_files_are_a_gap(tmp_path: Path) -> None:
    first = write(tmp_path / "a.dbn", at(START_NS))
    write(tmp_path / "b.dbn", at(START_NS + HOUR))
    first.write_bytes(first.read_bytes()[:-10])
    _, controls = drain(source(tmp_path))
    gap = controls[-1][1]
    assert (gap["type"], controls[-1][0]) == ("gap", 101)
    assert gap["from"] == START_NS + 98 * 1000
    assert "a.dbn" in gap["reason"]


def test_books_are_whole_again_when_the_next_file_has_begun_them_anew(tmp_path: Path) -> None:
    first = write(tmp_path / "a.dbn", at(START_NS, instrument_id=1))
    following = at(START_NS + HOUR, instrument_id=1)
    following["action"][0], following["flags"][0] = ord("R"), F_LAST
    write(tmp_path / "b.dbn", following)
    first.write_bytes(first.read_bytes()[:-10])
    one = source(tmp_path)
    records, controls = drain(one)
    assert [(position, each["type"]) for position, each in controls[-2:]] == [
        (101, "gap"),
        (103, "recovered"),
    ]
    assert "books" not in controls[-2][1], "only the fields of the wire format"
    again, rest = drain(one, 102)
    assert again.tobytes() == records[100:].tobytes()
    assert rest == controls[-1:], "the same after a restart"


def test_names_are_expanded(tmp_path: Path) -> None:
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    write(inner / "a.dbn", at(START_NS))
    write(tmp_path / "b.dbn", at(START_NS + HOUR))
    (tmp_path / "notes.txt").write_text("not for us")
    write(tmp_path / ".hidden.dbn", at(START_NS + 2 * HOUR))
    assert len(drain(source(tmp_path / "**" / "*.dbn"))[0]) == 200
    assert len(drain(source(tmp_path))[0]) == 100, "a folder is not searched deeply"
    assert len(drain(source(tmp_path / "b.dbn", inner))[0]) == 200


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("nope.dbn",), "no such file"),
        (("*.zst",), "matches no file"),
        (("empty",), "no .dbn or .dbn.zst file in this folder"),
    ],
)
def test_names_that_mean_nothing_are_refused(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=says):
        source(*(tmp_path / name for name in names))


@pytest.mark.parametrize("given", [(), ("sim", "a.dbn"), ("sim", "live")])
def test_sources_that_do_not_go_together_are_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        make_sources(SourceOptions(source=given))


def test_many_files_are_one_feed(tmp_path: Path) -> None:
    for index in range(40):
        write(tmp_path / f"{index:02}.dbn.zst", at(START_NS + index * HOUR, 20, seed=index))
    records, _ = drain(source(tmp_path))
    assert len(records) == 800
    hours = [key for key, _ in itertools.groupby((records["ts_recv"] - START_NS) // HOUR)]
    assert hours == list(range(40))


def test_the_real_file_is_given_whole(market_data: Path) -> None:
    one = source(market_data / "clx5-20250924.mbo.dbn")
    records, controls = drain(one, limit=2000)
    assert len(records) == 38_212
    assert [each["symbol"] for _, each in controls] == ["CLX5"]
    filtered, _ = drain(source(market_data / "clx5-20250924.mbo.dbn", symbols=("CLX5",)))
    assert filtered.tobytes() == records.tobytes()


def test_a_real_live_session_brings_its_own_symbols_and_definitions(market_data: Path) -> None:
    records, controls = drain(source(market_data / "live-session.mixed.dbn.zst", symbols=("ESZ4",)))
    assert len(records) == 5
    assert [each["type"] for _, each in controls] == ["mapping", "definition"], (
        "repetitions are not given again"
    )
