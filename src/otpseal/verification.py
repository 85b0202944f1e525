"""Decide about one attempt: a pure function from account and code to a decision.

The rules, in this order (CONTRACT "verify"):

1. A disabled account decides nothing.
2. What is not six ASCII digits costs nothing and leaves no trace.
3. During a wait an attempt is refused unseen and only counted.
4. A code of a step later than the last spent one is accepted and spends its step,
   and with it every earlier one (RFC 6238 section 5.2: accepted once).
5. A code of a spent step is a replay. It is refused and never counts as wrong, so
   that a double click, or an attacker with an old code, locks nobody out.
6. Everything else is wrong, and moves the throttle on.

Leaves out: the row's lock and the commit. A decision means nothing until the new
account and the events are both durable (`otpseal.service.Service.decide_batch`).
"""

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from otpseal import throttle, totp
from otpseal.audit import Event, Kind

#: `last_step` of an account that never accepted a code.
NEVER: Final = -1

#: How long the spent steps of a removed seed are remembered, in seconds. Codes live
#: for 90 s; a day also covers a clock that was set back by a time zone.
TOMBSTONE_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class State:
    """What decisions change about an account.

    Attributes:
        disabled: whether attempts are refused altogether.
        last_step: the highest step spent so far, or `NEVER`.
        budget: the throttle's state.
    """

    disabled: bool = False
    last_step: int = NEVER
    budget: throttle.State = throttle.FRESH


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the instant at which attempts on it are decided.

    Attributes:
        id: the account's name; the exercise's single seed is `default`.
        state: what decisions have made of it so far.
        candidates: its codes at that instant, from `totp.candidates`. Many attempts
            on one account share them, and no decision needs the seed itself.
        digits: length of its codes.
    """

    id: str
    state: State
    candidates: totp.Candidates = field(repr=False)
    digits: int = totp.CLASSIC.digits


class Outcome(Enum):
    """What was decided."""

    ACCEPTED = auto()
    WRONG = auto()
    MALFORMED = auto()
    REPLAYED = auto()
    THROTTLED = auto()
    DISABLED = auto()


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of an attempt and all that has to be stored before it is told.

    Attributes:
        outcome: what was decided.
        state: the account's new state.
        events: what the audit log gains.
        counted: the kind under which this attempt is counted instead, because a
            stranger could repeat it without limit.
        retry_after_s: seconds to the end of the wait, for THROTTLED.
    """

    outcome: Outcome
    state: State
    events: tuple[Event, ...] = ()
    counted: Kind | None = None
    retry_after_s: int = 0


def decide(
    account: Account,
    code: str,
    now: float,
    *,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> Decision:
    """Decide about `code` for `account` at `now`.

    Args:
        account: as read under the row's lock, with its candidates at `now`.
        code: what the caller sent, any text.
        now: Unix seconds, read after the lock was taken.
        policy: the price of wrong codes.
    """
    state = account.state
    if state.disabled:
        return Decision(Outcome.DISABLED, state, counted=Kind.ATTEMPT_DISABLED)

    if not totp.is_code(code, account.digits):
        return Decision(Outcome.MALFORMED, state)

    wait = throttle.seconds_to_wait(state.budget, now, policy)
    if wait > 0:
        counted = replace(state, budget=throttle.refuse(state.budget, now, policy))
        return Decision(Outcome.THROTTLED, counted, retry_after_s=wait)

    step = totp.match(code, account.candidates)
    if step is not None and step <= state.last_step:
        return Decision(Outcome.REPLAYED, state, counted=Kind.ATTEMPT_REPLAYED)

    state, events = settle(account.id, state, now, policy=policy)
    if step is None:
        return _wrong(account.id, state, events, now, policy)
    event = Event(Kind.ATTEMPT_ACCEPTED, now, account.id, {"step": step})
    spent = replace(state, last_step=step, budget=throttle.FRESH)
    return Decision(Outcome.ACCEPTED, spent, (*events, event))


def settle(
    account_id: str,
    state: State,
    now: float,
    *,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> tuple[State, tuple[Event, ...]]:
    """Turn the refusals of a wait that is over into its one event.

    Refusals during a wait that still runs stay counted until it ends.
    """
    budget = state.budget
    if not budget.refused or throttle.seconds_to_wait(budget, now, policy):
        return state, ()
    event = Event(Kind.ATTEMPT_THROTTLED, now, account_id, {"count": budget.refused})
    return replace(state, budget=replace(budget, refused=0)), (event,)


def _wrong(
    account_id: str,
    state: State,
    events: tuple[Event, ...],
    now: float,
    policy: throttle.Policy,
) -> Decision:
    budget = throttle.fail(state.budget, now, policy)
    disabled = throttle.is_exhausted(budget, policy)
    detail = {"failures": budget.failures}
    wait = throttle.wait_after(budget.failures, policy)
    if wait and not disabled:
        detail["wait_s"] = wait
    events += (Event(Kind.ATTEMPT_WRONG, now, account_id, detail),)
    if disabled:
        events += (Event(Kind.ACCOUNT_DISABLED, now, account_id, detail),)
    after = State(disabled=disabled, last_step=state.last_step, budget=budget)
    return Decision(Outcome.WRONG, after, events)
