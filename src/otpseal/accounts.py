"""Accounts as applications and administrators deal with them.

Every call takes the caller's credential, or None for this machine's own, and looks
at it inside its own transaction. An account on the other side of a caller's fence is
answered for exactly as one that does not exist.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Final

from otpseal import recovery, throttle, totp, verification
from otpseal.access import Caller, Scope
from otpseal.account_id import parse_account_id
from otpseal.account_state import Status
from otpseal.attempt import DEFAULT_ACCOUNT, is_text
from otpseal.audit import NO_ACCOUNT, Detail, Event, Kind
from otpseal.callers import enter, expect_covered, expect_inside
from otpseal.errors import (
    AccountExists,
    AccountMissing,
    ParametersRefused,
    SeedConflict,
)
from otpseal.formats.otpauth import key_uri
from otpseal.formats.row import names_fault
from otpseal.ledger import Ledger
from otpseal.ports import AccountRow, Clock, Store, Transaction
from otpseal.secret import Secret
from otpseal.seed_keeping import NewSeed, SeedKeeper, reseeded
from otpseal.storage_key import StorageKey

#: Bytes of a seed that is made here, unless the caller wants more (RFC 4226 R6
#: recommends 160 bits).
NEW_SEED_BYTES: Final = 20

#: Most accounts in one page of a list.
MAX_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What a caller says about an account that is to be made.

    Attributes:
        id: its name.
        parameters: what turns its seed into codes.
        issuer: shown by authenticator apps.
        label: shown by authenticator apps.
        counter: the next counter, for HOTP.
    """

    id: str
    parameters: totp.Parameters = totp.CLASSIC
    issuer: str = ""
    label: str = ""
    counter: int = 0


class AccountBook:
    """Makes, shows, changes and removes accounts.

    Args:
        store: durable state.
        storage_key: what protects the store's seeds.
        clock: gives the Unix time.
        policy: the price of wrong codes.
    """

    def __init__(
        self,
        store: Store,
        storage_key: StorageKey,
        clock: Clock,
        *,
        policy: throttle.Policy = throttle.DEFAULT_POLICY,
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._clock = clock
        self._policy = policy

    def authorize(self, credential: bytes | None, scope: Scope) -> None:
        """Look at a credential before work that costs: a decryption, a key.

        Raises:
            Unauthenticated, Forbidden: as the action itself would.
        """
        with self._store.transaction(shared=True) as tx:
            enter(tx, credential, scope, self._clock())

    # Made.

    def create(
        self,
        new: NewAccount,
        *,
        seed_bytes: int = NEW_SEED_BYTES,
        credential: bytes | None = None,
    ) -> tuple[AccountRow, Secret]:
        """Make an account with a seed of our own; it waits to be confirmed.

        Args:
            new: what is made.
            seed_bytes: 20 to 64.
            credential: needs the scope `accounts`.

        Raises:
            AccountIdRefused, ParametersRefused: what is out of range.
            AccountExists: the id is taken.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was made.
        """
        if not NEW_SEED_BYTES <= seed_bytes <= totp.MAX_SEED_BYTES:
            raise ParametersRefused(
                f"a new seed has {NEW_SEED_BYTES} to {totp.MAX_SEED_BYTES} bytes"
            )
        seed = Secret(secrets.token_bytes(seed_bytes))
        made = _new_seed(new, seed, Status.PENDING)
        return self._add(credential, Scope.ACCOUNTS, made, "generated"), seed

    def bring(
        self, new: NewAccount, seed: Secret, *, credential: bytes | None = None
    ) -> AccountRow:
        """Make an account with a seed that came sealed; it is active at once.

        Needs the scope `import`. Raises as `create` does, and `SeedConflict` if
        another account has the seed; that is counted.
        """
        made = _new_seed(new, seed, Status.ACTIVE)
        return self._add(credential, Scope.IMPORT, made, "sealed")

    def _add(
        self, credential: bytes | None, scope: Scope, made: NewSeed, source: str
    ) -> AccountRow:
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, scope, now)
            expect_covered(caller, made.account)
            if tx.accounts([made.account]):
                raise AccountExists("There is an account of this id")
            ledger = Ledger(tx, self._storage_key)
            row = None
            if tx.holder(self._storage_key.fingerprint(made.seed)) is not None:
                # Not under an id that a caller may choose anew each time.
                ledger.count(Kind.SEED_REFUSED, NO_ACCOUNT, now)
            else:
                row = SeedKeeper(tx, self._storage_key).add(made, now)
                kind = made.parameters.type.value
                detail = {"type": kind, **_origin(source), **_by(caller)}
                ledger.record(Event(Kind.ACCOUNT_CREATED, now, made.account, detail))
        # Raised only here: an exception inside would undo the count.
        if row is None:
            raise SeedConflict("Another account has this seed")
        return row

    # Shown.

    def show(self, account: str, *, credential: bytes | None = None) -> AccountRow:
        """Return an account; needs the scope `accounts`.

        Raises:
            AccountMissing: there is none, or not for this caller.
            Unauthenticated, Forbidden, StoreUnavailable: it is not shown.
        """
        with self._store.transaction(shared=True) as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.ACCOUNTS, now)
            return _existing(tx, caller, account)

    def page(
        self,
        after: str,
        limit: int,
        *,
        prefix: str = "",
        credential: bytes | None = None,
    ) -> list[AccountRow]:
        """Return the accounts after an id, in the order of their ids' bytes.

        Only those whose ids begin with `prefix`, and only the caller's own; needs the
        scope `accounts`. `limit` is 1 to `MAX_PAGE`.
        """
        with self._store.transaction(shared=True) as tx:
            caller = enter(tx, credential, Scope.ACCOUNTS, self._clock())
            fence = "" if caller is None else caller.prefix
            if fence.startswith(prefix):
                prefix = fence
            elif not prefix.startswith(fence):
                return []
            return tx.accounts_after(after, limit, prefix=prefix)

    def current_code(
        self, account: str, *, credential: bytes | None = None
    ) -> totp.Code:
        """Return the current code, and record who asked; needs the scope `code`.

        Raises:
            AccountMissing: there is none, or not for this caller.
            ParametersRefused: a HOTP account has no current code.
            SeedUnreadable, Unauthenticated, Forbidden, StoreUnavailable: no code.
        """
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.CODE, now)
            row = _existing(tx, caller, account)
            if row.parameters.type is not totp.OtpType.TOTP:
                raise ParametersRefused("An account that counts has no current code")
            seed = row.open_seed(self._storage_key)
            event = Event(Kind.CODE_SHOWN, now, account, _by(caller))
            Ledger(tx, self._storage_key).record(event)
        return totp.generate(seed, now, row.parameters, row.state.drift)

    # Changed.

    def enable(
        self, account: str = DEFAULT_ACCOUNT, *, credential: bytes | None = None
    ) -> AccountRow:
        """Enable an account and reset its throttle; needs the scope `accounts`.

        Spent steps stay spent. A pending account needs no first code any more.

        Raises:
            AccountMissing: there is none, or not for this caller.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was changed.
        """
        return self._set_status(
            account, Status.ACTIVE, Kind.ACCOUNT_ENABLED, credential
        )

    def disable(
        self, account: str = DEFAULT_ACCOUNT, *, credential: bytes | None = None
    ) -> AccountRow:
        """Refuse all attempts on an account until it is enabled; raises as `enable`."""
        return self._set_status(
            account, Status.DISABLED, Kind.ACCOUNT_DISABLED, credential
        )

    def _set_status(
        self, account: str, status: Status, kind: Kind, credential: bytes | None
    ) -> AccountRow:
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.ACCOUNTS, now)
            row = _existing(tx, caller, account)
            # The wait ends here, so its event is due: no refusal goes untold.
            ended = replace(row.state.budget, wait_until=0.0)
            state, events = verification.settle(
                account, replace(row.state, budget=ended), now, policy=self._policy
            )
            state = replace(state, status=status, failures=0, budget=throttle.FRESH)
            tx.save_states([(account, state)])
            tx.forget_budgets(account)
            event = Event(kind, now, account, _by(caller))
            Ledger(tx, self._storage_key).record(*events, event)
        return replace(row, state=state)

    def delete(self, account: str, *, credential: bytes | None = None) -> None:
        """Delete an account and its seed; needs the scope `admin`.

        Its spent steps stay spent for a day, should the seed come back.

        Raises:
            AccountMissing: there is none, or not for this caller.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was deleted.
        """
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.ADMIN, now)
            row = _existing(tx, caller, account)
            SeedKeeper(tx, self._storage_key).bury(row, now)
            tx.delete_account(account)
            event = Event(Kind.ACCOUNT_DELETED, now, account, _by(caller))
            Ledger(tx, self._storage_key).record(event)

    def replace_seed(
        self,
        account: str,
        seed: Secret | None = None,
        *,
        credential: bytes | None = None,
    ) -> tuple[AccountRow, Secret | None]:
        """Put another seed in the place of an account's; needs the scope `admin`.

        Without `seed` a new one is made and returned, to be shown once. Recovery codes
        of the account stay valid.

        Raises:
            AccountMissing: there is none, or not for this caller.
            SeedConflict: an account has the seed already; that is counted.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was changed.
        """
        made = Secret(secrets.token_bytes(NEW_SEED_BYTES)) if seed is None else None
        given = made if seed is None else seed
        assert given is not None
        totp.check_seed(given)
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.ADMIN, now)
            row = _existing(tx, caller, account)
            ledger = Ledger(tx, self._storage_key)
            taken = tx.holder(self._storage_key.fingerprint(given)) is not None
            if taken:
                ledger.count(Kind.SEED_REFUSED, account, now)
            else:
                SeedKeeper(tx, self._storage_key).replace(
                    row, reseeded(row, given), now
                )
                source = "generated" if seed is None else "sealed"
                detail = {**_origin(source), **_by(caller)}
                ledger.record(Event(Kind.SEED_REPLACED, now, account, detail))
        if taken:
            raise SeedConflict("An account has this seed already")
        return replace(row, imported_at=now), made

    def make_recovery_codes(
        self, account: str, *, credential: bytes | None = None
    ) -> list[str]:
        """Return ten new recovery codes, shown this once; earlier ones are void.

        Needs the scope `accounts`.

        Raises:
            AccountMissing: there is none, or not for this caller.
            Unauthenticated, Forbidden, StoreUnavailable: nothing was changed.
        """
        codes = recovery.make_codes(secrets.token_bytes)
        with self._store.transaction() as tx:
            now = self._clock()
            caller = enter(tx, credential, Scope.ACCOUNTS, now)
            _existing(tx, caller, account)
            digests = [
                self._storage_key.recovery_digest(account, recovery.canonical(code))
                for code in codes
            ]
            tx.set_recovery_digests(account, digests)
            detail = {"count": len(codes), **_by(caller)}
            event = Event(Kind.RECOVERY_CODES_MADE, now, account, detail)
            Ledger(tx, self._storage_key).record(event)
        return codes


def otpauth_uri(account: AccountRow, seed: Secret) -> str:
    """Return what an authenticator app reads an account from; as secret as the seed.

    Without a label the account's id stands in for it.
    """
    parameters = account.parameters
    timed = parameters.type is totp.OtpType.TOTP
    return key_uri(
        seed,
        issuer=account.issuer,
        label=account.label or account.id,
        kind=parameters.type.value,
        algorithm=parameters.algorithm,
        digits=parameters.digits,
        period=parameters.period,
        counter=0 if timed else account.state.last_step + 1,
    )


def _new_seed(new: NewAccount, seed: Secret, status: Status) -> NewSeed:
    parse_account_id(new.id)
    if new.id == DEFAULT_ACCOUNT and new.parameters != totp.CLASSIC:
        raise ParametersRefused(
            "the account `default` serves the classic API: TOTP, SHA1, 6 digits, 30 s"
        )
    if fault := names_fault(new.issuer, new.label):
        raise ParametersRefused(fault)
    made = NewSeed(
        new.id, seed, new.parameters, new.issuer, new.label, status, new.counter
    )
    made.check()
    return made


def _existing(tx: Transaction, caller: Caller | None, account: str) -> AccountRow:
    expect_inside(caller, account)
    row = tx.accounts([account]).get(account) if is_text(account) else None
    if row is None:
        raise AccountMissing("There is no such account")
    return row


def _origin(source: str) -> Detail:
    """Return where a seed came from, as events tell it.

    The classic form of a sealed seed does not say who sealed it.
    """
    if source == "sealed":
        return {"source": source, "sender": "not authenticated"}
    return {"source": source}


def _by(caller: Caller | None) -> Detail:
    return {} if caller is None else {"caller": caller.id}
