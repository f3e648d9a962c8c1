"""`python -m services.ingest` and `mbo-ingest`."""

import sys

from services.ingest import service
from shared.runner import guarded


def main() -> int:
    return guarded(service.main)


if __name__ == "__main__":
    sys.exit(main())
