"""A real store that forgets: `otpseal.ports.Store` in this process's memory."""

# ruff: noqa: D102 - the methods are described in `otpseal.ports`

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from otpseal.access import Caller
from otpseal.account_state import State
from otpseal.audit import Kind, Tally
from otpseal.key_records import ImportKeyRow
from otpseal.ports import AccountRow, BudgetRow, EventRow, IssuedSeed
from otpseal.ports_keys import ServiceKeyRow
from otpseal.ports_trust import EnvelopeSequence, KeptReceipt, PinnedRow
from otpseal.subscription import IssuedEnvelope, Subscriber, Ticket
from otpseal.totp import OtpType


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
    callers: dict[str, Caller] = field(default_factory=dict)
    budgets: dict[tuple[str, bytes], BudgetRow] = field(default_factory=dict)
    recovery: set[tuple[str, bytes]] = field(default_factory=set)
    subscribers: dict[str, Subscriber] = field(default_factory=dict)
    tickets: dict[bytes, Ticket] = field(default_factory=dict)
    sent: dict[str, IssuedEnvelope] = field(default_factory=dict)
    pinned: dict[str, PinnedRow] = field(default_factory=dict)
    envelopes: dict[tuple[str, str], float] = field(default_factory=dict)
    receipts: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    sequences: dict[str, EnvelopeSequence] = field(default_factory=dict)
    own_keys: dict[str, ServiceKeyRow] = field(default_factory=dict)
    import_keys: dict[str, ImportKeyRow] = field(default_factory=dict)

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
            callers=dict(self.callers),
            budgets=dict(self.budgets),
            recovery=set(self.recovery),
            subscribers=dict(self.subscribers),
            tickets=dict(self.tickets),
            sent=dict(self.sent),
            pinned=dict(self.pinned),
            envelopes=dict(self.envelopes),
            receipts=dict(self.receipts),
            sequences=dict(self.sequences),
            own_keys=dict(self.own_keys),
            import_keys=dict(self.import_keys),
        )


class MemoryTransaction:
    """`otpseal.ports.Transaction` on a copy of the tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.server_time: float | None = None

    @property
    def database_time(self) -> float | None:
        return self.server_time

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
            if (row := self.tables.accounts.get(name)) is not None:
                self.tables.accounts[name] = replace(row, state=state)

    def accounts_after(
        self, after: str, limit: int, *, prefix: str = ""
    ) -> list[AccountRow]:
        names = sorted(self.tables.accounts)
        wanted = [name for name in names if name > after and name.startswith(prefix)]
        return [self.tables.accounts[name] for name in wanted[:limit]]

    def add_accounts(self, rows: Sequence[AccountRow]) -> None:
        for row in rows:
            assert row.id not in self.tables.accounts
            assert self.holder(row.fingerprint) is None
            self.tables.accounts[row.id] = row

    def existing(
        self, ids: Collection[str], fingerprints: Collection[bytes]
    ) -> tuple[set[str], set[bytes]]:
        held = {row.fingerprint for row in self.tables.accounts.values()}
        return set(ids) & set(self.tables.accounts), set(fingerprints) & held

    def delete_account(self, account: str) -> None:
        self.tables.accounts.pop(account, None)
        self.forget_budgets(account)
        self.set_recovery_digests(account, ())

    def raise_last_steps(self, now: float) -> int:
        raised = 0
        for name, row in self.tables.accounts.items():
            parameters, state = row.parameters, row.state
            step = parameters.step_at(now, state.drift) + parameters.window
            if parameters.type is OtpType.TOTP and state.last_step < step:
                spent = replace(row, state=replace(state, last_step=step))
                self.tables.accounts[name] = spent
                raised += 1
        return raised

    def count_ahead(self, now: float) -> int:
        return sum(
            row.parameters.type is OtpType.TOTP
            and row.state.last_step
            > row.parameters.step_at(now, row.state.drift) + row.parameters.window
            for row in self.tables.accounts.values()
        )

    def callers(self, digests: Collection[bytes]) -> dict[bytes, Caller]:
        every = self.tables.callers.values()
        return {caller.digest: caller for caller in every if caller.digest in digests}

    def all_callers(self) -> list[Caller]:
        return [self.tables.callers[name] for name in sorted(self.tables.callers)]

    def add_caller(self, caller: Caller) -> None:
        assert caller.id not in self.tables.callers
        self.tables.callers[caller.id] = caller

    def revoke_caller(self, caller: str, now: float) -> bool:
        found = self.tables.callers.get(caller)
        if found is None or found.revoked_at is not None:
            return False
        self.tables.callers[caller] = replace(found, revoked_at=now)
        return True

    def budgets(
        self, keys: Collection[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], BudgetRow]:
        budgets = self.tables.budgets
        return {key: budgets[key] for key in keys if key in budgets}

    def put_budgets(self, rows: Sequence[BudgetRow]) -> None:
        self.tables.budgets |= {(row.caller, row.key): row for row in rows}

    def refusing_budgets(self) -> list[BudgetRow]:
        rows = [row for _, row in sorted(self.tables.budgets.items())]
        return [row for row in rows if row.account and row.budget.refused > 0]

    def forget_budgets(self, account: str) -> None:
        self.tables.budgets = {
            key: row
            for key, row in self.tables.budgets.items()
            if row.account != account
        }

    def prune_budgets(self, before: float) -> int:
        budgets = self.tables.budgets
        kept = {k: row for k, row in budgets.items() if row.touched_at >= before}
        self.tables.budgets = kept
        for name, caller in self.tables.callers.items():
            strangers = [
                row for row in kept.values() if row.caller == name and not row.account
            ]
            counted = replace(caller, strangers=len(strangers))
            self.tables.callers[name] = counted
        return len(budgets) - len(kept)

    def count_strangers(self, new: Mapping[str, int]) -> None:
        for name, count in new.items():
            caller = self.tables.callers[name]
            counted = replace(caller, strangers=caller.strangers + count)
            self.tables.callers[name] = counted

    def recovery_digests(self, accounts: Collection[str]) -> set[tuple[str, bytes]]:
        return {pair for pair in self.tables.recovery if pair[0] in accounts}

    def set_recovery_digests(self, account: str, digests: Collection[bytes]) -> None:
        kept = {pair for pair in self.tables.recovery if pair[0] != account}
        self.tables.recovery = kept | {(account, digest) for digest in digests}

    def spend_recovery_digest(self, account: str, digest: bytes) -> None:
        self.tables.recovery.discard((account, digest))

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

    def events_before(self, before: int | None, limit: int) -> list[EventRow]:
        found = [row for row in self.tables.events if before is None or row.id < before]
        return found[::-1][:limit]

    def count_events_after(
        self, after: int, kinds: Collection[str]
    ) -> tuple[int, dict[str, int]]:
        new = [row.kind for row in self.tables.events if row.id > after]
        counts = Counter(kind for kind in new if kind in kinds)
        return self.tables.last_event_id, dict(counts)

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

    def forget_tallies(self, since: float) -> None:
        for name, tally in list(self.tables.tallies.items()):
            if not tally.pending and tally.since <= since:
                del self.tables.tallies[name]

    def mark(self, name: str) -> int | None:
        return self.tables.marks.get(name)

    def set_mark(self, name: str, value: int) -> None:
        self.tables.marks[name] = value

    def raise_mark(self, name: str, value: int) -> None:
        self.tables.marks[name] = max(value, self.tables.marks.get(name, value))

    def bury(self, fingerprint: bytes, last_step: int, until: float) -> None:
        self.tables.tombstones[fingerprint] = (last_step, until)

    def buried(self, fingerprint: bytes) -> int | None:
        stone = self.tables.tombstones.get(fingerprint)
        return None if stone is None else stone[0]

    def all_buried(self) -> dict[bytes, int]:
        return {key: stone[0] for key, stone in self.tables.tombstones.items()}

    def forget_buried(self, now: float) -> None:
        stones = self.tables.tombstones.items()
        self.tables.tombstones = {k: stone for k, stone in stones if stone[1] > now}

    def issued(self, pair: bytes) -> IssuedSeed | None:
        return self.tables.issued.get(pair)

    def issued_count(self) -> int:
        return len(self.tables.issued)

    def put_issued(self, issued: IssuedSeed) -> None:
        self.tables.issued[issued.pair] = issued

    def replace_storage_key_record(self, record: bytes) -> None:
        assert self.tables.storage_key_record is not None
        self.tables.storage_key_record = record

    def import_keys(self) -> list[ImportKeyRow]:
        rows = self.tables.import_keys.values()
        return sorted(rows, key=lambda row: (row.made_at, row.kid))

    def put_import_key(self, row: ImportKeyRow) -> None:
        self.tables.import_keys[row.kid] = row

    def service_keys(self, use: str | None = None) -> list[ServiceKeyRow]:
        every = self.tables.own_keys.values()
        rows = [row for row in every if use in (None, row.use)]
        return sorted(rows, key=lambda row: (row.made_at, row.kid))

    def add_service_key(self, row: ServiceKeyRow) -> None:
        assert row.kid not in self.tables.own_keys
        self.tables.own_keys[row.kid] = row

    def reseal_accounts(self, seeds: Sequence[tuple[str, bytes]]) -> None:
        for name, sealed in seeds:
            row = self.tables.accounts[name]
            self.tables.accounts[name] = replace(row, sealed_seed=sealed)

    def events_after(self, after: int, limit: int) -> list[EventRow]:
        return [row for row in self.tables.events if row.id > after][:limit]

    def replace_event_macs(self, macs: Sequence[tuple[int, bytes]]) -> None:
        given = dict(macs)
        self.tables.events = [
            replace(row, mac=given.get(row.id, row.mac)) for row in self.tables.events
        ]

    def void_recovery_codes(self) -> int:
        count = len(self.tables.recovery)
        self.tables.recovery = set()
        return count

    def replace_service_key(self, row: ServiceKeyRow) -> None:
        self.tables.own_keys[row.kid] = row

    def subscriber(self, name: str) -> Subscriber | None:
        return self.tables.subscribers.get(name)

    def subscribers(self) -> list[Subscriber]:
        return [row for _, row in sorted(self.tables.subscribers.items())]

    def put_subscriber(self, subscriber: Subscriber) -> None:
        self.tables.subscribers[subscriber.id] = subscriber

    def ticket(self, digest: bytes) -> Ticket | None:
        return self.tables.tickets.get(digest)

    def put_ticket(self, ticket: Ticket) -> None:
        self.tables.tickets[ticket.digest] = ticket

    def prune_tickets(self, before: float) -> int:
        tickets = self.tables.tickets
        kept = {k: row for k, row in tickets.items() if row.expires_at >= before}
        self.tables.tickets = kept
        return len(tickets) - len(kept)

    def last_sequence(self, account: str) -> int | None:
        rows = self.tables.sent.values()
        return max(
            (row.sequence for row in rows if row.account == account), default=None
        )

    def put_issued_envelope(self, issued: IssuedEnvelope) -> None:
        self.tables.sent[issued.jti] = issued

    def issued_envelope(self, digest: bytes) -> IssuedEnvelope | None:
        for row in self.tables.sent.values():
            if row.digest == digest:
                return row
        return None

    def issued_envelopes(self) -> list[IssuedEnvelope]:
        rows = self.tables.sent.values()
        return sorted(rows, key=lambda row: (row.issued_at, row.jti))

    def pinned_authorities(self) -> list[PinnedRow]:
        return [self.tables.pinned[name] for name in sorted(self.tables.pinned)]

    def pin_authority(self, row: PinnedRow) -> None:
        self.tables.pinned[row.name] = row

    def unpin_authority(self, name: str) -> bool:
        return self.tables.pinned.pop(name, None) is not None

    def remember_envelope(self, authority: str, jti: str, expires_at: float) -> bool:
        if (authority, jti) in self.tables.envelopes:
            return False
        self.tables.envelopes[authority, jti] = expires_at
        return True

    def keep_receipt(
        self, authority: str, jti: str, *, digest: bytes, receipt: str
    ) -> None:
        if (authority, jti) in self.tables.envelopes:
            self.tables.receipts[authority, jti] = digest, receipt

    def receipt_for(self, digest: bytes) -> KeptReceipt | None:
        for (authority, _), (known, receipt) in self.tables.receipts.items():
            if known == digest:
                return KeptReceipt(authority, receipt)
        return None

    def receipt_of(self, authority: str, jti: str) -> KeptReceipt | None:
        kept = self.tables.receipts.get((authority, jti))
        return None if kept is None else KeptReceipt(authority, kept[1])

    def forget_envelopes(self, before: float) -> int:
        known = self.tables.envelopes
        kept = {key: until for key, until in known.items() if until >= before}
        self.tables.envelopes = kept
        receipts = self.tables.receipts
        self.tables.receipts = {key: receipts[key] for key in receipts if key in kept}
        return len(known) - len(kept)

    def envelope_sequence(self, account: str) -> EnvelopeSequence | None:
        return self.tables.sequences.get(account)

    def put_envelope_sequence(self, sequence: EnvelopeSequence) -> None:
        self.tables.sequences[sequence.account] = sequence


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
