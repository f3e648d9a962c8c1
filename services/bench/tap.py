"""The latency clients of `mbo bench pipeline`: streams that note when each event arrived against its stamps.

Run by the benchmark as `python -m services.bench.tap`; one line of JSON in on stdin, the sorted latencies' quantiles
out when stdin closes. Every stamp is of this machine's one clock: due, sent by ingest, committed by book, written by
the gateway, received here.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from array import array
from typing import Any, cast

import numpy as np
import uvloop

_MARK = b'"stamps":['
_LONGEST = 200  # bytes that stamps take at most
_STAMPS = re.compile(rb'"stamps":\["(\d+)",(-?\d+),(-?\d+),(-?\d+)\]')
STAGES = ("ingest", "book", "gateway", "end_to_end")
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


class Tap(asyncio.Protocol):
    """One client. A read may cut an event in two: the rest waits for the next read.

    Of each read it takes the oldest event, which has waited longest, and the newest: all events of one write of the
    gateway have the same stamps, and parsing every one would make this client what is measured.
    """

    def __init__(self, request: bytes, samples: dict[str, array[float]]) -> None:
        self._request, self._samples, self._rest = request, samples, b""
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        now = time.time_ns()
        data = self._rest + data
        end = 0
        first = _STAMPS.search(data)
        if first is not None:
            *_, last = _STAMPS.finditer(data, max(data.rfind(_MARK, 0, -_LONGEST), first.start()))
            end = last.end()
            for found in (first,) if last[0] == first[0] else (first, last):
                self._sample(now, found)
        self._rest = data[max(end, len(data) - _LONGEST) :]

    def _sample(self, now: int, found: re.Match[bytes]) -> None:
        for stage, microseconds in zip(STAGES, found.groups()[1:], strict=False):
            self._samples[stage].append(int(microseconds) / 1000)
        self._samples["end_to_end"].append((now - int(found[1])) / 1e6)


def quantiles(values: array[float]) -> dict[str, float | None]:
    """p50 … max in ms; None without samples."""
    if not values:
        return dict.fromkeys(QUANTILES)
    found = np.quantile(np.frombuffer(values), list(QUANTILES.values()))
    return dict(zip(QUANTILES, (round(float(value), 3) for value in found), strict=True))


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    samples: dict[str, array[float]] = {stage: array("d") for stage in STAGES}
    loop = asyncio.get_running_loop()
    taps = []
    for path in job["paths"]:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{job['port']}\r\n\r\n".encode()
        taps.append(Tap(request, samples))
        await loop.create_connection(lambda tap=taps[-1]: tap, "127.0.0.1", job["port"])  # type: ignore[misc]
    print(json.dumps({"connected": len(taps)}), flush=True)
    await asyncio.sleep(job["warm_s"])
    for values in samples.values():
        del values[:]
    await loop.run_in_executor(None, sys.stdin.readline)  # the benchmark ends the measurement
    return {
        "events": len(samples["end_to_end"]),
        "lost": sum(tap.is_lost for tap in taps),
        "latency_ms": {stage: quantiles(values) for stage, values in samples.items()},
    }


def main() -> int:
    job = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(job))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
