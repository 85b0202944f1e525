"""Another storage key in the place of the one that is there; everything anew.

For when a private key or an old backup leaked: re-wrapping alone leaves the storage
key the same, and whoever opens it in an old backup opens every seed of the future. All
of it happens in one exclusive transaction: every seed, the service's own keys, and the
MACs of events, pinned authorities and import keys, which are verified under the old
key before they are made under the new one. What was altered stays recognisable.

Fingerprints, budgets' names and recovery digests are one-way, and cannot be computed
anew for what is gone: their subkeys go on, see `StorageKey.successor`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from otpseal.audit import Detail, Event, Kind
from otpseal.errors import SeedUnreadable, StoreMismatch
from otpseal.key_lifecycle import KeyTable
from otpseal.key_watch import STORAGE_KEY_MARK, generation_of
from otpseal.ledger import Ledger, is_genuine, remade
from otpseal.ports import AccountRow, Clock, Keys, Store, Transaction
from otpseal.storage_key import StorageKey
from otpseal.trust import PinnedAuthority
from otpseal.trust_book import is_genuine as is_genuine_pin
from otpseal.trust_book import pinned_row

#: How long other transactions are waited for, and may take, in seconds.
PATIENCE_S: Final = 300.0

_CHUNK: Final = 500

#: Told how many rows were worked on so far.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Replaced:
    """What replacing the storage key did.

    Attributes:
        accounts: whose seeds were encrypted anew.
        events: whose MACs were made anew.
        own_keys: of the service, encrypted anew.
        unreadable: accounts whose seeds did not decrypt before, either.
        altered: events, pinned authorities, import keys and keys of the service's own
            that were not genuine before, and are not now.
        recovery_void: recovery codes that are void now.
    """

    accounts: int
    events: int
    own_keys: int
    unreadable: list[str]
    altered: int
    recovery_void: int


class StorageRotation:
    """Replaces the storage key of a store.

    Args:
        store: everything in it changes.
        storage_key: the one that is replaced; left as it is.
        keys: the active import key, which wraps the new one.
        clock: gives the Unix time.
    """

    def __init__(
        self, store: Store, storage_key: StorageKey, keys: Keys, clock: Clock
    ) -> None:
        self._store = store
        self._storage_key = storage_key
        self._keys = keys
        self._clock = clock

    def replace(
        self, *, void_recovery: bool = False, told: Progress = lambda _n: None
    ) -> Replaced:
        """Replace it; the old one opens nothing of this store any more.

        Args:
            void_recovery: whether recovery codes end, too: who has the old storage
                key, and can write the database, could make some of his own.
            told: about the progress.

        Raises:
            StoreMismatch: the import key was replaced meanwhile, or this is an
                authority's store.
            StoreUnavailable: nothing was changed.
        """
        new = self._storage_key.successor(keeps_recovery=not void_recovery)
        record = new.wrap(self._keys)
        with self._store.transaction(patience_s=PATIENCE_S) as tx:
            table = KeyTable(tx, self._storage_key)
            if table.lives.active != self._keys.kid:
                raise StoreMismatch("the import key was replaced meanwhile: run again")
            if tx.issued_count() or tx.issued_envelopes():
                raise StoreMismatch(
                    "this is an authority's store, and its storage key stays: keys"
                    " rotate --storage is for services"
                )
            work = _Work(tx, self._storage_key, new, told)
            work.accounts()
            work.events()
            work.own_keys()
            work.pins()
            tx.replace_storage_key_record(record)
            for row in table.lives.rows.values():
                tx.put_import_key(row.signed(new, record))
            void = tx.void_recovery_codes() if void_recovery else 0
            tx.set_mark(STORAGE_KEY_MARK, generation_of(tx) + 1)
            done = work.done(len(table.altered), void)
            detail: Detail = {
                "accounts": done.accounts,
                "events": done.events,
                "altered": done.altered + len(done.unreadable),
                "recovery_void": void,
            }
            event = Event(Kind.STORAGE_KEY_REPLACED, self._clock(), detail=detail)
            Ledger(tx, new).record(event)
        return done


class _Work:
    """Goes through what rests, within one transaction."""

    def __init__(
        self, tx: Transaction, old: StorageKey, new: StorageKey, told: Progress
    ) -> None:
        self._tx = tx
        self._old = old
        self._new = new
        self._told = told
        self._accounts = self._events = self._own_keys = 0
        self._altered = self._seen = 0
        self._unreadable: list[str] = []

    def accounts(self) -> None:
        after = ""
        while rows := self._tx.accounts_after(after, _CHUNK):
            after = rows[-1].id
            sealed = [found for row in rows if (found := self._resealed(row))]
            if sealed:
                self._tx.reseal_accounts(sealed)
            self._accounts += len(sealed)
            self._tell(len(rows))

    def _resealed(self, row: AccountRow) -> tuple[str, bytes] | None:
        try:
            seed = row.open_seed(self._old)
        except SeedUnreadable:
            self._unreadable.append(row.id)
            return None
        canonical = row.parameters.canonical
        return row.id, self._new.seal_seed(seed, row.id, parameters=canonical)

    def events(self) -> None:
        after = -(2**63)
        while rows := self._tx.events_after(after, _CHUNK):
            after = rows[-1].id
            genuine = [row for row in rows if is_genuine(self._old, row)]
            if genuine:
                macs = [(row.id, remade(row, self._new).mac) for row in genuine]
                self._tx.replace_event_macs(macs)
            self._events += len(genuine)
            self._altered += len(rows) - len(genuine)
            self._tell(len(rows))

    def own_keys(self) -> None:
        for row in self._tx.service_keys():
            try:
                secret = self._old.open_secret(row.sealed, row.use, row.kid)
            except SeedUnreadable:
                self._altered += 1
                continue
            sealed = self._new.seal_secret(secret, row.use, row.kid)
            self._tx.replace_service_key(row.resealed(sealed))
            self._own_keys += 1

    def pins(self) -> None:
        for row in self._tx.pinned_authorities():
            if not is_genuine_pin(row, self._old):
                self._altered += 1
                continue
            pinned = PinnedAuthority(row.name, row.prefix, row.material)
            self._tx.pin_authority(pinned_row(pinned, row.added_at, self._new))

    def done(self, altered_keys: int, void: int) -> Replaced:
        return Replaced(
            accounts=self._accounts,
            events=self._events,
            own_keys=self._own_keys,
            unreadable=self._unreadable,
            altered=self._altered + altered_keys,
            recovery_void=void,
        )

    def _tell(self, more: int) -> None:
        self._seen += more
        self._told(self._seen)
