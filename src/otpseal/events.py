"""Audit events as a caller of the v1 API reads them: filtered, a page at a time."""

from dataclasses import dataclass
from typing import Final

from otpseal.access import Caller, Scope
from otpseal.callers import enter
from otpseal.ledger import AuditRecord, is_genuine
from otpseal.ports import Clock, EventRow, Store
from otpseal.storage_key import StorageKey

#: Most events in one page.
MAX_EVENTS: Final = 200

#: Rows that one page looks through at most, and how many of them while it holds the
#: store's lock: a filter that nothing matches must not keep attempts waiting.
MAX_SCANNED: Final = 10_000
SCANNED_AT_ONCE: Final = 500

#: Events older than `since` by that much end the search: ids rise with time but for
#: clocks that are set, in milliseconds.
_SINCE_MARGIN_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; None for all.

    Attributes:
        account: events of this account alone.
        kind: events of this kind alone.
        since_ms: not before that, Unix milliseconds.
        until_ms: before that, Unix milliseconds.
    """

    account: str | None = None
    kind: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, row: EventRow) -> bool:
        """Tell whether an event is wanted."""
        return (
            (self.account is None or row.account == self.account)
            and (self.kind is None or row.kind == self.kind)
            and (self.since_ms is None or row.at_ms >= self.since_ms)
            and (self.until_ms is None or row.at_ms < self.until_ms)
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, newest first, and where the next page begins.

    Attributes:
        records: perhaps fewer than asked for, perhaps none.
        before: only older ids are left to be looked at; None if none are.
    """

    records: list[AuditRecord]
    before: int | None


class EventReader:
    """Reads the audit log for callers.

    Args:
        store: durable state.
        storage_key: tells altered events from genuine ones.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def page(
        self,
        wanted: Filter,
        limit: int,
        *,
        before: int | None = None,
        credential: bytes | None = None,
    ) -> EventPage:
        """Return wanted events with ids below `before`; needs the scope `audit`.

        A caller with a prefix sees the events of accounts inside it alone. At most
        `MAX_SCANNED` rows are looked at, so that a page may be short, or empty, and
        yet not the last.

        Args:
            wanted: the filter.
            limit: 1 to `MAX_EVENTS`.
            before: from the page before; None begins with the newest.
            credential: of the caller.

        Raises:
            Unauthenticated, Forbidden, StoreUnavailable: nothing is shown.
        """
        found: list[AuditRecord] = []
        for _ in range(MAX_SCANNED // SCANNED_AT_ONCE):
            rows, caller = self._read(before, credential)
            for row in rows:
                before = row.id
                if (caller is None or caller.has(row.account)) and wanted.takes(row):
                    found.append(self._record(row))
                    if len(found) == limit:
                        return EventPage(found, before)
            if len(rows) < SCANNED_AT_ONCE or self._is_before(rows[-1], wanted):
                return EventPage(found, None)
        return EventPage(found, before)

    def _read(
        self, before: int | None, credential: bytes | None
    ) -> tuple[list[EventRow], Caller | None]:
        with self._store.transaction(shared=True) as tx:
            caller = enter(tx, credential, Scope.AUDIT, self._clock())
            return tx.events_before(before, SCANNED_AT_ONCE), caller

    def _record(self, row: EventRow) -> AuditRecord:
        return AuditRecord(row, is_genuine(self._storage_key, row))

    def _is_before(self, row: EventRow, wanted: Filter) -> bool:
        """Tell whether all that is older than `row` is older than what is wanted."""
        if wanted.since_ms is None or row.at_ms >= wanted.since_ms - _SINCE_MARGIN_MS:
            return False
        # An altered time must not end the search.
        return is_genuine(self._storage_key, row)
