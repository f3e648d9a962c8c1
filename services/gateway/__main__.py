"""`python -m services.gateway` and `mbo-gateway`."""

import sys

from services.gateway.settings import GatewaySettings
from shared.check import check_only
from shared.runner import guarded


def run() -> int:
    status = check_only(GatewaySettings, "mbo gateway")
    if status is not None:
        return status
    from services.gateway import service

    return service.main()


def main() -> int:
    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
