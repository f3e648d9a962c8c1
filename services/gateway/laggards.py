"""Slow clients: what comes is dropped until they have read; then new state, or the ring where nothing may be missed."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.gateway import close_codes, vector
from services.gateway.clients import Client, Group
from services.gateway.close_codes import Bye
from services.gateway.settings import GatewaySettings
from services.gateway.topic import Topic
from shared import metrics


class Laggards:
    """Clients that have not read their budget of bytes."""

    def __init__(
        self,
        settings: GatewaySettings,
        runs: vector.Runs,
        close: Callable[[Client, Bye], None],
        remove: Callable[[Client], None],
        hello: Callable[[Group, list[Topic], int], bytes],
    ) -> None:
        self._settings, self._close, self._remove, self._hello = settings, close, remove, hello
        self._runs = runs
        self.clients: dict[Client, None] = {}

    def add(self, client: Client, group: Group, now: float) -> None:
        """Remember where the client stands (before this write); what comes is not written to it."""
        client.lag = dict(group.sent)
        client.lag_told = group.told
        client.lag_since = now
        self.clients[client] = None
        metrics.get("mbo_gateway_lags_total").inc()

    def catch_up(self, now: float) -> None:
        """Those whose buffer has drained go on; those that stay behind too long are told and closed."""
        low = self._settings.client_budget_bytes // 4
        for client in list(self.clients):
            if client.closed or client.group is None or client.transport.is_closing():
                self._remove(client)
            elif client.transport.get_write_buffer_size() > low:
                if now - client.lag_since > self._settings.slow_after_s:
                    self._close(client, close_codes.SLOW)
            else:
                self._go_on(client, client.group)

    def _go_on(self, client: Client, group: Group) -> None:
        assert client.lag is not None
        now_ns = time.time_ns()
        anew = [topic for topic in group.topics if topic.started > client.lag_told]
        parts = (
            [self._hello(group, anew, now_ns)] if anew else []
        )  # the one that was said meanwhile was dropped
        for topic in group.topics:
            if not topic.lossless:
                parts.append(topic.snapshot(now_ns))
                continue
            stood = client.lag.get(topic.key.shard) if topic.started <= client.lag_told else None
            missed = topic.after(stood.ordinal) if stood else None
            if missed is None:
                self._close(client, close_codes.SLOW)
                return
            parts.append(missed[1])
        self.clients.pop(client)
        client.lag = None
        metrics.get("mbo_gateway_conflated_total").labels("client").inc()
        parts.append(vector.id_block(group.position(), self._runs))
        client.transport.write(group.private(b"".join(parts)))
