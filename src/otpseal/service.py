"""The service's use cases. START READING HERE.

A sealed seed comes in (`open_sealed`, `import_seed`), the current code goes out
(`current_codes`), an attempt is decided (`decide_batch`). Each use case reads and
writes inside one transaction of the store, and the audit event of an action is part
of that transaction: no audit, no action.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from otpseal import envelope, throttle, totp, verification
from otpseal.audit import Event, Kind
from otpseal.errors import (
    OtpsealError,
    SeedConflict,
    SeedMissing,
    SeedUnreadable,
    StoreMismatch,
    UnsealFailed,
)
from otpseal.ledger import Ledger, MemoryCounts
from otpseal.ports import AccountRow, Clock, Keys, Store, Transaction
from otpseal.secret import Secret
from otpseal.storage_key import StorageKey
from otpseal.verification import Account, Decision, State

#: The account of the classic API: the exercise's single seed.
DEFAULT_ACCOUNT = "default"


class Imported(Enum):
    """What an import did."""

    NEW = auto()
    REPEATED = auto()
    REPLACED = auto()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A submitted code, any text, and the account it is meant for."""

    code: str = field(repr=False)
    account: str = DEFAULT_ACCOUNT


class Service:
    """Opens sealed seeds, keeps them, generates and verifies codes.

    Args:
        store: durable state.
        keys: the import key pair.
        storage_key: what protects seeds at rest in `store`.
        clock: gives the Unix time; read once per use case, after the lock is taken.
        window: steps accepted before and after the current one, 0 or 1.
        policy: the price of wrong codes.
    """

    def __init__(
        self,
        store: Store,
        *,
        keys: Keys,
        storage_key: StorageKey,
        clock: Clock,
        window: int = 1,
        policy: throttle.Policy = throttle.DEFAULT_POLICY,
    ) -> None:
        self.store = store
        self.keys = keys
        self.clock = clock
        self._storage_key = storage_key
        self._window = window
        self._policy = policy
        self._repeats = MemoryCounts()

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
        try:
            seed = envelope.open_sealed(sealed, self.keys.oaep_decrypt)
        except UnsealFailed:
            self._count_refusal(account)
            raise
        return self.import_seed(
            seed, account=account, replace_existing=replace_existing, source="sealed"
        )

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
            ledger = Ledger(tx, self._storage_key)
            row = tx.accounts([account]).get(account)
            fingerprint = self._storage_key.fingerprint(seed)
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
                self._keep(tx, seed, account=account, old=row, now=now)
                kind = Kind.SEED_IMPORTED if row is None else Kind.SEED_REPLACED
                ledger.record(Event(kind, now, account, {"source": source}))
        # Raised only here: an exception inside would undo the count.
        if conflict:
            raise SeedConflict(
                "Another account has this seed"
                if taken
                else "A different seed is already stored"
            )
        return Imported.NEW if row is None else Imported.REPLACED

    def _keep(
        self,
        tx: Transaction,
        seed: Secret,
        *,
        account: str,
        old: AccountRow | None,
        now: float,
    ) -> None:
        state = State() if old is None else old.state
        if old is not None:
            until = now + verification.TOMBSTONE_S
            tx.bury(old.fingerprint, state.last_step, until)
        fingerprint = self._storage_key.fingerprint(seed)
        # Spent stays spent: a seed that comes back finds its last step again.
        spent = tx.buried(fingerprint, now)
        last_step = verification.NEVER if spent is None else spent
        tx.put_account(
            AccountRow(
                id=account,
                sealed_seed=self._storage_key.seal_seed(seed, account),
                fingerprint=fingerprint,
                parameters=totp.CLASSIC,
                imported_at=now,
                state=replace(state, last_step=last_step),
            )
        )

    def _count_refusal(self, account: str) -> None:
        with self.store.transaction() as tx:
            ledger = Ledger(tx, self._storage_key)
            ledger.count(Kind.SEED_REFUSED, account, self.clock())

    # The current code goes out.

    def current_codes(self, accounts: Sequence[str]) -> list[totp.Code | OtpsealError]:
        """Return the current code of each account, all at one instant.

        An account's own failure (`SeedMissing`, `SeedUnreadable`) stands in its
        place in the list. Asking for a code never spends it.

        Raises:
            StoreUnavailable: no code could be made.
        """
        with self.store.transaction() as tx:
            rows = tx.accounts({name for name in accounts if _is_text(name)})
        now = self.clock()
        codes = {
            account: self._code(rows.get(account), now) for account in set(accounts)
        }
        return [codes[account] for account in accounts]

    def _code(self, row: AccountRow | None, now: float) -> totp.Code | OtpsealError:
        if row is None:
            return SeedMissing("Seed not decrypted yet")
        try:
            seed = row.open_seed(self._storage_key)
        except SeedUnreadable as error:
            return error
        return totp.generate(seed, now, row.parameters)

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
            Ledger(tx, self._storage_key).record(Event(Kind.CODE_SHOWN, now, account))
        return code

    # An attempt is decided.

    def verify(self, code: str, account: str = DEFAULT_ACCOUNT) -> Decision:
        """Decide about one attempt, durably.

        Raises:
            SeedMissing, SeedUnreadable: there is nothing to decide by.
            StoreUnavailable: nothing was decided.
        """
        (result,) = self.verify_batch([Attempt(code, account)])
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
        with self.store.transaction() as tx:
            return self.decide_batch(tx, attempts, self.clock())

    def decide_batch(
        self, tx: Transaction, attempts: Sequence[Attempt], now: float
    ) -> list[Decision | OtpsealError]:
        """Decide about attempts in order within `tx`, under their accounts' locks.

        An attempt whose account has no readable seed gets its error in the list:
        raising here would take back what was counted for the others.
        """
        names = {attempt.account for attempt in attempts}
        accounts = self._read_accounts(tx, names, now)
        changed: dict[str, State] = {}
        counts: dict[tuple[Kind, str], int] = {}
        events: list[Event] = []
        results: list[Decision | OtpsealError] = []
        for attempt in attempts:
            account = accounts[attempt.account]
            if isinstance(account, OtpsealError):
                results.append(account)
                continue
            decision = verification.decide(
                account, attempt.code, now, policy=self._policy
            )
            if decision.state is not account.state:
                accounts[account.id] = Account(
                    account.id, decision.state, account.candidates, account.digits
                )
                changed[account.id] = decision.state
            if decision.counted is not None:
                key = decision.counted, account.id
                counts[key] = counts.get(key, 0) + 1
            events += decision.events
            results.append(decision)
        ledger = Ledger(tx, self._storage_key)
        for (kind, account_id), count in counts.items():
            ledger.count(kind, account_id, now, count)
        ledger.record(*events)
        if changed:
            tx.save_states(changed.items())
        return results

    def _read_accounts(
        self, tx: Transaction, ids: set[str], now: float
    ) -> dict[str, Account | OtpsealError]:
        rows = tx.accounts({name for name in ids if _is_text(name)})
        accounts: dict[str, Account | OtpsealError] = {}
        for account_id in ids:
            row = rows.get(account_id)
            if row is None:
                accounts[account_id] = SeedMissing("Seed not decrypted yet")
                continue
            try:
                seed = row.open_seed(self._storage_key)
            except SeedUnreadable as error:
                accounts[account_id] = error
                continue
            candidates = totp.candidates(
                seed, now, window=self._window, parameters=row.parameters
            )
            accounts[account_id] = Account(
                row.id, row.state, candidates, row.parameters.digits
            )
        return accounts

    # An administrator's decisions.

    def enable(self, account: str = DEFAULT_ACCOUNT) -> None:
        """Enable an account and reset its throttle; spent steps stay spent."""
        self._set_disabled(account, disabled=False, kind=Kind.ACCOUNT_ENABLED)

    def disable(self, account: str = DEFAULT_ACCOUNT) -> None:
        """Refuse all attempts on an account until it is enabled again."""
        self._set_disabled(account, disabled=True, kind=Kind.ACCOUNT_DISABLED)

    def _set_disabled(self, account: str, *, disabled: bool, kind: Kind) -> None:
        with self.store.transaction() as tx:
            row = tx.accounts([account]).get(account)
            if row is None:
                raise SeedMissing("Seed not decrypted yet")
            now = self.clock()
            # The wait ends here, so its event is due: no refusal goes untold.
            ended = replace(row.state.budget, wait_until=0.0)
            state, events = verification.settle(
                account, replace(row.state, budget=ended), now, policy=self._policy
            )
            state = replace(state, disabled=disabled, budget=throttle.FRESH)
            tx.save_states([(account, state)])
            ledger = Ledger(tx, self._storage_key)
            ledger.record(*events, Event(kind, now, account))

    def account(self, account: str = DEFAULT_ACCOUNT) -> AccountRow | None:
        """Return the account as it rests, or None."""
        with self.store.transaction() as tx:
            return tx.accounts([account]).get(account)

    def examine(self, account: str = DEFAULT_ACCOUNT) -> AccountRow | None:
        """Look whether the store can be worked with; returns the account, or None.

        Raises:
            StoreUnavailable: it cannot be read.
            StoreMismatch: its storage key is gone; no restart would succeed.
            SeedUnreadable: the account's seed does not decrypt.
        """
        with self.store.transaction() as tx:
            record = tx.storage_key_record()
            row = tx.accounts([account]).get(account)
        if record is None:
            raise StoreMismatch("the store has lost its key record")
        if row is not None:
            row.open_seed(self._storage_key)
        return row

    # Housekeeping.

    def record_seed_file_removed(self) -> None:
        """Record that a plaintext seed.txt was imported, overwritten and removed."""
        with self.store.transaction() as tx:
            event = Event(Kind.SEED_FILE_REMOVED, self.clock(), DEFAULT_ACCOUNT)
            Ledger(tx, self._storage_key).record(event)

    def settle(self) -> None:
        """Write the events about what was only counted; called every minute."""
        with self.store.transaction() as tx:
            now = self.clock()
            ledger = Ledger(tx, self._storage_key)
            for row in tx.refusing_accounts():
                state, events = verification.settle(
                    row.id, row.state, now, policy=self._policy
                )
                if events:
                    tx.save_states([(row.id, state)])
                    ledger.record(*events)
            for account, count in self._repeats.take_all().items():
                ledger.count(Kind.SEED_REPEATED, account, now, count)
            ledger.flush(now)


def _is_text(name: str) -> bool:
    # What no store can hold names no account; asked for, it would fail the batch of
    # everybody else.
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in name
