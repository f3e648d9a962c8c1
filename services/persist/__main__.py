"""`python -m services.persist` and `mbo-persist`."""

import sys

from services.persist import service
from shared.runner import guarded


def main() -> int:
    return guarded(service.main)


if __name__ == "__main__":
    sys.exit(main())
