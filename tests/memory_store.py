"""A real store that forgets: `otpseal.ports.Store` in this process's memory."""

# ruff: noqa: D102 - the methods are described in `otpseal.ports`

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from otpseal.audit import Kind, Tally
from otpseal.ports import AccountRow, EventRow, IssuedSeed
from otpseal.verification import State


@dataclass
class Tables:
    """Everything that is stored; rows are immutable, so a shallow copy is one."""

    storage_key_record: bytes | None = None
    accounts: dict[str, AccountRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    last_event_id: int = 0
    tallies: dict[tuple[Kind, str], Tally] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    tombstones: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    issued: dict[bytes, IssuedSeed] = field(default_factory=dict)

    def copy(self) -> "Tables":
        """Return a copy that can change without this one."""
        return replace(
            self,
            accounts=dict(self.accounts),
            events=list(self.events),
            tallies=dict(self.tallies),
            marks=dict(self.marks),
            tombstones=dict(self.tombstones),
            issued=dict(self.issued),
        )


class MemoryTransaction:
    """`otpseal.ports.Transaction` on a copy of the tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def storage_key_record(self) -> bytes | None:
        return self.tables.storage_key_record

    def set_storage_key_record(self, record: bytes) -> None:
        assert self.tables.storage_key_record is None
        self.tables.storage_key_record = record

    def accounts(self, ids: Collection[str]) -> dict[str, AccountRow]:
        for name in ids:
            name.encode()  # as every driver does: half a surrogate pair raises
        return {
            name: self.tables.accounts[name]
            for name in sorted(ids)
            if name in self.tables.accounts
        }

    def account_ids(self) -> list[str]:
        return sorted(self.tables.accounts)

    def holder(self, fingerprint: bytes) -> str | None:
        for row in self.tables.accounts.values():
            if row.fingerprint == fingerprint:
                return row.id
        return None

    def refusing_accounts(self) -> list[AccountRow]:
        rows = self.accounts(self.account_ids()).values()
        return [row for row in rows if row.state.budget.refused > 0]

    def put_account(self, row: AccountRow) -> None:
        self.tables.accounts[row.id] = row

    def save_states(self, states: Iterable[tuple[str, State]]) -> None:
        for name, state in states:
            row = self.tables.accounts[name]
            self.tables.accounts[name] = replace(row, state=state)

    def append_events(self, rows: Sequence[EventRow]) -> None:
        for row in rows:
            self.tables.last_event_id += 1
            self.tables.events.append(replace(row, id=self.tables.last_event_id))

    def newest_events(
        self, limit: int, *, account: str | None = None, kind: str | None = None
    ) -> list[EventRow]:
        found = [
            row
            for row in self.tables.events
            if account in (None, row.account) and kind in (None, row.kind)
        ]
        return found[max(0, len(found) - limit) :]

    def prune_events(self, before_ms: int) -> int:
        newest = self.tables.last_event_id
        kept = [
            row
            for row in self.tables.events
            if row.at_ms >= before_ms or row.id == newest
        ]
        count = len(self.tables.events) - len(kept)
        self.tables.events = kept
        return count

    def tallies(self) -> list[Tally]:
        return list(self.tables.tallies.values())

    def tally(self, kind: Kind, account: str) -> Tally:
        return self.tables.tallies.get((kind, account), Tally(kind, account))

    def put_tally(self, tally: Tally) -> None:
        self.tables.tallies[tally.kind, tally.account] = tally

    def mark(self, name: str) -> int | None:
        return self.tables.marks.get(name)

    def set_mark(self, name: str, value: int) -> None:
        self.tables.marks[name] = value

    def bury(self, fingerprint: bytes, last_step: int, until: float) -> None:
        self.tables.tombstones[fingerprint] = (last_step, until)

    def buried(self, fingerprint: bytes, now: float) -> int | None:
        self.tables.tombstones = {
            key: stone
            for key, stone in self.tables.tombstones.items()
            if stone[1] > now
        }
        stone = self.tables.tombstones.get(fingerprint)
        return None if stone is None else stone[0]

    def issued(self, pair: bytes) -> IssuedSeed | None:
        return self.tables.issued.get(pair)

    def issued_count(self) -> int:
        return len(self.tables.issued)

    def put_issued(self, issued: IssuedSeed) -> None:
        self.tables.issued[issued.pair] = issued


class MemoryStore:
    """`otpseal.ports.Store`: one lock, and a copy that becomes the truth at the end."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.committed = Tables()

    @contextmanager
    def transaction(
        self, *, patience_s: float = 4.0, shared: bool = False
    ) -> Iterator[MemoryTransaction]:
        """See `otpseal.ports.Store`."""
        with self._lock:
            tx = MemoryTransaction(self.committed.copy())
            yield tx
            self.committed = tx.tables

    def close(self) -> None:
        """See `otpseal.ports.Store`."""
