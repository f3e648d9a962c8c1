"""Which alerts fire when something dies, and clear: `python -m tests.deploy.alerts_live` (about 7 minutes).

The pipeline as plain processes, scraped by a real Prometheus that has every rule that is shipped, with a real
Alertmanager behind it. Each fault must raise its alerts and no other, and they must clear after it is mended. A machine
that is shared with other work may also raise the alerts of lateness (LATENESS): those are shown, never an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.deploy.observed.pipeline import Client, Pipeline
from tests.deploy.observed.servers import Alertmanager, Pager, Prometheus
from tests.support import eventually

LATENESS = {"MboDeliverySlow", "MboBrokerSlow", "MboIngestLate", "MboBookLag", "MboPersistLag"}
ALWAYS = {"MboWatchdog"}
QUIET_S = 45.0
CLEAR_S = 120.0
Key = tuple[str, str]


class Fault(NamedTuple):
    """`fires`: (alert, its labels) that must fire; `may`: alerts that may; `stays`: those that outlast a run."""

    what: str
    strike: Callable[[Pipeline], None]
    mend: Callable[[Pipeline], None]
    fires: tuple[Key, ...]
    may: frozenset[str] = frozenset()
    stays: frozenset[str] = frozenset()
    inhibited: frozenset[str] = frozenset()
    within_s: float = 180.0


def _restart(*names: str) -> Callable[[Pipeline], None]:
    def mend(pipeline: Pipeline) -> None:
        for name in names:
            pipeline[name].start()
        pipeline.wait_ready()

    return mend


def _broker_again(pipeline: Pipeline) -> None:
    pipeline.broker.start()
    pipeline.wait_ready()


FEED = "feed=sim.mbo"
# What the loss of the broker leaves in counters over the last 5 or 10 minutes: it clears, but after this run.
AFTER_BROKER = frozenset(
    {"MboServiceErrors", "MboServiceRestarting", "MboIngestResent", "MboBrokerReconnects", "MboImagesFailing",
     "MboEpochsLost"}
)  # fmt: skip
FAULTS = (
    Fault(
        "kill -9 of one of two book workers", lambda p: p["book-1"].kill(), _restart("book-1"),
        (("MboWorkerLost", ""),), may=frozenset({"MboShardsUnowned"}),
    ),
    Fault(
        "kill -9 of persist", lambda p: p["persist"].kill(), _restart("persist"),
        (("MboServiceAbsent", "role=persist"),),
    ),
    Fault(
        "kill -9 of the broker", Pipeline.kill_broker, _broker_again,
        tuple(("MboServiceAbsent", f"role={role}") for role in ("ingest", "book", "persist", "gateway"))
        + tuple(("MboServiceNotReady", f"role={role}") for role in ("ingest", "book", "persist", "gateway")),
        may=AFTER_BROKER | {"MboFeedSilent", "MboShardsUnowned", "MboWorkerLost"},
        stays=AFTER_BROKER,
        inhibited=frozenset({"MboServiceNotReady"}),
    ),
    Fault(
        "kill -9 of ingest", lambda p: p["ingest"].kill(), _restart("ingest"),
        (("MboServiceAbsent", "role=ingest"), ("MboFeedSilent", FEED)),
        may=AFTER_BROKER,
        stays=AFTER_BROKER,
        inhibited=frozenset({"MboFeedSilent"}),
    ),
)  # fmt: skip


class Run:
    """The servers and the record of what fired when."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = Pipeline(folder)
        self.pager = Pager()
        self.began = time.monotonic()
        self.pipeline.start()
        self.client = Client(self.pipeline.address)
        self.client.start()
        self.alertmanager = Alertmanager(folder, self.pager)
        self.prometheus = Prometheus(folder, self.pipeline.targets(), self.alertmanager)
        self.problems: list[str] = []

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)

    def firing(self) -> set[Key]:
        return {
            key
            for key, state in self.prometheus.alerts().items()
            if state == "firing" and key[0] not in ALWAYS
        }

    def healthy(self) -> None:
        """All targets up, all rules healthy, nothing fires."""
        eventually(lambda: self.prometheus.targets_up() == 6, timeout_s=60, every_s=0.5)
        time.sleep(QUIET_S)
        rules = self.prometheus.rules()
        bad = [rule["name"] for rule in rules if rule["health"] != "ok"]
        self.say(
            f"{len(rules)} rules loaded, {len(bad)} of them unhealthy; {self.prometheus.targets_up()} targets up"
        )
        p50, p99 = (
            self.prometheus.value(
                f"histogram_quantile({q}, sum by (le) (rate(mbo_gateway_latency_seconds_bucket[1m])))"
            )
            for q in (0.5, 0.99)
        )
        self.say(f"due time to last write: p50 {(p50 or 0) * 1e3:.1f} ms, p99 {(p99 or 0) * 1e3:.1f} ms")
        unexpected = {name for name, _ in self.firing()} - LATENESS
        self.say(f"fires while all is well: {', '.join(sorted(unexpected)) or 'nothing but the watchdog'}")
        if bad or unexpected:
            self.problems.append(f"a healthy pipeline: {bad} {unexpected}")

    def fault(self, fault: Fault) -> dict[str, Any]:
        """Strike, see what fires, mend, see it clear."""
        before = {name for name, _ in self.firing()}
        self.say(f"--- {fault.what}")
        fault.strike(self.pipeline)
        struck = time.monotonic()
        fired = self._until_fired(fault, struck)
        inhibited = self._inhibited(fault)
        fault.mend(self.pipeline)
        mended = time.monotonic()
        self.say(f"    mended after {mended - struck:.0f} s")
        cleared = self._until_cleared(fault, set(fired), mended)
        allowed = {name for name, _ in fault.fires} | fault.may | LATENESS | before
        extra = {name for name, _ in fired} - allowed
        if extra:
            self.problems.append(f"{fault.what}: fired besides: {sorted(extra)}")
        return {
            "fault": fault.what,
            "fired_after_s": {" ".join(key).strip(): round(after) for key, after in fired.items()},
            "cleared_after_s": {" ".join(key).strip(): round(after) for key, after in cleared.items()},
            "inhibited": sorted(inhibited),
        }

    def _until_fired(self, fault: Fault, struck: float) -> dict[Key, float]:
        fired: dict[Key, float] = {}
        there = self.firing()
        while not set(fault.fires) <= fired.keys():
            for key in self.firing() - there - fired.keys():
                fired[key] = time.monotonic() - struck
                self.say(f"    {' '.join(key).strip()} fires, {fired[key]:.0f} s after")
            if time.monotonic() - struck > fault.within_s:
                missing = set(fault.fires) - fired.keys()
                self.problems.append(f"{fault.what}: {missing} did not fire within {fault.within_s:.0f} s")
                break
            time.sleep(0.5)
        return fired

    def _inhibited(self, fault: Fault) -> set[str]:
        """Alerts that Alertmanager keeps back because another names the cause."""
        try:
            eventually(lambda: fault.inhibited <= self.alertmanager.inhibited(), timeout_s=30, every_s=0.5)
        except AssertionError:
            self.problems.append(f"{fault.what}: {set(fault.inhibited)} should have been inhibited")
        found = self.alertmanager.inhibited()
        if found:
            self.say(f"    Alertmanager keeps back: {', '.join(sorted(found))}")
        return found

    def _until_cleared(self, fault: Fault, fired: set[Key], mended: float) -> dict[Key, float]:
        cleared: dict[Key, float] = {}
        waiting = {key for key in fired if key[0] not in fault.stays | LATENESS}
        while waiting:
            for key in waiting - self.firing():
                cleared[key] = time.monotonic() - mended
                self.say(f"    {' '.join(key).strip()} clears, {cleared[key]:.0f} s after it was mended")
            waiting -= cleared.keys()
            if time.monotonic() - mended > CLEAR_S:
                self.problems.append(f"{fault.what}: {waiting} did not clear")
                break
            time.sleep(0.5)
        return cleared

    def close(self) -> None:
        self.client.close()
        self.prometheus.close()
        self.alertmanager.close()
        self.pager.close()
        self.pipeline.close()


def run(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """(what fired and cleared by fault, what was not as it should be)."""
    live = Run(folder)
    try:
        live.healthy()
        found = [live.fault(fault) for fault in FAULTS]
        heard = sorted({(receiver, alert) for receiver, alert, _ in live.pager.received})
        live.say("Alertmanager notified: " + ", ".join(f"{alert} → {receiver}" for receiver, alert in heard))
        live.say(f"the client over all of this: {json.dumps(live.client.events)}")
        return found, live.problems
    finally:
        live.close()


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory(prefix="mbo-alerts-") as name:
        found, problems = run(Path(name))
    print(json.dumps(found, indent=1))
    for problem in problems:
        print(f"NOT AS IT SHOULD BE: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
