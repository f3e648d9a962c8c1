"""One root error: facts as fields, one clear line for people, and whether trying again can help."""

from __future__ import annotations


class MboError(Exception):
    """Root of every error of ours.

    `exit_status`: 2 for wrong use or settings, 1 for failures. `recoverable`: the same call may succeed later.
    `facts` go to the log as fields; `str(error)` is one line that says what, where and what to do.
    """

    exit_status = 1
    recoverable = False

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class UsageError(MboError):
    """Wrong options or settings."""

    exit_status = 2


class SourceError(MboError):
    """Input that cannot be read: missing, empty, corrupt, of another schema."""


class WireError(MboError):
    """Bytes from the broker that are not an entry or image of a version we read."""


class ImageError(WireError):
    """A book image that is damaged, too large or newer than this program."""


class BrokerError(MboError):
    """The broker refused or cannot be reached; `recoverable` on the subclasses that a retry can cure."""


class BrokerLost(BrokerError):
    """Connection lost, refused, timed out, or the broker is loading its data."""

    recoverable = True


class BrokerFull(BrokerError):
    """The broker is out of memory (noeviction): nothing was written."""

    recoverable = True


class Fenced(MboError):
    """Another owner holds the lease: drop all state and stop writing at once."""

    recoverable = True


class Diverged(MboError):
    """The stream's last ID is not what this writer expects: drop state, restart from the broker."""

    recoverable = True


class Gap(MboError):
    """A reader found ordinals missing from its stream (trimmed or lost)."""

    recoverable = True


class StoreError(MboError):
    """SQLite or the disk failed, or a stored block is damaged."""
