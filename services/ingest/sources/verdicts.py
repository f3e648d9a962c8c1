"""What the live gateway's messages and refusals mean for us."""

from __future__ import annotations

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


def of_error(message: Message, *, replaying: bool, symbols: tuple[str, ...]) -> Verdict:
    """An error message during a session. `symbols`: those subscribed to; one that fails alone ends it."""
    code, text = message.fields["code"], message.fields["text"]
    if code in ("auth_failed", "api_key_deactivated"):
        return Verdict(END, f"Databento ended the session: {text}: check DATABENTO_API_KEY")
    if code == "replay_data_aged_out" or (code == "invalid_subscription" and replaying):
        return Verdict(SNAPSHOT, f"not in the replay window: {text}")
    if code == "skipped_records_after_slow_reading":
        return Verdict(SNAPSHOT, f"slow reader: {text}")
    is_alone = len(symbols) == 1 and symbols[0] in text
    if code == "invalid_subscription" or (code == "symbol_resolution_failed" and is_alone):
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
