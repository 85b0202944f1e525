"""The service's use cases. START READING HERE.

A sealed seed comes in (`import_sealed`), the current code goes out (`current_codes`),
an attempt is decided (`decide_batch`). Each use case reads and writes inside one
transaction of the store, and the audit event of an action is part of that
transaction: no audit, no action.

Beside it: `otpseal.decider` decides attempts, `otpseal.accounts` are an
administrator's and an application's dealings with accounts, `otpseal.callers` who may
call the v1 API, `otpseal.upkeep` what happens every minute.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto

from otpseal import envelope, throttle, totp
from otpseal.accounts import AccountBook
from otpseal.attempt import DEFAULT_ACCOUNT, Attempt, is_text
from otpseal.audit import NO_ACCOUNT, Event, Kind
from otpseal.callers import CallerBook
from otpseal.decider import Decider
from otpseal.envelope_opener import EnvelopeOpener
from otpseal.envelopes import EnvelopeImporter
from otpseal.errors import (
    ClockBehind,
    OtpsealError,
    ParametersRefused,
    SeedConflict,
    SeedMissing,
    SeedUnreadable,
    StoreMismatch,
    SuiteRefused,
    UnsealFailed,
)
from otpseal.ledger import Ledger, MemoryCounts
from otpseal.ports import AccountRow, Clock, Keys, Store
from otpseal.secret import Secret
from otpseal.seed_keeping import NewSeed, SeedKeeper, reseeded
from otpseal.service_keys import ServiceKeys
from otpseal.signed_envelope import Unwrap
from otpseal.storage_key import StorageKey
from otpseal.suite import Suite
from otpseal.timekeeper import Timekeeper
from otpseal.upkeep import Upkeep
from otpseal.verification import Decision

__all__ = ["DEFAULT_ACCOUNT", "Attempt", "Imported", "Service"]


class Imported(Enum):
    """What an import did."""

    NEW = auto()
    REPEATED = auto()
    REPLACED = auto()


class Service:
    """Opens sealed seeds, keeps them, generates and verifies codes.

    Args:
        store: durable state.
        keys: the import key pair.
        storage_key: what protects seeds at rest in `store`.
        clock: gives the Unix time; read once per use case, after the lock is taken.
        monotonic: seconds that only ever rise, to tell a leap of `clock` by;
            without it every leap is believed.
        window: the largest window that any account gets, 0 or 1 steps.
        policy: the price of wrong codes.
        alarm_failures: see `otpseal.upkeep`.
        suites: the forms of sealed seeds that are taken.
        unwrap: gives the decryption of the import key of a kid, or None; by default
            that of `keys` alone.

    Attributes:
        accounts: what applications and administrators do with accounts.
        callers: who may call the v1 API.
        suites: the forms of sealed seeds that are taken.
        envelopes: brings seeds whose sender is known.
        own_keys: what receipts are signed with, and envelopes of the suite pq opened.
        upkeep: what is due every minute.
    """

    def __init__(
        self,
        store: Store,
        *,
        keys: Keys,
        storage_key: StorageKey,
        clock: Clock,
        monotonic: Clock | None = None,
        window: int = 1,
        policy: throttle.Policy = throttle.DEFAULT_POLICY,
        alarm_failures: int = 0,
        suites: Collection[Suite] = tuple(Suite),
        unwrap: Callable[[str], Unwrap | None] | None = None,
    ) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self.storage_key = storage_key
        self.suites = frozenset(suites)
        self.timekeeper = Timekeeper(monotonic)
        self._repeats = MemoryCounts()
        self.accounts = AccountBook(store, storage_key, clock, policy=policy)
        self.callers = CallerBook(store, storage_key, clock)
        self.own_keys = ServiceKeys(store, storage_key, clock)
        opener = EnvelopeOpener(
            unwrap or self._unwrap, self.own_keys.pq_key, self.suites
        )
        self.envelopes = EnvelopeImporter(
            store,
            storage_key,
            clock,
            opener=opener.open,
            receipt_key=self.own_keys.receipt_key,
        )
        self.upkeep = Upkeep(
            store,
            storage_key,
            clock,
            timekeeper=self.timekeeper,
            repeats=self._repeats,
            policy=policy,
            alarm_failures=alarm_failures,
        )
        self._decider = Decider(
            storage_key, self.timekeeper, window=window, policy=policy
        )

    def _unwrap(self, kid: str) -> Unwrap | None:
        return self.keys.oaep_decrypt if kid == self.keys.kid else None

    # A seed arrives.

    def import_sealed(
        self,
        sealed: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        replace_existing: bool = False,
    ) -> Imported:
        """Open a sealed seed and keep it; costs one RSA decryption (about 6 ms).

        Args:
            sealed: base64 text, see `otpseal.envelope`.
            account: where the seed goes.
            replace_existing: an administrator's decision; else a different seed
                is refused, because anyone with the public key can seal one.

        Raises:
            UnsealFailed: it does not open, for whatever cause; that is counted.
            SeedConflict: a different seed is stored, or another account has this
                one; that is counted.
            StoreUnavailable: nothing was stored.
        """
        seed = self.open_sealed(sealed, account=account)
        return self.import_seed(
            seed, account=account, replace_existing=replace_existing, source="sealed"
        )

    def open_sealed(self, sealed: str, *, account: str = DEFAULT_ACCOUNT) -> Secret:
        """Open a sealed seed of the classic form.

        A failure is counted, and raised as `UnsealFailed`.

        Raises:
            SuiteRefused: the classic form is switched off; that is counted.
        """
        if Suite.CLASSIC not in self.suites:
            self._count(Kind.SUITE_REFUSED, NO_ACCOUNT)
            raise SuiteRefused(
                "sealed seeds without a sender are switched off; OTPSEAL_ACCEPT_SUITES"
                " would have to name classic"
            )
        try:
            return envelope.open_sealed(sealed, self.keys.oaep_decrypt)
        except UnsealFailed:
            self._count(Kind.SEED_REFUSED, account)
            raise

    def _count(self, kind: Kind, account: str) -> None:
        with self.store.transaction() as tx:
            Ledger(tx, self.storage_key).count(kind, account, self.clock())

    def import_seed(
        self,
        seed: Secret,
        *,
        source: str,
        account: str = DEFAULT_ACCOUNT,
        replace_existing: bool = False,
    ) -> Imported:
        """Keep an opened seed. Raises as `import_sealed` does.

        `source` says in the audit log where it came from.
        """
        with self.store.transaction() as tx:
            now = self.clock()
            ledger = Ledger(tx, self.storage_key)
            row = tx.accounts([account]).get(account)
            fingerprint = self.storage_key.fingerprint(seed)
            if row is not None and row.fingerprint == fingerprint:
                # Nothing changes, so a commit, which costs nearly as much as the
                # decryption, is made once a minute only.
                self._repeats.add(account)
                if count := self._repeats.take_if_due(account, now):
                    ledger.count(Kind.SEED_REPEATED, account, now, count)
                return Imported.REPEATED
            # A seed that two accounts had would be accepted once by each.
            taken = tx.holder(fingerprint) is not None
            conflict = taken or (row is not None and not replace_existing)
            if conflict:
                ledger.count(Kind.SEED_REFUSED, account, now)
            else:
                keeper = SeedKeeper(tx, self.storage_key)
                if row is None:
                    keeper.add(NewSeed(account, seed), now)
                else:
                    keeper.replace(row, reseeded(row, seed), now)
                kind = Kind.SEED_IMPORTED if row is None else Kind.SEED_REPLACED
                detail = {"source": source, "sender": "not authenticated"}
                ledger.record(Event(kind, now, account, detail))
        # Raised only here: an exception inside would undo the count.
        if conflict:
            raise SeedConflict(
                "Another account has this seed"
                if taken
                else "A different seed is already stored"
            )
        return Imported.NEW if row is None else Imported.REPLACED

    # The current code goes out.

    def current_codes(self, accounts: Sequence[str]) -> list[totp.Code | OtpsealError]:
        """Return the current code of each account, all at one instant.

        An account's own failure (`SeedMissing`, `SeedUnreadable`) stands in its
        place in the list. Asking for a code never spends it.

        Raises:
            StoreUnavailable: no code could be made.
        """
        with self.store.transaction(shared=True) as tx:
            rows = tx.accounts({name for name in accounts if is_text(name)})
        now = self.clock()
        codes = {
            account: self._code(rows.get(account), now) for account in set(accounts)
        }
        return [codes[account] for account in accounts]

    def _code(self, row: AccountRow | None, now: float) -> totp.Code | OtpsealError:
        if row is None:
            return SeedMissing("Seed not decrypted yet")
        try:
            seed = row.open_seed(self.storage_key)
        except SeedUnreadable as error:
            return error
        if row.parameters.type is not totp.OtpType.TOTP:
            return ParametersRefused("An account that counts has no current code")
        return totp.generate(seed, now, row.parameters, row.state.drift)

    def show_code(self, account: str = DEFAULT_ACCOUNT) -> totp.Code:
        """Return the current code for an operator, and record that he asked.

        Raises:
            SeedMissing, SeedUnreadable, StoreUnavailable: there is no code.
        """
        with self.store.transaction() as tx:
            now = self.clock()
            code = self._code(tx.accounts([account]).get(account), now)
            if isinstance(code, OtpsealError):
                raise code
            Ledger(tx, self.storage_key).record(Event(Kind.CODE_SHOWN, now, account))
        return code

    # An attempt is decided.

    def verify(self, code: str, account: str = DEFAULT_ACCOUNT) -> Decision:
        """Decide about a code of this machine's own callers; raises as `decide`."""
        return self.decide(Attempt(code, account))

    def decide(self, attempt: Attempt) -> Decision:
        """Decide about one attempt, durably.

        Raises:
            SeedMissing, SeedUnreadable, AccountNotPending: there is nothing to decide.
            Unauthenticated, Forbidden, CallerExhausted: to callers with a credential.
            ClockBehind, StoreUnavailable: nothing was decided.
        """
        (result,) = self.verify_batch([attempt])
        if isinstance(result, OtpsealError):
            raise result
        return result

    def verify_batch(
        self, attempts: Sequence[Attempt]
    ) -> list[Decision | OtpsealError]:
        """Decide about attempts in order, in one transaction.

        When this returns, every decision in the list is durable.

        Raises:
            StoreUnavailable: nothing was decided.
        """
        with self.store.transaction(shared=True) as tx:
            return self._decider.decide_batch(tx, attempts, self.clock())

    def account(self, account: str = DEFAULT_ACCOUNT) -> AccountRow | None:
        """Return the account as it rests, or None."""
        with self.store.transaction(shared=True) as tx:
            return tx.accounts([account]).get(account)

    def examine(self, account: str = DEFAULT_ACCOUNT) -> AccountRow | None:
        """Look whether the store can be worked with; returns the account, or None.

        Raises:
            StoreUnavailable: it cannot be read.
            StoreMismatch: its storage key is gone; no restart would succeed.
            SeedUnreadable: the account's seed does not decrypt.
            ClockBehind: by this process's clock nothing can be verified.
        """
        with self.store.transaction(shared=True) as tx:
            record = tx.storage_key_record()
            row = tx.accounts([account]).get(account)
            may_verify = self.timekeeper.may_verify(tx, self.clock())
        if record is None:
            raise StoreMismatch("the store has lost its key record")
        if row is not None:
            row.open_seed(self.storage_key)
        if not may_verify:
            raise ClockBehind
        return row
