"""Who is asking: API keys (hashed, in the broker), JWT (HS256, RS256), the login cookie; Host and Origin checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import time
from pathlib import Path
from typing import Any

import jwt

from services.gateway.principal import KeyTable, Principal, from_claims, key_hash
from services.gateway.problems import Problem, unauthorized
from services.gateway.settings import GatewaySettings
from shared.errors import UsageError

COOKIE = "mbo_session"
COOKIE_S = 12 * 3600
MAX_CREDENTIAL_CHARS = 8_192
JWT_SKEW_S = 30  # an issuer's clock may be so far ahead of ours


def is_loopback(host: str) -> bool:
    """Whether an address (or `localhost`) never leaves this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Turns a request into a Principal, or into a Problem."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.keys = KeyTable()
        self.loopback = is_loopback(settings.host)
        self._jwt_key, self._algorithm = _jwt_key(settings)
        elsewhere = not self.loopback and not settings.insecure
        self.required = settings.auth == "required" or elsewhere or self._jwt_key is not None
        names = {name.lower() for name in settings.allowed_hosts}
        self._hosts = names | (
            {"localhost", "127.0.0.1", "[::1]", settings.host.lower()} if self.loopback else set()
        )
        self._check_host = self.loopback or bool(names)
        self._origins = {origin.rstrip("/").lower() for origin in settings.cors_origins}

    def check_start(self) -> None:
        """Raises UsageError if this gateway would serve everybody on a network, or nobody at all."""
        if self.required and not self.keys.rows and self._jwt_key is None:
            where = "on loopback" if self.loopback else f"on {self.settings.host}"
            raise UsageError(
                f"refusing to serve {where} without credentials: make an API key (`mbo keys add NAME`), set "
                "MBO_JWT_SECRET or MBO_JWT_PUBLIC_KEY_FILE, or say --insecure"
            )

    # -- Host and Origin -----------------------------------------------------------------------------------------------

    def check_names(self, scope: Any) -> str | None:
        """The request's Origin if CORS allows it, else None; Problem for a Host or Origin that is not ours, or two.

        Without this any web page could read a loopback gateway through a name of its own (DNS rebinding).
        """
        host: str | None = None
        origin: str | None = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    raise Problem(400, "host", "Two hosts", "send one Host header")
                host = value.decode("latin-1").lower()
            elif name == b"origin":
                origin = value.decode("latin-1").lower()
        bare = (host or "").rsplit(":", 1)[0] if not (host or "").endswith("]") else host or ""
        if self._check_host and bare not in self._hosts:
            raise Problem(
                403,
                "host",
                "Wrong host",
                "this name is not in allowed_hosts: use the gateway's own name or set MBO_ALLOWED_HOSTS",
            )
        if origin is None or origin == f"{scope['scheme']}://{host}":
            return None
        if origin in self._origins:
            return origin
        if self._check_host or scope["method"] not in ("GET", "HEAD"):
            raise Problem(
                403,
                "origin",
                "Wrong origin",
                "pages of this origin may not read it: add it to MBO_CORS_ORIGINS",
            )
        return None

    # -- credentials ---------------------------------------------------------------------------------------------------

    def principal(self, scope: Any) -> Principal:
        """Raises Problem 401 for a missing (where required), wrong or expired credential."""
        bearer = cookie = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, rest = value.decode("latin-1").partition(" ")
                if scheme.lower() != "bearer":
                    raise unauthorized("use `Authorization: Bearer <API key or token>`")
                bearer = rest.strip()
            elif name == b"x-api-key":
                bearer = value.decode("latin-1").strip()
            elif name == b"cookie":
                cookie = _cookie(value.decode("latin-1"))
        if bearer is not None:
            return self.check(bearer)
        if cookie:
            found = self._from_cookie(cookie)
            if found is not None:
                return found
        if self.required:
            raise unauthorized(
                "a credential is needed: `Authorization: Bearer <API key or token>`, or sign in at POST /v1/login"
            )
        return Principal()

    def check(self, credential: str) -> Principal:
        """The principal of an API key or token; Problem 401."""
        if not credential or len(credential) > MAX_CREDENTIAL_CHARS:
            raise unauthorized("the credential is empty or too long")
        if credential.count(".") == 2 and self._jwt_key is not None:
            return self._from_token(credential)
        found = self.keys.find(key_hash(credential))
        if found is None:
            raise unauthorized("the API key is unknown, revoked or expired: ask the operator for a new one")
        return found

    def _from_token(self, token: str) -> Principal:
        settings = self.settings
        try:
            claims = jwt.decode(
                token, self._jwt_key or "", algorithms=[self._algorithm], audience=settings.jwt_audience or None,
                issuer=settings.jwt_issuer or None, leeway=JWT_SKEW_S,
                options={"require": ["exp", "sub"], "verify_aud": bool(settings.jwt_audience)},
            )  # fmt: skip
            found = from_claims(claims, "jwt")
        except jwt.ExpiredSignatureError:
            raise unauthorized("the token has expired: get a new one") from None
        except jwt.ImmatureSignatureError:
            raise unauthorized(
                "the token is not valid yet: compare its issuer's clock with this machine's"
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise unauthorized("the token is not valid here") from None
        if found.expired():  # the skew is for tokens that begin, not for those that end
            raise unauthorized("the token has expired: get a new one")
        return found

    def cookie(self, principal: Principal) -> tuple[str, int]:
        """(value, seconds it lives) of the login cookie: signed; names the key (so revocation works) or the claims."""
        life = (
            COOKIE_S if principal.expires_s is None else min(COOKIE_S, int(principal.expires_s - time.time()))
        )
        claims: dict[str, Any] = {"exp": int(time.time()) + life}
        if principal.key_id:
            claims["key"] = principal.key_id
        else:
            claims |= {"sub": principal.name, "symbols": principal.symbols, "channels": principal.channels}
            claims |= {"streams": principal.streams}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
        return f"{body.decode()}.{self._sign(body)}", life

    def _sign(self, body: bytes) -> str:
        if not self.keys.cookie_secret:
            raise Problem(
                503, "no-cookies", "Not available now", "sign-in needs the broker: try again in a moment"
            )
        return hmac.new(self.keys.cookie_secret, body, hashlib.sha256).hexdigest()

    def _from_cookie(self, value: str) -> Principal | None:
        body, _, signature = value.partition(".")
        if not self.keys.cookie_secret or not hmac.compare_digest(
            self._sign(body.encode()).encode(), signature.encode()
        ):
            return None
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if claims["exp"] <= time.time():
            return None
        if "key" in claims:
            return self.keys.find(claims["key"], "cookie")
        return from_claims(claims, "cookie")

    def still_valid(self, principal: Principal) -> bool:
        """Whether a stream of this principal may go on."""
        return not principal.key_id or self.keys.find(principal.key_id) is not None


def _cookie(text: str) -> str | None:
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def _jwt_key(settings: GatewaySettings) -> tuple[str | None, str]:
    secret = settings.jwt_secret or _text("JWT secret", settings.jwt_secret_file).strip()
    if secret and settings.jwt_public_key_file:
        raise UsageError("set one of MBO_JWT_SECRET (HS256) and MBO_JWT_PUBLIC_KEY_FILE (RS256)")
    if secret:
        if len(secret) < 32:
            raise UsageError("the JWT secret is too short: at least 32 characters")
        return secret, "HS256"
    if settings.jwt_public_key_file:
        pem = _text("JWT public key", settings.jwt_public_key_file)
        try:
            jwt.get_algorithm_by_name("RS256").prepare_key(pem)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise UsageError(
                f"JWT public key {settings.jwt_public_key_file}: not a PEM file with an RSA public key ({error})"
            ) from error
        return pem, "RS256"
    return None, "HS256"


def _text(what: str, path: str) -> str:
    """Content of a file, "" for no path; UsageError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} {path}: {error}") from error
