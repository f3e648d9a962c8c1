"""Recorded data over REST and replay says what happened: against the same records applied by the reference engine."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from services.__main__ import dispatch
from services.persist.process import ReaderProcess
from services.persist.retention import DAY_NS, Retention
from services.persist.settings import PersistSettings
from services.persist.store import Store, store_path
from shared.broker import Broker
from shared.errors import UsageError
from shared.orderbook.shard import ShardState
from shared.records import MBO, Rows
from shared.units import F_LAST, PX_SCALE, px_to_str
from shared.wire import schemas
from tests.support import eventually, recording
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import START_NS as WHOLE_NS
from tests.support.sse import TRUST, Stream, blocks, book_sides, fold

PREFIX = "recall."
START_NS = WHOLE_NS + 123_456_789  # a recording seldom begins on a second
COUNT = 3000
STEP_NS = 50_000_000


def market(seed: int = 7) -> Rows:
    """Orders of two instruments that come, change, trade and go over 150 s."""
    rng = np.random.default_rng(seed)
    out = np.zeros(COUNT, MBO)
    out["length"], out["rtype"], out["publisher_id"] = MBO.itemsize // 4, 160, 1
    out["instrument_id"] = rng.integers(1, 3, COUNT)
    out["order_id"] = rng.integers(1, 400, COUNT)
    out["side"] = np.where(out["order_id"] % 2, ord("B"), ord("A"))
    out["price"] = (1000 + np.where(out["order_id"] % 2, -1, 1) * rng.integers(1, 20, COUNT)) * (
        PX_SCALE // 10
    )
    out["size"] = rng.integers(1, 9, COUNT)
    out["action"] = rng.choice(np.frombuffer(b"AAAMCTT", np.uint8), COUNT)
    out["flags"] = rng.choice(np.array([0, F_LAST, F_LAST], np.uint8), COUNT)
    out["ts_recv"] = START_NS + np.arange(COUNT) * STEP_NS
    out["ts_event"] = out["ts_recv"] - 1000
    out["sequence"] = np.arange(COUNT)
    return out


class World:
    """A recorded session, a reader of it and a gateway."""

    def __init__(self, feed: Feed, records: Rows, gateway: Gateway) -> None:
        self.feed, self.records, self.gateway = feed, records, gateway
        self.first = 4  # ordinal of the first record, behind begin and two mappings

    def state_at(self, ts: int) -> ShardState:
        """The shard after every record with ts_recv ≤ ts, by the reference engine."""
        state = ShardState("uncross", kind="reference")
        state.engine.apply(self.records[self.records["ts_recv"] <= ts], self.first)
        return state

    def sides_at(self, ts: int) -> dict[str, dict[str, tuple[int, int]]]:
        view = self.state_at(ts).engine.view(1, 1)
        return {
            name: {px_to_str(px): (size, count) for px, size, count in side}
            for name, side in zip(("bids", "asks"), view, strict=True)
        }

    def mine(self) -> Rows:
        found: Rows = self.records[self.records["instrument_id"] == 1]
        return found

    def pages(self, path: str) -> list[Any]:
        rows: list[Any] = []
        after = ""
        while True:
            page = self.gateway.json(f"{path}&after={after}" if after else path)
            rows += page["rows"]
            after = page["next"]
            if not after:
                return rows

    def replay(self, query: str) -> list[Any]:
        with httpx.Client(timeout=60, verify=TRUST) as client:
            answer = client.get(f"{self.gateway.url}/v1/replay?symbols=ONE&{query}")
        assert answer.status_code == 200, answer.text
        events = list(blocks(answer.text))
        for event in events[:50] + events[-50:]:
            schemas.validator(event.name).validate(event.data)
        assert events[-1].data["reason"] == "replayed"
        hello = next(event.data for event in events if event.name == "hello")
        assert events[-1].data["recorded"] == {view["view"]: self.feed.ordinals[0] for view in hello["views"]}
        return events


@contextlib.contextmanager
def served(broker: Broker, feed: Feed, data: Path, **cadence: Any) -> Iterator[Gateway]:
    """What the feed has written, recorded, with its reader and a gateway."""
    prefix = broker.keys.prefix
    writer = recording.writer(broker.url, prefix, data, feed.name, **{"image_records": 800, **cadence})
    writer.open()
    writer.read_count = 1  # images lie between two passes
    recording.drain(writer)
    writer.close()
    reader = ReaderProcess(PersistSettings(broker=broker.url, prefix=prefix, data=str(data)))
    reader.watch()
    with Gateway(broker.url, prefix) as gateway:
        gateway.caught_up(feed)
        eventually(lambda: broker.hash(broker.keys.history), timeout_s=60)
        eventually(lambda: gateway.get("/v1/days").json()["days"], timeout_s=60)
        yield gateway
    reader.close()


@pytest.fixture(scope="module")
def world(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    broker = Broker(broker_url, PREFIX, name="test")
    feed = Feed(broker, symbols={1: "ONE", 2: "TWO"})
    records = market()
    for start in range(0, COUNT, 250):
        feed.records(records[start : start + 250])
    with served(broker, feed, tmp_path_factory.mktemp("recall")) as gateway:
        yield World(feed, records, gateway)
    broker.close()


@pytest.mark.parametrize("index", [0, 37, 1499, 2998, 2999])
def test_the_book_at_an_instant_is_that_of_the_records_until_then(world: World, index: int) -> None:
    ts = START_NS + index * STEP_NS
    for at in (ts, ts + STEP_NS - 1):
        body = world.gateway.json(f"/v1/book/ONE?depth=all&at={at}")
        schemas.validator("book").validate(body)
        assert book_sides(body) == world.sides_at(ts)
    orders = world.gateway.json(f"/v1/book/ONE?level=3&at={ts}")
    schemas.validator("book").validate(orders)
    for query, whole in (f"&at={ts}", orders), ("", world.gateway.json("/v1/book/ONE?level=3")):
        top = world.gateway.json(f"/v1/book/ONE?level=3&depth=2{query}")
        assert (top["bids"], top["asks"]) == (whole["bids"][:2], whole["asks"][:2])
    engine = world.state_at(ts).engine
    found = [int(order[0]) for side in ("bids", "asks") for _, queue in orders[side] for order in queue]
    assert found == [order.order_id for side in (ord("B"), ord("A")) for order in engine.orders(1, 1, side)]


def test_the_command_line_shows_the_book_at_an_instant(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    at = START_NS + 1499 * STEP_NS
    for options, query in ([], "depth=10"), (["--orders", "--depth", "3"], "level=3&depth=3"):
        assert dispatch(["watch", "ONE", "--url", world.gateway.url, "--at", str(at), *options]) == 0
        assert json.loads(capsys.readouterr().out) == world.gateway.json(f"/v1/book/ONE?at={at}&{query}")
    with pytest.raises(UsageError, match="/v1/days"):
        dispatch(["watch", "ONE", "--url", world.gateway.url, "--at", "1"])


def test_before_the_recording_there_is_nothing(world: World) -> None:
    answer = world.gateway.get(f"/v1/book/ONE?at={START_NS - 1}")
    assert answer.status_code == 404
    assert "/v1/days" in answer.json()["detail"]


def test_pages_of_history_join_to_everything_in_order(world: World) -> None:
    mine = world.mine()
    rows = world.pages("/v1/history/ONE/mbo?limit=333")
    assert [row[10] for row in rows] == mine["sequence"].tolist()
    assert [row[6] for row in rows] == [str(n) for n in mine["order_id"].tolist()]
    trades = world.pages("/v1/history/ONE/trades?limit=50")
    wanted = mine[(mine["action"] == ord("T"))]
    assert [row["sequence"] for row in trades] == wanted["sequence"].tolist()
    cut = world.pages(f"/v1/history/ONE/mbo?limit=100&start={START_NS + 10**9}&end={START_NS + 2 * 10**9}")
    inside = mine[(mine["ts_recv"] >= START_NS + 10**9) & (mine["ts_recv"] < START_NS + 2 * 10**9)]
    assert [row[10] for row in cut] == inside["sequence"].tolist()
    bbo = world.pages("/v1/history/ONE/bbo?limit=100")
    ordinals = [row["ordinal"] for row in bbo]
    assert ordinals == sorted(set(ordinals))
    for period in ("1s", "1m"):
        bars = world.pages(f"/v1/history/ONE/bars?period={period}&limit=7")
        assert sum(bar["volume"] for bar in bars) == int(wanted["size"].sum())
    for path, name in (
        ("mbo", "history-mbo"),
        ("trades", "history-trades"),
        ("bbo", "history-bbo"),
        ("bars", "history-bars"),
    ):
        schemas.validator(name).validate(world.gateway.json(f"/v1/history/ONE/{path}?limit=5"))


def test_calendar_and_activity_count_what_is_there(world: World) -> None:
    days = world.gateway.json("/v1/days")
    schemas.validator("days").validate(days)
    assert sum(day["records"] for day in days["days"]) == COUNT
    assert world.gateway.json("/v1/days?symbol=ONE")["days"]
    assert world.gateway.get("/v1/days?symbol=NOPE").status_code == 404
    activity = world.gateway.json("/v1/history/ONE/activity?buckets=20")
    schemas.validator("activity").validate(activity)
    trades = world.mine()[world.mine()["action"] == ord("T")]
    assert sum(row[2] for row in activity["rows"]) == len(trades)
    assert sum(row[3] for row in activity["rows"]) == int(trades["size"].sum())
    listed = eventually(
        lambda: [row for row in world.gateway.json("/v1/instruments")["instruments"] if row["first"]],
        timeout_s=40,
    )
    assert {row["symbol"] for row in listed} == {"ONE", "TWO"}


def test_a_replay_from_the_start_ends_with_the_live_book(world: World) -> None:
    events = world.replay("channels=book,bbo,trades&depth=all&speed=max")
    (view,) = fold(events).values()
    assert {side: view[side] for side in ("bids", "asks")} == book_sides(
        world.gateway.json("/v1/book/ONE?depth=all")
    )
    trades = [event.data["sequence"] for event in events if event.name == "trade"]
    mine = world.mine()
    ended = mine[: np.flatnonzero(mine["flags"] & F_LAST)[-1] + 1]
    assert trades == ended[ended["action"] == ord("T")]["sequence"].tolist()
    deltas = [event.data for event in events if event.name == "delta"]
    assert [d["q"] for d in deltas[:-1]] == [d["p"] for d in deltas[1:]]
    assert [int(d["ts_recv"]) for d in deltas] == sorted(int(d["ts_recv"]) for d in deltas)


def test_a_replay_from_an_instant_begins_with_the_rebuilt_book(world: World) -> None:
    start = START_NS + 1000 * STEP_NS
    events = world.replay(f"channels=book,mbo&depth=all&speed=max&start={start}&end={start + 100 * STEP_NS}")
    snapshot = next(e.data for e in events if e.name == "snapshot" and e.data["channel"] == "book")
    assert book_sides(snapshot) == world.sides_at(start - 1)
    view = next(view for name, view in fold(events).items() if name.startswith("book"))
    assert {side: view[side] for side in ("bids", "asks")} == world.sides_at(start + 99 * STEP_NS)
    records = [row[9] for e in events if e.name == "mbo" for row in e.data["rows"]]
    assert records
    assert set(records) <= set(world.mine()["sequence"].tolist())


def test_a_replay_of_orders_from_the_start_has_every_record(world: World) -> None:
    events = world.replay("channels=mbo&speed=max")
    assert [e.data["bids"] for e in events if e.name == "snapshot"] == [[]]
    batches = [e.data for e in events if e.name == "mbo"]
    assert [b["q"] for b in batches[:-1]] == [b["p"] for b in batches[1:]]
    mine = world.mine()
    ended = mine[: np.flatnonzero(mine["flags"] & F_LAST)[-1] + 1]
    assert [row[9] for b in batches for row in b["rows"]] == ended["sequence"].tolist()


@pytest.mark.parametrize("start", ["", f"&start={START_NS - 10**15}"])
def test_a_paced_replay_begins_with_the_first_record(world: World, start: str) -> None:
    events = world.replay(f"channels=trades&speed=1000{start}&end={START_NS + 1000 * STEP_NS}")
    assert [event for event in events if event.name == "trade"]


@pytest.mark.parametrize("speed", ["max", "2000"])
def test_a_replay_resumed_by_any_of_its_ids_misses_and_repeats_nothing(world: World, speed: str) -> None:
    query = f"symbols=ONE&channels=book,trades,mbo&depth=all&speed={speed}"
    whole = Stream(world.gateway.url, query, path="/v1/replay")
    whole.first("bye")
    wanted = [(view["bids"], view["asks"]) for view in fold(whole.events).values()]
    for before, last_id in [whole.marks[0], *whole.marks[3::10], whole.marks[-1]]:
        rest = Stream(world.gateway.url, query, path="/v1/replay", last_id=last_id)
        rest.first("bye")
        views = {view["channel"]: view["resumed"] for view in rest.first("hello")["views"]}
        assert views == {"book": False, "trades": True, "mbo": True}
        assert rest.all("trade") == [e.data for e in whole.events[before:] if e.name == "trade"]
        rows = [row for batch in rest.all("mbo") for row in batch["rows"]]
        assert rows == [row for e in whole.events[before:] if e.name == "mbo" for row in e.data["rows"]]
        found = fold([*whole.events[:before], *rest.events])
        assert [(v["bids"], v["asks"]) for v in found.values()] == wanted
        rest.close()
    whole.close()


def test_a_replay_with_an_id_of_no_recording_begins_anew(world: World) -> None:
    events = world.replay("channels=trades&speed=max&last_event_id=garbage")
    other = world.replay(f"channels=trades&speed=max&last_event_id={world.feed.name}:1:0.99999")
    assert events[1:] == other[1:]
    assert not any(view["resumed"] for view in events[0].data["views"])


def test_a_conflated_replay_gives_the_book_at_the_end_of_each_interval_and_of_all(world: World) -> None:
    interval = 3 * STEP_NS
    events = world.replay(f"channels=book&depth=all&speed=max&interval={interval // 1_000_000}")
    deltas = [index for index, event in enumerate(events) if event.name == "delta"]
    times = [int(events[index].data["ts_recv"]) // interval for index in deltas]
    assert len(times) > COUNT // 10
    assert all(a < b for a, b in itertools.pairwise(times))  # one an interval: none spans two
    for index, k in [*list(zip(deltas, times, strict=True))[::60], (deltas[-1], times[-1])]:
        (view,) = fold(events[: index + 1]).values()
        assert {side: view[side] for side in ("bids", "asks")} == world.sides_at((k + 1) * interval - 1)


def test_a_replay_is_paced_by_market_time_and_ends_when_its_client_leaves(world: World) -> None:
    stream = Stream(
        world.gateway.url, f"symbols=ONE&channels=trades&speed=1000&start={START_NS}", path="/v1/replay"
    )
    stream.first("trade")
    stream.close()
    eventually(lambda: not world.gateway.service.limits.recalls)


def test_an_export_has_every_record(world: World) -> None:
    answer = world.gateway.get("/v1/export/ONE?schema=mbo&format=csv")
    assert answer.status_code == 200, answer.text
    assert "ONE.mbo.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["sequence"]) for row in rows] == world.mine()["sequence"].tolist()
    assert len(world.gateway.get("/v1/export/ONE?schema=mbo&format=dbn").content) > len(world.mine()) * 56
    head = httpx.head(f"{world.gateway.url}/v1/export/ONE?schema=mbo&format=csv", verify=TRUST)
    assert head.headers["content-disposition"] == answer.headers["content-disposition"]
    assert "content-length" not in head.headers, "it is not known before all is read"


def test_what_is_not_recorded_is_a_problem(world: World) -> None:
    for path in (
        "/v1/history/NOPE/trades",
        "/v1/history/ONE/trades?session=9",
        "/v1/export/NOPE",
        "/v1/replay?symbols=NOPE",
    ):
        answer = world.gateway.get(path)
        assert answer.status_code == 404, (path, answer.text)
        schemas.validator("problem").validate(answer.json())
    assert world.gateway.get("/v1/history/ONE/trades?after=x").status_code == 400


def test_a_recall_process_that_dies_is_started_again(world: World) -> None:
    process = world.gateway.service.recaller._worker._process
    assert process is not None
    process.kill()
    process.wait()
    eventually(lambda: world.gateway.get("/v1/days").status_code == 200)


def test_live_is_not_touched_by_many_recalls(world: World) -> None:
    limits = world.gateway.service.limits
    leases = [
        limits.recall(world.gateway.service.access.principal({"headers": []}), "127.0.0.1") for _ in range(4)
    ]
    assert world.gateway.get("/v1/days").status_code == 429
    assert world.gateway.get("/v1/book/ONE").status_code == 200
    for lease in leases:
        assert lease is not None
        lease.release()
    assert world.gateway.get("/v1/days").status_code == 200


def test_a_symbol_is_that_instrument_only_whatever_its_id_was_before(broker_url: str, tmp_path: Path) -> None:
    broker = Broker(broker_url, "rolled.", name="test")
    spread = "UD:1V: GN 2533155"  # CME names user-defined spreads so
    feed = Feed(broker, symbols={5: spread})
    made = market()[:600]
    made["instrument_id"] = 5
    made["flags"][[199, 399]] = F_LAST  # an unfinished event goes with its symbol
    feed.records(made[:200])
    feed.control({"type": "mapping", "instrument_id": 5, "symbol": "NEW"})
    feed.records(made[200:400])
    feed.begin({5: "OTHER", 6: "NEW"})
    made["instrument_id"][400:] = 6
    feed.records(made[400:])
    with served(broker, feed, tmp_path) as gateway:

        def sequences(query: str) -> list[int]:
            found: list[int] = []
            after: str | None = ""
            while after is not None:
                page = gateway.json(f"/v1/history/NEW/mbo?limit=77&{query}&after={after}")
                found += [row[10] for row in page["rows"]]
                after = page["next"]
            return found

        assert sequences("") == made["sequence"][400:].tolist()
        assert sequences("session=1") == made["sequence"][200:400].tolist()
        assert sequences("session=all") == made["sequence"][200:].tolist()
        lines = gateway.get("/v1/export/NEW?schema=mbo&format=json&session=all").text.splitlines()
        assert [json.loads(line)["sequence"] for line in lines] == made["sequence"][200:].tolist()
        assert gateway.get("/v1/history/OTHER/mbo?session=1").status_code == 404
        for symbol, records in ((spread, made[:200]), ("NEW", made[200:400])):
            bars = gateway.json(f"/v1/history/{symbol}/bars?session=1")["rows"]
            assert sum(bar["volume"] for bar in bars) == int(
                records["size"][records["action"] == ord("T")].sum()
            )
        assert gateway.get(f"/v1/history/TEST.FEED:{spread}/mbo?session=1&limit=5").status_code == 200
        answer = gateway.get(f"/v1/history/{spread}/mbo")
        assert (answer.status_code, "session=1" in answer.json()["detail"]) == (404, True)
        assert gateway.get("/v1/history/OTHER/mbo").json()["rows"] == []
    broker.close()


def test_a_page_whose_follower_was_removed_by_retention_is_not_followed_by_a_later_one(
    broker_url: str, tmp_path: Path
) -> None:
    broker = Broker(broker_url, "overtaken.", name="test")
    feed = Feed(broker, symbols={1: "ONE", 2: "TWO"})
    records = market()
    records["ts_recv"] = START_NS + np.arange(COUNT) * (DAY_NS // 100)  # thirty days
    for start in range(0, COUNT, 250):
        feed.records(records[start : start + 250])
    with served(broker, feed, tmp_path, block_rows=100) as gateway:
        paths = [f"/v1/history/ONE/{kind}?limit=20" for kind in ("mbo", "bbo", "trades", "bars")]
        pages = {path: gateway.json(path)["next"] for path in paths}
        store = Store(store_path(tmp_path, feed.name))
        retention = Retention(store.path, keep_days=5, keep_bytes=0)
        assert retention.step(store.db, 0.0) > COUNT // 2
        store.close()
        for path, follow in pages.items():
            answer = gateway.get(f"{path}&after={follow}")
            assert (answer.status_code, "retention" in answer.json().get("detail", "")) == (404, True), path
    broker.close()
