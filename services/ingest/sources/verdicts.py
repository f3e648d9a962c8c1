"""What the live gateway's messages and refusals mean for us."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from shared.dbn import Message
from shared.errors import SourceError

GO_ON: Final = "go on"
SNAPSHOT: Final = "snapshot"  # records are missing: ask for the books as they are
END: Final = "end"

# Words in a refusal after which trying again makes sense (the gateway says them in no other form).
_RETRY_WORDS = (
    "connection limit",
    "too many",
    "session limit",
    "timeout",
    "timed out",
    "unavailable",
    "internal",
)


class Verdict(NamedTuple):
    do: Literal["go on", "snapshot", "end"]
    text: str = ""  # of the gap, or for the user


def named(text: str, symbols: Iterable[str]) -> set[str]:
    """Those of `symbols` that an error speaks of."""
    return {each for each in symbols if re.search(rf"(?<![\w.:-]){re.escape(each)}(?![.:-]?\w)", text)}


def of_error(message: Message, *, replaying: bool, is_last: bool) -> Verdict:
    """An error message during a session. `is_last`: of the symbols subscribed to none is left that may resolve."""
    code, text = message.fields["code"], message.fields["text"]
    if code in ("auth_failed", "api_key_deactivated"):
        return Verdict(END, f"Databento ended the session: {text}: check DATABENTO_API_KEY")
    if code == "replay_data_aged_out" or (code == "invalid_subscription" and replaying):
        return Verdict(SNAPSHOT, f"not in the replay window: {text}")
    if code == "skipped_records_after_slow_reading":
        return Verdict(SNAPSHOT, f"slow reader: {text}")
    if code == "invalid_subscription" or (code == "symbol_resolution_failed" and is_last):
        return Verdict(
            END,
            f"Databento refused the subscription: {text}: check --symbols, --stype-in and --dataset "
            "and what the account is entitled to",
        )
    return Verdict(GO_ON)


def of_refusal(text: str, dataset: str) -> SourceError | None:
    """Why a connection was not let in; None if the next one may be."""
    if any(word in text.lower() for word in _RETRY_WORDS):
        return None
    return SourceError(
        f"Databento refused the session: {text}: check DATABENTO_API_KEY and that the account is "
        f"entitled to {dataset} live"
    )
