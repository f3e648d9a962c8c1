"""The command line as a user meets it: wrong use is one clear line and the right status; stopping leaves nothing."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from services import backfill, demo
from services.__main__ import SERVICES
from tests.chaos.processes import running
from tests.support import eventually
from tests.support.pipeline import Pipeline


def mbo(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MBO_")}
    command = [sys.executable, "-m", "services", *args]
    return subprocess.run(
        command, capture_output=True, text=True, env={**clean, **environ}, timeout=120, check=False
    )


def one_line(done: subprocess.CompletedProcess[str], status: int, *says: str) -> None:
    """Exactly one line on stderr, which names what is wrong; no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == status, done.stderr
    assert len(lines) == 1, done.stderr
    for words in says:
        assert words in lines[0]


COMMANDS = (
    "",
    "demo",
    "up",
    "backfill",
    "rebuild",
    "simulate",
    "export",
    "watch",
    "status",
    "sql",
    "keys",
    *SERVICES,
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = mbo(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert "usage" in done.stdout


def test_wrong_use_is_status_2() -> None:
    one_line(mbo("nonsense"), 2, "nonsense")
    one_line(mbo("up", "--nonsense"), 2, "--nonsense")
    one_line(mbo("up", "--policy", "maybe"), 2, "maybe")
    one_line(mbo("book", MBO_POLL_MSS="5"), 2, "MBO_POLL_MSS")
    one_line(mbo("ingest", "--speed", "fast", "--source", "sim"), 2, "--speed")


def test_print_config_hides_secrets() -> None:
    done = mbo("book", "--broker", "redis://user:hush@127.0.0.1:1/0", "--print-config")
    assert done.returncode == 0
    assert "hush" not in done.stdout


@pytest.mark.parametrize("words", [("status",), ("keys", "list"), ("backfill", "f", "--day", "2025-09-24")])
def test_commands_find_the_pipeline_by_the_variables_that_up_takes(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    folder, broker = str(tmp_path / "kept"), f"unix://{tmp_path}/nothing.sock"
    one_line(mbo(*words, MBO_DATA=folder, MBO_BROKER="embedded"), 2, folder)
    one_line(mbo(*words, MBO_DATA=folder, MBO_BROKER=broker), 2, broker)


def test_backfill_takes_the_variables_of_an_ingest_container(tmp_path: Path) -> None:
    words = ("backfill", "f", "--day", "2025-09-24")
    broker, secret = f"unix://ingest@{tmp_path}/nothing.sock", str(tmp_path / "no-secret")
    one_line(mbo(*words, MBO_BROKER=broker, MBO_BROKER_PASSWORD_FILE=secret), 2, secret)
    parser = argparse.ArgumentParser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MBO_KEY_FILE", "/run/key")
        patch.setenv("MBO_STYPE_IN", "parent")
        backfill.add_arguments(parser)
    args = parser.parse_args(words[1:])
    assert (args.key_file, args.stype_in) == (Path("/run/key"), "parent")


def test_variables_of_a_command_do_not_stop_a_service() -> None:
    done = mbo("book", "--print-config", MBO_API_KEY="k", MBO_REBUILD_POLICY="raw")
    assert done.returncode == 0, done.stderr


def test_the_demo_goes_at_the_pace_of_the_market_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(demo, "up", lambda config: seen.append(config.speed))
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    for words, environ in (([], {}), ([], {"MBO_SPEED": "4"}), (["--speed", "max"], {"MBO_SPEED": "4"})):
        monkeypatch.setattr(os, "environ", environ)
        demo.run(parser.parse_args(words))
    assert seen == ["1", "4", "max"]


def test_a_busy_port_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        one_line(mbo("up", "--port", port, "--data", str(tmp_path / "d")), 2, port, "--port")


def test_an_unreachable_broker_is_said_at_once(tmp_path: Path) -> None:
    broker = f"unix://{tmp_path}/nothing.sock"
    one_line(mbo("up", "--broker", broker, "--port", "0", "--data", str(tmp_path / "d")), 2, broker)


def test_watching_where_no_gateway_is_is_said_at_once() -> None:
    one_line(mbo("watch", "ESZ6", "--url", "http://127.0.0.1:1"), 2, "http://127.0.0.1:1", "--url")
    one_line(mbo("watch", "ESZ6", "--url", "localhost"), 2, "localhost", "--url")


def test_a_data_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "data")
    one_line(mbo("up", "--data", folder, "--port", "0"), 2, folder, "--data")


@pytest.mark.parametrize(("name", "content", "says"), [
    ("missing.dbn", None, "no such file"),
    ("empty.dbn", b"", "empty"),
    ("text.dbn", b"hello, this is not market data at all, whatever its name says", "not"),
])  # fmt: skip
def test_a_bad_file_is_one_line_and_status_1(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    one_line(mbo("ingest", "--source", str(path)), 1, name, says)
    one_line(mbo("rebuild", str(path)), 1, name, says)


def test_a_running_pipeline_survives_its_parts_and_stops_without_a_trace(tmp_path: Path) -> None:
    """Kill each part once: all come back. A second instance is refused. SIGINT: status 0, no process, no traceback."""
    with Pipeline(tmp_path / "data", "--source", "sim", "--speed", "1", "--instruments", "3") as pipeline:
        address = pipeline.address()
        launcher = pipeline.process.pid

        def book() -> dict[str, object]:
            try:
                rows = httpx.get(f"{address}/v1/instruments", timeout=5).json()["instruments"]
                return dict(httpx.get(f"{address}/v1/book/{rows[0]['symbol']}", timeout=5).json())
            except (httpx.HTTPError, ValueError, KeyError, IndexError):
                return {}

        eventually(lambda: book().get("bids"), timeout_s=90)
        one_line(mbo("up", "--data", str(tmp_path / "data"), "--port", "0"), 2, "running instance")
        status = mbo("status", *pipeline.where)
        assert status.returncode == 0, status.stderr
        assert "book lag" in status.stdout
        before = {process.role: process.pid for process in running(launcher)}
        for role in ("ingest", "book", "persist", "gateway", *(["broker"] if pipeline.is_embedded else [])):
            os.kill(before[role], signal.SIGKILL)

        def all_back() -> bool:
            now = {process.role: process.pid for process in running(launcher)}
            return all(now.get(role, before[role]) != before[role] for role in before if role != "history")

        eventually(all_back, timeout_s=60)
        position = str(book().get("q", ""))
        eventually(lambda: book().get("bids") and str(book().get("q")) != position, timeout_s=90)
        children = running(launcher)
        pipeline.process.send_signal(signal.SIGINT)
        assert pipeline.wait(60) == 0
        assert "Traceback" not in pipeline.log
        eventually(lambda: not any(Path(f"/proc/{child.pid}").exists() for child in children))
