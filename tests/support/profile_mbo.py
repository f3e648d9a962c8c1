"""Hold the simulator beside a real market: `python -m tests.support.profile_mbo REAL.dbn [--write]`.

REAL is a file of one instrument (CLX5 of 24 September 2025 is what the simulator was fitted to). The simulated market
is made here, of the same length and rate. Prints a table; `--write` puts it into the simulator's README, and the
distributions behind it into the picture beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ingest.simulator import simulation
from services.ingest.simulator.market import MarketSpec
from shared.dbn import Reader
from shared.orderbook.reference import ReferenceBooks
from shared.records import Rows
from shared.units import ACTION_ADD, ACTION_TRADE, F_LAST, F_SNAPSHOT, SIDE_ASK, SIDE_BID
from tests.support.plot import Chart, page

README = Path(simulation.__file__).with_name("README.md")
PICTURE = README.with_name("beside-a-real-market.svg")
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"

_WARM = 8_000  # records before books are looked at
_EVERY = 7  # event ends between two looks
_DEPTH = 20
_SCALES_S = (0.01, 0.1, 1.0, 10.0, 60.0)
_SEED = 1


def load(path: Path) -> Rows:
    with Reader(path) as reader:
        return np.concatenate([part.records for part in reader.parts() if part.records is not None])


def simulated(records: int, seconds: float) -> Rows:
    """The first `records` of one instrument's day; a file's last ones are adds and cancels alone."""
    spec = MarketSpec(
        seed=_SEED, instruments=1, messages=2 * records, rate=records / seconds, day_s=2 * seconds,
        preopen_s=seconds / 20, overnight=True,
    )  # fmt: skip
    rows = simulation.Simulation(spec).items()
    return np.concatenate([item for item in rows if not isinstance(item, dict)])[:records]


@dataclass
class Profile:
    """Figures of one instrument's records by name, and the distributions that are drawn."""

    figures: dict[str, str]
    sizes: NDArray[Any]  # of adds
    gaps_ms: NDArray[Any]  # between events
    depth: list[float]  # mean size 0, 1, 2 … ticks from the best bid
    dispersion: list[float]  # variance / mean of events in each of _SCALES_S


def profile(rows: Rows) -> Profile:
    every, rows = rows, rows[rows["flags"] & F_SNAPSHOT == 0]
    figures: dict[str, str] = {}
    actions = [f"{(rows['action'] == ord(what)).mean():.2f}" for what in "ACMTF"]
    figures["share of A / C / M / T / F"] = " / ".join(actions)
    ends = np.flatnonzero(rows["flags"] & F_LAST)
    starts = np.concatenate(([0], ends[:-1] + 1))
    shapes = Counter(rows["action"][a : b + 1].tobytes().decode() for a, b in zip(starts, ends, strict=True))
    trades = sum(count for shape, count in shapes.items() if shape.startswith("T"))
    shares = [f"{shapes[shape] / max(trades, 1):.2f}" for shape in ("TFC", "TFM", "TFFCC")]
    figures["of the events with a trade: TFC / TFM / TFFCC"] = " / ".join(shares)
    sizes = {what: rows["size"][rows["action"] == what] for what in (ACTION_ADD, ACTION_TRADE)}
    for what, name in ((ACTION_ADD, "adds"), (ACTION_TRADE, "trades")):
        ranks = "/".join(f"{each:.0f}" for each in np.percentile(sizes[what], [50, 90, 99]))
        figures[f"size of {name}: mean, p50/90/99"] = f"{sizes[what].mean():.2f}, {ranks}"
    stamps = rows["ts_recv"][ends].astype(np.int64)
    gaps = np.diff(stamps) / 1e6
    ranks = "/".join(f"{each:.3g}" for each in np.percentile(gaps, [10, 50, 90, 99]))
    figures["ms between events: p10/50/90/99"] = ranks
    dispersion = []
    for scale_s in _SCALES_S:
        counts = np.bincount((stamps - stamps[0]) // int(scale_s * 1e9))
        dispersion.append(float(counts.var() / counts.mean()))
    scales = "/".join(f"{scale_s:g}" for scale_s in _SCALES_S)
    figures[f"events in {scales} s: variance / mean"] = "/".join(f"{each:.0f}" for each in dispersion)
    depth = _books(every, figures)
    return Profile(figures, sizes[ACTION_ADD], gaps, depth, dispersion)


def _books(rows: Rows, figures: dict[str, str]) -> list[float]:
    """Figures of the books along the way (crossed ones left out); the mean depth by distance."""
    engine = ReferenceBooks("raw")
    tick = int(np.gcd.reduce(rows["price"][(rows["price"] > 0) & (rows["price"] < 2**62)]))
    done, spreads, depths, orders, levels = 0, [], [], [], []
    for end in np.flatnonzero(rows["flags"] & F_LAST)[::_EVERY]:
        engine.apply(rows[done : end + 1], done + 1)
        done = int(end) + 1
        key = int(rows[end]["publisher_id"]), int(rows[end]["instrument_id"])
        bids, asks = (engine.levels(*key, side) for side in (SIDE_BID, SIDE_ASK))
        if done < _WARM or not bids or not asks or bids[0].price >= asks[0].price:
            continue
        spreads.append((asks[0].price - bids[0].price) // tick)
        sizes = {(level.price - bids[0].price) // -tick: level.size for level in bids[: 2 * _DEPTH]}
        depths.append([sizes.get(step, 0) for step in range(_DEPTH)])
        levels.append(len(bids))
        orders.append(sum(level.count for level in bids) + sum(level.count for level in asks))
    mean = np.mean(depths, axis=0).tolist()
    figures["spread in ticks: mean, share of 1"] = (
        f"{np.mean(spreads):.2f}, {np.mean(np.array(spreads) == 1):.2f}"
    )
    figures["size at 0/1/2/3/4/5 ticks from the best bid"] = "/".join(f"{each:.0f}" for each in mean[:6])
    figures["resting orders, bid levels"] = f"{np.mean(orders):.0f}, {np.mean(levels):.0f}"
    return [float(each) for each in mean]


def exceedance(values: NDArray[Any], points: int = 60) -> list[tuple[float, float]]:
    """(x, share of values >= x) at x spread evenly in logarithm."""
    ordered = np.sort(values[values > 0])
    xs = np.unique(np.geomspace(ordered[0], ordered[-1], points))
    return [(float(x), float((ordered >= x).mean())) for x in xs]


def table(profiles: dict[str, Profile]) -> str:
    names = list(profiles)
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {row} | {' | '.join(each.figures[row] for each in profiles.values())} |"
        for row in profiles[names[0]].figures
    ]
    return "\n".join(lines) + "\n"


def picture(profiles: dict[str, Profile]) -> str:
    items = profiles.items()
    sizes = {name: exceedance(each.sizes) for name, each in items}
    gaps = {name: exceedance(each.gaps_ms) for name, each in items}
    depth = {name: [(float(i), size) for i, size in enumerate(each.depth)] for name, each in items}
    clusters = {name: list(zip(_SCALES_S, each.dispersion, strict=True)) for name, each in items}
    return page(
        [
            Chart("Size of adds: share at least so large", "size", sizes, log_x=True, log_y=True),
            Chart("Between events: share at least so long", "ms", gaps, log_x=True, log_y=True),
            Chart("Mean size by distance from the best bid", "ticks", depth),
            Chart("Events in a window: variance / mean", "window in s", clusters, log_x=True, log_y=True),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path, help="a DBN file of one instrument")
    parser.add_argument("--write", action="store_true", help="into the simulator's README and picture")
    args = parser.parse_args()
    real = load(args.real)
    seconds = float(real["ts_recv"].max() - real["ts_recv"].min()) / 1e9
    profiles = {
        args.real.name.split("-")[0].upper(): profile(real),
        "simulated": profile(simulated(len(real), seconds)),
    }
    text = table(profiles)
    print(text, end="")
    if args.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        README.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
        PICTURE.write_text(picture(profiles), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
