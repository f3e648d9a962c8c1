"""What `mbo bench sse` is compared with, where it is installed: sse-starlette, as its documentation uses it.

Run as `python -m services.bench.sse_rival RATE`: an application that makes RATE events a second, each encoded once, and
puts them into a queue for each client. It prints its port. Not a dependency.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

NAME = "sse-starlette"
# What the gateway's book event holds besides its stamps: a client gets as many bytes from both.
LEVELS = [["99.98", 17, 3], ["99.97", 31, 5]]


def is_installed() -> bool:
    return importlib.util.find_spec("sse_starlette") is not None


class Rival:
    """The application in a process of its own."""

    def __init__(self, rate: float) -> None:
        command = [sys.executable, "-m", "services.bench.sse_rival", str(rate)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()  # it has nothing to keep
        self.process.wait()


async def _serve(rate: float) -> None:
    import uvicorn
    from sse_starlette import EventSourceResponse  # type: ignore[import-not-found]
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    queues: set[asyncio.Queue[dict[str, Any]]] = set()

    async def stream(_: Request) -> Response:
        async def events() -> AsyncIterator[dict[str, Any]]:
            queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            queues.add(queue)
            try:
                yield {"event": "hello", "data": "{}"}
                while True:
                    yield await queue.get()
            finally:
                queues.discard(queue)

        return EventSourceResponse(events())  # type: ignore[no-any-return]

    async def produce() -> None:
        due, ordinal = time.time(), 0
        while True:
            due, ordinal = due + 1 / rate, ordinal + 1
            await asyncio.sleep(max(0.0, due - time.time()))
            body = {"view": "book:bench:1:*:5:0", "q": ordinal, "p": ordinal - 1, "bids": LEVELS, "asks": LEVELS,
                    "stamps": [str(int(due * 1e9)), 0, 0, 0]}  # fmt: skip
            event = {"event": "delta", "id": str(ordinal), "data": json.dumps(body, separators=(",", ":"))}
            for queue in queues:
                queue.put_nowait(event)

    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    app = Starlette(routes=[Route("/v1/stream", stream)])
    config = uvicorn.Config(app, log_level="warning", access_log=False, http="httptools", loop="uvloop")
    task = asyncio.create_task(produce())
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])
    task.cancel()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(float(sys.argv[1])))
