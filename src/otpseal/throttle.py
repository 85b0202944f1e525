"""The attempt budget of an account, as a pure state machine.

From the `threshold`-th consecutive wrong code on, each wrong code starts a wait that
is twice the one before; attempts during a wait are refused unseen: not evaluated,
not counted, not lengthening it. A right code resets. At `disable_at` consecutive
wrong codes the account is disabled (NIST SP 800-63B-4 section 3.2.2 caps them at
100).

Leaves out: what a wrong code is (`otpseal.verification`) and where the state rests.
"""

import math
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Policy:
    """How many wrong codes cost what.

    Attributes:
        threshold: the consecutive wrong code that starts the first wait.
        first_wait_s: length of that wait in seconds.
        max_wait_s: no wait is longer, in seconds.
        disable_at: consecutive wrong codes that disable the account.
    """

    threshold: int = 5
    first_wait_s: int = 30
    max_wait_s: int = 86_400
    disable_at: int = 100


DEFAULT_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class State:
    """What the throttle remembers of an account.

    Attributes:
        failures: consecutive wrong codes.
        wait_until: end of the last wait in Unix seconds; 0 before the first.
        refused: attempts refused unseen during that wait.
    """

    failures: int = 0
    wait_until: float = 0.0
    refused: int = 0


FRESH: Final = State()


def wait_after(failures: int, policy: Policy = DEFAULT_POLICY) -> int:
    """Return the seconds to wait after that many consecutive wrong codes."""
    doublings = failures - policy.threshold
    if doublings < 0:
        return 0
    # Beyond 2**32 the cap holds anyway; unbounded shifts would only cost memory.
    return min(policy.first_wait_s << min(doublings, 32), policy.max_wait_s)


def seconds_to_wait(state: State, now: float, policy: Policy = DEFAULT_POLICY) -> int:
    """Return the seconds until an attempt is looked at again, rounded up; 0 if now.

    Never more than the wait was long: a clock that was set back must not lock an
    account for years.
    """
    left = min(state.wait_until - now, wait_after(state.failures, policy))
    return max(0, math.ceil(left))


def refuse(state: State, now: float, policy: Policy = DEFAULT_POLICY) -> State:
    """Return the state after an attempt was refused unseen at `now`.

    The wait's end never moves away. It comes nearer only if the clock was set back:
    then the wait begins anew, or it would last until the old time comes round.
    """
    latest = now + wait_after(state.failures, policy)
    return replace(
        state, wait_until=min(state.wait_until, latest), refused=state.refused + 1
    )


def fail(state: State, now: float, policy: Policy = DEFAULT_POLICY) -> State:
    """Return the state after one more wrong code at `now`."""
    failures = state.failures + 1
    wait = wait_after(failures, policy)
    return State(failures=failures, wait_until=now + wait if wait else 0.0)


def is_exhausted(state: State, policy: Policy = DEFAULT_POLICY) -> bool:
    """Tell whether so many codes were wrong that the account is to be disabled."""
    return state.failures >= policy.disable_at
