"""`mbo book`, `mbo-book` and `python -m services.book`."""

import sys
from collections.abc import Sequence

from services.book.settings import BookSettings
from shared.runner import Service, service_main


def make(config: BookSettings) -> Service:
    from services.book.service import BookService  # late: `--check` does without

    return BookService(config)


def main(argv: Sequence[str] | None = None) -> int:
    about = "Rebuild the order books of a share of all shards, and commit what they publish exactly once."
    return service_main("mbo book", about, BookSettings, make, argv)


if __name__ == "__main__":
    sys.exit(main())
