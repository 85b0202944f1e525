"""What decisions change about an account, and what becomes of it when its seed goes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otpseal import throttle

#: `last_step` of an account that never accepted a code.
NEVER: Final = -1


#: How long the spent steps of a removed seed are remembered, in seconds. Codes live
#: for 90 s; a day also covers a clock that was set back by a time zone.
TOMBSTONE_S: Final = 86_400


class Status(StrEnum):
    """Whether an account decides."""

    PENDING = "pending"
    """Made, but no first code has confirmed that its owner has the seed."""

    ACTIVE = "active"

    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class State:
    """What decisions change about an account.

    Attributes:
        status: whether attempts are looked at.
        last_step: the highest step (or HOTP counter) spent so far, or `NEVER`.
        drift: steps by which the account's device is ahead of us, -60 to 60.
        failures: consecutive wrong codes of all callers together.
        budget: the throttle's state for this machine's own callers: the classic API
            and the command line.
    """

    status: Status = Status.ACTIVE
    last_step: int = NEVER
    drift: int = 0
    failures: int = 0
    budget: throttle.State = throttle.FRESH

    @property
    def disabled(self) -> bool:
        """Whether attempts are refused altogether."""
        return self.status is Status.DISABLED
