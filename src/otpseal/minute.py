"""The per-minute audit: one line to the code log, one event to the audit log.

Called by cron once a minute, and safe to be called more often: a minute has one
line. The line and its event stand or fall together: the line is appended inside the
transaction that records it, and taken back if that transaction fails.
"""

from enum import Enum, auto

from otpseal.audit import Event, Kind
from otpseal.ledger import Ledger, rfc3339
from otpseal.ports import Clock, CodeLog, CodeLogFile, Store, Transaction
from otpseal.storage_key import StorageKey
from otpseal.totp import generate

#: Name of the store's mark that holds the minute of the last line. The file alone
#: would not do: it may be deleted, and the gap is still to be told.
MARK = "code-log-minute"

_MINUTE_S = 60


class Logged(Enum):
    """What a run did."""

    WRITTEN = auto()
    ALREADY_WRITTEN = auto()
    NO_SEED = auto()


class MinuteJob:
    """Writes the code of an account to the code log, once a minute."""

    def __init__(
        self,
        store: Store,
        *,
        storage_key: StorageKey,
        code_log: CodeLog,
        clock: Clock,
        account: str,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._code_log = code_log
        self._clock = clock
        self._account = account

    def run(self) -> Logged:
        """Append the current minute's line unless it is there already.

        Raises:
            CodeLogUnwritable: nothing was written; the next run may succeed.
            StoreUnavailable, SeedUnreadable: likewise.
        """
        # The file's lock first, then the store's: always in this order.
        with self._code_log.locked() as file:
            self._repair(file)
            try:
                with self._store.transaction() as tx:
                    return self._write(tx, file)
            except BaseException:
                file.undo()
                raise

    def _repair(self, file: CodeLogFile) -> None:
        if torn := file.torn_bytes():
            with self._store.transaction() as tx:
                detail = {"bytes": torn}
                event = Event(
                    Kind.CODE_LOG_REPAIRED, self._clock(), self._account, detail
                )
                Ledger(tx, self._storage_key).record(event)
            # Only now: what is cut off before it is recorded may never be told.
            file.repair()

    def _write(self, tx: Transaction, file: CodeLogFile) -> Logged:
        row = tx.accounts([self._account]).get(self._account)
        if row is None:
            return Logged.NO_SEED
        now = self._clock()
        minute = int(now) // _MINUTE_S
        last = tx.mark(MARK)
        newest = file.newest_minute()
        ledger = Ledger(tx, self._storage_key)
        known = minute - 1 if last is None else last
        if newest is not None and known < newest <= minute:
            # A run was killed between its line and its commit: the line stands, so
            # its event follows, and it is no gap.
            ledger.record(Event(Kind.CODE_LOGGED, now, self._account))
            last = newest
        if minute in (last, newest):
            tx.set_mark(MARK, minute)
            return Logged.ALREADY_WRITTEN
        if last is not None and minute > last + 1:
            missed = {
                "from": rfc3339((last + 1) * _MINUTE_S),
                "to": rfc3339((minute - 1) * _MINUTE_S),
            }
            ledger.record(Event(Kind.CODE_LOG_GAP, now, self._account, missed))
        seed = row.open_seed(self._storage_key)
        file.append(now, generate(seed, now, row.parameters).text)
        ledger.record(Event(Kind.CODE_LOGGED, now, self._account))
        tx.set_mark(MARK, minute)
        return Logged.WRITTEN
