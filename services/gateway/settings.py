"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from shared.settings import ServiceSettings, option


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings(ServiceSettings):
    host: str = option(
        "127.0.0.1", "address to serve on; any other than loopback needs API keys, JWT or --insecure"
    )
    port: int = option(8080, "port of SSE, REST and the page; 0 takes a free one and prints it")
    feeds: tuple[str, ...] = option((), "feeds to serve; none: all of the broker")
    only_shards: str = option("", "only these shards of each feed, as 0-3,7; empty: all")
    insecure: bool = option(False, "serve without authentication on an address that is not loopback")
    auth: str = option(
        "auto",
        "auto: none on loopback unless JWT is set up, else needed; required: always",
        choices=("auto", "required"),
    )
    jwt_secret: str = option("", "shared secret of HS256 tokens", secret=True)
    jwt_secret_file: str = option("", "file that holds it instead; an empty one is none")
    jwt_public_key_file: str = option("", "PEM file with the public key of RS256 tokens")
    jwt_audience: str = option("", "audience that tokens must name")
    jwt_issuer: str = option("", "issuer that tokens must name")
    allowed_hosts: tuple[str, ...] = option((), "names clients may use in Host, besides the loopback names")
    cors_origins: tuple[str, ...] = option((), "origins of other sites whose pages may read this API")
    tls_cert_file: str = option("", "PEM certificate chain: serves HTTPS")
    tls_key_file: str = option("", "PEM key of the certificate")
    trusted_proxies: tuple[str, ...] = option(
        (), "addresses of reverse proxies whose X-Forwarded-For is believed"
    )
    heartbeat_s: float = option(15.0, "a heartbeat after so long without another event")
    max_age_s: float = option(1800.0, "a stream is closed after this time ± 10 %")
    drain_spread_s: float = option(3.0, "streams are closed evenly over this time when stopping")
    client_budget_bytes: int = option(65_536, "unread bytes after which a client is conflated")
    slow_after_s: float = option(10.0, "a client that stays behind so long gets bye: slow")
    max_connections: int = option(20_000, "connections at once; more are refused")
    max_streams: int = option(10_000, "streams at once; more get bye: overload")
    streams_per_ip: int = option(200, "streams at once from one address (not on loopback)")
    connects_per_ip_s: float = option(
        20.0, "new streams a second from one address, burst of ten times that (not on loopback)"
    )
    streams_per_key: int = option(200, "streams at once of one credential that names no own limit")
    topics_per_stream: int = option(20_000, "views a stream may hold")
    recalls_per_client: int = option(
        4, "replays, exports and history requests at once of one credential or address"
    )
    recalls: int = option(8, "replays, exports and history requests at once in all")
    header_bytes: int = option(16_384, "request head limit")
    body_bytes: int = option(65_536, "request body limit")
    header_timeout_s: float = option(
        10.0, "a connection that has not sent a whole request head by then is closed"
    )
    resume_records: int = option(
        2_000_000, "records a resume may read from the streams; beyond it starts anew"
    )
