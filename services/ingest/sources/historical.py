"""Databento Historical: what a range costs is shown first, then it is downloaded once, day by day, into a
cache of DBN files, and read as files. A download that broke goes on where it stopped: by day, or by byte with
batch files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import databento
from databento.common.error import BentoClientError, BentoError

from services.ingest.sources.access import read_key
from services.ingest.sources.annotate import DAY_NS
from services.ingest.sources.file import FileSource, Selection
from services.ingest.sources.options import SourceOptions
from services.ingest.sources.paths import by_dataset, scan
from shared import logs
from shared.dbn.blocks import zstd_is_complete
from shared.dbn.metadata import ns_to_date
from shared.errors import SourceError, UsageError

log = logs.get("ingest")

T = TypeVar("T")

ATTEMPTS = 4  # of a request that failed for no fault of ours
RETRY_S = 1.0
BATCH_POLL_S = 5.0
_HELP = {
    401: "check DATABENTO_API_KEY",
    402: "the account's balance or limit does not cover it",
    403: "the account is not entitled to this dataset",
    422: "check --dataset, --symbols, --stype-in, --start and --end",
}
logging.getLogger("databento").setLevel(logging.CRITICAL + 1)  # its messages would double ours


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the request that is one file of the cache; ns, by ts_recv, `end` exclusive."""

    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{ns_to_date(self.start)}-{self.start}-{self.end}.mbo.dbn.zst"


def days(start: int, end: int) -> Iterator[Range]:
    """The range cut at midnights UTC."""
    while start < end:
        stop = min(end, (start // DAY_NS + 1) * DAY_NS)
        yield Range(start, stop)
        start = stop


class Historical:
    """One request: dataset, symbols and range. Blocks while it downloads."""

    def __init__(self, options: SourceOptions, say: Callable[[str], None] | None = None) -> None:
        if not options.dataset or options.start is None or options.end is None:
            raise UsageError("--source historical needs --dataset, --start and --end (ns, or dates)")
        if options.start >= options.end:
            raise UsageError("--start must be before --end")
        self._options = options
        self._say = say or (lambda text: print(text, file=sys.stderr))
        self._start, self._end = options.start, options.end
        facts = json.dumps([sorted(options.symbols), options.stype_in])
        key = hashlib.sha256(facts.encode()).hexdigest()[:16]
        self.folder = Path(options.data) / "cache" / options.dataset.lower() / key
        gateway = {"gateway": options.historical_url} if options.historical_url else {}
        self._client = databento.Historical(read_key(options), **gateway)
        self._query: Any = {
            "dataset": options.dataset, "schema": "mbo", "stype_in": options.stype_in,
            "symbols": list(options.symbols) or "ALL_SYMBOLS",
        }  # fmt: skip

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """One request to the API, again if it failed for no fault of ours.

        SourceError with what to do otherwise.
        """
        for attempt in range(ATTEMPTS):
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    answer = call()
                for each in said:
                    if "BentoWarning" in each.category.__name__:
                        log.warning("databento says", text=str(each.message))
                return answer
            except BentoClientError as error:
                if error.http_status not in (408, 429):
                    help_text = _HELP.get(error.http_status, "see the message")
                    text = str(error).replace("\n", " ")
                    raise SourceError(f"Databento Historical refused {what}: {text}: {help_text}") from None
                why: Exception = error
            except (
                BentoError,
                OSError,
                ValueError,
            ) as error:  # ValueError: it reads what came, and that was no DBN
                why = error
            log.warning("historical request failed", what=what, why=str(why), attempt=attempt + 1)
            time.sleep(RETRY_S * 2**attempt)
        raise SourceError(f"Databento Historical failed {ATTEMPTS} times at {what}: {why}: try again later")

    def missing(self) -> list[Range]:
        """What is not in the cache."""
        return [each for each in days(self._start, self._end) if not (self.folder / each.name).exists()]

    def cost(self, ranges: list[Range]) -> tuple[float, int]:
        """(US dollars, billable bytes) of what would be downloaded."""
        dollars, size = 0.0, 0
        for first, last in _spans(ranges):
            query = {**self._query, "start": first, "end": last}
            dollars += float(self._ask("the cost", partial(self._client.metadata.get_cost, **query)))
            size += int(self._ask("the size", partial(self._client.metadata.get_billable_size, **query)))
        return dollars, size

    def download(self) -> list[Path]:
        """Everything in the cache, after asking if it costs something. Raises SourceError, UsageError."""
        ranges = self.missing()
        every = [self.folder / each.name for each in days(self._start, self._end)]
        if not ranges:
            self._say(f"{self._options.dataset}: {len(every)} files, all in the cache {self.folder}")
            return every
        # a job is one range, with days in it that are in the cache
        ordered = [Range(ranges[0].start, ranges[-1].end)] if self._options.batch else ranges
        dollars, size = self.cost(ordered)
        names = ", ".join(self._options.symbols) or "ALL_SYMBOLS"
        self._say(
            f"{self._options.dataset} mbo of {names}: {len(ranges)} of {len(every)} days to download, "
            f"{size / 1e9:.3f} GB, ${dollars:.2f}"
        )
        self._confirm(dollars)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._options.batch:
                self._batch(ranges, ordered[0])
            else:
                for number, each in enumerate(ranges, 1):
                    self._stream(each)
                    self._say(f"{number} of {len(ranges)}: {each.name}")
        except OSError as error:
            raise SourceError(
                f"cache {self.folder}: {error.strerror or error}: free the disk or set --data"
            ) from error
        return every

    def _confirm(self, dollars: float) -> None:
        if self._options.yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(f"this costs ${dollars:.2f}: say --yes to go on")
        if input(f"go on for ${dollars:.2f}? [y/N] ").strip().lower() not in ("y", "yes"):
            raise UsageError("not downloaded")

    def _stream(self, each: Range) -> None:
        """One file by get_range; a broken one is begun again, whole ones are never asked for twice."""
        part = self.folder / f"{each.name}.part"

        def get() -> None:
            part.unlink(missing_ok=True)
            self._client.timeseries.get_range(**self._query, start=each.start, end=each.end, path=part)
            if not zstd_is_complete(part):
                raise BentoError("the download ended early")

        self._ask(each.name, get)
        part.replace(self.folder / each.name)

    def _batch(self, ranges: list[Range], ordered: Range) -> None:
        """A batch job for all missing days; its id is kept, so that a second run waits for the same job."""
        note = self.folder / "job.json"
        span = [ordered.start, ordered.end]
        job = json.loads(note.read_text()) if note.exists() else {}
        if job.get("span") != span:
            answer: dict[str, Any] = self._ask(
                "the batch job",
                lambda: self._client.batch.submit_job(
                    **self._query, start=span[0], end=span[1], encoding="dbn", compression="zstd", split_duration="day",
                ),
            )  # fmt: skip
            job = {"id": answer["id"], "span": span}
            note.write_text(json.dumps(job))
        self._say(f"batch job {job['id']}: waiting for Databento")
        while True:
            states = self._ask(
                "the state of the job",
                lambda: self._client.batch.list_jobs(states="queued,processing,done,expired"),
            )
            state = next((each["state"] for each in states if each["id"] == job["id"]), "expired")
            if state == "done":
                break
            if state == "expired":
                note.unlink()
                raise SourceError(f"batch job {job['id']} has expired: run it again to order a new one")
            time.sleep(BATCH_POLL_S)
        files = [
            each["filename"]
            for each in self._ask("the files", lambda: self._client.batch.list_files(job["id"]))
        ]
        for name in (each for each in files if each.endswith(".dbn.zst")):
            (path,) = self._ask(
                name,
                partial(self._client.batch.download, job["id"], self.folder, name),
            )
            with_day = scan(path)
            for each in ranges:
                if ns_to_date(each.start) == ns_to_date(with_day.metadata.start):
                    path.replace(self.folder / each.name)
                    self._say(each.name)
        note.unlink(missing_ok=True)
        lacking = self.missing()
        if lacking:
            raise SourceError(
                f"batch job {job['id']} has no file for {len(lacking)} days, first {lacking[0].name}"
            )


def _spans(ranges: list[Range]) -> list[tuple[int, int]]:
    """Neighbouring ranges joined: fewer questions."""
    spans: list[tuple[int, int]] = []
    for each in ranges:
        if spans and spans[-1][1] == each.start:
            spans[-1] = (spans[-1][0], each.end)
        else:
            spans.append((each.start, each.end))
    return spans


def make_historical(options: SourceOptions, *, repaired: bool = False) -> FileSource:
    """Download what is missing, then a source of the files. `repaired`: marks the session as a repair."""
    paths = Historical(options).download()
    (group,) = by_dataset(scan(path) for path in paths).values()
    return FileSource(
        group, Selection(start=options.start, end=options.end), kind="historical", repaired=repaired
    )
