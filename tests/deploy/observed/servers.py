"""Prometheus and Alertmanager (Debian's) with our own configuration, pointed at processes on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import ROOT, tool
from tests.support import eventually

MONITORING = ROOT / "monitoring"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, **query: str) -> Any:
    """JSON of a GET; raises OSError."""
    text = f"{url}?{urllib.parse.urlencode(query)}" if query else url
    with urllib.request.urlopen(text, timeout=10) as answer:
        return json.load(answer)


class Server:
    """A child process that answers HTTP on loopback."""

    def __init__(self, command: list[str], port: int, ready: str, log: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._log = log.open("wb")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        eventually(lambda: self._answers(ready), timeout_s=60)

    def _answers(self, path: str) -> bool:
        assert self.process.poll() is None, f"{self.process.args!r} ended: {self._log.name}"
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._log.close()


class Pager:
    """Takes what Alertmanager sends: (receiver, alert, status), in order."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    owner.received.append((body["receiver"], alert["labels"]["alertname"], alert["status"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Alertmanager(Server):
    """With alertmanager.yml as shipped; only its empty receivers get an address."""

    def __init__(self, folder: Path, pager: Pager) -> None:
        config = yaml.safe_load((MONITORING / "alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": pager.url, "send_resolved": True}]
        file, port = folder / "alertmanager.yml", free_port()
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [
            tool("prometheus-alertmanager"), f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        ]  # fmt: skip
        super().__init__(command, port, "/-/ready", folder / "alertmanager.log")

    def inhibited(self) -> set[str]:
        """Alerts that fire and are kept from their receivers because another says why."""
        found = ask(f"{self.address}/api/v2/alerts")
        return {each["labels"]["alertname"] for each in found if each["status"]["inhibitedBy"]}


class Prometheus(Server):
    """With prometheus.yml and all rules as shipped; only where the targets are is another matter than in compose."""

    def __init__(self, folder: Path, targets: dict[str, list[int]], alertmanager: Alertmanager) -> None:
        """`targets`: job → admin ports."""
        config = yaml.safe_load((MONITORING / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        port = free_port()
        config["rule_files"] = [str(MONITORING / "prometheus" / name) for name in config["rule_files"]]
        addresses = {job: [f"127.0.0.1:{each}" for each in ports] for job, ports in targets.items()}
        addresses["prometheus"] = [f"127.0.0.1:{port}"]
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": addresses[job["job_name"]]}]
        host = alertmanager.address.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [host]}]}]}
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [
            tool("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ]  # fmt: skip
        super().__init__(command, port, "/-/ready", folder / "prometheus.log")

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The vector of an instant query."""
        found = ask(f"{self.address}/api/v1/query", query=expr)
        return found["data"]["result"]  # type: ignore[no-any-return]

    def value(self, expr: str) -> float | None:
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> dict[tuple[str, str], str]:
        """(alert, what its labels say) → pending or firing."""
        found: dict[tuple[str, str], str] = {}
        for each in ask(f"{self.address}/api/v1/alerts")["data"]["alerts"]:
            labels = {
                k: v
                for k, v in each["labels"].items()
                if k not in ("alertname", "severity", "instance", "job")
            }
            what = " ".join(f"{k}={v}" for k, v in sorted(labels.items()))
            key = (each["labels"]["alertname"], what)
            if found.get(key) != "firing":
                found[key] = each["state"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        groups = ask(f"{self.address}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def targets_up(self) -> int:
        return sum(
            t["health"] == "up" for t in ask(f"{self.address}/api/v1/targets")["data"]["activeTargets"]
        )
