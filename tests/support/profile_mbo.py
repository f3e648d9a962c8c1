"""Statistics of an MBO file, to hold the simulator beside a real market: `python -m tests.support.profile_mbo A B`."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np

from shared.dbn import Reader
from shared.orderbook.reference import ReferenceBooks
from shared.records import Rows
from shared.units import F_LAST, SIDE_ASK, SIDE_BID

_WARM = 8_000  # records before books are looked at
_EVERY = 7  # event ends between two looks


def load(path: str) -> Rows:
    with Reader(path) as reader:
        return np.concatenate([part.records for part in reader.parts() if part.records is not None])


def share(values: Rows, what: str) -> str:
    return f"{(values['action'] == ord(what)).mean():.3f}"


def profile(rows: Rows) -> dict[str, str]:
    """Figures of one instrument's records, by name."""
    out = {f"share of {what}": share(rows, what) for what in "ACMTF"}
    ends = np.flatnonzero(rows["flags"] & F_LAST)
    starts = np.concatenate(([0], ends[:-1] + 1))
    shapes = Counter(rows["action"][a : b + 1].tobytes().decode() for a, b in zip(starts, ends, strict=True))
    trades = sum(count for shape, count in shapes.items() if shape.startswith("T"))
    for shape in ("TFC", "TFM", "TFFCC"):
        out[f"{shape} of events with a trade"] = f"{shapes[shape] / max(trades, 1):.2f}"
    for what, name in (("A", "size of adds"), ("T", "size of trades")):
        sizes = rows["size"][rows["action"] == ord(what)]
        ranks = "/".join(f"{each:.0f}" for each in np.percentile(sizes, [50, 90, 99]))
        out[f"{name}: mean, p50/90/99"] = f"{sizes.mean():.2f}, {ranks}"
    gaps = np.diff(rows["ts_recv"][ends].astype(np.int64)) / 1e6
    gaps = gaps[gaps < 3.6e6]  # not the nights
    out["ms between events: mean"] = f"{gaps.mean():.0f}"
    out["ms between events: p10/50/90/99"] = "/".join(
        f"{each:.3g}" for each in np.percentile(gaps, [10, 50, 90, 99])
    )
    per_second = np.bincount(((rows["ts_recv"][ends] - rows["ts_recv"][0]) // 10**9).astype(np.int64))
    out["events a second: variance / mean"] = f"{per_second.var() / per_second.mean():.0f}"
    out.update(_books(rows, ends))
    return out


def _books(rows: Rows, ends: np.ndarray) -> dict[str, str]:
    engine = ReferenceBooks("raw")
    tick = int(np.gcd.reduce(rows["price"][(rows["price"] > 0) & (rows["price"] < 2**62)]))
    done, spreads, depths, orders, levels = 0, [], [], [], []
    for end in ends[::_EVERY]:
        engine.apply(rows[done : end + 1], done + 1)
        done = int(end) + 1
        key = int(rows[end]["publisher_id"]), int(rows[end]["instrument_id"])
        bids, asks = (engine.levels(*key, side) for side in (SIDE_BID, SIDE_ASK))
        if done < _WARM or not bids or not asks or bids[0].price >= asks[0].price:
            continue
        spreads.append((asks[0].price - bids[0].price) // tick)
        sizes = {(level.price - bids[0].price) // -tick: level.size for level in bids[:20]}
        depths.append([sizes.get(step, 0) for step in range(6)])
        levels.append(len(bids))
        orders.append(sum(level.count for level in bids) + sum(level.count for level in asks))
    return {
        "spread in ticks: mean": f"{np.mean(spreads):.2f}",
        "spread of one tick": f"{np.mean(np.array(spreads) == 1):.2f}",
        "size 0/1/2/3/4/5 ticks from the best bid": "/".join(
            f"{each:.0f}" for each in np.mean(depths, axis=0)
        ),
        "resting orders": f"{np.mean(orders):.0f}",
        "bid levels": f"{np.mean(levels):.0f}",
    }


def main() -> int:
    profiles = [profile(load(path)) for path in sys.argv[1:]]
    for name in profiles[0]:
        print(f"| {name} | {' | '.join(each[name] for each in profiles)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
