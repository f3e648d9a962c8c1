"""A fake of Databento's Historical API on HTTP.

Cost, size, ranges and batch jobs over records of ours, with faults.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import ssl
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlparse

import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.dbn import Interval, Metadata, SymbolMapping
from shared.dbn.metadata import encode, ns_to_date
from shared.records import Rows

HOST = "127.0.0.1"
KEY = "db-0123456789abcdefghijklmnopqrs"
DAY_NS = 86_400_000_000_000


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for HOST that signs itself, and its key: the client speaks https only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    public, private = folder / "fake.crt", folder / "fake.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return public, private


def nanoseconds(text: str) -> int:
    """The time of a request's parameter."""
    if text.isdigit():
        return int(text)
    whole, _, fraction = text.partition(".")
    moment = dt.datetime.fromisoformat(whole.removesuffix("Z"))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp()) * 10**9 + int(
        fraction.split("+")[0].removesuffix("Z").ljust(9, "0")[:9] or 0
    )


class FakeHistorical:
    """`folder` gets its certificate; set REQUESTS_CA_BUNDLE to `certificate`.

    `faults`, one request each, in order: an HTTP status with a message; "cut": the connection breaks half
    way; "empty": an answer of no bytes; "": none.
    """

    def __init__(
        self, records: Rows, symbols: dict[int, str], folder: Path, *, dataset: str = "TEST.SET"
    ) -> None:
        self.records, self.symbols, self.dataset = records, symbols, dataset
        self.faults: deque[tuple[int, str] | str] = deque()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.polls_until_done = 2
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self.answer(parse_qs(self.rfile.read(length).decode()))

            def do_GET(self) -> None:
                self.answer(parse_qs(urlparse(self.path).query))

            def answer(self, query: dict[str, list[str]]) -> None:
                fake.answer(
                    self, urlparse(self.path).path, {name: values[0] for name, values in query.items()}
                )

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.certificate, private = certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, private)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHistorical:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def count(self, name: str) -> int:
        """How often an endpoint was asked."""
        return sum(path.endswith(name) for path, _ in self.requests)

    def dbn(self, start: int, end: int, names: list[str]) -> bytes:
        """The file of a range."""
        ids = [key for key, name in self.symbols.items() if names == ["ALL_SYMBOLS"] or name in names]
        first, last = ns_to_date(start), ns_to_date(end - 1 + DAY_NS)
        meta = Metadata(
            dataset=self.dataset, start=start, end=end, symbols=tuple(self.symbols[key] for key in ids),
            mappings=tuple(SymbolMapping(self.symbols[key], (Interval(first, last, str(key)),)) for key in ids),
        )  # fmt: skip
        rows = self.records
        rows = rows[(rows["ts_recv"] >= start) & (rows["ts_recv"] < end)]
        rows = rows[[int(key) in ids for key in rows["instrument_id"]]]
        return zstandard.ZstdCompressor().compress(encode(meta) + rows.tobytes())

    def answer(self, http: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        self.requests.append((path, query))
        given = base64.b64decode(http.headers.get("Authorization", "Basic Og==").split()[1]).decode()
        if given != f"{KEY}:":
            self._send(http, 401, {"detail": "Authentication failed."})
            return
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, tuple):
            self._send(http, fault[0], {"detail": fault[1]})
            return
        body = b"" if fault == "empty" else self._body(path, query)
        if isinstance(body, bytes):
            self._send_bytes(http, body, cut=fault == "cut")
        else:
            self._send(http, 200, body)

    def _body(self, path: str, query: dict[str, str]) -> Any:
        if path.endswith("get_cost"):
            return 12.5
        if path.endswith("get_billable_size"):
            return 56 * len(self.records)
        if path.endswith("get_range"):
            return self.dbn(
                nanoseconds(query["start"]), nanoseconds(query["end"]), query["symbols"].split(",")
            )
        if path.endswith("submit_job"):
            job: dict[str, Any] = {"id": f"JOB-{len(self.jobs) + 1}", "state": "queued", "query": query}
            self.jobs[job["id"]] = job
            return job
        if path.endswith("list_jobs"):
            self.polls_until_done -= 1
            for job in self.jobs.values():
                if self.polls_until_done <= 0 and job["state"] == "queued":
                    job["state"] = "done"
            return list(self.jobs.values())
        if path.endswith("list_files"):
            job = self.jobs[query["job_id"]]
            return [
                {
                    "filename": name, "size": len(blob), "hash": f"sha256:{hashlib.sha256(blob).hexdigest()}",
                    "urls": {"https": f"{self.url}/v0/batch/download/{job['id']}/{name}", "ftp": ""},
                }
                for name, blob in self.files(job["query"]).items()
            ]  # fmt: skip
        if "/batch/download/" in path:
            _, job_id, name = path.rsplit("/", 2)
            return self.files(self.jobs[job_id]["query"])[name]
        raise AssertionError(f"nobody asks for {path}")

    def files(self, query: dict[str, str]) -> dict[str, bytes]:
        """The files of a batch job: one a day, and a manifest."""
        start, end = nanoseconds(query["start"]), nanoseconds(query["end"])
        out = {"metadata.json": b"{}"}
        while start < end:
            stop = min(end, (start // DAY_NS + 1) * DAY_NS)
            name = f"test-set-{ns_to_date(start)}.mbo.dbn.zst"
            out[name] = self.dbn(start, stop, query["symbols"].split(","))
            start = stop
        return out

    def _send(self, http: BaseHTTPRequestHandler, status: int, body: Any) -> None:
        blob = json.dumps(body).encode()
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(blob)))
        http.end_headers()
        http.wfile.write(blob)

    def _send_bytes(self, http: BaseHTTPRequestHandler, blob: bytes, *, cut: bool) -> None:
        first = 0
        if (wanted := http.headers.get("Range")) is not None:
            first = int(wanted.removeprefix("bytes=").split("-")[0])
        http.send_response(206 if first else 200)
        http.send_header("Content-Length", str(len(blob) - first))
        http.end_headers()
        rest = blob[first:]
        http.wfile.write(rest[: len(rest) // 2] if cut else rest)
        if cut:
            http.close_connection = True
