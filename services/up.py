"""`mbo up`: the pipeline on this machine, with choices. `mbo demo` is this with a simulated market."""

from __future__ import annotations

import argparse
import dataclasses
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from services.book.settings import BookSettings
from services.drain import Drain
from services.gateway.settings import GatewaySettings
from services.ingest.settings import IngestSettings
from services.ingest.sources.options import KINDS, SourceOptions
from services.ingest.sources.paths import expand
from services.launcher import Child, Launcher
from services.persist.settings import PersistSettings
from shared import locks, logs, settings
from shared.broker import Broker
from shared.dbn import Reader
from shared.embedded import EmbeddedBroker
from shared.errors import BrokerLost, UsageError
from shared.runner import StopFlag
from shared.scheduling import halves
from shared.settings import option

log = logs.get("launcher")

CONNECT_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """What the launcher takes; the rest goes to the services as it is."""

    source: tuple[str, ...] = option(("sim",), "DBN files or folders, or one of: sim, live, historical")
    speed: str = option("max", "replay by market time: 1 is real time, max as fast as it goes")
    rate: float = option(0.0, "records a second instead of market time; 0 is off")
    books: int = option(1, "book workers")
    gateways: int = option(1, "gateway processes, on ports from --port on")
    shards: int = option(4, "shards of a new feed")
    policy: str = option(
        "uncross", "what is published for crossed books", choices=("uncross", "execute", "raw")
    )
    broker: str = option("embedded", "URL of a Redis or Valkey, or embedded")
    broker_memory: str = option("2gb", "memory limit of the embedded broker")
    prefix: str = option("", "prefix inside every key, to share one broker")
    data: Path = option(Path("mbo-data"), "folder for everything that is kept")
    host: str = option("127.0.0.1", "address of the page and the API")
    port: int = option(8080, "port of the page and the API; 0 takes a free one")
    pin: bool = option(
        False,
        "bind broker, ingest and book workers to one half of the CPUs, gateway and persist to the other: "
        "steadier latency on a machine with few",
    )
    fresh: bool = option(False, "start over: moves the data folder aside (embedded broker only)")
    drain: bool = option(False, "end when the source has ended and every stage has committed all of it")
    log: str = option("auto", "log format", choices=("auto", "json", "text"))
    log_level: str = option("info", "least level logged", choices=("debug", "info", "warning", "error"))


SERVING = ("gateway", "persist")  # what has the second half of the CPUs with --pin
INGEST_OPTIONS = ("speed", "rate", "shards", "policy")


def add_arguments(parser: argparse.ArgumentParser, skip: Sequence[str] = ()) -> None:
    """Our own options, and ingest's that say more of the source (they go to it as they are)."""
    settings.add_options(parser, UpSettings, skip=skip)
    wanted = source_options()
    settings.add_options(
        parser,
        IngestSettings,
        skip=[f.name for f in dataclasses.fields(IngestSettings) if f.name not in wanted],
    )


def source_options() -> list[str]:
    """Names of the options that speak of sources only."""
    ours = {field.name for field in dataclasses.fields(UpSettings)}
    return [field.name for field in dataclasses.fields(SourceOptions) if field.name not in ours]


def run(args: argparse.Namespace) -> int:
    return up(settings.build(UpSettings, vars(args), os.environ, known=service_settings()), vars(args))


def service_settings() -> list[str]:
    """Names of all services' settings: they may stand in the environment too and reach the children."""
    classes = (IngestSettings, BookSettings, GatewaySettings, PersistSettings)
    return [field.name for each in classes for field in dataclasses.fields(each)]


def lock_data(folder: Path) -> IO[str]:
    """Hold the data folder for this process; UsageError if it cannot be written or another instance has it."""
    return locks.hold(
        folder / "lock",
        f"data folder {folder} is in use by a running instance (pid {{pid}}); stop it or choose another with --data",
    )


def move_aside(folder: Path) -> None:
    """`--fresh`: keep what was there under another name."""
    if folder.exists() and any(folder.iterdir()):
        lock_data(folder).close()
        aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}.{secrets.token_hex(2)}")
        folder.rename(aside)
        print(f"moved {folder} to {aside}")


def choose_port(host: str, port: int) -> int:
    """A port that is free now; UsageError if the wanted one is not."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"port {host}:{port}: {error.strerror}; choose another with --port (0 takes a free one)"
            ) from error
        return int(probe.getsockname()[1])


def children(
    config: UpSettings, broker_url: str, ports: list[int], given: Mapping[str, Any] | None = None
) -> list[Child]:
    """The service processes of this pipeline; `given` holds parsed options of the source."""
    common = ["--broker", broker_url, "--log", config.log, "--log-level", config.log_level]
    if config.prefix:
        common += ["--prefix", config.prefix]
    run_id = secrets.token_hex(4)
    ingest = [*common, "--data", str(config.data), "--owner", f"ingest-{run_id}", "--source", *config.source]
    options = {name: getattr(config, name) for name in INGEST_OPTIONS}
    options.update({name: (given or {})[name] for name in source_options() if name in (given or {})})
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            ingest.append(f"--{flag}" if value else f"--no-{flag}")
        elif value not in (None, (), ""):
            ingest += [f"--{flag}", *(value if isinstance(value, list | tuple) else (str(value),))]
    found = [Child("persist", "persist", [*common, "--data", str(config.data)], PersistSettings)]
    found += [
        Child("book", f"book-{i}", [*common, "--owner", f"book-{i}-{run_id}"], BookSettings)
        for i in range(config.books)
    ]
    found += [
        Child(
            "gateway", f"gateway-{i}", [*common, "--host", config.host, "--port", str(port)], GatewaySettings
        )
        for i, port in enumerate(ports)
    ]
    found.insert(0, Child("ingest", "ingest", ingest, IngestSettings))
    if config.pin:
        making, serving = halves()
        for child in found:
            child.cpus = serving if child.role in SERVING else making
    return found


def check_broker(url: str, prefix: str) -> None:
    """One clear line if the broker does not answer."""
    broker = Broker(url, prefix, name="launcher")
    try:
        broker.call("PING")
    except BrokerLost as error:
        raise UsageError(f"{error}; is it running? (--broker embedded needs none)") from error
    finally:
        broker.close()


def check_files(source: Sequence[str]) -> None:
    """Before anything is started: SourceError for a file that is missing or no MBO file by its metadata.

    Records, and folders, which may be watched and still empty, are left to ingest.
    """
    for path in expand(each for each in source if each not in KINDS and not Path(each).expanduser().is_dir()):
        Reader(path).close()


class Welcome:
    """Says where the page is, once every gateway listens."""

    def __init__(self, config: UpSettings, ports: list[int]) -> None:
        self._config, self._ports = config, ports
        self.is_said = False

    def say(self) -> bool:
        """Whether it has been said by now."""
        if not self.is_said and all(map(self._listens, self._ports)):
            addresses = ", ".join(f"http://{self._config.host}:{port}" for port in self._ports)
            print(
                f"mbostream: page and API on {addresses}   data in {self._config.data}   Ctrl-C stops it",
                flush=True,
            )
            self.is_said = True
        return self.is_said

    def _listens(self, port: int) -> bool:
        try:
            socket.create_connection((self._config.host, port), CONNECT_S).close()
        except OSError:
            return False
        return True


def up(config: UpSettings, given: Mapping[str, Any] | None = None) -> int:
    """Start everything, watch it, stop it; the exit status. `given`: parsed options of the source."""
    logs.setup(config.log, config.log_level, service="launcher")
    stop = StopFlag()
    stop.install()
    check_files(config.source)
    if config.fresh:
        if config.broker != "embedded":
            raise UsageError(
                "--fresh works with the embedded broker only: choose another --prefix on a shared one"
            )
        move_aside(config.data)
    lock = lock_data(config.data)
    ports = [
        choose_port(config.host, config.port and config.port + index) for index in range(config.gateways)
    ]
    embedded = None
    if config.broker == "embedded":
        embedded = EmbeddedBroker(config.data / "broker", max_memory=config.broker_memory)
        if config.pin:
            embedded.cpus = halves()[0]
        embedded.start()
    else:
        check_broker(config.broker, config.prefix)
    url = embedded.url if embedded else config.broker
    launcher = Launcher(embedded, children(config, url, ports, given))
    drain = Drain(url, config) if config.drain else None
    welcome = Welcome(config, ports)
    try:
        print("mbostream: starting", flush=True)
        launcher.start()
        status = launcher.run(stop, lambda: welcome.say() and drain is not None and drain.is_done())
        if drain and status == 0 and not stop.asked:
            drain.write_books()
        return status
    finally:
        launcher.stop()
        lock.close()
