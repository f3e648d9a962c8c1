"""The history reader: a process of its own that serves the store over internal HTTP. The API: history_api.py.

It never writes, holds a block or a page of rows per stream, and ends when its parent closes its stdin.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

import uvicorn

from services.persist.history_api import make_app
from services.persist.local import LocalHistory
from shared import logs
from shared.broker import Broker
from shared.errors import MboError

log = logs.get("history")

ADVERTISE_S = 2.0


def _advertise(config: dict[str, Any], url: str, known: LocalHistory, stop: threading.Event) -> None:
    """Write our URL for every feed of the store until told to stop; takes it back then."""
    broker = Broker(config["broker"], config["prefix"], name="history", password=config["password"])
    said: set[str] = set()
    while not stop.is_set():
        try:
            feeds = [feed for feed in known.feeds() if not config["feeds"] or feed in config["feeds"]]
            row = json.dumps(
                {"url": url, "token": config["token"], "at": broker.time_ms(broker.keys.history)}
            )
            if feeds:
                broker.call("HSET", broker.keys.history, *(part for feed in feeds for part in (feed, row)))
            said.update(feeds)
        except MboError as error:
            log.limited("cannot advertise", detail=str(error))
        stop.wait(ADVERTISE_S)
    try:
        if said:
            broker.call("HDEL", broker.keys.history, *said)
    except MboError:
        pass  # it expires by its own time stamp
    broker.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: our parent ends us by our stdin."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def main() -> int:
    """Run the reader with the settings on stdin until stdin ends."""
    config = json.loads(sys.stdin.buffer.readline())
    logs.setup(config["log"], config["log_level"], service="history", pid=os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    known = LocalHistory(config["data"])
    listener = socket.create_server((config["host"], config["port"]), reuse_port=False, backlog=128)
    port = listener.getsockname()[1]
    host = f"[{config['host']}]" if ":" in config["host"] else config["host"]
    url = config["url"] or f"http://{host}:{port}"
    server = _Server(
        uvicorn.Config(
            make_app(known, config["token"]), lifespan="off", log_config=None, access_log=False, http="httptools",
            loop="uvloop", timeout_keep_alive=60, h11_max_incomplete_event_size=16_384,
        )
    )  # fmt: skip
    stop = threading.Event()

    def end(*_: object) -> None:
        server.should_exit = True
        stop.set()

    def wait_for_parent() -> None:
        # not by the file object: its lock would be fatal to an interpreter that ends
        while os.read(sys.stdin.fileno(), 1):
            pass
        end()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=wait_for_parent, name="parent", daemon=True).start()
    advert = threading.Thread(
        target=_advertise, args=(config, url, known, stop), name="advertise", daemon=True
    )
    advert.start()
    log.info("history API", url=url)
    with contextlib.suppress(BrokenPipeError):  # persist, whose status says it, may be gone already
        os.write(sys.stdout.fileno(), f"{url}\n".encode())
    server.run(sockets=[listener])
    end()
    advert.join(3.0)
    known.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
