"""`python -m tests.deploy.containers.watcher URL SECONDS`: one SSE client over a whole run, as a process of its own.

Counts events, and deltas that do not follow what it has; comes back by id when cut off.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import Any


class Watcher:
    """Follows the delta rule on every view; `broken` counts deltas that did not follow."""

    def __init__(self) -> None:
        self.views: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.broken = 0
        self.last_id = ""

    def follow(self, url: str, end: float) -> None:
        """Until `end` (monotonic), over reconnects."""
        while time.monotonic() < end:
            head = {"Last-Event-ID": self.last_id} if self.last_id else {}
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=head), timeout=20) as stream:
                    self.counts["connected"] = self.counts.get("connected", 0) + 1
                    self._read(stream, end)
            except OSError:
                time.sleep(0.2)

    def _read(self, stream: Any, end: float) -> None:
        event = ""
        for raw in stream:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("id: "):
                self.last_id = line[4:]
            elif line.startswith("data: "):
                self.counts[event] = self.counts.get(event, 0) + 1
                self._take(event, json.loads(line[6:]))
            if time.monotonic() > end:
                return

    def _take(self, event: str, body: dict[str, Any]) -> None:
        if event == "hello":
            for view in body["views"]:
                if not view["resumed"]:
                    self.views.pop(view["view"], None)
        elif event == "snapshot":
            self.views[body["view"]] = body["q"]
        elif event == "delta":
            if self.views.get(body["view"]) != body["p"]:
                self.broken += 1
            else:
                self.views[body["view"]] = body["q"]


def start(url: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.deploy.containers.watcher", url, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it saw; waits for its end."""
    said, _ = process.communicate(timeout=120)
    return json.loads(said)  # type: ignore[no-any-return]


def main() -> int:
    watcher = Watcher()
    watcher.follow(sys.argv[1], time.monotonic() + float(sys.argv[2]))
    print(json.dumps({"counts": watcher.counts, "broken": watcher.broken, "views": len(watcher.views)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
