"""`python -m services.gateway` and `mbo-gateway`."""

import sys

from services.gateway import service
from shared.runner import guarded


def main() -> int:
    return guarded(service.main)


if __name__ == "__main__":
    sys.exit(main())
