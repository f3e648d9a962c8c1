"""Typed settings: argv > `MBO_*` environment > default. One frozen dataclass a service; unknown names are errors.

An option `reply_limit` is `--reply-limit` on the command line and `MBO_REPLY_LIMIT` in the environment.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from shared.errors import UsageError

ENV_PREFIX = "MBO_"
# Read by other parts than a service's own class: tests, the launcher, containers, other commands.
FOREIGN_VARIABLES = {"MBO_ENGINE", "MBO_SERVICE", "MBO_HELPER", "MBO_API_KEY", "MBO_REBUILD_POLICY"}
FOREIGN_PREFIXES = ("MBO_TEST_", "MBO_PROPERTY_", "MBO_BENCH_", "MBO_CHAOS_")


def option(default: Any, help: str, *, secret: bool = False, choices: Sequence[str] | None = None) -> Any:  # noqa: A002
    """A settings field: its default, one line of help, and whether its value is a secret (printed as ***)."""
    meta = {"help": help, "secret": secret, "choices": tuple(choices) if choices else None}
    if isinstance(default, list | dict):
        raise TypeError("use a tuple")
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What every service takes."""

    broker: str = option(
        "redis://127.0.0.1:6379/0", "broker URL: redis://, rediss:// or unix://; a cluster is detected"
    )
    broker_password_file: str = option("", "file that holds the broker's password (else in the URL)")
    prefix: str = option("", "prefix inside every key, to share one broker")
    admin_host: str = option("127.0.0.1", "address of /healthz, /readyz and /metrics")
    admin_port: int = option(0, "port of the admin server; 0 takes a free one")
    log: str = option(
        "auto", "log format: auto is text on a terminal, else JSON lines", choices=("auto", "json", "text")
    )
    log_level: str = option("info", "least level logged", choices=("debug", "info", "warning", "error"))

    def broker_password(self) -> str | None:
        """What is in the password file, if one is set; UsageError if it cannot be read."""
        if not self.broker_password_file:
            return None
        try:
            with open(self.broker_password_file, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise UsageError(f"broker password file {self.broker_password_file}: {error.strerror}") from error


S = TypeVar("S", bound=Any)


def _names(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls)}


def parse_value(kind: Any, text: str, name: str) -> Any:
    """`text` as a value of the annotated type; UsageError that names the setting."""
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in get_args(kind) if part is not type(None)]
        return None if text == "" else parse_value(inner[0], text, name)
    if origin is tuple:
        inner_kind = get_args(kind)[0]
        return tuple(parse_value(inner_kind, part, name) for part in text.split(",") if part)
    if origin is Literal:
        return text
    try:
        if kind is bool:
            if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
                raise ValueError(text)
            return text.lower() in ("1", "true", "yes", "on")
        return kind(text)
    except ValueError:
        form = getattr(kind, "form", getattr(kind, "__name__", kind))
        raise UsageError(f"{name}: {text!r} is not {form}", setting=name) from None


def add_options(parser: argparse.ArgumentParser, cls: type[Any], *, skip: Sequence[str] = ()) -> None:
    """Add `--name` for every field of `cls`; absent options stay absent so that the environment can speak."""
    hints = get_type_hints(cls)
    for name, field in _names(cls).items():
        if name in skip:
            continue
        flag, kind, meta = "--" + name.replace("_", "-"), hints[name], field.metadata
        shown = "***" if meta.get("secret") and field.default else _as_typed(field.default)
        text = f"{meta.get('help', '')} [{ENV_PREFIX}{name.upper()}; default {shown}]".replace("%", "%%")
        common: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": text}
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif get_origin(kind) is tuple:
            parser.add_argument(flag, action="extend", nargs="+", metavar=name.upper(), **common)
        else:
            parser.add_argument(
                flag,
                metavar=name.upper() if not meta.get("choices") else None,
                choices=meta.get("choices"),
                **common,
            )


def _as_typed(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        " ".join(map(str, value))
        if value and isinstance(value, tuple)
        else "none"
        if value in (None, "", ())
        else str(value)
    )


def environment_of(cls: type[Any], environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a process that takes `cls`, without the settings of other services (which it would refuse)."""
    mine = {ENV_PREFIX + name.upper() for name in _names(cls)} | FOREIGN_VARIABLES
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(ENV_PREFIX) or name in mine or name.startswith(FOREIGN_PREFIXES)
    }


def build(cls: type[S], given: Mapping[str, Any], environ: Mapping[str, str], known: Sequence[str] = ()) -> S:
    """An instance from parsed options and the environment. `known`: further MBO_ names that are no error.

    Raises UsageError on a bad value and on a misspelt `MBO_` variable.
    """
    hints, fields = get_type_hints(cls), _names(cls)
    allowed = {ENV_PREFIX + name.upper() for name in (*fields, *known)} | FOREIGN_VARIABLES
    for variable in environ:
        if (
            variable.startswith(ENV_PREFIX)
            and variable not in allowed
            and not variable.startswith(FOREIGN_PREFIXES)
        ):
            raise UsageError(f"unknown setting {variable}: see --help for the names", variable=variable)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        kind = hints[name]
        if name in given:
            value = given[name]
            if isinstance(value, str):
                value = parse_value(kind, value, "--" + name.replace("_", "-"))
            elif isinstance(value, list):
                value = tuple(parse_value(get_args(kind)[0], part, name) for part in value)
        elif (variable := ENV_PREFIX + name.upper()) in environ:
            value = parse_value(kind, environ[variable], variable)
        else:
            continue
        choices = field.metadata.get("choices")
        if choices and value not in choices:
            raise UsageError(f"{name}: {value!r} is not one of {', '.join(choices)}", setting=name)
        values[name] = value
    settings: S = cls(**values)
    return settings


def describe(settings: Any) -> str:
    """JSON of all settings, secrets as ***: what `--print-config` shows."""
    shown: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        shown[field.name] = "***" if field.metadata.get("secret") and value else value
        if field.name == "broker":
            shown[field.name] = hide_password(str(value))
    return json.dumps(shown, indent=2, default=str)


def hide_password(url: str) -> str:
    """The URL without its password."""
    scheme, sep, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not sep or not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}://{user}:***@{host}"


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one clear line and exit status 2."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def load(
    cls: type[S],
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    prog: str,
    description: str,
    known: Sequence[str] = (),
) -> tuple[S, argparse.Namespace]:
    """Settings of a service from its command line; also handles `--print-config` (prints, exit 0) and `--check`."""
    parser = Parser(prog=prog, description=description)
    parser.add_argument(
        "--check", action="store_true", help="ask the running service for its health; exit 0 if ready"
    )
    parser.add_argument("--print-config", action="store_true", help="print the settings as JSON and exit")
    add_options(parser, cls)
    namespace = parser.parse_args(list(argv))
    given = {k: v for k, v in vars(namespace).items() if k not in ("check", "print_config")}
    settings = build(cls, given, environ, known)
    if namespace.print_config:
        print(describe(settings))  # noqa: T201
        raise SystemExit(0)
    return settings, namespace
