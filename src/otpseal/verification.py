"""Decide about one attempt: pure functions from account and code to a decision.

The rules of `decide`, in this order (CONTRACT "verify"):

1. An account that is not active decides nothing (`decide_confirmation` wants it
   pending instead).
2. What is not `digits` ASCII digits costs nothing and leaves no trace.
3. During a wait an attempt is refused unseen and only counted.
4. A code of a step later than the last spent one is accepted and spends its step,
   and with it every earlier one (RFC 6238 section 5.2: accepted once).
5. A code of a spent step is a replay. It is refused and never counts as wrong, so
   that a double click, or an attacker with an old code, locks nobody out.
6. Everything else is wrong, and moves the throttle on.

`decide_resync` and `decide_recovery` take two consecutive codes, or a recovery code,
by the same rules. An account that does not exist is decided about in the same way,
with a seed that nobody has: even a match is wrong (rule 4 never holds).

Two counts: each caller has a budget of its own for each account, so that one at his
limit keeps nobody else out; wrong codes of all callers in a row disable the account
(NIST SP 800-63B-4 section 3.2.2).

Leaves out: the row's lock and the commit. A decision means nothing until the new
account and the events are both durable (`otpseal.decider.Decider`).
"""

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from otpseal import throttle, totp
from otpseal.account_state import State, Status
from otpseal.audit import NO_ACCOUNT, Detail, Event, Kind
from otpseal.errors import AccountNotPending


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the instant at which attempts on it are decided.

    Attributes:
        id: the account's name; the exercise's single seed is `default`.
        state: what decisions have made of it so far.
        candidates: its codes at that instant, from `totp.candidates`. Many attempts
            on one account share them, and no decision needs the seed itself.
        digits: length of its codes.
        known: whether there is such an account.
    """

    id: str
    state: State
    candidates: totp.Candidates = field(repr=False)
    digits: int = totp.CLASSIC.digits
    known: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """What a caller of the v1 API has left for one account.

    Attributes:
        caller: its id, for the audit log.
        budget: the throttle's state.
    """

    caller: str
    budget: throttle.State = throttle.FRESH


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
        standing: the caller's new standing; None for this machine's own callers.
        step: the step that was spent, for ACCEPTED codes.
    """

    outcome: Outcome
    state: State
    events: tuple[Event, ...] = ()
    counted: Kind | None = None
    retry_after_s: int = 0
    standing: Standing | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One attempt's account, caller and time; what all rules share."""

    account: Account
    standing: Standing | None
    now: float
    policy: throttle.Policy

    @property
    def budget(self) -> throttle.State:
        if self.standing is None:
            return self.account.state.budget
        return self.standing.budget

    def event(self, kind: Kind, detail: Detail) -> Event:
        if self.standing is not None:
            detail = {**detail, "caller": self.standing.caller}
        name = self.account.id if self.account.known else NO_ACCOUNT
        return Event(kind, self.now, name, detail)

    def close(
        self,
        outcome: Outcome,
        budget: throttle.State,
        *,
        state: State | None = None,
        events: tuple[Event, ...] = (),
        retry_after_s: int = 0,
        step: int | None = None,
    ) -> Decision:
        """Return the decision with the budget put where it belongs."""
        state = self.account.state if state is None else state
        standing = self.standing
        # Not by `replace`, here and in `wrong`: attempts are decided all day, and it
        # costs more than all the rest of a decision.
        if standing is None:
            state = State(
                state.status, state.last_step, state.drift, state.failures, budget
            )
        else:
            standing = Standing(standing.caller, budget)
        return Decision(
            outcome,
            state,
            events,
            retry_after_s=retry_after_s,
            standing=standing,
            step=step,
        )

    def unchanged(self, outcome: Outcome, counted: Kind | None = None) -> Decision:
        return Decision(
            outcome, self.account.state, counted=counted, standing=self.standing
        )

    def shut(self, wanted: Status = Status.ACTIVE) -> Decision | None:
        """Rule 1: the decision, if the account decides nothing.

        An unknown account is shut by as many wrong codes as disable one that exists.
        """
        given_up = not self.account.known and throttle.is_exhausted(
            self.budget, self.policy
        )
        if self.account.state.status is wanted and not given_up:
            return None
        return self.unchanged(Outcome.DISABLED, Kind.ATTEMPT_DISABLED)

    def waiting(self) -> Decision | None:
        """Rule 3: the decision, if the attempt is not to be looked at yet."""
        wait = throttle.seconds_to_wait(self.budget, self.now, self.policy)
        if wait > 0:
            budget = throttle.refuse(self.budget, self.now, self.policy)
            return self.close(Outcome.THROTTLED, budget, retry_after_s=wait)
        return None

    def barred(
        self,
        wanted: Status = Status.ACTIVE,
        *,
        well_formed: bool,
    ) -> Decision | None:
        """Rules 1 to 3, in their order: the decision, if the code is not looked at."""
        malformed = None if well_formed else self.unchanged(Outcome.MALFORMED)
        return self.shut(wanted) or malformed or self.waiting()

    def told(self) -> tuple[Event, ...]:
        """Return the event about the refusals of a wait that is over."""
        _, events = settle_budget(self.budget, self.now, policy=self.policy)
        return tuple(self.event(kind, detail) for kind, detail in events)

    def judge(self, step: int | None, state: State, kind: Kind) -> Decision:
        """Rules 4 to 6, for the step that a code belongs to.

        Args:
            step: what matched, or None.
            state: the account's state if it is accepted.
            kind: the event if it is accepted.
        """
        if step is None or not self.account.known:
            return self.wrong()
        if step <= self.account.state.last_step:
            return self.unchanged(Outcome.REPLAYED, Kind.ATTEMPT_REPLAYED)
        event = self.event(kind, {"step": step})
        spent = replace(state, last_step=step, failures=0)
        events = (*self.told(), event)
        return self.close(
            Outcome.ACCEPTED, throttle.FRESH, state=spent, events=events, step=step
        )

    def wrong(self) -> Decision:
        """Rule 6."""
        budget = throttle.fail(self.budget, self.now, self.policy)
        old = self.account.state
        state = State(
            old.status, old.last_step, old.drift, old.failures + 1, old.budget
        )
        disabled = self.account.known and state.failures >= self.policy.disable_at
        detail: dict[str, int | str] = {"failures": budget.failures}
        wait = throttle.wait_after(budget.failures, self.policy)
        if wait and not disabled:
            detail["wait_s"] = wait
        kind = Kind.ATTEMPT_WRONG if self.account.known else Kind.ATTEMPT_UNKNOWN
        events = (*self.told(), self.event(kind, detail))
        if disabled:
            state = replace(state, status=Status.DISABLED)
            gone = {"failures": state.failures}
            events += (self.event(Kind.ACCOUNT_DISABLED, gone),)
        return self.close(Outcome.WRONG, budget, state=state, events=events)


def decide(
    account: Account,
    code: str,
    now: float,
    *,
    standing: Standing | None = None,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> Decision:
    """Decide about `code` for `account` at `now`.

    Args:
        account: as read under the row's lock, with its candidates at `now`.
        code: what the caller sent, any text.
        now: Unix seconds, read after the lock was taken.
        standing: the caller's; None for this machine's own callers. From callers
            with a standing a code of another length is wrong, not malformed: what
            does not count would tell how long an account's codes are, and so that
            there is one.
        policy: the price of wrong codes.
    """
    case = _Case(account, standing, now, policy)
    well_formed = _is_submittable(code, account, standing)
    if barred := case.barred(well_formed=well_formed):
        return barred
    step = totp.match(code, account.candidates)
    return case.judge(step, account.state, Kind.ATTEMPT_ACCEPTED)


def decide_confirmation(
    account: Account,
    code: str,
    now: float,
    *,
    standing: Standing | None = None,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> Decision:
    """Decide about the first code of a pending account; accepted, it is active.

    Raises:
        AccountNotPending: there is nothing to confirm; nothing was decided.
    """
    if account.known and account.state.status is Status.ACTIVE:
        raise AccountNotPending("The account is not pending")
    case = _Case(account, standing, now, policy)
    wanted = Status.PENDING if account.known else Status.ACTIVE
    well_formed = _is_submittable(code, account, standing)
    if barred := case.barred(wanted, well_formed=well_formed):
        return barred
    active = replace(account.state, status=Status.ACTIVE)
    step = totp.match(code, account.candidates)
    return case.judge(step, active, Kind.ACCOUNT_CONFIRMED)


def decide_resync(
    account: Account,
    codes: tuple[str, str],
    now: float,
    *,
    current: int | None,
    standing: Standing | None = None,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> Decision:
    """Decide about two consecutive codes; accepted, the drift is theirs.

    RFC 6238 section 6, RFC 4226 section 7.4. Both steps are spent.

    Args:
        account: with the candidates of `totp.resync_candidates`.
        codes: the earlier and the later.
        now: Unix seconds.
        current: the step that our own clock is at, from which drift is counted;
            None for HOTP, which has none.
        standing: the caller's.
        policy: the price of wrong codes.
    """
    case = _Case(account, standing, now, policy)
    well_formed = all(_is_submittable(code, account, standing) for code in codes)
    if barred := case.barred(well_formed=well_formed):
        return barred
    step = totp.match_pair(*codes, account.candidates)
    if step is not None and step - 1 <= account.state.last_step:
        step = account.state.last_step  # the earlier one is spent: a replay
    drift = 0 if step is None or current is None else step - current
    state = replace(account.state, drift=drift)
    return case.judge(step, state, Kind.ACCOUNT_RESYNCED)


def decide_recovery(
    account: Account,
    found: bool,  # noqa: FBT001 - it is the finding
    now: float,
    *,
    burnt_step: int,
    standing: Standing | None = None,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> Decision:
    """Decide about a recovery code.

    Accepted, it also spends the current and the next step: whoever looked over a
    shoulder has seen a code of theirs.

    Args:
        account: as read under the row's lock; its candidates are not used.
        found: whether the code is one of the account's, unused.
        now: Unix seconds.
        burnt_step: the step after the current one; `NEVER` for HOTP.
        standing: the caller's.
        policy: the price of wrong codes.
    """
    case = _Case(account, standing, now, policy)
    if barred := case.barred(well_formed=True):
        return barred
    if not found or not account.known:
        return case.wrong()
    state = account.state
    spent = replace(state, last_step=max(state.last_step, burnt_step), failures=0)
    events = (*case.told(), case.event(Kind.RECOVERY_CODE_USED, {}))
    return case.close(Outcome.ACCEPTED, throttle.FRESH, state=spent, events=events)


def _is_submittable(code: str, account: Account, standing: Standing | None) -> bool:
    if standing is None:
        return totp.is_code(code, account.digits)
    return 6 <= len(code) <= 8 and totp.is_code(code, len(code))  # noqa: PLR2004 - what codes may have


def settle_budget(
    budget: throttle.State,
    now: float,
    *,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> tuple[throttle.State, tuple[tuple[Kind, Detail], ...]]:
    """Turn the refusals of a wait that is over into its one event.

    Refusals during a wait that still runs stay counted until it ends.
    """
    if not budget.refused or throttle.seconds_to_wait(budget, now, policy):
        return budget, ()
    told: Detail = {"count": budget.refused}
    return replace(budget, refused=0), ((Kind.ATTEMPT_THROTTLED, told),)


def settle(
    account_id: str,
    state: State,
    now: float,
    *,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
) -> tuple[State, tuple[Event, ...]]:
    """Do `settle_budget` for this machine's own callers of an account."""
    budget, told = settle_budget(state.budget, now, policy=policy)
    if not told:
        return state, ()
    events = tuple(Event(kind, now, account_id, detail) for kind, detail in told)
    return replace(state, budget=budget), events
