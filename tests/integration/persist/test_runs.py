"""Which run a session is recorded in: a new one, or one that is there already."""

from __future__ import annotations

from pathlib import Path

from services.persist.local import LocalHistory
from shared.broker import Broker
from tests.support.mbo import random_rows
from tests.support.recording import Feed, assert_stored, drain, writer


def test_a_new_session_is_a_new_run_and_both_are_kept(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    first, second = random_rows(1500, seed=1), random_rows(2500, seed=2)
    one = Feed(broker, shards=2, identity="a")
    one.records(first)
    one.end()
    two = Feed(broker, shards=2, session=2, identity="b", began=99)
    two.records(second)
    recorder = writer(broker_url, prefix, tmp_path, block_rows=400)
    recorder.open()
    drain(recorder)
    recorder.close()
    history = LocalHistory(tmp_path)
    assert_stored(history, one, 1)
    assert_stored(history, two, 2)
    assert [(info.session, info.state) for info in history.sessions("feed")] == [(1, "ended"), (2, "open")]


def test_a_broker_that_lost_everything_begins_a_new_run_under_the_same_number(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    one = Feed(broker, identity="a", began=5)
    one.records(random_rows(900))
    recorder = writer(broker_url, prefix, tmp_path, block_rows=400)
    recorder.open()
    drain(recorder)
    assert not recorder.told.is_lost()
    for name in ("in", "pos"):
        broker.call("DEL", one.stream(0, name))
    assert recorder.told.is_lost()
    recorder.close()
    two = Feed(broker, identity="a", began=6)
    two.records(random_rows(300, seed=4))
    recorder.open()
    drain(recorder)
    recorder.close()
    history = LocalHistory(tmp_path)
    assert [(info.run, info.session, info.records) for info in history.sessions("feed")] == [
        (1, 1, 900),
        (2, 1, 300),
    ]
    assert_stored(history, one, 1)
    assert_stored(history, two, 2)
    assert history.pick("feed", 1).run == 2


def test_a_file_that_comes_again_after_the_broker_lost_everything_is_stored_once(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    records = random_rows(900)
    recorder = writer(broker_url, prefix, tmp_path, block_rows=400)
    for began, policy, count in ((5, "raw", 600), (6, "raw", 900), (7, "execute", 900)):
        feed = Feed(broker, identity="a", began=began, kind="file", policy=policy)
        feed.records(records[:count])
        recorder.open()
        drain(recorder)
        for name in ("in", "pos"):
            broker.call("DEL", feed.stream(0, name))
        assert recorder.told.is_lost()
        recorder.close()
    history = LocalHistory(tmp_path)
    sessions = [(info.run, info.policy, info.records) for info in history.sessions("feed")]
    assert sessions == [(1, "raw", 900), (2, "execute", 900)]
    assert_stored(history, feed, 2)


def test_a_persister_that_opens_before_anything_has_begun_again_takes_nothing_for_its_own(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    recorder = writer(broker_url, prefix, tmp_path, block_rows=400)
    for began, seed in ((5, 1), (6, 2)):
        feed = Feed(broker, identity="a", began=began)
        begin, name = broker.call("XRANGE", feed.stream(0, "in"), "-", "+")[0], feed.stream(0, "in")
        broker.call("DEL", name)
        recorder.open()
        broker.call("XADD", name, begin[0], *begin[1])
        feed.records(random_rows(300, seed=seed))
        drain(recorder)
        for name in ("in", "pos"):
            broker.call("DEL", feed.stream(0, name))
        recorder.close()
    history = LocalHistory(tmp_path)
    assert [(info.run, info.records) for info in history.sessions("feed")] == [(1, 300), (2, 300)]
    assert_stored(history, feed, 2)
