"""Run the fake gateway by hand; commands on stdin."""

from __future__ import annotations

import argparse
import sys

import databento_dbn as dbn
import numpy as np

from shared.dbn import Reader
from tests.support.fake_live_gateway import KEY, FakeGateway, messages

COMMANDS = """drop              break every connection
bye               close every connection in order
after BYTES       the next connection breaks after so many bytes
refuse TEXT       the next connection is refused with this text
error CODE TEXT   send an error message (code 1 to 8)
system CODE TEXT  send a system message (code 0 to 5)
map ID SYMBOL     send a symbol mapping
stop N | go       the market stops at record N | goes on
quit"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="DBN files of one dataset, replayed in this order")
    parser.add_argument("--rate", type=float, help="records a second; default: all at once")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=13000)
    parser.add_argument("--key", default=KEY, help=f"the key it takes (default {KEY})")
    args = parser.parse_args()
    rows, symbols, dataset = [], {}, ""
    for name in args.files:
        with Reader(name) as reader:
            dataset = reader.metadata.dataset
            symbols.update({one.instrument_id: one.symbol for one in reader.metadata.instruments()})
            rows += [part.records for part in reader.parts() if part.records is not None]
    gateway = FakeGateway(
        np.concatenate(rows),
        symbols,
        rate=args.rate,
        key=args.key,
        dataset=dataset,
        host=args.host,
        port=args.port,
    )
    with gateway:
        print(f"{dataset} on {gateway.address}, {gateway.limit} records, key {args.key}", flush=True)
        for line in sys.stdin:
            if not obey(gateway, line.split()):
                break
            print(f"ok: record {gateway.cursor}, {len(gateway.sessions)} sessions", flush=True)
    return 0


def obey(gateway: FakeGateway, words: list[str]) -> bool:
    """One command; False ends."""
    match words:
        case ["drop"]:
            gateway.drop()
        case ["bye"]:
            gateway.hang_up()
        case ["after", count]:
            gateway.drops.append(int(count))
        case ["refuse", *text]:
            gateway.refusals.append(" ".join(text))
        case ["error", code, *text]:
            gateway.send(messages.error(" ".join(text), dbn.ErrorCode.from_int(int(code))))
        case ["system", code, *text]:
            gateway.send(messages.system(" ".join(text), dbn.SystemCode.from_int(int(code))))
        case ["map", key, symbol]:
            gateway.send(messages.mapping(int(key), symbol))
        case ["stop", index]:
            gateway.limit = int(index)
        case ["go"]:
            gateway.limit = len(gateway.records)
        case ["quit"]:
            return False
        case _:
            print(COMMANDS)
    return True


if __name__ == "__main__":
    sys.exit(main())
