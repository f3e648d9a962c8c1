"""One batch can be followed through all stages by (feed, session, shard, ordinal): the guide's own command does it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.deploy.observed.pipeline import Pipeline
from tests.deploy.tools import ROOT, tool
from tests.support import eventually

FEED, SESSION = "sim.mbo", 1
STAGES = ("appended", "commit", "folded", "stored")


def _guides_filter() -> str:
    """The jq program in docs/operations.md, "Following one batch"."""
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = guide.split("## Following one batch")[1].split("\n## ")[0]
    found = re.search(r"jq -Rnc .*? '\n(.*?)'\n```", section, flags=re.S)
    assert found
    return found[1]


def _follow(text: str, shard: int, ordinal: int) -> list[list[object]]:
    given = {"session": SESSION, "shard": shard, "ordinal": ordinal}
    numbers = [part for name, value in given.items() for part in ("--argjson", name, str(value))]
    command = [tool("jq"), "-Rnc", "--arg", "feed", FEED, *numbers, _guides_filter()]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_guides_command_follows_one_batch_through_all_stages(tmp_path: Path) -> None:
    tool("jq")
    pipeline = Pipeline(tmp_path, level="debug")
    pipeline.start()
    try:
        logs = [service.log for service in pipeline.services.values()]
        appended = eventually(
            lambda: [each for each in pipeline["ingest"].lines()
                     if each["event"] == "appended" and each["n"] > 1 and each["ordinal"] > 200], timeout_s=120,
        )[0]  # fmt: skip
        shard, last, n = appended["shard"], appended["ordinal"], appended["n"]
        ordinal = last - n // 2  # a record inside of the batch, not its end

        def everywhere() -> list[list[object]]:
            text = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)
            rows = _follow(text, shard, ordinal)
            return rows if len(rows) == len(STAGES) else []

        rows = eventually(everywhere, timeout_s=120, every_s=0.5)
    finally:
        pipeline.close()
    assert sorted(str(row[2]) for row in rows) == sorted(STAGES)
    order = [row[2] for row in rows]
    assert order[0] == "appended"
    assert order.index("commit") < order.index("folded")
    assert rows[0][1] == "ingest"
    assert rows[0][3:] == [last, n]
    for _, _, event, end, count in rows:
        assert isinstance(end, int)
        assert isinstance(count, int)
        assert end - count < ordinal <= end, f"{event} covers {end - count + 1} to {end}, not {ordinal}"


def test_lines_are_json_with_a_fixed_event_name_and_a_time(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline["ingest"].start()  # no broker: it says so, again and again
    try:
        lines = eventually(lambda: len(found := pipeline["ingest"].lines()) > 1 and found, timeout_s=120)
    finally:
        pipeline["ingest"].stop()
    for line in lines:
        assert {"ts", "level", "log", "event"} <= line.keys()
        assert re.fullmatch(r"[a-z][a-z /:-]*", str(line["event"])), line["event"]
