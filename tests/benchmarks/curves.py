"""`python -m tests.benchmarks.curves [NAME …]`: what one parameter does to the whole pipeline, as tables and plots.

Every point is one `mbo bench pipeline --json` run, whose end state is checked. Tables go into RESULTS.md, plots beside.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.report import answer, chosen, cpu, ended, machine, markdown, put

PLOTS = Path(__file__).with_name("plots")


class Curve(NamedTuple):
    """One swept option of `mbo bench pipeline`; `args` holds what stays the same."""

    name: str
    option: str
    values: tuple[int, ...]
    args: str


CURVES = (
    Curve("instruments", "--instruments", (1, 10, 100, 1_000, 10_000), "--records 6000000"),
    Curve("shards at full tilt", "--shards", (1, 2, 4, 8, 16, 64), "--records 6000000"),
    Curve("shards at 500 k", "--shards", (1, 2, 4, 8, 16), "--rate 500000 --seconds 10"),
    Curve("workers", "--books", (1, 2, 4, 8), "--records 6000000 --shards 8"),
    Curve("clients at 100 k", "--clients", (1, 10, 100, 500, 1_000, 2_000), "--rate 100000 --seconds 10"),
    Curve("records an entry", "--entry-records", (250, 1_000, 2_000, 4_000, 8_000), "--records 6000000"),
    Curve("records", "--records", (5_000_000, 10_000_000, 50_000_000, 200_000_000), ""),
)


def point(curve: Curve, value: int) -> dict[str, Any] | None:
    option = (
        f"--ingest={curve.option}={value}" if curve.option == "--entry-records" else f"{curve.option} {value}"
    )
    return answer(f"pipeline {curve.args} {option} --json")  # type: ignore[no-any-return]


def rows(curve: Curve, points: Sequence[tuple[int, dict[str, Any]]]) -> list[Sequence[object]]:
    table: list[Sequence[object]] = [
        (curve.option.lstrip("-"), "records/s", "CPU-s per million", "ingest", "book", "gateway", "persist", "broker",
         "p50 / p99 ms", "RSS MB, all")
    ]  # fmt: skip
    for value, found in points:
        cpu, latency, lost = found["cpu_s_per_million"], found["latency_ms"]["end_to_end"], found["lost"]
        parts = [f"{cpu.get(role, 0):.2f}" for role in ("ingest", "book", "gateway", "persist", "broker")]
        table.append((f"{value:,}", f"{found['records_per_s']:,.0f}", f"{cpu['total']:.2f}", *parts,
                      f"{lost} ended: slow" if lost else f"{latency['p50']:.1f} / {latency['p99']:.1f}",
                      f"{sum(found['rss_mb'].values()):.0f}"))  # fmt: skip
    return table


def plot(curve: Curve, points: Sequence[tuple[int, dict[str, Any]]]) -> Path:
    """Rate and CPU cost over the option, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = curve.name  # the same picture is the same file
    from matplotlib import pyplot

    figure, rate = pyplot.subplots(figsize=(6, 3), layout="constrained")
    values = [value for value, _ in points]
    rate.plot(values, [found["records_per_s"] / 1e6 for _, found in points], "o-", color="tab:blue")
    rate.set(xscale="log", xlabel=curve.option.lstrip("-"), ylabel="M records/s")
    rate.set_ylim(bottom=0)
    rate.set_xticks(values, [f"{value:,}" for value in values])
    rate.minorticks_off()
    cost = rate.twinx()
    cost.plot(values, [found["cpu_s_per_million"]["total"] for _, found in points], "s--", color="tab:orange")
    cost.set_ylabel("CPU-s per million records")
    cost.set_ylim(bottom=0)
    figure.suptitle(curve.name)
    PLOTS.mkdir(exist_ok=True)
    path = PLOTS / f"{curve.name}-{cpu()}.svg".replace(" ", "-")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def main(names: Sequence[str]) -> int:
    failed = []
    for curve in chosen(CURVES, names):
        points = []
        for value in curve.values:
            print(f"{curve.name}: {curve.option} {value} …", flush=True)
            found = point(curve, value)
            if found is None:
                failed.append(f"{curve.name} at {value}")
            else:
                points.append((value, found))
        if points:
            text = markdown(iter(rows(curve, points)))
            print(text, flush=True)
            picture = plot(curve, points).relative_to(PLOTS.parent)
            put(f"curve {curve.name}", f"### Curve: {curve.name}\n{machine()}; options `{curve.args}`\n\n"
                f"![{curve.name}]({picture})\n\n{text}")  # fmt: skip
    return ended(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
