"""Settings: argv over environment over default, misspelt names refused, secrets hidden."""

import dataclasses
import re
from importlib import import_module
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.settings import ServiceSettings, build, describe, environment_of, load, option
from shared.times import Instant


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example(ServiceSettings):
    count: int = option(3, "a number")
    names: tuple[str, ...] = option((), "several")
    secret: str = option("", "a secret", secret=True)
    limit: int | None = option(None, "maybe")
    mode: str = option("a", "one of two", choices=("a", "b"))
    flag: bool = option(False, "a switch")
    at: Instant | None = option(None, "a moment")


def make(argv: list[str], environ: dict[str, str]) -> Example:
    return load(Example, argv, environ, prog="x", description="x")[0]


def test_argv_wins_over_environment_over_default() -> None:
    assert make([], {}).count == 3
    assert make([], {"MBO_COUNT": "4"}).count == 4
    assert make(["--count", "5"], {"MBO_COUNT": "4"}).count == 5


def test_values_are_typed() -> None:
    got = make(["--names", "x", "y", "--flag", "--limit", "7"], {"MBO_MODE": "b"})
    assert (got.names, got.flag, got.limit, got.mode) == (("x", "y"), True, 7, "b")
    assert make([], {"MBO_NAMES": "p,q", "MBO_FLAG": "no"}).names == ("p", "q")
    assert make(["--names", "x", "--names", "y", "z"], {}).names == (
        "x",
        "y",
        "z",
    )  # said again: more of them


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5", 5),
        ("2025-09-24", 1_758_672_000_000_000_000),
        ("2025-09-24T01:00:00.000000007+01:00", 1_758_672_000_000_000_007),
        ("2025-09-24 00:00:01Z", 1_758_672_001_000_000_000),
    ],
)
def test_a_time_is_ns_or_rfc_3339(text: str, ns: int) -> None:
    assert make(["--at", text], {}).at == make([], {"MBO_AT": text}).at == ns


@pytest.mark.parametrize(
    ("argv", "environ", "says"),
    [
        ([], {"MBO_COUNTS": "1"}, "MBO_COUNTS"),
        (["--count", "many"], {}, "--count"),
        ([], {"MBO_COUNT": "many"}, "MBO_COUNT"),
        ([], {"MBO_MODE": "c"}, "mode"),
        (["--nonsense"], {}, "nonsense"),
        ([], {"MBO_FLAG": "perhaps"}, "MBO_FLAG"),
        (["--at", "yesterday"], {}, "--at: 'yesterday' is not a time: give ns"),
        ([], {"MBO_AT": "2025-13-01"}, "MBO_AT"),
    ],
)
def test_wrong_settings_are_one_clear_error(argv: list[str], environ: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        make(argv, environ)
    assert caught.value.exit_status == 2


def test_variables_of_other_commands_are_no_error() -> None:
    assert make([], {"MBO_API_KEY": "k", "MBO_REBUILD_POLICY": "raw"}) == make([], {})


def test_help_says_defaults_as_one_types_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make(["--help"], {})
    said = " ".join(capsys.readouterr().out.split())
    for text in (
        "MBO_COUNT; default 3]",
        "MBO_NAMES; default none]",
        "MBO_FLAG; default no]",
        "MBO_MODE; default a]",
    ):
        assert text in said


def test_secrets_are_not_shown() -> None:
    text = describe(build(Example, {"secret": "hush", "broker": "redis://me:hush@h:1/0"}, {}))
    assert "hush" not in text
    assert "redis://me:***@h:1/0" in text


def test_a_child_gets_its_own_settings_and_not_those_of_other_services() -> None:
    environ = {"MBO_COUNT": "4", "MBO_HISTORY_PORT": "1", "MBO_TEST_DATA": "x", "PATH": "/bin"}
    assert environment_of(Example, environ) == {"MBO_COUNT": "4", "MBO_TEST_DATA": "x", "PATH": "/bin"}


def test_every_setting_of_a_service_is_read_by_some_code() -> None:
    """A switch that nothing looks at is worse than none: `--warm-orders` was one."""
    root = Path(__file__).parents[3]
    files = [path for folder in ("services", "shared") for path in (root / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files if path.name != "settings.py")
    words = set(re.findall(r"\w+", code))
    named = {
        f"{role}: {field.name}"
        for role in ("ingest", "book", "gateway", "persist")
        for field in dataclasses.fields(
            getattr(import_module(f"services.{role}.settings"), f"{role.title()}Settings")
        )
        if field.name not in words
    }
    assert not named
