"""`GET /v1/stream`: a raw ASGI application outside any middleware; the hub writes to the connection's transport."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import Any
from urllib.parse import parse_qsl

from services.gateway import blocks, close_codes, resume, subscription, vector
from services.gateway.auth import Access
from services.gateway.clients import LAST_CHUNK, Client, Group, chunked
from services.gateway.close_codes import Bye
from services.gateway.hub import Hub
from services.gateway.instruments import Instrument
from services.gateway.limits import Lease, Limits
from services.gateway.principal import Principal
from services.gateway.problems import Problem, bad_parameter, forbidden
from services.gateway.subscription import MAX_QUERY_CHARS, Subscription
from services.gateway.topic import Topic
from services.gateway.vector import Position, ShardKey
from shared import logs, metrics

log = logs.get("gateway")

TCP_NOTSENT_LOWAT = 25
NOTSENT_BYTES = 16_384
ORDERS_WAIT_S = 15.0
AHEAD_WAIT_S = 2.0  # for a client that comes from a gateway further than this one
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def query_of(scope: Any) -> dict[str, str]:
    """The query as a dict; Problem if it is too long, not text, or says a parameter twice."""
    raw: bytes = scope["query_string"]
    if len(raw) > MAX_QUERY_CHARS:
        raise Problem(414, "too-long", "Query too long", f"a query has at most {MAX_QUERY_CHARS} characters")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=64, errors="strict")
    except ValueError:
        raise bad_parameter("query", "not a query of printable text with at most 64 parameters") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise bad_parameter("query", "a parameter is there twice; separate values with commas")
    return found


def header(scope: Any, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


class StreamEndpoint:
    """Joins clients to the hub."""

    def __init__(self, hub: Hub, access: Access, limits: Limits, resumer: resume.Resumer) -> None:
        self.hub, self.access, self.limits, self.resumer = hub, access, limits, resumer

    async def __call__(self, scope: Any, receive: Any, send: Any, extra: list[tuple[bytes, bytes]]) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise Problem(405, "method", "Method not allowed", "use GET", allow="GET, HEAD")
        query = query_of(scope)
        principal = self.access.principal(scope)
        wanted = subscription.parse(query)
        last_id = query.get("last_event_id") or header(scope, b"last-event-id") or ""
        refused = self._refusal(scope, principal)
        instruments: list[Instrument] = []
        lease = None
        if refused is None:
            instruments = self._instruments(wanted, principal)
            if len(instruments) * len(wanted.channels) > self.hub.settings.topics_per_stream:
                raise bad_parameter(
                    "symbols",
                    f"more than {self.hub.settings.topics_per_stream} views a stream: subscribe to less",
                )
            entered = self.limits.enter(principal, ip_of(scope))
            if isinstance(entered, Bye):
                refused = entered
            else:
                lease = entered
        compress = wanted.compress and "deflate" in (header(scope, b"accept-encoding") or "")
        if wanted.compress and not compress:
            wanted = subscription.plain(wanted)
        headers = [
            *HEADERS,
            *extra,
            *([(b"content-encoding", b"deflate")] if compress and refused is None else []),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            if lease is not None:
                lease.release()
            await send({"type": "http.response.body", "body": b""})
            return
        if refused is not None or lease is None:
            refused = refused or close_codes.LIMIT
            metrics.get("mbo_gateway_byes_total").labels(refused.reason).inc()
            await send({"type": "http.response.body", "body": blocks.bye(refused)})
            return
        await self._serve(scope, receive, principal, lease, wanted, instruments, last_id)

    def _refusal(self, scope: Any, principal: Principal) -> Bye | None:
        if not self.hub.accepting:
            return close_codes.DRAIN if self.hub.draining else close_codes.STARTING
        if len(self.hub.clients) >= self.hub.settings.max_streams:
            return close_codes.OVERLOAD
        return None

    def _instruments(self, wanted: Subscription, principal: Principal) -> list[Instrument]:
        found = subscription.resolve(wanted, self.hub.state.directory)
        if wanted.is_all:
            return [i for i in found if all(principal.allows(i.symbol, c) for c in wanted.channels)]
        for instrument in found:
            for channel in wanted.channels:
                if not principal.allows(instrument.symbol, channel):
                    raise forbidden(f"this credential has no access to {channel} of {instrument.symbol}")
        return found

    async def _serve(
        self, scope: Any, receive: Any, principal: Principal, lease: Lease, wanted: Subscription,
        instruments: list[Instrument], last_id: str,
    ) -> None:  # fmt: skip
        transport = scope["mbo.transport"]
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
        now = time.monotonic()
        age = self.hub.settings.max_age_s * random.uniform(0.9, 1.1)  # noqa: S311 - spread, not secret
        expires = min(now + age, principal.expires_monotonic())
        client = Client(transport, principal, lease, now, expires)
        position = vector.said(last_id, self.hub.state.runs)
        try:
            if position and {"mbo", "trades"} & set(wanted.channels):
                await self._until_exact(instruments, position, "mbo" in wanted.channels)
            if transport.is_closing():
                return
            group = self.hub.join(client, wanted, instruments)
            try:
                await self._welcome(client, group, position)
            except Exception as error:  # noqa: BLE001 - a damaged entry, say: it is told, and forgotten as any other
                log.limited("resume failed", detail=f"{type(error).__name__}: {error}")
                self.hub.close(client, close_codes.FAILED)
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            transport.abort()  # the server stops without a drain
        finally:
            self.hub.remove(client)
            lease.release()

    async def _until_exact(
        self, instruments: list[Instrument], position: dict[ShardKey, Position], orders: bool
    ) -> None:
        """Wait until a resume can be exact: this gateway is as far as the client's last one, its orders are loaded."""
        shards = {instrument.key for instrument in instruments}
        started = time.monotonic()
        if orders:
            for key in shards:
                self.hub.state.want_orders(key, started)

        def ready(key: ShardKey, waited: float) -> bool:
            books, at = self.hub.state.books.get(key), position.get(key)
            if books is None or (orders and books.orders is None):
                return False
            return at is None or (books.session, books.ordinal) >= at or waited > AHEAD_WAIT_S

        while (waited := time.monotonic() - started) < ORDERS_WAIT_S:
            if all(ready(key, waited) for key in shards):
                return
            await asyncio.sleep(0.01)

    async def _welcome(self, client: Client, group: Group, position: dict[ShardKey, Position]) -> None:
        """hello, then what each view starts from, then the id; live blocks follow."""
        hub, now_ns = self.hub, time.time_ns()
        expires_ns = now_ns + round((client.expires - time.monotonic()) * 1e9)
        plans = [resume.plan(topic, position) for topic in group.topics]
        group.sent, group.told = group.position(), Topic.starts  # if the next write finds it lagging
        id_block = vector.id_block(group.sent, hub.state.runs)
        slow = [plan for plan in plans if plan.read]
        if slow:
            await self.resumer.read(slow, position)
            now_ns = time.time_ns()
        rows, parts = [], []
        for plan in plans:
            rows.append(plan.topic.announce(plan.resumed, plan.q))
            parts.append(plan.blob if plan.resumed else plan.start)
        if position:
            resumed = sum(plan.resumed for plan in plans)
            how = "exact" if resumed == len(plans) else "partly" if resumed else "anew"
            metrics.get("mbo_gateway_resumes_total").labels(how).inc()
        head = hub.hello(group, rows, expires_ns, now_ns)
        payload = b"".join((head, *parts, id_block, hub.heartbeat(group, time.monotonic())))
        if client.closed or client.transport.is_closing():
            hub.remove(client)
            return
        client.transport.write(group.private(payload))
        for frame in client.pending:
            client.transport.write(frame)
        client.pending.clear()
        client.ready = True


def ip_of(scope: Any) -> str:
    return scope["client"][0] if scope.get("client") else ""


__all__ = ["LAST_CHUNK", "StreamEndpoint", "chunked", "header", "ip_of", "query_of"]
