"""The reader process's API and its client give the same answers as the file itself."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn

from services.persist.history_api import make_app
from services.persist.local import LocalHistory
from services.persist.store import store_path
from shared.broker import Broker
from shared.errors import StoreError
from shared.history_client import Directory, HistoryDown, HistoryError, RemoteHistory, Replay, replay
from shared.history_types import OPEN_END
from shared.orderbook.shard import ShardState
from tests.support import eventually
from tests.support.mbo import START_NS, random_rows
from tests.support.recording import Feed, assert_stored, drain, writer

TOKEN = "secret-of-this-test"


@pytest.fixture
def feed(broker: Broker, broker_url: str, prefix: str, tmp_path: Path) -> Feed:
    rows = random_rows(6000, instruments=12)
    rows["action"][::9] = ord("T")
    rows["ts_recv"] = rows["ts_event"] = START_NS + np.arange(6000) * 50_000_000
    made = Feed(broker, shards=2)
    for instrument in range(1, 13):
        made.mapping(instrument, f"S{instrument}")
    made.records(rows)
    recorder = writer(broker_url, prefix, tmp_path, block_rows=500, image_records=900)
    recorder.open()
    drain(recorder, commit_every=2)
    recorder.close()
    return made


@pytest.fixture
def url(feed: Feed, tmp_path: Path) -> Iterator[str]:
    """The app on a port of its own, in a thread of the test."""
    server = uvicorn.Server(
        uvicorn.Config(make_app(LocalHistory(tmp_path), TOKEN), port=0, log_config=None, lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    port = eventually(lambda: server.started and server.servers[0].sockets[0].getsockname()[1])
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def remote(url: str) -> Iterator[RemoteHistory]:
    made = RemoteHistory(url, TOKEN)
    yield made
    made.close()


def test_every_question_has_the_same_answer_over_http(
    remote: RemoteHistory, feed: Feed, tmp_path: Path
) -> None:
    local = LocalHistory(tmp_path)
    middle, late = START_NS + 100 * 10**9, START_NS + 200 * 10**9
    assert remote.feeds() == ["feed"]
    assert remote.sessions("feed") == local.sessions("feed")
    assert remote.instruments("feed", 1) == local.instruments("feed", 1)
    assert remote.days("feed") == local.days("feed")
    assert remote.position("feed", 1, middle) == local.position("feed", 1, middle)
    (span,) = remote.spans("feed", "S5")
    assert [span] == local.spans("feed", "S5")
    activity = remote.activity("feed", 1, START_NS, START_NS + 300 * 10**9, 10, span.instrument_id)
    assert activity == local.activity("feed", 1, START_NS, START_NS + 300 * 10**9, 10, span.instrument_id)
    rows = feed.of_shard(span.shard)
    mine = rows[rows["instrument_id"] == 5]
    assert sum(activity.trades) == int((mine["action"] == ord("T")).sum())
    cut = (mine["ts_recv"] >= np.uint64(middle)) & (mine["ts_recv"] < np.uint64(late))
    assert b"".join(part.rows.tobytes() for part in remote.records(span, middle, late)) == mine[cut].tobytes()
    for name in ("bbo", "trades"):
        for start, end in ((None, None), (middle, late)):
            answers = [
                b"".join(part.tobytes() for part in getattr(each, name)(span, start, end))
                for each in (remote, local)
            ]
            assert answers[0] == answers[1] != b""
    assert b"".join(part.tobytes() for part in remote.bars(span, 1)) == b"".join(
        part.tobytes() for part in local.bars(span, 1)
    )
    assert remote.image("feed", 1, 0, OPEN_END) == local.image("feed", 1, 0, OPEN_END)
    assert remote.image("feed", 1, 0, 1) is None
    found = remote.book_at("feed", "S5", middle)
    assert found.ordinal == local.position("feed", 1, middle)[span.shard]
    assert_stored(remote, feed)


def test_only_the_token_opens_it(url: str) -> None:
    stranger = RemoteHistory(url, "wrong")
    with pytest.raises(HistoryError, match="token") as caught:
        stranger.feeds()
    stranger.close()
    assert caught.value.facts["status"] == 401
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request("GET", "/h1/feed/blocks?run=1&shard=0")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["status"]) == (401, 401)
    connection.close()


def test_activity_is_counted_by_the_second(feed: Feed, tmp_path: Path) -> None:
    rows = np.concatenate([feed.of_shard(shard) for shard in range(feed.shards)])
    seconds = (rows["ts_recv"].astype(np.int64) - START_NS) // 10**9
    length = int(seconds.max()) + 1
    activity = LocalHistory(tmp_path).activity("feed", 1, START_NS, START_NS + length * 10**9, length)
    assert START_NS % 10**9 == 0
    assert list(activity.records) == np.bincount(seconds, minlength=length).tolist()
    is_trade = rows["action"] == ord("T")
    assert list(activity.trades) == np.bincount(seconds[is_trade], minlength=length).tolist()
    coarse = LocalHistory(tmp_path).activity("feed", 1, START_NS, START_NS + length * 10**9, 3)
    assert sum(coarse.records) == len(rows)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("feed/blocks?run=1", 400), ("feed/blocks?run=1&shard=x", 400), ("feed/blocks?run=1&shard=0&kind=l2", 400),
        ("no/sessions", 404), ("feed/activity?run=1&start=5&end=1", 400), ("feed/sessions?run=9", 200),
        ("nothing", 404), ("feed/instruments?session=77", 404),
    ],
)  # fmt: skip
def test_wrong_questions_are_answered_with_what_is_wrong(url: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request("GET", f"/h1/{path}", headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == status
    connection.close()


def test_a_damaged_block_is_an_error_for_the_client_and_not_an_end(
    remote: RemoteHistory, tmp_path: Path, feed: Feed
) -> None:
    db = sqlite3.connect(store_path(tmp_path, "feed"))
    db.execute(
        "UPDATE block SET body = CAST(substr(body, 1, 500) || x'00' || substr(body, 502) AS BLOB)"
        " WHERE id = (SELECT max(id) FROM block)"
    )
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="damaged"):
        [list(remote.entries("feed", 1, shard)) for shard in (0, 1)]


def test_a_reader_that_is_not_there_is_down(tmp_path: Path, broker: Broker) -> None:
    with pytest.raises(HistoryDown):
        RemoteHistory("http://127.0.0.1:9", TOKEN, timeout_s=1).feeds()
    with pytest.raises(HistoryDown, match="mbo persist"):
        Directory(broker).history("feed")


def _played(found: Replay) -> dict[int, ShardState]:
    last = 0
    for step in found:
        assert step.ts >= last
        last = step.ts
        state = found.states[step.shard]
        assert step.entry.first == state.ordinal + 1
        state.apply(step.entry)
    return found.states


def test_a_replay_is_ordered_by_market_time_and_ends_where_the_recording_does(
    remote: RemoteHistory, feed: Feed
) -> None:
    ends = [remote.state("feed", 1, shard, feed.last[shard]).state_hash() for shard in range(2)]
    for start in (None, START_NS, START_NS + 150 * 10**9 + 7, START_NS + 10**15):
        states = _played(replay(remote, "feed", 1, [0, 1], start=start))
        assert [states[shard].state_hash() for shard in range(2)] == ends


def test_a_replay_resumes_exactly_behind_any_ordinals_and_stops_before_its_end(
    remote: RemoteHistory, feed: Feed
) -> None:
    end = START_NS + 200 * 10**9
    states = _played(replay(remote, "feed", 1, [0, 1], after={0: 777, 1: 1234}, end=end))
    for shard in range(2):
        times = feed.of_shard(shard)["ts_recv"]
        assert states[shard].ordinal == feed.last[shard] - int((times >= np.uint64(end)).sum())
