"""`mbo gateway`, `mbo-gateway` and `python -m services.gateway`."""

import sys
from collections.abc import Sequence

from services.gateway.settings import GatewaySettings
from shared.runner import Service, service_main


def make(config: GatewaySettings) -> Service:
    from services.gateway.service import GatewayService  # late: `--check` does without

    return GatewayService(config)


def main(argv: Sequence[str] | None = None) -> int:
    about = "Serve live and recorded books, trades and order flow over Server-Sent Events, REST and a page."
    return service_main("mbo gateway", about, GatewaySettings, make, argv)


if __name__ == "__main__":
    sys.exit(main())
