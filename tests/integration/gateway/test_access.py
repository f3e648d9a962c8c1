"""Who gets what: keys, tokens, cookies, scopes, limits, Host and Origin; a wrong credential gets nothing."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.broker import Broker
from shared.errors import UsageError
from tests.support import eventually
from tests.support.feed import Feed
from tests.support.gateway import Gateway
from tests.support.mbo import record, rows
from tests.support.sse import Stream

SECRET = "a secret of the tests, long enough"


def make_key(broker: Broker, name: str, **row: Any) -> str:
    key = f"mbo_{name}_0123456789"
    full = {
        "name": name,
        "scopes": {"symbols": ["*"], "channels": ["*"]},
        "limits": {},
        "expires": None,
        **row,
    }
    broker.call("HSET", broker.keys.api_keys, sha256(key.encode()).hexdigest(), json.dumps(full))
    return key


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def token(secret: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "desk", "exp": time.time() + 60, **claims}, secret, algorithm=algorithm)


@pytest.fixture
def feed(broker: Broker) -> Feed:
    feed = Feed(broker, symbols={1: "ONE", 2: "TWO"})
    feed.records(rows(record("A", "B", 99, 3, 1)))
    return feed


@pytest.fixture
def gateway(broker_url: str, prefix: str, broker: Broker, feed: Feed) -> Iterator[Gateway]:
    make_key(broker, "all")
    make_key(broker, "one", scopes={"symbols": ["ONE"], "channels": ["bbo", "book"]}, limits={"streams": 1})
    make_key(broker, "old", expires=time.time() - 1)
    with Gateway(broker_url, prefix, auth="required", jwt_secret=SECRET) as running:
        running.caught_up(feed)
        yield running


PATHS = (
    "/v1/instruments",
    "/v1/book/ONE",
    "/v1/orders/ONE/1",
    "/v1/pipeline",
    "/v1/stream?symbols=ONE",
    "/v1/replay?symbols=ONE",
    "/v1/history/ONE/trades",
    "/v1/history/ONE/activity",
    "/v1/days",
    "/v1/export/ONE",
    "/v1/session",
)


WRONG = {
    "none": {},
    "wrong": bearer("mbo_wrong"),
    "expired": bearer("mbo_old_0123456789"),
    "empty": {"X-API-Key": ""},
    "basic": {"Authorization": "Basic dXNlcjpwYXNz"},
    "forged": bearer(token("another secret that is long enough!")),
    "stale": bearer(token(exp=1)),
    "unsigned": bearer(jwt.encode({"sub": "desk", "exp": time.time() + 60}, "", algorithm="none")),
    "without-exp": bearer(jwt.encode({"sub": "desk"}, SECRET)),
    "forged-cookie": {"Cookie": "mbo_session=eyJrZXkiOiAiIn0.00"},
    "bad-cookie": {"Cookie": "mbo_session=x"},
}


def test_without_a_good_credential_there_is_nothing(gateway: Gateway) -> None:
    for name, headers in WRONG.items():
        for path in PATHS:
            answer = gateway.http.get(gateway.url + path, headers=headers)
            assert answer.status_code == 401, (name, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "ONE" not in answer.text


SCOPED = (
    ("/v1/book/ONE", 200),
    ("/v1/book/TWO", 403),
    ("/v1/book/ONE?level=3", 403),
    ("/v1/orders/ONE/1", 403),
    ("/v1/book/ONE?at=1", 403),
    ("/v1/history/ONE/mbo", 403),
    ("/v1/history/ONE/bbo", 403),
    ("/v1/history/ONE/activity", 403),
    ("/v1/export/ONE?schema=mbp-1", 403),
    ("/v1/replay?symbols=ONE", 403),
    ("/v1/days", 403),
    ("/v1/pipeline", 403),
    ("/v1/stream?symbols=TWO&channels=book", 403),
    ("/v1/stream?symbols=ONE&channels=book,mbo", 403),
)


def test_a_scope_is_kept_everywhere(gateway: Gateway) -> None:
    for path, status in SCOPED:
        assert (
            gateway.http.get(gateway.url + path, headers=bearer("mbo_one_0123456789")).status_code == status
        ), path


def test_all_symbols_and_instruments_show_only_what_is_allowed(gateway: Gateway) -> None:
    headers = bearer("mbo_one_0123456789")
    stream = Stream(gateway.url, "symbols=ALL_SYMBOLS&channels=book", headers=headers)
    assert [view["symbol"] for view in stream.first("hello")["views"]] == ["ONE"]
    listed = httpx.get(gateway.url + "/v1/instruments", headers=headers).json()
    assert [row["symbol"] for row in listed["instruments"]] == ["ONE"]


def test_a_key_has_its_number_of_streams_and_gets_them_back(gateway: Gateway) -> None:
    headers = bearer("mbo_one_0123456789")
    first = Stream(gateway.url, "symbols=ONE", headers=headers)
    first.first("hello")
    second = Stream(gateway.url, "symbols=ONE", headers=headers)
    bye = second.first("bye")
    assert (second.status, bye["reason"]) == (200, "limit")
    first.close()
    eventually(lambda: not gateway.service.limits.streams)
    third = Stream(gateway.url, "symbols=ONE", headers=headers)
    third.first("hello")


def test_streams_end_within_five_seconds_of_revocation(gateway: Gateway, broker: Broker) -> None:
    key = make_key(broker, "leaving")
    eventually(lambda: gateway.get("/v1/session", authorization=f"Bearer {key}").status_code == 200)
    stream = Stream(gateway.url, "symbols=ONE", headers=bearer(key))
    other = Stream(gateway.url, "symbols=ONE", headers=bearer("mbo_all_0123456789"))
    stream.first("hello")
    other.first("hello")
    broker.call("HDEL", broker.keys.api_keys, sha256(key.encode()).hexdigest())
    asked = time.monotonic()
    assert stream.first("bye")["reason"] == "revoked"
    assert time.monotonic() - asked < 5
    assert not other.all("bye")


def test_a_stream_ends_when_its_token_does(gateway: Gateway) -> None:
    stream = Stream(gateway.url, "symbols=ONE", headers=bearer(token(exp=time.time() + 2)))
    assert stream.first("hello")["expires"] is not None
    bye = stream.first("bye")
    assert (bye["reason"], bye["retry_ms"]) == ("expired", None)


def test_an_issuer_whose_clock_is_a_little_ahead_is_believed(gateway: Gateway) -> None:
    """RFC 7519 4.1.4: some leeway for clock skew; none for what has expired."""

    def status(**claims: Any) -> tuple[int, str]:
        answer = gateway.get("/v1/session", authorization=f"Bearer {token(**claims)}")
        return answer.status_code, answer.json().get("detail", "")

    now = time.time()
    assert status(iat=now + 5, nbf=now + 5)[0] == 200
    assert status(exp=now - 5) == (401, "the token has expired: get a new one")
    assert status(nbf=now + 300)[0] == 401
    assert "clock" in status(nbf=now + 300)[1]
    assert status(exp=float("inf"))[0] == 401


def test_a_token_and_the_cookie_made_of_it_have_one_limit(gateway: Gateway) -> None:
    said = token(streams=1)
    with httpx.Client(base_url=gateway.url) as browser:
        browser.post("/v1/login", json={"key": said})
        cookie = {"Cookie": f"mbo_session={browser.cookies['mbo_session']}"}
    first = Stream(gateway.url, "symbols=ONE", headers=cookie)
    first.first("hello")
    for headers in (cookie, bearer(said)):
        assert Stream(gateway.url, "symbols=ONE", headers=headers).first("bye")["reason"] == "limit"


def test_a_browser_signs_in_with_a_cookie_that_scripts_cannot_read(gateway: Gateway, broker: Broker) -> None:
    with httpx.Client(base_url=gateway.url) as browser:
        assert browser.post("/v1/login", json={"key": "mbo_wrong"}).status_code == 401
        answer = browser.post("/v1/login", json={"key": "mbo_one_0123456789"})
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/v1/session").json()["name"] == "one"
        assert browser.get("/v1/book/TWO").status_code == 403
        broker.call("HDEL", broker.keys.api_keys, sha256(b"mbo_one_0123456789").hexdigest())
        eventually(lambda: browser.get("/v1/session").status_code == 401)
        answer = browser.post("/v1/login", json={"key": token(symbols=["TWO"])})
        assert browser.get("/v1/book/TWO").status_code == 200
        assert browser.get("/v1/book/ONE").status_code == 403
        browser.post("/v1/logout")
        assert browser.get("/v1/session").status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b'{"key": 5}', b'{"key": "\xff"}', b'{"key": "\\ud800"}', b"[" * 20_000]
)
def test_a_bad_login_body_is_a_400_or_413(gateway: Gateway, body: bytes) -> None:
    answer = gateway.http.post(
        gateway.url + "/v1/login", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 401, 413)
    assert gateway.http.post(gateway.url + "/v1/login", content=body).status_code == 415


def test_rs256_tokens_are_checked_with_the_public_key(
    broker_url: str, prefix: str, feed: Feed, tmp_path: Path
) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = tmp_path / "key.pem"
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pem.write_bytes(public)
    with Gateway(broker_url, prefix, jwt_public_key_file=str(pem)) as gateway:
        assert gateway.get("/v1/session").status_code == 401
        good = token(private, "RS256")
        assert gateway.get("/v1/session", authorization=f"Bearer {good}").status_code == 200
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        assert (
            gateway.get("/v1/session", authorization=f"Bearer {token(stranger, 'RS256')}").status_code == 401
        )
        header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # HS256 with the public key as its secret
        import base64
        import hmac

        body = (
            base64.urlsafe_b64encode(json.dumps({"sub": "x", "exp": time.time() + 60}).encode())
            .rstrip(b"=")
            .decode()
        )
        mac = hmac.new(public, f"{header}.{body}".encode(), "sha256").digest()
        confused = f"{header}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert gateway.get("/v1/session", authorization=f"Bearer {confused}").status_code == 401


def test_the_hs256_secret_may_stand_in_a_file_and_an_empty_file_is_none(
    broker_url: str, prefix: str, feed: Feed, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n", encoding="ascii")
    with Gateway(broker_url, prefix, jwt_secret_file=str(file)) as gateway:
        assert gateway.get("/v1/session").status_code == 401
        assert gateway.get("/v1/session", authorization=f"Bearer {token()}").status_code == 200
    with Gateway(broker_url, prefix, jwt_secret_file="/dev/null") as gateway:
        assert gateway.get("/v1/session").status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "jwt_secret_file": "/dev/null"},
        {"jwt_secret_file": "/nonexistent"},
        {"auth": "required"},
        {"jwt_secret": "short"},
        {"jwt_secret": SECRET, "jwt_public_key_file": "x"},
        {"jwt_public_key_file": "/nonexistent"},
        {"jwt_public_key_file": __file__},
    ],
)
def test_it_refuses_to_start_open_or_with_half_a_setting(
    broker_url: str, prefix: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError), Gateway(broker_url, prefix, **settings):
        pytest.fail("it started")


def test_a_dns_rebinding_name_or_foreign_origin_gets_nothing_on_loopback(
    broker_url: str, prefix: str, feed: Feed
) -> None:
    with Gateway(
        broker_url, prefix, cors_origins=("https://friend.example",), allowed_hosts=("desk.local",)
    ) as gateway:
        gateway.caught_up(feed)
        port = gateway.port
        for path in ("/v1/book/ONE", "/v1/stream?symbols=ONE", "/", "/v1/replay?symbols=ONE"):
            assert gateway.get(path, host="evil.example").status_code == 403
            assert gateway.get(path, host=f"127.0.0.1.evil.example:{port}").status_code == 403
            assert gateway.get(path, origin="https://evil.example").status_code == 403
            assert gateway.get(path, origin="null").status_code == 403
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", "desk.local", f"[::1]:{port}"):
            assert gateway.get("/v1/book/ONE", host=host).status_code == 200
        answer = gateway.get("/v1/book/ONE", origin="https://friend.example")
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        zipped = gateway.get("/openapi.json", origin="https://friend.example", accept_encoding="gzip")
        assert {part.strip().lower() for part in zipped.headers["vary"].split(",")} == {
            "origin",
            "accept-encoding",
        }
        preflight = httpx.options(
            gateway.url + "/v1/book/ONE",
            headers={"origin": "https://friend.example", "access-control-request-method": "GET"},
        )
        assert preflight.status_code == 204
        assert "access-control-allow-origin" not in gateway.get("/v1/book/ONE").headers


def test_no_secret_reaches_the_log(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.get("/v1/session", authorization="Bearer mbo_one_0123456789")
    gateway.get("/v1/book/ONE", authorization="Bearer mbo_wrong_credential")
    gateway.stop(drain=True)
    said = capsys.readouterr()
    for secret in ("mbo_one_0123456789", "mbo_wrong_credential", SECRET):
        assert secret not in said.err + said.out


def test_tls_serves_https(broker_url: str, prefix: str, feed: Feed, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with Gateway(broker_url, prefix, tls_cert_file=str(cert_file), tls_key_file=str(key_file)) as gateway:
        gateway.caught_up(feed)
        url = f"https://localhost:{gateway.port}"
        import ssl

        context = ssl.create_default_context(cafile=str(cert_file))
        assert httpx.get(f"{url}/v1/book/ONE", verify=context).json()["bids"] == [["99", 3, 1]]
        with httpx.stream("GET", f"{url}/v1/stream?symbols=ONE&channels=book", verify=context) as answer:
            text = ""
            for part in answer.iter_text():
                text += part
                if "event: heartbeat" in text:
                    break
        assert '"bids":[["99",3,1]]' in text
