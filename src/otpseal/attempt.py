"""An attempt: what somebody submits to be decided about, and what it is for."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from otpseal.access import Scope

#: The account of the classic API: the exercise's single seed.
DEFAULT_ACCOUNT: Final = "default"


class Purpose(Enum):
    """What an attempt is for; its value is the scope that it needs."""

    VERIFY = Scope.VERIFY, "code"
    RECOVER = Scope.VERIFY, "recovery code"
    CONFIRM = Scope.ACCOUNTS, "first code"
    RESYNC = Scope.ACCOUNTS, "two codes"

    @property
    def scope(self) -> Scope:
        """The scope that a caller needs."""
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A submitted code, any text, and the account it is meant for.

    Attributes:
        code: a code, or a recovery code in its canonical form.
        account: an account's id, well-formed or not.
        credential: the digest of what the caller presented, see `otpseal.access`;
            None for this machine's own callers, who are not asked.
        purpose: what it is for.
        next_code: the code right after `code`, for RESYNC.
    """

    code: str = field(repr=False)
    account: str = DEFAULT_ACCOUNT
    credential: bytes | None = field(default=None, repr=False)
    purpose: Purpose = Purpose.VERIFY
    next_code: str = field(default="", repr=False)


def is_text(name: str) -> bool:
    """Tell whether a store can hold this text.

    What it cannot hold names no account; asked for, it would fail the batch of
    everybody else.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in name
