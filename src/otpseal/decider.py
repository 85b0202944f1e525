"""Attempts are decided here: a batch, in one transaction, under the accounts' locks.

`otpseal.verification` has the rules; this module reads what they need and writes what
they decide. Everything that spends a step or counts a failure comes by this one path:
codes, first codes, recovery codes and resynchronisation, from the classic API, the v1
API and the command line alike.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from otpseal import access, throttle, totp, verification
from otpseal.access import Caller
from otpseal.account_state import NEVER, State
from otpseal.attempt import Attempt, Purpose, is_text
from otpseal.audit import NO_ACCOUNT, Event, Kind
from otpseal.errors import (
    AccountNotPending,
    CallerExhausted,
    ClockBehind,
    OtpsealError,
    SeedMissing,
)
from otpseal.ledger import Ledger
from otpseal.ports import BudgetRow, Transaction
from otpseal.storage_key import StorageKey
from otpseal.subjects import Subject, Subjects
from otpseal.timekeeper import Timekeeper
from otpseal.verification import Account, Decision, Outcome, Standing

#: A caller's budget for an account is forgotten after that many seconds of silence;
#: longer than any wait. The same for accounts that exist and those that do not.
BUDGET_MEMORY_S: Final = 25 * 3600

#: Unknown accounts that a caller may be wrong about; beyond, he is no longer told
#: why he is refused, whatever account it is about.
MAX_STRANGERS: Final = 10_000

#: The limit is blurred by up to this part of it.
STRANGERS_BLUR: Final = 10


class Decider:
    """Decides batches of attempts.

    Args:
        storage_key: opens seeds.
        timekeeper: tells whether this process may verify by its clock.
        window: no account gets a larger window than this, in steps.
        policy: the price of wrong codes.
        random: gives a number from 0 to below its argument.
    """

    def __init__(
        self,
        storage_key: StorageKey,
        timekeeper: Timekeeper,
        *,
        window: int,
        policy: throttle.Policy,
        random: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self.storage_key = storage_key
        self.timekeeper = timekeeper
        self.policy = policy
        self.subjects = Subjects(storage_key, window=window)
        self._random = random

    def may_end_early(self, strangers: int) -> bool:
        """Tell by chance whether a caller so near its limit is at it, this time."""
        blurred = MAX_STRANGERS // STRANGERS_BLUR
        near = strangers - (MAX_STRANGERS - blurred)
        return near > 0 and self._random(blurred) < near

    def decide_batch(
        self, tx: Transaction, attempts: Sequence[Attempt], now: float
    ) -> list[Decision | OtpsealError]:
        """Decide about attempts in order within `tx`, under their accounts' locks.

        An attempt that cannot be decided gets its error in the list: raising here
        would take back what was counted for the others.
        """
        if not self.timekeeper.may_verify(tx, now):
            ledger = Ledger(tx, self.storage_key)
            ledger.count(Kind.CLOCK_BEHIND, NO_ACCOUNT, now, len(attempts))
            return [ClockBehind() for _ in attempts]
        batch = _Batch(self, tx, now)
        return batch.run(attempts)


class _Batch:
    """One batch in its transaction."""

    def __init__(self, decider: Decider, tx: Transaction, now: float) -> None:
        self._decider = decider
        self._tx = tx
        self._now = now
        self._keys: dict[str, bytes] = {}
        self._subjects: dict[str, Subject | OtpsealError] = {}
        self._strangers: dict[str, Subject] = {}
        self._budgets: dict[tuple[str, bytes], BudgetRow] = {}
        # The account's name as it rests, and what is left; rows are made at the end.
        self._touched: dict[tuple[str, bytes], tuple[str, throttle.State]] = {}
        self._new_strangers: dict[str, int] = {}
        self._recovery: set[tuple[str, bytes]] = set()
        self._counts: dict[tuple[Kind, str], int] = {}
        self._events: list[Event] = []

    def run(self, attempts: Sequence[Attempt]) -> list[Decision | OtpsealError]:
        admitted = self._admit(attempts)
        self._read(attempts, admitted)
        results: list[Decision | OtpsealError] = []
        for attempt, caller in zip(attempts, admitted, strict=True):
            if isinstance(caller, OtpsealError):
                results.append(caller)
            else:
                results.append(self._decide(attempt, caller))
        self._write()
        return results

    # Read.

    def _admit(self, attempts: Sequence[Attempt]) -> list[Caller | OtpsealError | None]:
        digests = {a.credential for a in attempts if a.credential is not None}
        known = self._tx.callers(digests) if digests else {}
        found: dict[tuple[bytes | None, Purpose], Caller | OtpsealError | None] = {}
        admitted = []
        for attempt in attempts:
            asked = attempt.credential, attempt.purpose
            if asked not in found:
                found[asked] = self._admitted(known, attempt)
            admitted.append(found[asked])
        return admitted

    def _admitted(
        self, known: Mapping[bytes, Caller], attempt: Attempt
    ) -> Caller | OtpsealError | None:
        if attempt.credential is None:
            return None
        caller = known.get(attempt.credential)
        try:
            return access.admit(caller, attempt.purpose.scope, self._now)
        except OtpsealError as error:
            return error

    def _read(
        self,
        attempts: Sequence[Attempt],
        admitted: Sequence[Caller | OtpsealError | None],
    ) -> None:
        pairs = set()
        ids = set()
        recovering = set()
        for attempt, caller in zip(attempts, admitted, strict=True):
            if isinstance(caller, OtpsealError):
                continue
            if caller is not None:
                pairs.add((caller.id, self._key(attempt.account)))
                if not caller.has(attempt.account):
                    # Never looked at: its lock, and the work on its seed, would tell
                    # by their time that there is one, and keep its owner waiting.
                    continue
            ids.add(attempt.account)
            if attempt.purpose is Purpose.RECOVER and is_text(attempt.account):
                recovering.add(attempt.account)
        rows = self._tx.accounts({name for name in ids if is_text(name)})
        subjects = self._decider.subjects
        for name in ids:
            self._subjects[name] = subjects.known(rows.get(name), self._now)
        if pairs:
            self._budgets = self._tx.budgets(pairs)
        if recovering:
            self._recovery = self._tx.recovery_digests(recovering)

    def _stranger(self, name: str) -> Subject:
        found = self._strangers.get(name)
        if found is None:
            found = self._decider.subjects.stranger(name, self._now)
            self._strangers[name] = found
        return found

    def _key(self, name: str) -> bytes:
        key = self._keys.get(name)
        if key is None:
            # Lone surrogates have no UTF-8; such names share a budget.
            text = name if is_text(name) else "\0"
            key = self._keys[name] = self._decider.storage_key.throttle_key(text)
        return key

    # Decide.

    def _decide(
        self, attempt: Attempt, caller: Caller | None
    ) -> Decision | OtpsealError:
        try:
            if caller is None:
                own = self._subjects[attempt.account]
                if isinstance(own, OtpsealError):
                    return own
                return self._apply(own, self._judge(own, attempt, None))
            is_own = caller.has(attempt.account)
            subject = self._subjects[attempt.account] if is_own else None
            if subject is None or isinstance(subject, SeedMissing):
                subject = self._stranger(attempt.account)
            if isinstance(subject, OtpsealError):
                return subject
            pair = caller.id, self._key(attempt.account)
            standing = Standing(caller.id, self._budget(pair))
            decision = self._judge(subject, attempt, standing)
            return self._settle(subject, decision, caller, pair)
        except AccountNotPending as error:
            return error

    def _budget(self, pair: tuple[str, bytes]) -> throttle.State:
        touched = self._touched.get(pair)
        if touched is not None:
            return touched[1]
        row = self._budgets.get(pair)
        if row is None or row.touched_at + BUDGET_MEMORY_S <= self._now:
            return throttle.FRESH
        return row.budget

    def _judge(
        self, subject: Subject, attempt: Attempt, standing: Standing | None
    ) -> Decision:
        account, now, policy = subject.account, self._now, self._decider.policy
        if attempt.purpose is Purpose.RECOVER:
            return self._judge_recovery(subject, attempt, standing)
        if attempt.purpose is Purpose.CONFIRM:
            return verification.decide_confirmation(
                account, attempt.code, now, standing=standing, policy=policy
            )
        if attempt.purpose is Purpose.RESYNC:
            return self._judge_resync(subject, attempt, standing)
        return verification.decide(
            account, attempt.code, now, standing=standing, policy=policy
        )

    def _judge_resync(
        self, subject: Subject, attempt: Attempt, standing: Standing | None
    ) -> Decision:
        parameters, account = subject.parameters, subject.account
        wide = totp.resync_candidates(
            subject.seed,
            self._now,
            parameters=parameters,
            last_step=account.state.last_step,
        )
        return verification.decide_resync(
            replace(account, candidates=wide),
            (attempt.code, attempt.next_code),
            self._now,
            current=parameters.step_at(self._now) if _is_timed(parameters) else None,
            standing=standing,
            policy=self._decider.policy,
        )

    def _judge_recovery(
        self, subject: Subject, attempt: Attempt, standing: Standing | None
    ) -> Decision:
        parameters, account = subject.parameters, subject.account
        code = attempt.code.encode("utf-8", "replace")
        digest = self._decider.storage_key.recovery_digest(account.id, code)
        burnt = NEVER
        if _is_timed(parameters):
            burnt = parameters.step_at(self._now, account.state.drift) + 1
        decision = verification.decide_recovery(
            account,
            (account.id, digest) in self._recovery,
            self._now,
            burnt_step=burnt,
            standing=standing,
            policy=self._decider.policy,
        )
        if decision.outcome is Outcome.ACCEPTED:
            self._tx.spend_recovery_digest(account.id, digest)
            self._recovery.discard((account.id, digest))
        return decision

    def _settle(
        self,
        subject: Subject,
        decision: Decision,
        caller: Caller,
        pair: tuple[str, bytes],
    ) -> Decision | OtpsealError:
        """Keep what a caller's attempt cost, and tell as much as may be told."""
        strangers = caller.strangers + self._new_strangers.get(caller.id, 0)
        full = strangers >= MAX_STRANGERS
        # Not at a number that can be counted up to: who stood one below it would
        # learn of each further name whether it is counted.
        exhausted = full or self._decider.may_end_early(strangers)
        known = subject.account.known
        is_new = pair not in self._touched and pair not in self._budgets
        if not known and is_new and full:
            self._count(Kind.ATTEMPT_UNKNOWN, NO_ACCOUNT)
            return CallerExhausted()
        assert decision.standing is not None
        budget = decision.standing.budget
        if budget is not throttle.FRESH or not is_new:
            self._touched[pair] = subject.account.id, budget
            if is_new and not known:
                new = self._new_strangers
                new[caller.id] = new.get(caller.id, 0) + 1
        self._apply(subject, decision)
        if exhausted and decision.outcome is not Outcome.ACCEPTED:
            # Told of accounts that exist and not of others, it would tell them apart.
            return CallerExhausted()
        return decision

    def _apply(self, subject: Subject, decision: Decision) -> Decision:
        account = subject.account
        if decision.state is not account.state:
            subject.changed = True
            before, after = account.state, decision.state
            moved = before.drift != after.drift or (
                before.last_step != after.last_step
                and not _is_timed(subject.parameters)
            )
            subject.account = Account(  # `replace` costs twice that
                account.id, after, account.candidates, account.digits, account.known
            )
            if moved:
                # The next attempt of this batch looks ahead from here.
                subject.account = replace(
                    subject.account,
                    candidates=self._decider.subjects.candidates(
                        subject.seed, subject.parameters, after, self._now
                    ),
                )
        if decision.counted is not None:
            kind = decision.counted if account.known else Kind.ATTEMPT_UNKNOWN
            self._count(kind, account.id if account.known else NO_ACCOUNT)
        self._events += decision.events
        return decision

    def _count(self, kind: Kind, account: str) -> None:
        self._counts[kind, account] = self._counts.get((kind, account), 0) + 1

    # Write, in this order everywhere: accounts, budgets, counts, callers.

    def _write(self) -> None:
        tx = self._tx
        states = dict(_changed(self._subjects.values()))
        # For unknown accounts the same statement, which finds nothing to change.
        states |= dict(_changed(self._strangers.values()))
        if states:
            tx.save_states(sorted(states.items(), key=lambda item: item[0]))
        if self._touched:
            tx.put_budgets(
                [
                    BudgetRow(*pair, *self._touched[pair], self._now)
                    for pair in sorted(self._touched)
                ]
            )
        ledger = Ledger(tx, self._decider.storage_key)
        for (kind, account_id), count in sorted(self._counts.items()):
            ledger.count(kind, account_id, self._now, count)
        ledger.record(*self._events)
        if self._new_strangers:
            tx.count_strangers(self._new_strangers)
        self._decider.timekeeper.advance(tx)


def _changed(
    subjects: Iterable[Subject | OtpsealError],
) -> Iterable[tuple[str, State]]:
    for subject in subjects:
        if isinstance(subject, Subject) and subject.changed:
            yield subject.account.id, subject.account.state


def _is_timed(parameters: totp.Parameters) -> bool:
    return parameters.type is totp.OtpType.TOTP
