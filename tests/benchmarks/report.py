"""`python -m tests.benchmarks.report [NAME …] [--into FILE]`: run benchmarks, write what they measured into RESULTS.md.

Each section of RESULTS.md between `<!-- NAME, CPU -->` and `<!-- /NAME, CPU -->` belongs to one row of BENCHMARKS on a
kind of machine and is written only here, with date and commit: what another machine measured stays beside it. Another
file is for an hour at which the machine is worth less (tests.benchmarks.pace), lest it replaces a better one. Without
names, all of them run; the exit status says whether each was right.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from services.bench.pipeline import summary
from tests.benchmarks.pace import Paced, undisturbed

RESULTS = Path(__file__).with_name("RESULTS.md")
Table = Iterator[Sequence[object]]  # the head first


class Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


class Benchmark(NamedTuple):
    """One section: the arguments of `mbo bench`, and the table of its JSON answer.

    It is run until `runs` of its runs were not disturbed by the machine's neighbours (tests.benchmarks.pace).
    """

    name: str
    args: str
    table: Callable[[Any], Table]
    runs: int = 1

    @property
    def command(self) -> str:
        return f"mbo bench {self.args}"


def engine(rows: list[dict[str, Any]]) -> Table:
    yield "data", "engine", "outputs", "M records/s", "bbo_hash"
    for row in rows:
        yield (
            row["data"],
            row["engine"],
            row["outputs"],
            f"{row['records_per_s'] / 1e6:.2f}",
            row["bbo_hash"][:12],
        )


def pipeline(found: dict[str, Any]) -> Table:
    spread, cpu = found["spread"], found["cpu_s_per_million"]
    yield "", "median run", f"all {found['runs']} runs"
    yield "records/s", f"{found['records_per_s']:,.0f}", ", ".join(f"{x:,}" for x in spread["records_per_s"])
    yield (
        "CPU-s per million",
        f"{cpu['total']:.2f}",
        ", ".join(f"{x:.2f}" for x in spread["cpu_s_per_million"]),
    )
    parts = ", ".join(f"{name} {value:.2f}" for name, value in cpu.items() if name != "total")
    yield "… by process", parts, ""
    for stage, values in found["latency_ms"].items():
        said = " / ".join(f"{values[name]:.2f}" for name in ("p50", "p99", "p99_9", "max"))
        runs = ", ".join(
            f"{a:.2f} / {b:.2f}" for a, b in zip(spread["p50_ms"], spread["p99_ms"], strict=True)
        )
        yield f"{stage}, p50 / p99 / p99.9 / max ms", said, runs if stage == "end_to_end" else ""
    yield "RSS MB", ", ".join(f"{name} {value:.0f}" for name, value in found["rss_mb"].items()), ""
    yield "end state", "as the offline rebuild" if found["state_ok"] else "WRONG", ""


def sse(rows: list[dict[str, Any]]) -> Table:
    yield (
        "scenario",
        "clients",
        "events/s",
        "M records/s",
        "p50 / p99 ms",
        "KB a client",
        "gateway, % of a core",
        "storm s",
    )
    for row in rows:
        latency = row["latency_ms"]
        yield (row["scenario"], row["clients"], f"{row['events_per_s']:,.0f}", f"{row['records_per_s'] / 1e6:.2f}",
               f"{latency.get('p50', 0):.1f} / {latency.get('p99', 0):.1f}", f"{row['kb_per_client']:.1f}",
               f"{row['cpu_percent']:.0f}", f"{row['storm_s']:.2f}")  # fmt: skip


def persist(rows: list[dict[str, Any]]) -> Table:
    names = [name for name in rows[0] if name not in ("instruments", "records")]
    yield "", *(f"{row['instruments']} instruments, {row['records']:,} records" for row in rows)
    for name in names:
        yield name, *(f"{row[name]:,.2f}" for row in rows)


RUNS = 5
PACED = "--seconds 8 --shards 1 --pin --json"
BENCHMARKS = (
    Benchmark("engine", "engine --json", engine),
    Benchmark("full tilt", "pipeline --json", pipeline, RUNS),
    Benchmark("full tilt without persist", "pipeline --no-persist --json", pipeline, RUNS),
    Benchmark("500 k records/s", f"pipeline --rate 500000 {PACED}", pipeline, RUNS),
    Benchmark("10 k records/s", f"pipeline --rate 10000 {PACED}", pipeline, RUNS),
    Benchmark("sse", "sse --scenario all --runs 3 --no-pin --json", sse),
    Benchmark("persist", "persist --json", persist),
)


def cpu() -> str:
    """The processor by name: `AMD EPYC`, `Intel Xeon 2.80GHz`."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"model name\s*:\s*(.+)", text)
    return re.sub(r"\((R|TM)\)| Processor| CPU| @", "", model[1]) if model else platform.machine()


def machine() -> str:
    """When and where: date, commit, CPU, cores, Python."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return (f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip() or 'unknown'}, {cpu()}, "
            f"{os.cpu_count()} cores, Python {platform.python_version()}")  # fmt: skip


def markdown(table: Table) -> str:
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table]
    lines.insert(1, "|" + "---|" * (lines[0].count("|") - 1))
    return "\n".join(lines)


def put(name: str, text: str, path: Path = RESULTS) -> None:
    """Replace this machine's section `name` of the results, or add it at the end of a file that may be new."""
    name = f"{name}, {cpu()}"
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = f"{start}\n{text.strip()}\n{end}"
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    if start in whole:
        before, _, rest = whole.partition(start)
        whole = before + section + rest.partition(end)[2]
    else:
        whole = f"{whole.rstrip()}\n\n{section}\n".lstrip()
    path.write_text(whole, encoding="utf-8")


def answer(args: str) -> Any:
    """What `mbo bench ARGS` says in JSON; None if it failed."""
    done = subprocess.run([sys.executable, "-m", "services", "bench", *args.split()], stdout=subprocess.PIPE, text=True,
                          check=False)  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def chosen(rows: Sequence[N], names: Sequence[str]) -> Sequence[N]:
    """The rows of these names, all of them without any; SystemExit that lists the names there are."""
    known = {each.name: each for each in rows}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"{unknown[0]!r} is none of: {', '.join(known)}")
    return [known[name] for name in names] or rows


def ended(failed: Sequence[str]) -> int:
    """The exit status, and what failed, said."""
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def section(each: Benchmark, found: Sequence[Paced[Any]]) -> str:
    """The undisturbed runs as a table; of the rest of a pipeline's runs what they had been."""
    kept, rest = found[: each.runs], found[each.runs :]
    results = [run.result for run in kept]
    table = markdown(each.table(summary(results) if each.table is pipeline else results[0]))
    loops = ", ".join(f"{run.pace:.1f}" for run in kept)
    text = f"### {each.name}\n`{each.command}` · {machine()}; a fixed loop beside each run took {loops} ms\n\n{table}"
    if rest and each.table is pipeline:
        text += "\n\nMore runs, disturbed by neighbours:\n\n" + markdown(disturbed(rest))
    return text


def disturbed(runs: Sequence[Paced[Any]]) -> Table:
    yield "the loop, ms", "records/s", "CPU-s per million", "p50 / p99 ms", "end state"
    for pace, run in runs:
        latency = run["latency_ms"]["end_to_end"]
        yield (f"{pace:.1f}", f"{run['records_per_s']:,.0f}", f"{run['cpu_s_per_million']['total']:.2f}",
               f"{latency['p50']:.2f} / {latency['p99']:.2f}", "right" if run["state_ok"] else "WRONG")  # fmt: skip


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="FILE", help="instead of RESULTS.md")
    args = parser.parse_args(argv)
    failed = []
    for each in chosen(BENCHMARKS, args.names):
        print(f"{each.command} …", flush=True)
        found = undisturbed(lambda args=each.args: answer(args), each.runs)  # type: ignore[misc]
        if not found:
            failed.append(each.name)
            continue
        text = section(each, found)
        put(each.name, text, args.into)
        print(text, flush=True)
    return ended(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
