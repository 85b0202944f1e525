"""What happens every minute, whoever calls or not: counts become events.

Also here: the fleet's failure-rate alarm, which looks at what all processes wrote to
the audit log, and the forgetting of callers' budgets.
"""

import logging
from dataclasses import replace
from typing import Final

from otpseal import throttle, verification
from otpseal.attempt import DEFAULT_ACCOUNT
from otpseal.audit import Event, Kind
from otpseal.decider import BUDGET_MEMORY_S
from otpseal.ledger import Ledger, MemoryCounts
from otpseal.ports import Clock, Store, Transaction
from otpseal.storage_key import StorageKey
from otpseal.timekeeper import Timekeeper

#: Name of the store's mark that holds the newest event that the alarm has looked at.
ALARM_MARK: Final = "alarm-event"

#: Accepted envelopes are remembered so long beyond their end, in seconds, for clocks
#: that disagree.
ENVELOPE_MEMORY_S: Final = 86_400.0

_WRONG: Final = (Kind.ATTEMPT_WRONG.value, Kind.ATTEMPT_UNKNOWN.value)
_ACCEPTED: Final = Kind.ATTEMPT_ACCEPTED.value

_log = logging.getLogger("otpseal")


class Upkeep:
    """Writes what was only counted, raises the alarm, forgets what is over.

    Args:
        store: durable state.
        storage_key: authenticates the audit events.
        clock: gives the Unix time.
        timekeeper: moves the store's time mark on.
        repeats: counts of repeated imports of this process.
        policy: the price of wrong codes.
        alarm_failures: wrong attempts of all accounts since the last look that raise
            the alarm, if they are the greater part of all; 0 for never.
    """

    def __init__(
        self,
        store: Store,
        storage_key: StorageKey,
        clock: Clock,
        *,
        timekeeper: Timekeeper,
        repeats: MemoryCounts,
        policy: throttle.Policy = throttle.DEFAULT_POLICY,
        alarm_failures: int = 0,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._timekeeper = timekeeper
        self._repeats = repeats
        self._policy = policy
        self._alarm_failures = alarm_failures

    def settle(self) -> None:
        """Do all of it; called every minute.

        Raises:
            StoreUnavailable: nothing was written; the next call may succeed.
        """
        with self._repeats.handed_over() as repeats, self._store.transaction() as tx:
            now = self._clock()
            ledger = Ledger(tx, self._storage_key)
            self._tell_refusals(tx, ledger, now)
            for account, count in repeats.items():
                ledger.count(Kind.SEED_REPEATED, account, now, count)
            ledger.flush(now)
            self._raise_alarm(tx, ledger, now)
            if self._timekeeper.may_verify(tx, now):
                # By a clock that is behind nothing would be over, and by one that
                # leapt ahead everything.
                believed = self._timekeeper.believed
                self._timekeeper.advance(tx)
                tx.prune_budgets(believed - BUDGET_MEMORY_S)
                tx.forget_buried(believed)
                tx.forget_envelopes(believed - ENVELOPE_MEMORY_S)

    def _tell_refusals(self, tx: Transaction, ledger: Ledger, now: float) -> None:
        for row in tx.refusing_accounts():
            state, events = verification.settle(
                row.id, row.state, now, policy=self._policy
            )
            if events:
                tx.save_states([(row.id, state)])
                ledger.record(*events)
        for standing in tx.refusing_budgets():
            budget, told = verification.settle_budget(
                standing.budget, now, policy=self._policy
            )
            if told:
                tx.put_budgets([replace(standing, budget=budget)])
            for kind, detail in told:
                by = {**detail, "caller": standing.caller}
                ledger.record(Event(kind, now, standing.account, by))

    def _raise_alarm(self, tx: Transaction, ledger: Ledger, now: float) -> None:
        if not self._alarm_failures:
            return
        newest, counts = tx.count_events_after(
            tx.mark(ALARM_MARK) or 0, (*_WRONG, _ACCEPTED)
        )
        tx.set_mark(ALARM_MARK, newest)
        wrong = sum(counts.get(kind, 0) for kind in _WRONG)
        accepted = counts.get(_ACCEPTED, 0)
        if wrong >= self._alarm_failures and wrong > accepted:
            detail = {"wrong": wrong, "accepted": accepted}
            ledger.record(Event(Kind.FAILURE_RATE, now, detail=detail))
            _log.warning(
                "alarm: %d wrong and %d accepted attempts since the last look, over"
                " all accounts: somebody may be guessing codes",
                wrong,
                accepted,
            )

    def record_seed_file_removed(self) -> None:
        """Record that a plaintext seed.txt was imported, overwritten and removed."""
        with self._store.transaction() as tx:
            event = Event(Kind.SEED_FILE_REMOVED, self._clock(), DEFAULT_ACCOUNT)
            Ledger(tx, self._storage_key).record(event)
