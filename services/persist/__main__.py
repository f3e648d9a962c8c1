"""`python -m services.persist` and `mbo-persist`."""

import sys

from services.persist.settings import PersistSettings
from shared.check import check_only
from shared.runner import guarded


def run() -> int:
    status = check_only(PersistSettings, "mbo persist")
    if status is not None:
        return status
    from services.persist import service

    return service.main()


def main() -> int:
    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
