"""The recall process: answers what needs recorded data, apart from the process that serves live.

It reads its configuration as one line of JSON on stdin, listens on a unix socket, and ends when stdin closes. One
thread a connection: one line of JSON in; one line (status, media type, headers) and the body out.
"""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.gateway import recall_calendar, recall_rows
from services.gateway.problems import Problem, unavailable
from services.gateway.recall_play import play
from services.gateway.recall_resume import resume
from services.gateway.recall_rows import Asked
from shared import logs
from shared.broker import Broker
from shared.errors import MboError, UsageError
from shared.history_client import Directory, HistoryDown, HistoryError

log = logs.get("recall")

MAX_JOB_BYTES = 1 << 20
WRITE_BYTES = 65_536
JSON_JOBS = {
    "rows": recall_rows.rows,
    "book": recall_rows.book,
    "activity": recall_calendar.activity,
    "days": recall_calendar.days,
    "recorded": recall_calendar.recorded,
    "resume": resume,
}


class Handler(socketserver.StreamRequestHandler):
    """One job."""

    server: Server
    wbufsize = WRITE_BYTES

    def handle(self) -> None:
        try:
            job = json.loads(self.rfile.readline(MAX_JOB_BYTES))
            self._answer(job)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client left
        except ValueError as error:
            log.error("job not readable", error=str(error))

    def finish(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it left before the last bytes
            super().finish()

    def _answer(self, job: dict[str, Any]) -> None:
        try:
            asked = Asked(self.server.directory, job)
            head: dict[str, Any] = {"status": 200, "media": "application/json", "headers": {}}
            parts: Iterable[bytes]
            if job["what"] == "replay":
                parts, head["media"] = play(asked), "text/event-stream"
            elif job["what"] == "export":
                parts, head["media"], name = recall_rows.export_file(asked)
                head["headers"] = {"content-disposition": f'attachment; filename="{name}"'}
            else:
                parts = [JSON_JOBS[job["what"]](asked)]
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001 - every failure is an answer
            problem = as_problem(error, job)
            self._send({"status": problem.status, "headers": problem.headers}, [problem.body()])
            return
        self._send(head, parts)

    def _send(self, head: dict[str, Any], parts: Iterable[bytes]) -> None:
        self.wfile.write(json.dumps(head).encode() + b"\n")
        for part in parts:
            self.wfile.write(part)
            if len(part) < WRITE_BYTES:
                self.wfile.flush()


def as_problem(error: Exception, job: dict[str, Any]) -> Problem:
    """What a client is told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HistoryDown):
        return unavailable("history", f"{error}", 2)
    if isinstance(error, HistoryError | UsageError):
        return Problem(404, "not-recorded", "Not recorded", str(error))
    if isinstance(error, MboError):
        log.limited("job failed", what=job.get("what"), detail=str(error))
        return unavailable("recall", "recorded data cannot be read now: try again", 2)
    log.error("job failed", what=job.get("what"), error=f"{type(error).__name__}: {error}")
    return Problem(500, "internal", "Internal error", "it was logged; try again, or tell the operator")


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, directory: Directory) -> None:
        self.directory = directory
        super().__init__(path, Handler)


def main() -> int:
    config = json.loads(sys.stdin.buffer.readline())
    logs.setup(config["log"], config["log_level"], service="recall", pid=os.getpid())
    secret = config["broker_password_file"]
    password = Path(secret).read_text(encoding="utf-8").strip() if secret else None
    os.nice(5)
    directory = Directory(Broker(config["broker"], config["prefix"], name="recall", password=password))
    os.umask(0o177)
    with Server(config["socket"], directory) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()  # until the gateway ends
        server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
