"""A process's row in the list of all that live, which `mbo status` and /v1/pipeline show."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from shared import logs
from shared.broker import Broker
from shared.errors import MboError
from shared.settings import ServiceSettings

REGISTER_S = 2.0
PROC_DEAD_S = 10.0
PROC_FORGET_S = 600.0


class Registration:
    """Keeps this process's row in `{mbo}:procs` fresh: what `mbo status` and /v1/pipeline list."""

    def __init__(
        self, settings: ServiceSettings, role: str, admin: str, facts: Callable[[], dict[str, Any]]
    ) -> None:
        self._broker = Broker(
            settings.broker, settings.prefix, name=f"{role}-reg", password=settings.broker_password()
        )
        self.id = proc_id(role)
        self._row = {
            "role": role,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "admin": admin,
            "started": time.time(),
        }
        self._facts = facts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        self._thread.start()

    def _forget_dead(self) -> None:
        """Rows of processes that were killed: they could not remove them."""
        dead = [row["id"] for row in _rows(self._broker) if row["age_s"] > PROC_FORGET_S]
        if dead:
            self._broker.call("HDEL", self._broker.keys.procs, *dead)

    def _run(self) -> None:
        with contextlib.suppress(MboError):
            self._forget_dead()
        while not self._stop.is_set():
            try:
                row = {**self._row, "at": _now(self._broker), "detail": self._facts()}
                self._broker.call("HSET", self._broker.keys.procs, self.id, json.dumps(row, default=str))
            except MboError:
                pass  # the service's own loop reports a lost broker
            except Exception as error:  # noqa: BLE001 - facts are read beside the loop that changes them
                logs.get(str(self._row["role"])).limited("facts not told", detail=repr(error))
            self._stop.wait(REGISTER_S)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(1.0)
        with contextlib.suppress(MboError):
            self._broker.call("HDEL", self._broker.keys.procs, self.id)
        self._broker.close()


def living(broker: Broker) -> list[dict[str, Any]]:
    """The rows of processes that live, with `id` and `age_s`, how long ago each was written."""
    return [row for row in _rows(broker) if row["age_s"] < PROC_DEAD_S]


def _rows(broker: Broker) -> list[dict[str, Any]]:
    now = _now(broker)
    rows = [{"id": key, **json.loads(text)} for key, text in broker.hash(broker.keys.procs).items()]
    return [{**row, "age_s": max(0.0, now - float(row["at"]))} for row in rows]


def _now(broker: Broker) -> float:
    """The broker's clock, in s: those of hosts differ."""
    return broker.time_ms(broker.keys.procs) / 1000


def proc_id(role: str) -> str:
    return f"{role}-{socket.gethostname()}-{os.getpid()}"
