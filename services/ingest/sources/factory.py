"""Make the sources a user asked for: one for each dataset, because files of two datasets are two feeds."""

from __future__ import annotations

import time
from pathlib import Path

from services.ingest.simulator.market import MarketSpec
from services.ingest.simulator.source import SimulatorSource
from services.ingest.sources.base import Source
from services.ingest.sources.file import FileSource, Selection
from services.ingest.sources.options import KINDS, LIVE, SIM, SourceOptions
from services.ingest.sources.paths import by_dataset, expand, scan
from services.ingest.sources.watch import WatchSource
from shared import logs
from shared.errors import UsageError

log = logs.get("ingest")


def make_sources(options: SourceOptions) -> list[Source]:
    """At least one source.

    Raises SourceError for input that cannot be read, UsageError for wrong combinations.
    """
    kinds = [each for each in options.source if each in KINDS]
    if not options.source:
        raise UsageError("--source is empty: give files or folders, or one of sim, live, historical")
    if kinds and len(options.source) > 1:
        raise UsageError(
            f"--source {kinds[0]} stands alone: give either files or one of sim, live, historical"
        )
    if not kinds:
        return _files(options)
    if kinds[0] == SIM:
        return _simulated(options)
    if kinds[0] == LIVE:
        from services.ingest.sources.live import (
            LiveSource,
        )  # the databento client takes half a second to import

        return [LiveSource(options)]
    from services.ingest.sources.historical import make_historical

    return [make_historical(options)]


def _files(options: SourceOptions) -> list[Source]:
    selection = Selection(symbols=options.symbols, start=options.start, end=options.end)
    if options.watch:
        if len(options.source) != 1 or options.loop:
            raise UsageError("--watch takes one folder, and no --loop")
        return [WatchSource(Path(options.source[0]), options.data, selection, options.dataset)]
    paths = expand(options.source)
    scanned = [scan(path) for path in paths]
    groups = by_dataset(scanned)
    taken = {one.path for group in groups.values() for one in group}
    for path in paths:
        if path not in taken:
            log.warning("file_taken_once", file=str(path), text="another file given has the same content")
    return [FileSource(group, selection, loop=options.loop) for group in groups.values()]


def _simulated(options: SourceOptions) -> list[Source]:
    if options.instruments < 1 or options.sim_rate <= 0:
        raise UsageError("the simulator needs at least one instrument and a rate above 0")
    fixed = options.start is not None
    spec = MarketSpec(
        seed=options.seed,
        instruments=options.instruments,
        rate=options.sim_rate,
        start=options.start if options.start is not None else time.time_ns(),
        messages=options.messages,
    )
    return [SimulatorSource(spec, fixed_start=fixed)]
