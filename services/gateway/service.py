"""The gateway's service: discovery runs in the main thread; reader, hub and HTTP share the loop of another."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Coroutine
from typing import Any

import numpy as np

from services.gateway import close_codes
from services.gateway.app import App
from services.gateway.auth import Access
from services.gateway.context import Context
from services.gateway.discovery import Discovery
from services.gateway.http import Http, within_files
from services.gateway.hub import Hub
from services.gateway.keyring import Keyring
from services.gateway.limits import Limits
from services.gateway.loading import engine_kind
from services.gateway.pipeline import Pipeline
from services.gateway.reader import Reader
from services.gateway.recall import Recaller
from services.gateway.resume import Resumer
from services.gateway.settings import GatewaySettings
from services.gateway.sse import StreamEndpoint
from shared import logs, metrics
from shared.broker import Broker
from shared.errors import MboError
from shared.orderbook.levels import LevelBooks
from shared.orderbook.shard import ShardState
from shared.records import MBO
from shared.units import F_LAST

log = logs.get("gateway")

SWITCH_S = 0.0005  # discovery must not hold the interpreter for 5 ms while clients wait
DRAIN_POLL_S = 0.02
DRAIN_WITHIN_S = 20.0


class GatewayService:
    """See shared.runner.Service."""

    role = "gateway"

    def __init__(self, config: GatewaySettings) -> None:
        self.config = config = within_files(config)
        self.name = f"gw-{secrets.token_hex(3)}"
        metrics.zero("mbo_gateway_")
        self.hub = Hub(config, self.name)
        self.access = Access(config)
        self.limits = Limits(config)
        self.keyring = Keyring(self._connect, self.access, self.hub)
        self.reader = Reader(self._connect(), self.hub.state, self.hub.take)
        self.discovery = Discovery(self._connect(), config, self.reader)
        self.recaller = Recaller(config, self.limits)
        self.resumer = Resumer(self._connect, config, self.recaller.events)
        self.context = Context(
            config,
            self.hub,
            self.access,
            self.limits,
            Pipeline(self._connect, self.hub.state, self.name),
            self.recaller,
            self._connect,
        )
        endpoint = StreamEndpoint(self.hub, self.access, self.limits, self.resumer)
        self.http = Http(config, App(self.context, endpoint), self._tasks)
        self.admin_routes = {"/drain": self.drained}
        metrics.get("mbo_gateway_limit_clients").set(config.max_streams)
        metrics.get("mbo_gateway_limit_connections").set(config.max_connections)
        self._started = False
        self._ended = False
        self._measured = 0.0

    def _connect(self) -> Broker:
        return Broker(
            self.config.broker, self.config.prefix, name="gateway", password=self.config.broker_password()
        )

    def _tasks(self) -> list[Coroutine[Any, Any, None]]:
        return [self.hub.run(), self.reader.run(), self.keyring.run(), self.recaller.run(self.context)]

    # -- shared.runner.Service -----------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self._started:
            sys.setswitchinterval(SWITCH_S)
            self.keyring.refresh()
            self.access.check_start()
            warm()
            self.http.start()
            self._started = True
            log.info("serving", address=self.http.address)
        assert self.http.loop is not None
        self.reader.start(self.http.loop)
        self.discovery.start()
        self.hub.accepting = not self.hub.draining

    def step(self) -> bool:
        self.discovery.step()
        if self.http.failure is not None:
            raise MboError(f"the HTTP side failed: {type(self.http.failure).__name__}: {self.http.failure}")
        now = time.monotonic()
        if now - self._measured >= 1.0:
            self._measured = now
            self._measure(now)
        return not self._ended

    def _measure(self, now: float) -> None:
        ages: dict[str, float] = {}
        stale: dict[str, int] = {}
        late: dict[str, float] = {}
        for key, books in list(self.hub.state.books.items()):
            ages[key.feed] = min(ages.get(key.feed, now), now - books.arrived)
            stale[key.feed] = stale.get(key.feed, 0) + (books.stale or books.gap)
            behind_ns = (
                time.time_ns() - books.stamps[2] if self.discovery.lag.get(key) and books.stamps[2] else 0
            )
            late[key.feed] = max(late.get(key.feed, 0.0), behind_ns / 1e9)
        for feed, age in ages.items():
            metrics.get("mbo_gateway_lag_seconds").labels(feed).set(late[feed])
            metrics.get("mbo_gateway_data_age_seconds").labels(feed).set(age)
            metrics.get("mbo_gateway_stale_shards").labels(feed).set(stale[feed])
        metrics.get("mbo_gateway_topics").set(len(self.hub.roster.topics))
        metrics.get("mbo_gateway_connections").set(self.http.connections)

    def facts(self) -> dict[str, Any]:
        books = dict(self.hub.state.books)
        arrived = max((each.arrived for each in books.values()), default=0.0)
        stale = [f"{key.feed}:{key.shard:02d}" for key, each in books.items() if each.stale or each.gap]
        return {
            "address": self.http.address, "clients": len(self.hub.clients),
            "data_age_ms": round((time.monotonic() - arrived) * 1000) if arrived else None,
            "lag": sum(self.discovery.lag.values()), "stale_shards": stale, "feeds": sorted(self.discovery.feeds),
        }  # fmt: skip

    def reset(self) -> None:
        """The broker was lost: what is folded stays, `start` goes on from there."""
        self.discovery.broker.close()

    def drain(self) -> None:
        """Say goodbye, spread over `drain_spread_s`; `ended` if every feed has ended, else `drain`."""
        if not self._started:
            return  # stopped while starting: there is nobody to say it to
        ended = bool(self.discovery.feeds) and self._all_ended()
        bye = close_codes.ENDED if ended else close_codes.DRAIN
        spread = 0.0 if ended else self.config.drain_spread_s
        try:
            self.http.submit(self.hub.goodbye(bye, spread), spread + 5.0)
        except (TimeoutError, RuntimeError) as error:
            log.warning("drain not complete", detail=str(error))

    def close(self) -> None:
        self.http.stop()
        self.recaller.close()
        self.resumer.close()
        self.keyring.close()
        self.context.pipeline.close()
        self.discovery.broker.close()
        self.reader.broker.close()

    # -- the launcher's drain ------------------------------------------------------------------------------------------

    def _all_ended(self) -> bool:
        return all(books.ended for books in list(self.hub.state.books.values()))

    def _caught_up(self) -> bool:
        """Everything committed is read, folded and written."""
        books = self.hub.state.books
        folded = all(
            key in books and books[key].ordinal == at[1] for key, at in list(self.reader.out.items())
        )
        return folded and self._all_ended() and not any(list(self.discovery.lag.values()))

    def drained(self) -> tuple[int, dict[str, Any]]:
        """`POST /drain` on the admin port: once everything is folded and sent, `bye: ended`; the process then ends."""
        deadline, before = time.monotonic() + DRAIN_WITHIN_S, self.discovery.measures
        self.discovery.hurry()
        while time.monotonic() < deadline and not (self.discovery.measures > before and self._caught_up()):
            time.sleep(DRAIN_POLL_S)
            if self.discovery.measures > before:
                self.discovery.hurry()
        ended = self._all_ended()
        clients = len(self.hub.clients)
        self.http.submit(self.hub.goodbye(close_codes.ENDED if ended else close_codes.DRAIN, 0.0), 10.0)
        self._ended = True
        return (200 if ended else 503), {"ended": ended, "clients": clients}


def warm() -> None:
    """Compile or load the kernels now: the first record of a session must not stall live streams for seconds."""
    state = ShardState(kind=engine_kind())
    record = np.zeros(1, MBO)
    record["action"], record["side"], record["flags"], record["size"] = ord("A"), ord("B"), F_LAST, 1
    LevelBooks().fold(state.engine.apply(record, 1, effects=True).levels)
