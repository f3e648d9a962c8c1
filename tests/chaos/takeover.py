"""How long shards stay without an owner: the watch that chaos uses, and `python -m tests.chaos.takeover`.

The program measures on a quiet pipeline: five workers on eight shards, a market at a rate; one after the other but the
last is ended, then five live again. The time is from the signal to the first commit under another token, of the last of
the worker's shards.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from shared.broker import Broker
from shared.errors import MboError
from tests.support import eventually
from tests.support.pipeline import Pipeline

POLL_S = 0.005
WORKERS = 5


class Shard(NamedTuple):
    owner: str
    token: str
    offset: str  # committed


def shards_of(broker: Broker) -> dict[tuple[str, int], Shard]:
    """Lease and offset of every shard of every feed."""
    keys, found = broker.keys, {}
    for name in broker.call("SMEMBERS", keys.feeds):
        feed = name.decode()
        shards = int(broker.hash(keys.feed(feed, "meta")).get("shards", 0))
        rows = broker.pipe(
            [("HMGET", keys.shard(feed, shard, "lease"), "owner", "token") for shard in range(shards)]
            + [("HGET", keys.shard(feed, shard, "pos"), "book") for shard in range(shards)]
        )
        for shard in range(shards):
            owner, token = ((text or b"").decode() for text in rows[shard])
            found[feed, shard] = Shard(owner, token, (rows[shards + shard] or b"").decode())
    return found


class Watch(threading.Thread):
    """Polls all leases; `expect` says that an owner is about to lose its shards. `times` by cause, in seconds."""

    def __init__(self, url: str, every_s: float = POLL_S) -> None:
        super().__init__(daemon=True)
        self._broker, self._every_s = Broker(url, name="takeover"), every_s
        self._now: dict[tuple[str, int], Shard] = {}
        self._waiting: dict[tuple[str, int], tuple[float, str, Shard, str | None]] = {}
        self._lock = threading.Lock()
        self._is_asked_to_stop = False
        self.times: dict[str, list[float]] = {}  # a shard each
        self.last: dict[str, list[float]] = {}  # the last shard of each signal

    def expect(self, owner: str, cause: str) -> int:
        """From now on, the shards of `owner` count as waiting; how many there are."""
        with self._lock:
            now = time.monotonic()
            mine = {key: shard for key, shard in self._now.items() if owner and shard.owner == owner}
            for key, shard in mine.items():
                self._waiting.setdefault(key, (now, cause, shard, None))
            return len(mine)

    @property
    def is_settled(self) -> bool:
        with self._lock:
            return not self._waiting

    def shards(self) -> dict[tuple[str, int], Shard]:
        """As they were at the last look."""
        with self._lock:
            return dict(self._now)

    def run(self) -> None:
        while not self._is_asked_to_stop:
            try:
                now = shards_of(self._broker)
            except MboError:
                time.sleep(0.02)
                continue
            with self._lock:
                self._now = now
                self._advance(time.monotonic())
            time.sleep(self._every_s)

    def _advance(self, at: float) -> None:
        """A shard is taken over once something was committed under a token that is not the old one."""
        done: dict[tuple[float, str], float] = {}
        for key, (since, cause, before, offset) in list(self._waiting.items()):
            shard = self._now.get(key)
            if shard is None or not shard.owner or shard.token == before.token:
                continue
            if offset is None:  # a new owner: what is committed from here on is its work
                self._waiting[key] = (since, cause, before, shard.offset)
            elif shard.offset != offset:
                del self._waiting[key]
                self.times.setdefault(cause, []).append(at - since)
                done[since, cause] = at - since
        for (since, cause), took in done.items():
            if not any(waiting[:2] == (since, cause) for waiting in self._waiting.values()):
                self.last.setdefault(cause, []).append(took)

    def stop(self) -> None:
        self._is_asked_to_stop = True
        self.join(5)
        self._broker.close()


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Tries, median, 9 of 10, worst, in seconds."""
    return {
        cause: {
            "tries": len(found), "p50_s": round(statistics.median(found), 3),
            "p90_s": round(sorted(found)[int(len(found) * 0.9)], 3), "max_s": round(max(found), 3),
        }
        for cause, found in sorted(times.items())
    }  # fmt: skip


class Workers:
    """Book workers of the program's own, replaced as they are ended."""

    def __init__(self, url: str, count: int, log: Path) -> None:
        self.url, self.count, self._log = url, count, log.open("wb")
        self.alive: dict[str, subprocess.Popen[bytes]] = {}
        self._made = 0

    def fill(self) -> None:
        while len(self.alive) < self.count:
            self._made += 1
            name = f"worker-{self._made}"
            command = [sys.executable, "-m", "services.book", "--broker", self.url, "--log", "json"]
            self.alive[name] = subprocess.Popen([*command, "--owner", name], stderr=self._log)

    def end(self, name: str, number: signal.Signals) -> None:
        process = self.alive.pop(name)
        process.send_signal(number)
        threading.Thread(target=process.wait, daemon=True).start()

    def close(self) -> None:
        for process in self.alive.values():
            process.kill()
            process.wait()
        self._log.close()


def measure(tries: int, causes: list[signal.Signals], rate: int, work: Path) -> dict[str, dict[str, float]]:
    rng = random.Random(1)
    args = ["--source", "sim", "--instruments", "64", "--rate", str(rate), "--books", "0", "--shards", "8"]
    with Pipeline(work / "data", *args) as pipeline:
        pipeline.address()
        watch, workers = Watch(pipeline.url), Workers(pipeline.url, WORKERS, work / "workers.log")
        watch.start()
        try:
            for cause in causes:
                for _ in range(tries):
                    if len(workers.alive) <= 1:
                        workers.fill()
                    eventually(
                        lambda: {shard.owner for shard in watch.shards().values()} == set(workers.alive),
                        timeout_s=60,
                    )
                    time.sleep(rng.uniform(0.2, 0.9))  # anywhere between two heartbeats
                    name = rng.choice(sorted(workers.alive))
                    assert watch.expect(name, cause.name) > 0
                    workers.end(name, cause)
                    eventually(lambda: watch.is_settled, timeout_s=60, every_s=0.005)
                    print(
                        f"{cause.name} {name}: {watch.last[cause.name][-1]:.3f} s",
                        file=sys.stderr,
                        flush=True,
                    )
        finally:
            watch.stop()
            workers.close()
    return summary(watch.last)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeover", description=__doc__)
    parser.add_argument("--tries", type=int, default=50, help="of each signal")
    parser.add_argument("--signals", nargs="+", default=["SIGKILL", "SIGTERM"])
    parser.add_argument("--rate", type=int, default=4000, help="records a second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mbo-takeover-") as folder:
        found = measure(args.tries, [signal.Signals[name] for name in args.signals], args.rate, Path(folder))
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
