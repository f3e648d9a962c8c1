"""What the routes share: the hub, access, limits, and the process that recalls recorded data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from services.gateway.auth import Access
from services.gateway.hub import Hub
from services.gateway.instruments import Instrument
from services.gateway.limits import Limits
from services.gateway.pipeline import Pipeline
from services.gateway.principal import Principal
from services.gateway.problems import Problem, bad_parameter, forbidden, unavailable
from services.gateway.recall import Recaller
from services.gateway.settings import GatewaySettings
from services.gateway.shards import ShardBooks
from shared.broker import Broker


@dataclass(slots=True)
class Context:
    """One a process, in Starlette's `app.state`."""

    settings: GatewaySettings
    hub: Hub
    access: Access
    limits: Limits
    pipeline: Pipeline
    recaller: Recaller
    connect: Callable[[], Broker]
    recorded: dict[tuple[str, int], tuple[str, str]] = field(
        default_factory=dict
    )  # first and last ts_recv stored

    def principal(self, request: Request) -> Principal:
        return self.access.principal(request.scope)

    def instrument(self, text: str, principal: Principal, channel: str) -> Instrument:
        """The one instrument a path names; Problem 404 for none, 400 for several, 403 without access."""
        matches = self.hub.state.directory.resolve(text)
        if not matches:
            if not self.hub.accepting and not self.hub.draining:
                raise unavailable("starting", "the gateway is still loading the books: try again in a moment")
            raise Problem(
                404,
                "unknown-symbol",
                "Unknown symbol",
                f"no feed has {text[:60]!r} now: see /v1/instruments",
                "symbol",
            )
        if len(matches) > 1:
            names = ", ".join(f"{i.dataset or i.feed}:{i.symbol}" for i in matches[:3])
            raise bad_parameter(
                "symbol",
                f"{text[:60]!r} names {len(matches)} instruments: say one, such as {names}, or its id",
            )
        if not principal.allows(matches[0].symbol, channel):
            raise forbidden(f"this credential has no access to {channel} of {matches[0].symbol}")
        return matches[0]

    def live(self, request: Request, principal: Principal, channel: str) -> tuple[Instrument, ShardBooks]:
        """The instrument of the path and its shard's books."""
        instrument = self.instrument(request.path_params["symbol"], principal, channel)
        books = self.hub.state.books.get(instrument.key)
        if books is None:
            raise unavailable(
                "shard", "this gateway does not serve the shard of this instrument, or is still loading it"
            )
        return instrument, books

    def history_advertised(self) -> bool:
        """Whether some persist reader announces itself (blocks: ask in a thread)."""
        broker = self.connect()
        try:
            return bool(broker.call("EXISTS", broker.keys.history))
        finally:
            broker.close()


def context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context
