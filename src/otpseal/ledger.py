"""The audit log as use cases write and read it: events with their MACs.

`Ledger` writes within the transaction of the action itself; `AuditLog` lists, checks
and prunes.
"""

import hmac
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from otpseal.audit import (
    NO_ACCOUNT,
    TALLY_PERIOD_S,
    Detail,
    Event,
    Kind,
    canonical_bytes,
)
from otpseal.errors import StoreUnavailable
from otpseal.ports import Clock, EventRow, Store, Transaction
from otpseal.storage_key import StorageKey

_DAY_S = 86_400


class Ledger:
    """Writes the audit events and counts of one transaction."""

    def __init__(self, tx: Transaction, storage_key: StorageKey) -> None:
        self._tx = tx
        self._storage_key = storage_key

    def record(self, *events: Event) -> None:
        """Append `events`."""
        if events:
            rows = [event_row(event, self._storage_key) for event in events]
            self._tx.append_events(rows)

    def count(self, kind: Kind, account: str, now: float, count: int = 1) -> None:
        """Count what is not to be listed one by one."""
        tally, events = self._tx.tally(kind, account).add(now, count)
        self._tx.put_tally(tally)
        self.record(*events)

    def flush(self, now: float) -> None:
        """Write the events about counts whose time has come; forget what is over."""
        for tally in self._tx.tallies():
            flushed, events = tally.flush(now)
            if events:
                self._tx.put_tally(flushed)
                self.record(*events)
        # What is over counts on as what never was. Kept, every account that ever had
        # a replay, and every id that a caller made up, would be read every minute.
        self._tx.forget_tallies(now - TALLY_PERIOD_S)


def event_row(event: Event, storage_key: StorageKey) -> EventRow:
    """Return an event as it rests; the store gives the id."""
    kind, at_ms, detail = event.kind.value, event.at_ms, event.detail_json
    mac = storage_key.authenticate(
        canonical_bytes(kind=kind, at_ms=at_ms, account=event.account, detail=detail)
    )
    return EventRow(0, at_ms, kind, event.account, detail, mac)


class MemoryCounts:
    """Counts by account of what changes nothing, kept by this process alone.

    A crash loses at most a minute of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._taken_at: dict[str, float] = {}

    def add(self, account: str, count: int = 1) -> None:
        """Count so many more."""
        with self._lock:
            self._counts[account] = self._counts.get(account, 0) + count

    def take_if_due(self, account: str, now: float) -> int:
        """Return an account's count and forget it; 0 if that was done this minute."""
        with self._lock:
            if abs(now - self._taken_at.get(account, -math.inf)) < TALLY_PERIOD_S:
                return 0
            self._taken_at[account] = now
            return self._counts.pop(account, 0)

    @contextmanager
    def handed_over(self) -> Iterator[Mapping[str, int]]:
        """Give all counts, to be committed within; what is not is counted on."""
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            yield counts
        except BaseException:
            for account, count in counts.items():
                self.add(account, count)
            raise


class StrangerCounts:
    """Counts of strangers' requests that named nothing that exists.

    Such a request changes nothing, and no limit depends on how many there were: so
    it need not pay for a commit of its own, for which all others would wait. The first
    is written at once, what follows in one piece a minute. There are as many counts
    in memory as kinds, whatever strangers send, and a crash loses at most a minute of
    them.

    Args:
        store: durable state.
        storage_key: authenticates the events.
        clock: gives the Unix time.
    """

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._counts = MemoryCounts()

    def count(self, kind: Kind) -> None:
        """Count one.

        Raises:
            StoreUnavailable: its minute's count could not be written, and is kept.
        """
        self._counts.add(kind.value)
        if count := self._counts.take_if_due(kind.value, self._clock()):
            try:
                self._write({kind.value: count})
            except StoreUnavailable:
                self._counts.add(kind.value, count)
                raise

    def settle(self) -> None:
        """Write all that was counted; raises as `count`."""
        with self._counts.handed_over() as counts:
            if counts:
                self._write(counts)

    def _write(self, counts: Mapping[str, int]) -> None:
        with self._store.transaction() as tx:
            ledger, now = Ledger(tx, self._storage_key), self._clock()
            for kind, count in counts.items():
                ledger.count(Kind(kind), NO_ACCOUNT, now, count)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An audit event as it is listed.

    Attributes:
        row: as stored.
        genuine: whether it reads as it was written under this storage key.
    """

    row: EventRow
    genuine: bool

    @property
    def at(self) -> str:
        """When, as RFC 3339 UTC to the millisecond."""
        try:
            at = datetime.fromtimestamp(self.row.at_ms / 1000, UTC)
        except (OverflowError, ValueError, OSError):
            # Altered: one row must not hide all the others.
            return f"{self.row.at_ms} ms"
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def described(self) -> dict[str, object]:
        """Return it as programs are told of it."""
        row = self.row
        return {
            "id": row.id,
            "at": self.at,
            "kind": row.kind,
            "account": row.account,
            # What was altered need not be JSON any more, and is shown as it stands.
            "detail": json.loads(row.detail) if self.genuine else row.detail,
            "genuine": self.genuine,
        }


def is_genuine(storage_key: StorageKey, row: EventRow) -> bool:
    """Tell whether an event reads as it was written under this storage key."""
    expected = storage_key.authenticate(
        canonical_bytes(
            kind=row.kind, at_ms=row.at_ms, account=row.account, detail=row.detail
        )
    )
    return hmac.compare_digest(expected, row.mac)


def remade(row: EventRow, storage_key: StorageKey) -> EventRow:
    """Return an event with its MAC under a storage key; only for a genuine one."""
    canonical = canonical_bytes(
        kind=row.kind, at_ms=row.at_ms, account=row.account, detail=row.detail
    )
    return replace(row, mac=storage_key.authenticate(canonical))


class AuditLog:
    """Lists, checks and prunes the audit events of a store."""

    def __init__(self, store: Store, storage_key: StorageKey, clock: Clock) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock

    def newest(
        self, limit: int, *, account: str | None = None, kind: str | None = None
    ) -> list[AuditRecord]:
        """Return the newest `limit` events, oldest first."""
        with self._store.transaction() as tx:
            rows = tx.newest_events(limit, account=account, kind=kind)
        key = self._storage_key
        return [AuditRecord(row, is_genuine(key, row)) for row in rows]

    def prune(
        self, days: int, *, credible: Callable[[float], float] = lambda now: now
    ) -> int:
        """Delete events older than `days`; returns how many, and records it.

        `credible` tells what this process's time may be at most: by a clock that is
        far ahead everything would be old.
        """
        with self._store.transaction() as tx:
            now = self._clock()
            before = credible(now) - days * _DAY_S
            count = tx.prune_events(round(before * 1000))
            if count:
                detail: Detail = {"count": count, "before": rfc3339(before)}
                Ledger(tx, self._storage_key).record(
                    Event(Kind.AUDIT_PRUNED, now, detail=detail)
                )
        return count


def rfc3339(at: float) -> str:
    """Return a Unix time as RFC 3339 UTC to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
