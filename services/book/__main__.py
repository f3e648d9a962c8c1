"""`python -m services.book` and `mbo-book`."""

import sys

from services.book import service
from shared.runner import guarded


def main() -> int:
    return guarded(service.main)


if __name__ == "__main__":
    sys.exit(main())
