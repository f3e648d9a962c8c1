"""`mbo watch SYMBOL`: a live ladder in the terminal, or with `--at` the book of an instant."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from typing import Any
from urllib.parse import quote

from shared.errors import UsageError

FRAME_S = 0.1
TIMEOUT_S = 30.0  # for a book out of the recording
BAR = 24  # characters of a full size bar
TAPE = 8  # trades shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("symbol", help="raw symbol, DATASET:SYMBOL or instrument id")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="the gateway; a key for it: MBO_API_KEY"
    )
    parser.add_argument("--depth", type=int, default=10, help="levels a side, 1 to 50")
    parser.add_argument("--publisher", type=int, help="one venue; without it all venues, consolidated")
    parser.add_argument("--plain", action="store_true", help="one line a change instead of a screen")
    parser.add_argument(
        "--at",
        metavar="TIME",
        help="once, the book at this ts_recv (ns or RFC 3339) out of the recording; JSON with --plain or in a pipe",
    )
    parser.add_argument(
        "--orders", action="store_true", help="with --at: every order in queue order, always as JSON"
    )


def run(args: argparse.Namespace) -> int:
    import httpx

    from shared.client import Client, http_client

    if not 1 <= args.depth <= 50:
        raise UsageError("--depth is from 1 to 50")
    query: dict[str, Any] = {
        "symbols": args.symbol,
        "channels": "book,trades,status",
        "depth": args.depth,
        "interval": 50,
    }
    if args.publisher is not None:
        query["publisher"] = args.publisher
    if args.orders and not args.at:
        raise UsageError("--orders goes with --at")
    key = os.environ.get("MBO_API_KEY")
    client = Client(args.url, key=key, **query)
    plain = args.plain or not sys.stdout.isatty()
    try:
        if args.at:
            return _instant(args, key, plain or args.orders)
        with http_client(timeout=10.0) as http:
            http.get(f"{args.url}/v1/session")  # is anybody there? The client tries for ever
        return _lines(client) if plain else _screen(client)
    except httpx.HTTPStatusError as error:
        raise UsageError(_detail(error.response)) from error
    except httpx.HTTPError as error:
        raise UsageError(f"{args.url}: {error}; is the gateway running? say --url") from error
    finally:
        client.close()


def _detail(response: Any) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError):
        return f"the gateway answers {response.status_code}"


def _instant(args: argparse.Namespace, key: str | None, plain: bool) -> int:
    """The recorded book of one instant, once."""
    from rich.console import Console

    from shared.client import Book, http_client

    query = {
        "at": args.at,
        "depth": args.depth,
        "publisher": args.publisher,
        "level": 3 if args.orders else 2,
    }
    with http_client(timeout=TIMEOUT_S) as http:
        answer = http.get(
            f"{args.url.rstrip('/')}/v1/book/{quote(args.symbol, safe=':')}",
            params={name: value for name, value in query.items() if value is not None},
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
    answer.raise_for_status()
    if plain:
        print(answer.text)
    else:
        Console().print(ladder(Book.of(answer.json()), (), {"status": args.at, "bye": ""}, 1))
    return 0


def _lines(client: Any) -> int:
    """For pipes and logs: best bid and offer whenever they change, trades as they come."""
    last = None
    for event in client:
        if event.name in ("snapshot", "delta") and event.book is not None:
            book = event.book
            best = (book.bids[:1], book.asks[:1])
            if best != last:
                last = best
                print(f"{event.data['symbol']} bid {_level(best[0])} ask {_level(best[1])}", flush=True)
        elif event.name == "trade":
            print(
                f"{event.data['symbol']} trade {event.data['side']} {event.data['price']} x {event.data['size']}",
                flush=True,
            )
        elif event.name == "bye":
            print(f"bye {event.data['reason']}: {event.data['detail']}", flush=True)
    return 0


def _level(rows: list[tuple[str, int, int]]) -> str:
    return f"{rows[0][0]} x {rows[0][1]} ({rows[0][2]})" if rows else "-"


def _screen(client: Any) -> int:
    from rich.live import Live

    tape: deque[dict[str, Any]] = deque(maxlen=TAPE)
    state: dict[str, Any] = {"status": "", "bye": ""}
    shown = 0.0
    with Live(screen=True, auto_refresh=False) as live:
        for event in client:
            if event.name == "trade":
                tape.appendleft(event.data)
            elif event.name == "status":
                state["status"] = event.data["state"]
            elif event.name == "bye":
                state["bye"] = event.data["detail"]
            now = time.monotonic()
            book = event.book or next(iter(client.books.values()), None)
            if book is not None and (now - shown >= FRAME_S or event.name in ("snapshot", "bye")):
                shown = now
                live.update(ladder(book, tape, state, client.connects), refresh=True)
    return 0


def ladder(book: Any, tape: Any, state: dict[str, Any], connects: int) -> Any:
    """The screen as a rich renderable: asks above bids, sizes as bars, the newest trades beside them."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    bids, asks = book.bids, book.asks
    most = max((row[1] for row in (*bids, *asks)), default=1)
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("bid", "right"),
        ("orders", "right"),
        ("price", "center"),
        ("orders", "left"),
        ("ask", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for price, size, count in reversed(asks):
        table.add_row(
            "", "", Text(price, "red"), str(count), Text(f"{'█' * (size * BAR // most)} {size}", "red")
        )
    spread = Text("spread", "dim")
    table.add_row("", "", spread, "", "")
    for price, size, count in bids:
        table.add_row(
            Text(f"{size} {'█' * (size * BAR // most)}", "green"), str(count), Text(price, "green"), "", ""
        )
    trades = Table("side", "price", "size", box=None, title="trades")
    for trade in tape:
        style = {"B": "green", "A": "red"}.get(trade["side"], "dim")
        trades.add_row(Text(trade["side"], style), str(trade["price"]), str(trade["size"]))
    facts = [book.state["symbol"], state["status"]]
    facts += ["STALE" if book.state["stale"] else "", "CROSSED" if book.state["crossed"] else ""]
    if auction := book.state.get("auction"):
        facts.append(f"auction {auction['price']} x {auction['size']}")
    if connects > 1:
        facts.append(f"reconnected {connects - 1} times")
    return Panel(
        Columns([table, trades], padding=(0, 6)),
        title="  ".join(filter(None, facts)),
        subtitle=state["bye"] or "Ctrl-C ends",
    )
