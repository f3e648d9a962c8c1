"""Limits of streams and connects."""

from __future__ import annotations

from services.gateway.close_codes import Bye
from services.gateway.limits import Lease, Limits
from services.gateway.principal import Principal
from services.gateway.settings import GatewaySettings


def test_limits_count_by_address_and_key_and_give_back() -> None:
    limits = Limits(GatewaySettings(streams_per_ip=2, connects_per_ip_s=1000.0))
    key = Principal("k", "key", "hash", streams=1)
    first = limits.enter(key, "10.0.0.1")
    assert isinstance(first, Lease)
    assert isinstance(limits.enter(key, "10.0.0.2"), Bye)
    assert isinstance(limits.enter(Principal(), "10.0.0.1"), Lease)
    assert isinstance(limits.enter(Principal(), "10.0.0.1"), Bye)
    first.release()
    first.release()
    assert isinstance(limits.enter(key, "10.0.0.1"), Lease)
    assert all(isinstance(limits.enter(Principal(), "127.0.0.1"), Lease) for _ in range(50))


def test_a_network_of_ipv6_addresses_is_one_client_and_a_made_up_loopback_none() -> None:
    limits = Limits(GatewaySettings(streams_per_ip=2, connects_per_ip_s=1000.0))
    entered = [limits.enter(Principal(), f"2001:db8:0:7::{n:x}") for n in range(5)]
    assert sum(isinstance(each, Lease) for each in entered) == 2
    assert isinstance(limits.enter(Principal(), "2001:db8:0:8::1"), Lease)
    mapped = [limits.enter(Principal(), ip) for ip in ("10.0.0.9", "::ffff:10.0.0.9", "10.0.0.9")]
    assert [isinstance(each, Lease) for each in mapped] == [True, True, False]
    assert isinstance(limits.enter(Principal(), "unix"), Lease)
    proxied = Limits(GatewaySettings(streams_per_ip=2, trusted_proxies=("10.0.0.0/8",)))
    claimed = [proxied.enter(Principal(), "127.0.0.1") for _ in range(3)]
    assert [isinstance(each, Lease) for each in claimed] == [True, True, False]


def test_connects_from_one_address_are_limited_by_rate() -> None:
    limits = Limits(GatewaySettings(streams_per_ip=10_000, connects_per_ip_s=1.0))
    entered = [limits.enter(Principal(), "10.0.0.1") for _ in range(50)]
    assert sum(isinstance(each, Lease) for each in entered) == 10
    assert isinstance(limits.enter(Principal(), "10.0.0.2"), Lease)
