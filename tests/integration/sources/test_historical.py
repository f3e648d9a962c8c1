"""Databento Historical against a server that answers as the API does: cost first, a cache, broken downloads."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.ingest.sources import historical
from services.ingest.sources.file import FileSource
from services.ingest.sources.historical import make_historical
from services.ingest.sources.options import SourceOptions
from shared.errors import SourceError, UsageError
from shared.records import Rows
from tests.support.dbn_files import drain
from tests.support.fake_historical import KEY, FakeHistorical
from tests.support.mbo import random_rows

# the databento client leaves its file open when a stream breaks
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)

DAY = 86_400_000_000_000
FIRST = 20_000 * DAY  # midnight of 2024-10-04
SYMBOLS = {1: "ONE", 2: "TWO"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    made = random_rows(9_000, instruments=2)
    made["ts_recv"] = made["ts_event"] = FIRST + np.arange(9_000) * (3 * DAY // 9_000)
    return made


@pytest.fixture
def server(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeHistorical]:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    monkeypatch.setattr(historical, "RETRY_S", 0.0)
    monkeypatch.setattr(historical, "BATCH_POLL_S", 0.0)
    with FakeHistorical(rows, SYMBOLS, tmp_path_factory.mktemp("tls")) as running:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(running.certificate))
        yield running


def options(server: FakeHistorical, tmp_path: Path, **more: Any) -> SourceOptions:
    given = {
        "source": ("historical",), "dataset": "TEST.SET", "start": FIRST, "end": FIRST + 3 * DAY, "yes": True,
        "historical_url": server.url, "data": tmp_path,
    }  # fmt: skip
    return SourceOptions(**{**given, **more})


def test_a_range_comes_day_by_day_and_stays_in_the_cache(
    server: FakeHistorical, tmp_path: Path, rows: Rows
) -> None:
    source = make_historical(options(server, tmp_path))
    assert isinstance(source, FileSource)
    records, controls = drain(source)
    assert records.tobytes() == rows.tobytes()
    assert [each["type"] for _, each in controls] == ["mapping", "mapping", "day", "day"]
    assert source.spec["kind"] == "historical"
    assert server.count("get_range") == 3
    again = make_historical(options(server, tmp_path, yes=False))
    assert again.identity == source.identity
    assert server.count("get_range") == 3
    assert server.count("get_cost") == 1, "what is in the cache costs nothing and is not asked about"


def test_a_longer_range_downloads_only_what_is_new(
    server: FakeHistorical, tmp_path: Path, rows: Rows
) -> None:
    make_historical(options(server, tmp_path, end=FIRST + 2 * DAY))
    records, _ = drain(make_historical(options(server, tmp_path)))
    assert records.tobytes() == rows.tobytes()
    assert server.count("get_range") == 3
    asked = [query for path, query in server.requests if path.endswith("get_cost")]
    assert len(asked) == 2


def test_part_of_a_day_and_some_symbols_are_their_own_files(
    server: FakeHistorical, tmp_path: Path, rows: Rows
) -> None:
    start, end = FIRST + DAY // 2, FIRST + DAY + 1
    source = make_historical(options(server, tmp_path, start=start, end=end, symbols=("TWO",)))
    records, _ = drain(source)
    mine = rows[(rows["instrument_id"] == 2) & (rows["ts_recv"] >= start) & (rows["ts_recv"] < end)]
    assert records.tobytes() == mine.tobytes()


def test_the_cost_is_said_before_anything_is_downloaded(
    server: FakeHistorical, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"costs \$12\.50: say --yes"):
        make_historical(options(server, tmp_path, yes=False))
    assert server.count("get_range") == 0
    assert "3 of 3 days to download, 0.001 GB, $12.50" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _files_the_client_leaves_open() -> Iterator[None]:
    """databento's client does not close the file of a download that breaks; say so here, not in some later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_a_broken_download_is_tried_again(server: FakeHistorical, tmp_path: Path, rows: Rows) -> None:
    server.faults.extend([(503, "busy"), "", "", "cut", "", (500, "oops"), "empty"])
    records, _ = drain(make_historical(options(server, tmp_path)))
    assert records.tobytes() == rows.tobytes()
    assert not list(tmp_path.rglob("*.part"))


def test_days_that_came_whole_are_kept_when_a_later_one_fails(server: FakeHistorical, tmp_path: Path) -> None:
    server.faults.extend(["", "", "", *["cut"] * historical.ATTEMPTS])
    with pytest.raises(SourceError, match="failed 4 times"):
        make_historical(options(server, tmp_path))
    make_historical(options(server, tmp_path))
    assert server.count("get_range") == 1 + historical.ATTEMPTS + 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ((401, "Authentication failed."), "check DATABENTO_API_KEY"),
        ((403, "no license"), "not entitled"),
        ((422, "symbology could not be resolved"), "check --dataset, --symbols"),
        ((402, "insufficient balance"), "balance or limit"),
    ],
)
def test_a_refusal_is_one_line_with_what_to_do(
    server: FakeHistorical, tmp_path: Path, fault: tuple[int, str], says: str
) -> None:
    server.faults.append(fault)
    with pytest.raises(SourceError, match=says) as caught:
        make_historical(options(server, tmp_path))
    assert "\n" not in str(caught.value)
    assert fault[1] in str(caught.value)


def test_an_unreachable_server_is_said(server: FakeHistorical, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="try again later"):
        make_historical(options(server, tmp_path, historical_url="http://127.0.0.1:1"))


def test_a_batch_job_is_waited_for_and_its_files_go_on_by_byte(
    server: FakeHistorical, tmp_path: Path, rows: Rows
) -> None:
    server.faults.extend(["", "", "", "", "", "", "", "cut"])
    source = make_historical(options(server, tmp_path, batch=True))
    records, _ = drain(source)
    assert records.tobytes() == rows.tobytes()
    assert server.count("submit_job") == 1
    assert server.jobs["JOB-1"]["query"]["split_duration"] == "day"
    assert not list(tmp_path.rglob("job.json"))


def test_the_cost_of_a_batch_job_is_that_of_what_it_orders(
    server: FakeHistorical, tmp_path: Path, rows: Rows
) -> None:
    """A job is one range: a day of the cache between two that are missing is ordered and paid for again."""
    make_historical(options(server, tmp_path, start=FIRST + DAY, end=FIRST + 2 * DAY))
    server.requests.clear()
    records, _ = drain(make_historical(options(server, tmp_path, batch=True)))
    assert records.tobytes() == rows.tobytes()
    (cost,) = [query for path, query in server.requests if path.endswith("get_cost")]
    job = server.jobs["JOB-1"]["query"]
    assert (cost["start"], cost["end"]) == (job["start"], job["end"])


def test_a_batch_job_that_was_left_is_not_ordered_twice(
    server: FakeHistorical, tmp_path: Path, rows: Rows
) -> None:
    server.faults.extend(["", "", "", (401, "gone")])
    with pytest.raises(SourceError, match="gone"):
        make_historical(options(server, tmp_path, batch=True))
    records, _ = drain(make_historical(options(server, tmp_path, batch=True)))
    assert records.tobytes() == rows.tobytes()
    assert server.count("submit_job") == 1


def test_an_expired_batch_job_is_said(server: FakeHistorical, tmp_path: Path) -> None:
    server.polls_until_done = 10**9
    server.faults.extend(["", "", "", ""])
    original = server._body

    def expire(path: str, query: dict[str, str]) -> Any:
        if path.endswith("list_jobs"):
            server.jobs["JOB-1"]["state"] = "expired"
        return original(path, query)

    server._body = expire  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="has expired"):
        make_historical(options(server, tmp_path, batch=True))


@pytest.mark.parametrize("more", [{"dataset": ""}, {"start": None}, {"end": FIRST}, {"stype_in": "ticker"}])
def test_an_incomplete_request_is_refused(
    server: FakeHistorical, tmp_path: Path, more: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        make_historical(options(server, tmp_path, **more))


def test_a_repair_is_a_session_of_its_own(server: FakeHistorical, tmp_path: Path) -> None:
    plain, repair = (make_historical(options(server, tmp_path), repaired=flag) for flag in (False, True))
    assert repair.spec["repaired"] is True
    assert plain.identity != repair.identity
