"""The `mbo` command: one module a command, imported only when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from shared.runner import guarded
from shared.settings import Parser

# name: (module, one line). A module has add_arguments(parser) and run(args) -> exit status.
COMMANDS = {
    "demo": ("services.demo", "the whole pipeline on this machine with a simulated market"),
    "up": ("services.up", "the pipeline with choices: sources, speed, workers, broker"),
    "simulate": ("services.simulate", "write a DBN file from the market simulator, with the true books"),
    "rebuild": ("services.rebuild", "rebuild order books from files, offline"),
    "export": ("services.export", "files out of the store: DBN, CSV, JSON lines, Parquet"),
    "watch": ("services.watch", "a live ladder in the terminal"),
    "status": ("services.status", "shards, owners, lag and rates of a running pipeline"),
    "sql": ("services.sql", "SQL over the store"),
    "keys": ("services.keys", "make, list and revoke API keys"),
    "backfill": ("services.backfill", "repair a recorded gap from Databento Historical"),
}
BENCHES = {
    "engine": ("services.bench.engine", "records a second through the order-book engine"),
    "pipeline": ("services.bench.pipeline", "the real services end to end: rate, latency, CPU, memory"),
    "persist": ("services.bench.persist", "records a second into blocks, bytes a record, queries"),
    "sse": ("services.bench.sse", "fan-out to many clients"),
}
# One service a process: what containers run. A module has main(argv) -> exit status and settings of its own.
SERVICES = {
    "ingest": ("services.ingest.__main__", "read a source, append its records to the feed's streams"),
    "book": ("services.book.__main__", "rebuild the books of a share of all shards"),
    "gateway": ("services.gateway.__main__", "serve books, trades and order flow over SSE and REST"),
    "persist": ("services.persist.__main__", "record everything to SQLite"),
}


def _usage() -> str:
    lines = ["usage: mbo COMMAND [options]   (mbo COMMAND --help says more)", "", "commands:"]
    lines += [f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items()]
    lines += [f"  bench {name:<9} {line}" for name, (_, line) in BENCHES.items()]
    lines += ["", "services (one process each; `mbo up` starts them all):"]
    lines += [f"  {name:<10} {line}" for name, (_, line) in SERVICES.items()]
    return "\n".join(lines)


def _run_command(name: str, module: str, line: str, argv: Sequence[str]) -> int:
    command = importlib.import_module(module)
    parser = Parser(prog=f"mbo {name}", description=line)
    command.add_arguments(parser)
    return int(command.run(parser.parse_args(list(argv))))


def dispatch(argv: Sequence[str]) -> int:
    """Run one command; raises UsageError."""
    from shared.errors import UsageError

    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    name, rest = argv[0], list(argv[1:])
    if name in ("--version", "version"):
        from importlib.metadata import version

        print(f"mbostream {version('mbostream')}")
        return 0
    if name in SERVICES:
        os.environ.setdefault("MBO_SERVICE", name)
        return int(importlib.import_module(SERVICES[name][0]).main(rest))
    if name in COMMANDS:
        return _run_command(name, *COMMANDS[name], rest)
    if name == "bench":
        if not rest or rest[0] not in BENCHES:
            raise UsageError(f"mbo bench what? one of: {', '.join(BENCHES)}")
        return _run_command(f"bench {rest[0]}", *BENCHES[rest[0]], rest[1:])
    raise UsageError(f"no command {name!r}; `mbo --help` lists them")


def main() -> int:
    return guarded(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
