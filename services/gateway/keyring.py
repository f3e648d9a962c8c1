"""Keeps the API keys fresh from the broker, and closes streams whose key was revoked: within two reads, 4 s."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from services.gateway import close_codes
from services.gateway.auth import Access
from services.gateway.hub import Hub
from services.gateway.principal import COOKIE_SECRET_FIELD
from shared import logs
from shared.broker import Broker
from shared.errors import MboError

log = logs.get("gateway")

REFRESH_S = 2.0


class Keyring:
    """A connection of its own; read in a thread so that the loop never waits for the broker."""

    def __init__(self, connect: Callable[[], Broker], access: Access, hub: Hub) -> None:
        self._broker, self._access, self._hub = connect(), access, hub

    def refresh(self) -> set[str]:
        """Read the keys now; hashes of keys that are gone. Raises BrokerLost."""
        key = self._broker.keys.api_keys
        self._broker.call("HSETNX", key, COOKIE_SECRET_FIELD, secrets.token_hex(32))
        return self._access.keys.load(self._broker.hash(key))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await asyncio.to_thread(self.refresh)
            except MboError as error:
                log.limited("keys not read", detail=str(error))
                continue
            for client in [c for c in self._hub.clients if not self._access.still_valid(c.principal)]:
                self._hub.close(client, close_codes.REVOKED)

    def close(self) -> None:
        self._broker.close()
