"""Bring a shard's books to its committed offset: start-up, take-over and recovery are this one path."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from services.book.settings import BookSettings
from shared import images, logs, metrics
from shared.broker import Broker
from shared.errors import Gap, ImageError, WireError
from shared.history_client import Directory, HistoryError
from shared.orderbook.engine import Policy
from shared.orderbook.shard import ShardState
from shared.wire.codec import InEntry, decode_in
from shared.wire.keys import parse_id, stream_id
from shared.wire.reading import follow, join, until

log = logs.get("book")

PAGE_ENTRIES = 256  # of a round trip
HEARTBEAT_S = 0.1


def recover(
    broker: Broker,
    settings: BookSettings,
    feed: str,
    shard: int,
    policy: Policy,
    heartbeat: Callable[[], None],
) -> tuple[ShardState, str]:
    """The state at the committed offset of a shard, and the offset of the image it came from ("": none).

    Newest good image, then the stream, silently. `heartbeat` is called all the while: a lease may be shorter than this.
    If neither reaches (no image, and the stream trimmed), from what persist has stored; without that the shard is stale
    from here on and says so.
    """
    committed = parse_id(broker.call("HGET", broker.keys.shard(feed, shard, "pos"), "book") or b"0-0")
    found = metrics.get("mbo_book_recoveries_total")
    for pointer in images.pointers(broker, feed, shard):
        try:
            state = images.load(broker, pointer, settings.engine)
        except ImageError as error:
            log.warning("image refused", feed=feed, shard=shard, detail=str(error))
            metrics.get("mbo_book_images_total").labels(feed, "refused").inc()
            continue
        if (state.session, state.ordinal) > committed:
            log.warning("image ahead of its offset", feed=feed, shard=shard, offset=pointer["offset"])
            continue
        try:
            replay(broker, state, feed, shard, committed, heartbeat)
        except Gap as gap:
            log.warning("stream does not reach the image", feed=feed, shard=shard, detail=str(gap))
            continue
        found.labels(feed, "image").inc()
        return state, str(pointer["offset"])
    state = ShardState(policy, kind=settings.engine)
    try:
        replay(broker, state, feed, shard, committed, heartbeat)
        found.labels(feed, "stream" if committed > (0, 0) else "begin").inc()
        return state, ""
    except Gap as gap:
        log.warning("stream does not reach its beginning", feed=feed, shard=shard, detail=str(gap))
    try:
        state = from_history(broker, feed, shard, committed, heartbeat)
        found.labels(feed, "history").inc()
    except (HistoryError, ImageError, Gap) as error:
        log.error(
            "books cannot be rebuilt: stale until a snapshot", feed=feed, shard=shard, detail=str(error)
        )
        found.labels(feed, "none").inc()
        state = ShardState(policy, kind=settings.engine)
        state.session, state.ordinal = committed
        state.stale = True
    return state, ""


def from_history(
    broker: Broker, feed: str, shard: int, committed: tuple[int, int], heartbeat: Callable[[], None]
) -> ShardState:
    """The state from persist's store as far as it goes, then from the stream; HistoryError or Gap if that fails."""
    session, ordinal = committed
    history = Directory(broker).history(feed)

    def read() -> ShardState:
        stored = history.pick(feed, session=session)
        return history.state(feed, stored.run, shard, min(stored.offsets[shard], ordinal))

    try:
        with ThreadPoolExecutor(1, thread_name_prefix="history") as pool:
            reading = pool.submit(read)
            while wait([reading], HEARTBEAT_S).not_done:
                heartbeat()
        state = reading.result()
    finally:
        history.close()
    replay(broker, state, feed, shard, committed, heartbeat)
    return state


def replay(
    broker: Broker,
    state: ShardState,
    feed: str,
    shard: int,
    committed: tuple[int, int],
    heartbeat: Callable[[], None],
) -> None:
    """Apply the stream from the state's position to `committed`, publishing nothing; raises Gap."""
    stream = broker.keys.shard(feed, shard, "in")
    at = (state.session, state.ordinal)
    after = stream_id(*at)
    while at < committed:
        heartbeat()
        rows = broker.call("XRANGE", stream, f"({after}", "+", "COUNT", PAGE_ENTRIES)
        if not rows:
            raise Gap(f"the stream ends at {after}, the offset is {stream_id(*committed)}")
        run: list[InEntry] = []  # records that follow each other are applied as one
        for entry_id, fields in rows:
            session = parse_id(entry_id)[0]
            if session > committed[0]:
                raise Gap(f"session {session} begins before the offset {stream_id(*committed)} was reached")
            entry = follow(*at, entry_id, decode_in(fields[1]))
            after = entry_id.decode()
            if entry is None:
                continue
            if session == committed[0]:
                entry = until(entry, committed[1])
            if entry.control is not None:
                _apply(state, run)
                state.apply(entry)
            else:
                run.append(entry)
            if state.session != session:
                raise WireError(
                    f"entry {after} is of session {session}, but no begin came", feed=feed, shard=shard
                )
            at = (session, entry.last)
            if at >= committed:
                break
        _apply(state, run)


def _apply(state: ShardState, run: list[InEntry]) -> None:
    if run:
        state.apply(join(run))
        run.clear()
