"""How many streams a credential and an address may hold, and how fast an address may open them."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter

from services.gateway import close_codes
from services.gateway.auth import is_loopback
from services.gateway.close_codes import Bye
from services.gateway.principal import Principal
from services.gateway.settings import GatewaySettings
from shared import metrics

BURST_S = 10.0
MAX_ADDRESSES = 100_000  # buckets kept; past it full ones are forgotten first


def site_of(ip: str) -> str:
    """What the limits of an address are counted by: an IPv6 client has the 2^64 addresses of its /64."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if address.version == 4:
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class Lease:
    """A stream's place in the counts; give it back once or more often."""

    __slots__ = ("_held", "_names")

    def __init__(self, held: Counter[str], names: tuple[str, ...]) -> None:
        self._held, self._names = held, names
        held.update(names)

    def release(self) -> None:
        for name in self._names:
            self._held[name] -= 1
            if self._held[name] <= 0:
                del self._held[name]
        self._names = ()


class Limits:
    """Counts of streams and of recalls (replays, exports, history), and a token bucket an address."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.streams: Counter[str] = Counter()
        self.recalls: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}  # address -> tokens, monotonic s

    def enter(self, principal: Principal, ip: str) -> Lease | Bye:
        """A lease for one stream, or why not."""
        # through a proxy no address is loopback but one that a client made up (X-Forwarded-For)
        outside = bool(ip) and (not is_loopback(ip) or bool(self.settings.trusted_proxies))
        ip = site_of(ip)
        if outside and not self._token(ip):
            return self._refuse("connect-rate")
        if outside and self.streams[f"ip:{ip}"] >= self.settings.streams_per_ip:
            return self._refuse("streams-per-ip")
        names = [f"ip:{ip}"] if outside else []
        if principal.account:
            most = principal.streams if principal.streams is not None else self.settings.streams_per_key
            if self.streams[f"key:{principal.account}"] >= most:
                return self._refuse("streams-per-key")
            names.append(f"key:{principal.account}")
        return Lease(self.streams, tuple(names))

    def recall(self, principal: Principal, ip: str) -> Lease | None:
        """A lease for one replay, export or history request; None if there are too many."""
        who = f"who:{principal.account or site_of(ip)}"
        if (
            self.recalls["all"] >= self.settings.recalls
            or self.recalls[who] >= self.settings.recalls_per_client
        ):
            metrics.get("mbo_gateway_refused_total").labels("recalls").inc()
            return None
        return Lease(self.recalls, ("all", who))

    @staticmethod
    def _refuse(why: str) -> Bye:
        metrics.get("mbo_gateway_refused_total").labels(why).inc()
        return close_codes.LIMIT

    def _token(self, ip: str) -> bool:
        now, rate = time.monotonic(), self.settings.connects_per_ip_s
        burst = rate * BURST_S
        tokens, at = self._buckets.get(ip, (burst, now))
        tokens = min(burst, tokens + (now - at) * rate)
        if len(self._buckets) >= MAX_ADDRESSES:
            self._buckets = {a: b for a, b in self._buckets.items() if b[0] + (now - b[1]) * rate < burst}
        if len(self._buckets) >= MAX_ADDRESSES:
            return False
        self._buckets[ip] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1
