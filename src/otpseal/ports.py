"""What the use cases need from the outside, as protocols.

An interface stands here only where two implementations exist: the store (SQL, and
the memory fake of the tests), the keys (a file, and a key made in memory), the code
log (a file, and the fake). One contract suite runs over all implementations of each.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from otpseal import throttle
from otpseal.access import Caller
from otpseal.account_state import State
from otpseal.audit import Kind, Tally
from otpseal.errors import ParametersRefused, SeedUnreadable
from otpseal.ports_enrolment import EnrolmentTransaction
from otpseal.ports_keys import KeyTransaction
from otpseal.ports_trust import TrustTransaction
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey, WrappingKey
from otpseal.totp import CLASSIC, RESYNC_STEPS, Parameters

#: Gives the Unix time in seconds. Only doors and wiring choose one.
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as it rests.

    Attributes:
        id: the account's name.
        sealed_seed: the seed under the storage key, bound to `id` and `parameters`.
        fingerprint: keyed fingerprint of the seed.
        parameters: what turns the seed into codes.
        imported_at: when the seed arrived, in Unix seconds.
        state: what decisions have made of it.
        issuer: whose service the account is for; shown by authenticator apps.
        label: whose account it is; shown by authenticator apps.
    """

    id: str
    sealed_seed: bytes
    fingerprint: bytes
    parameters: Parameters
    imported_at: float
    state: State
    issuer: str = ""
    label: str = ""

    def open_seed(self, storage_key: StorageKey) -> Secret:
        """Decrypt the seed.

        Raises:
            SeedUnreadable: damaged, moved from another account, of other parameters,
                or by another key.
        """
        if self.sealed_seed[:1] == b"\x01":
            # Of a version that bound no parameters, when all were the classic ones.
            # A row that claims one digit, or a period of years, would make this
            # another, weaker factor.
            if self.parameters != CLASSIC:
                raise SeedUnreadable(self.id)
            return storage_key.open_seed(self.sealed_seed, self.id)
        try:
            self.parameters.check()
        except ParametersRefused:
            raise SeedUnreadable(self.id) from None
        if abs(self.state.drift) > RESYNC_STEPS:
            raise SeedUnreadable(self.id)  # no decision of ours put it there
        canonical = self.parameters.canonical
        return storage_key.open_seed(self.sealed_seed, self.id, parameters=canonical)


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What a caller has left for one account, as it rests.

    Attributes:
        caller: the caller's id.
        key: `StorageKey.throttle_key` of the account, whether it exists or not.
        account: the account's id; empty if it does not exist, or is not the caller's.
        budget: the throttle's state.
        touched_at: when the caller last tried, in Unix seconds.
    """

    caller: str
    key: bytes
    account: str
    budget: throttle.State
    touched_at: float


@dataclass(frozen=True, slots=True)
class EventRow:
    """An audit event as it rests; `id` rises and is given by the store."""

    id: int
    at_ms: int
    kind: str
    account: str
    detail: str
    mac: bytes


@dataclass(frozen=True, slots=True)
class IssuedSeed:
    """A seed that the authority made for a subscriber and repository.

    Attributes:
        pair: SHA-256 over the length-prefixed pair; the primary key.
        student_id: the subscriber, byte for byte as requested.
        github_repo_url: the repository, likewise.
        kid: the only key this seed is ever sealed to.
        sealed_seed: the seed under the authority's storage key, bound to `pair`.
        issued_at: Unix seconds.
    """

    pair: bytes
    student_id: str
    github_repo_url: str
    kid: str
    sealed_seed: bytes
    issued_at: float


class Transaction(EnrolmentTransaction, TrustTransaction, KeyTransaction, Protocol):
    """All that can be read and written while the store's write lock is held.

    Everything becomes durable together when the `Store.transaction` block ends, or
    nothing does if it ends by an exception.
    """

    @property
    def database_time(self) -> float | None:
        """The database server's own Unix time after the lock was got; else None."""

    def storage_key_record(self) -> bytes | None:
        """Return the wrapped storage key, or None in an empty store."""

    def set_storage_key_record(self, record: bytes) -> None:
        """Store the wrapped storage key; only ever into an empty store."""

    def accounts(self, ids: Collection[str]) -> dict[str, AccountRow]:
        """Return those of the accounts that exist, their rows locked."""

    def account_ids(self) -> list[str]:
        """Return every account's id, sorted."""

    def holder(self, fingerprint: bytes) -> str | None:
        """Return the account that has the seed of that fingerprint, or None."""

    def refusing_accounts(self) -> list[AccountRow]:
        """Return the accounts that count refusals, by id, their rows locked."""

    def accounts_after(
        self, after: str, limit: int, *, prefix: str = ""
    ) -> list[AccountRow]:
        """Return accounts with ids greater than `after`, in the order of their bytes.

        At most `limit`, and only those whose ids begin with `prefix`.
        """

    def put_account(self, row: AccountRow) -> None:
        """Insert the account, or replace the one of that id."""

    def add_accounts(self, rows: Sequence[AccountRow]) -> None:
        """Insert many accounts at once; none of the ids or seeds may be there."""

    def existing(
        self, ids: Collection[str], fingerprints: Collection[bytes]
    ) -> tuple[set[str], set[bytes]]:
        """Return those of the ids, and of the fingerprints, that accounts have."""

    def delete_account(self, account: str) -> None:
        """Delete an account, its recovery codes and its callers' budgets."""

    def raise_last_steps(self, now: float) -> int:
        """Spend every TOTP account's steps up to now and its window.

        Never lowers one. Returns how many were raised.
        """

    def count_ahead(self, now: float) -> int:
        """Return how many TOTP accounts have spent steps later than that."""

    def save_states(self, states: Iterable[tuple[str, State]]) -> None:
        """Store the new states of existing accounts."""

    # Callers of the v1 API.

    def callers(self, digests: Collection[bytes]) -> dict[bytes, Caller]:
        """Return those of the callers that are known, by digest."""

    def all_callers(self) -> list[Caller]:
        """Return every caller, by id."""

    def add_caller(self, caller: Caller) -> None:
        """Insert a caller."""

    def revoke_caller(self, caller: str, now: float) -> bool:
        """Revoke a caller; False if there is none, or it was revoked before."""

    def budgets(
        self, keys: Collection[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], BudgetRow]:
        """Return those that exist of the (caller, key) pairs, their rows locked.

        Locks those that do not exist as well: who reads the same pair next waits.
        """

    def put_budgets(self, rows: Sequence[BudgetRow]) -> None:
        """Insert or replace budgets."""

    def refusing_budgets(self) -> list[BudgetRow]:
        """Return the budgets of accounts that count refusals, their rows locked."""

    def forget_budgets(self, account: str) -> None:
        """Delete every caller's budget for an account."""

    def prune_budgets(self, before: float) -> int:
        """Delete budgets not touched since, and count each caller's strangers anew."""

    def count_strangers(self, new: Mapping[str, int]) -> None:
        """Add to the number of unknown accounts that callers were wrong about."""

    # Recovery codes.

    def recovery_digests(self, accounts: Collection[str]) -> set[tuple[str, bytes]]:
        """Return the (account, digest) pairs of unused codes of these accounts."""

    def set_recovery_digests(self, account: str, digests: Collection[bytes]) -> None:
        """Put new recovery codes in the place of all that the account has."""

    def spend_recovery_digest(self, account: str, digest: bytes) -> None:
        """Delete a recovery code that was used."""

    # The audit log.

    def append_events(self, rows: Sequence[EventRow]) -> None:
        """Append audit events; their `id` is ignored."""

    def newest_events(
        self, limit: int, *, account: str | None = None, kind: str | None = None
    ) -> list[EventRow]:
        """Return the newest `limit` events, oldest first."""

    def events_before(self, before: int | None, limit: int) -> list[EventRow]:
        """Return the newest `limit` events with ids below `before`, newest first."""

    def count_events_after(
        self, after: int, kinds: Collection[str]
    ) -> tuple[int, dict[str, int]]:
        """Return the newest event's id, and how many of each kind came `after`."""

    def prune_events(self, before_ms: int) -> int:
        """Delete events older than that, but for the newest; returns how many."""

    def tallies(self) -> list[Tally]:
        """Return every tally."""

    def tally(self, kind: Kind, account: str) -> Tally:
        """Return one tally, its row locked; a fresh one if there is none."""

    def put_tally(self, tally: Tally) -> None:
        """Store a tally."""

    def forget_tallies(self, since: float) -> None:
        """Delete the tallies that count nothing and were told at `since` or before."""

    def mark(self, name: str) -> int | None:
        """Return a named number, or None."""

    def set_mark(self, name: str, value: int) -> None:
        """Store a named number."""

    def raise_mark(self, name: str, value: int) -> None:
        """Store a named number unless a greater one is stored."""

    def bury(self, fingerprint: bytes, last_step: int, until: float) -> None:
        """Remember until `until` that a removed seed's steps are spent."""

    def buried(self, fingerprint: bytes) -> int | None:
        """Return the last step of a removed seed, if it is remembered."""

    def all_buried(self) -> dict[bytes, int]:
        """Return the last steps of all removed seeds that are remembered."""

    def forget_buried(self, now: float) -> None:
        """Forget the removed seeds that were to be remembered until `now`."""

    def issued(self, pair: bytes) -> IssuedSeed | None:
        """Return the seed issued for a pair, its row locked."""

    def issued_count(self) -> int:
        """Return how many pairs have a seed."""

    def put_issued(self, issued: IssuedSeed) -> None:
        """Insert an issued seed, or replace the one of that pair."""


class Store(Protocol):
    """Durable state, shared by threads and processes."""

    def transaction(
        self, *, patience_s: float = ..., shared: bool = False
    ) -> AbstractContextManager[Transaction]:
        """Open a transaction under the store's lock.

        By default it is exclusive: no other transaction of any process or replica on
        this store runs meanwhile. Shared ones may run beside one another, where the
        database can do that: they read, or change only rows that they have locked,
        in the order of ids.

        Waits for the lock, and for each row's, at most `patience_s` seconds; by
        default less than callers wait for their answers.

        Raises:
            StoreUnavailable: at the start, in between or at the commit; then
                nothing of it is stored.
        """

    def close(self) -> None:
        """Release connections and files."""


class Keys(WrappingKey, Protocol):
    """One RSA key pair; the private half may live elsewhere (a file, a token)."""


class CodeLogFile(Protocol):
    """The code log while its lock is held."""

    def newest_minute(self) -> int | None:
        """Return the minute (Unix time // 60) of the newest line, or None."""

    def torn_bytes(self) -> int:
        """Return how many bytes of an unfinished line are at the end."""

    def repair(self) -> None:
        """Cut off a torn last line."""

    def append(self, now: float, code: str) -> None:
        """Append one line durably, or leave the file as it was.

        Raises:
            CodeLogUnwritable: nothing was appended.
        """

    def undo(self) -> None:
        """Take the last appended line back."""


class CodeLog(Protocol):
    """The one-line-a-minute file that cron writes."""

    def locked(self) -> AbstractContextManager[CodeLogFile]:
        """Open it under its lock, so that two runs follow one another.

        Raises:
            CodeLogUnwritable: it cannot be opened; says why and what to do.
        """

    def newest_line_at(self) -> float | None:
        """Return the Unix time of the newest line, rotated files included."""
