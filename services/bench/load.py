"""The load client of `mbo bench sse`: many streams in one process, with as little work a byte as can be.

Run by the benchmark as `python -m services.bench.load`; one line of JSON in on stdin, one out at the end. Compressed
blocks are the same bytes for every client, so each distinct block is inflated once and looked up after that; every
block a client gets is still counted by its own content.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
import zlib
from typing import Any, NamedTuple, cast

import uvloop

_COUNT = re.compile(rb'"n":(\d+)')
_STAMPS = re.compile(rb'"stamps":\["(\d+)",(-?\d+),(-?\d+),(-?\d+)\]')
CACHE_BLOCKS = 256
CONNECTS_AT_ONCE = 200


class Totals:
    """What all streams got."""

    def __init__(self) -> None:
        self.events = self.records = self.bytes = self.blocks = self.byes = 0
        self.latencies_ns: list[int] = []
        self.gateway_ns: list[int] = []  # of the same, until the gateway made the block
        self.blocks_seen: dict[bytes, Seen] = {}
        self.counting = False


class Stream(asyncio.Protocol):
    """One client: HTTP/1.1 chunks of SSE."""

    def __init__(
        self, request: bytes, totals: Totals, compressed: bool, sampled: bool, ready: asyncio.Future[None]
    ) -> None:
        self._request, self._totals, self._compressed, self._sampled = request, totals, compressed, sampled
        self._ready = ready
        self._buffer = b""
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self.transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(f"closed before the stream began: {exc}"))
        self._totals.byes += 1

    def data_received(self, data: bytes) -> None:
        now = time.time_ns()
        buffer = self._buffer + data if self._buffer else data
        if not self._in_body:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = buffer
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._ready.set_exception(ConnectionError(head.decode("latin-1")[:200]))
                self.transport.abort()
                return
            self._in_body, buffer = True, rest
        at, size = 0, len(buffer)
        while True:
            line = buffer.find(b"\r\n", at)
            if line < 0:
                break
            length = int(buffer[at:line], 16)
            if line + length + 4 > size:
                break
            self._block(buffer[line + 2 : line + 2 + length], now)
            at = line + length + 4
        self._buffer = buffer[at:]

    def _block(self, block: bytes, now: int) -> None:
        totals = self._totals
        if not self._ready.done():
            self._ready.set_result(None)
            return
        if not totals.counting:
            return
        totals.blocks += 1
        totals.bytes += len(block)
        seen = totals.blocks_seen.get(block)
        if seen is None:
            seen = _read(_text(block, self._compressed))
            if len(totals.blocks_seen) >= CACHE_BLOCKS:
                totals.blocks_seen.pop(next(iter(totals.blocks_seen)))
            totals.blocks_seen[block] = seen
        totals.events += seen.events
        totals.records += seen.records
        if self._sampled and seen.due_ns:
            totals.latencies_ns.append(now - seen.due_ns)
            totals.gateway_ns.append(seen.gateway_ns)


class Seen(NamedTuple):
    """What a block says."""

    events: int  # but heartbeats
    records: int
    due_ns: int  # stamp of its first event; 0 without one
    gateway_ns: int  # from then until the gateway made it


def _read(text: bytes) -> Seen:
    stamps = _STAMPS.search(text)
    return Seen(
        text.count(b"event: ") - text.count(b"event: heartbeat"),
        sum(int(n) for n in _COUNT.findall(text)),
        int(stamps[1]) if stamps else 0,
        int(stamps[4]) * 1000 if stamps else 0,
    )


def _text(block: bytes, compressed: bool) -> bytes:
    if not compressed:
        return block
    return zlib.decompressobj(-15).decompress(block)


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    totals = Totals()
    loop = asyncio.get_running_loop()
    accept = "Accept-Encoding: deflate\r\n" if job["compressed"] else ""
    request = f"GET {job['path']} HTTP/1.1\r\nHost: 127.0.0.1:{job['port']}\r\n{accept}\r\n".encode()
    gate = asyncio.Semaphore(CONNECTS_AT_ONCE)
    streams: list[Stream] = []

    async def connect(index: int) -> None:
        ready: asyncio.Future[None] = loop.create_future()
        stream = Stream(request, totals, job["compressed"], index % job["sample"] == 0, ready)
        async with gate:
            await loop.create_connection(lambda: stream, "127.0.0.1", job["port"])
            await ready
        streams.append(stream)

    began = time.monotonic()
    await asyncio.gather(*(connect(index) for index in range(job["clients"])))
    storm_s = time.monotonic() - began
    print(json.dumps({"connected": len(streams), "storm_s": storm_s}), flush=True)
    await asyncio.sleep(job["warm_s"])
    cpu, wall = time.process_time(), time.monotonic()
    totals.counting = True
    await asyncio.sleep(job["seconds"])
    totals.counting = False
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    lost = totals.byes
    for stream in streams:
        stream.transport.abort()
    return {
        "events": totals.events,
        "records": totals.records,
        "bytes": totals.bytes,
        "blocks": totals.blocks,
        "wall_s": wall,
        "client_cpu_percent": 100 * cpu / wall,
        "lost": lost,
        "latency_ms": _quantiles(totals.latencies_ns),
        "gateway_ms": _quantiles(totals.gateway_ns),
    }


def _quantiles(values_ns: list[int]) -> dict[str, float]:
    """In ms; 0 without samples."""
    ranked = sorted(values_ns) or [0]
    return {
        name: ranked[min(len(ranked) - 1, int(len(ranked) * q))] / 1e6
        for name, q in (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0))
    }


def main() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(job))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
