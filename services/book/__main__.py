"""`python -m services.book` and `mbo-book`."""

import sys

from services.book.settings import BookSettings
from shared.check import check_only
from shared.runner import guarded


def run() -> int:
    status = check_only(BookSettings, "mbo book")
    if status is not None:
        return status
    from services.book import service

    return service.main()


def main() -> int:
    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
