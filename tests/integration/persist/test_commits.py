"""A commit and the disk: what is not durable is not told, and a failure is mended by starting from the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from services.persist.local import LocalHistory
from services.persist.writer import FeedWriter
from shared.broker import Broker
from shared.errors import StoreError
from tests.support.mbo import random_rows
from tests.support.recording import COMMIT_FAILS, Feed, drain, finishes, writer


@pytest.fixture
def feed(broker: Broker) -> Feed:
    made = Feed(broker)
    made.records(random_rows(1000))
    return made


@pytest.fixture
def recorder(feed: Feed, broker_url: str, prefix: str, tmp_path: Path) -> Iterator[FeedWriter]:
    made = writer(broker_url, prefix, tmp_path)
    made.open()
    yield made
    made.close()


def store_of(recorder: FeedWriter) -> sqlite3.Connection:
    assert recorder.store is not None
    return recorder.store.db


def test_an_offset_is_reported_once_the_disk_has_it_and_reading_goes_on_meanwhile(
    feed: Feed, recorder: FeedWriter, tmp_path: Path
) -> None:
    while recorder.poll():
        pass
    recorder.commit()
    assert feed.position(0) is None
    feed.records(random_rows(500, seed=9))
    assert recorder.poll() == 500
    assert recorder.settle() is not None
    assert (feed.position(0), recorder.recorded, recorder.records) == ("1-1001", 1000, 1500)
    assert recorder.settle() is None
    finishes(recorder, tmp_path, feed)


def test_nothing_is_acknowledged_that_is_not_stored(feed: Feed, recorder: FeedWriter, tmp_path: Path) -> None:
    """A failing transaction leaves the offset in the broker where the file's is, and a restart loses nothing."""
    drain(recorder)
    acknowledged = feed.position(0)
    feed.records(random_rows(500, seed=9))
    recorder.poll()
    store_of(recorder).execute(
        "CREATE TRIGGER full BEFORE UPDATE ON offset BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    with pytest.raises(StoreError, match="full"):
        recorder.commit()
    assert feed.position(0) == acknowledged
    store_of(recorder).execute("DROP TRIGGER full")
    finishes(recorder, tmp_path, feed)


def test_a_commit_that_fails_at_its_very_end_is_not_reported(
    feed: Feed, recorder: FeedWriter, tmp_path: Path
) -> None:
    store_of(recorder).executescript(COMMIT_FAILS)
    recorder.poll()
    recorder.commit()
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        recorder.settle()
    assert feed.position(0) is None
    store_of(recorder).execute("DROP TRIGGER late")
    finishes(recorder, tmp_path, feed)


def test_a_full_disk_stores_nothing_of_the_commit_and_goes_on_once_there_is_room(
    feed: Feed, recorder: FeedWriter, tmp_path: Path
) -> None:
    drain(recorder)
    acknowledged = feed.position(0)
    feed.records(random_rows(5000, seed=9))
    recorder.poll()
    pages = store_of(recorder).execute("PRAGMA page_count").fetchone()[0]
    # SQLite then fails as it does on a full disk
    store_of(recorder).execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreError, match="disk is full") as caught:
        recorder.commit()
    assert (caught.value.facts["why"], feed.position(0)) == ("full", acknowledged)
    recorder.close()
    assert LocalHistory(tmp_path).sessions("feed")[0].records == 1000
    finishes(recorder, tmp_path, feed)


def test_what_a_closed_writer_had_made_durable_counts_as_recorded(feed: Feed, recorder: FeedWriter) -> None:
    while recorder.poll():
        pass
    recorder.commit()
    recorder.close()
    assert (recorder.recorded, recorder.records) == (1000, 1000)


def test_a_stored_image_of_which_a_byte_has_changed_is_a_store_error(
    broker: Broker, broker_url: str, prefix: str, tmp_path: Path
) -> None:
    """It ended the service, or in the image's header went unseen."""
    Feed(broker).records(random_rows(3000))
    recorder = writer(broker_url, prefix, tmp_path, block_rows=200, image_records=500)
    recorder.open()
    drain(recorder)
    (body,) = store_of(recorder).execute("SELECT body FROM image ORDER BY ordinal DESC LIMIT 1").fetchone()
    plain = zstandard.ZstdDecompressor().decompress(body)
    assert zstandard.get_frame_parameters(body).has_checksum
    damaged = plain[:-9] + bytes((plain[-9] ^ 1,)) + plain[-8:]
    store_of(recorder).execute("UPDATE image SET body=?", (zstandard.ZstdCompressor().compress(damaged),))
    recorder.close()
    again = writer(broker_url, prefix, tmp_path, block_rows=200, image_records=500)
    try:
        with pytest.raises(StoreError, match=r"image at [0-9]+ is damaged"):
            again.open()
    finally:
        again.close()
