"""One table from error to answer, for the classic API (CONTRACT "Classic HTTP API").

The texts are static: nothing of the request and nothing of the store goes out.
"""

from typing import Final

from otpseal.errors import (
    ClockBehind,
    OtpsealError,
    Overloaded,
    SeedConflict,
    SeedMissing,
    SeedUnreadable,
    StoreUnavailable,
    SuiteRefused,
    UnsealFailed,
)
from otpseal.http.wire import Refusal

INTERNAL: Final = Refusal(500, "Internal error")

_RETRY_SOON: Final = (b"retry-after", b"1")

_ANSWERS: Final[dict[type[OtpsealError], Refusal]] = {
    UnsealFailed: Refusal(500, "Decryption failed"),
    SeedMissing: Refusal(500, "Seed not decrypted yet"),
    SeedUnreadable: Refusal(500, "Stored seed cannot be read"),
    SeedConflict: Refusal(409, "A different seed is already stored"),
    SuiteRefused: Refusal(403, "Sealed seeds without a sender are switched off"),
    Overloaded: Refusal(429, "Too many requests", _RETRY_SOON),
    StoreUnavailable: Refusal(503, "Store unavailable", _RETRY_SOON),
    # The contract has one text for "nothing was decided, come back".
    ClockBehind: Refusal(503, "Store unavailable", _RETRY_SOON),
}


def answer_to(error: OtpsealError) -> Refusal:
    """Return the answer to a deliberate error; 500 for those not meant for HTTP."""
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            return _ANSWERS[kind]
    return INTERNAL
