"""Store, private key and storage key are brought together: the store is unlocked.

A store and a key that do not belong together are refused, and keys are made only for
an empty store, under the store's lock, so that several processes starting at once end
up with one.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from otpseal.adapters.file_keys import (
    RsaKeys,
    generate_private_key,
    refuse_existing,
    restore_public_half,
    write_key_pair,
)
from otpseal.adapters.sql_engine import OPENING_PATIENCE_S, open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.audit import Event, Kind
from otpseal.config import Settings
from otpseal.errors import ConfigurationError, KeyUnavailable, StoreMismatch
from otpseal.key_lifecycle import KeyTable, outdated
from otpseal.key_places import key_places
from otpseal.key_source import load_private_key, private_key_exists
from otpseal.key_watch import KeyWatch, generation_of
from otpseal.ledger import AuditLog, Ledger
from otpseal.ports import Clock, Keys, Store, Transaction
from otpseal.storage_key import StorageKey

SERVICE_KEY_NAME = "student_private.pem"
AUTHORITY_KEY_NAME = "instructor_private.pem"
AUTHORITY_KEY_BITS = 8192

_log = logging.getLogger("otpseal")


@dataclass(frozen=True, slots=True)
class Opened:
    """What both sides share.

    Attributes:
        store: durable state.
        directory: where the store writes, if that is on this machine.
        keys: the private key's side.
        storage_key: what protects the store's seeds.
        audit: lists and prunes the audit log.
        outdated: what to change in the settings since a rotation, if anything.
    """

    store: Store
    directory: Path | None
    keys: Keys
    storage_key: StorageKey
    audit: AuditLog
    outdated: str | None = field(default=None, kw_only=True)


class KeyPlace:
    """Where one side's private key is, and how the first one is made.

    Args:
        settings: say whether it is a file or in a token.
        name: of the file in the data directory, if they do not say.
        new_bits: size of the key that is made for an empty store; None if none is.
    """

    def __init__(self, settings: Settings, name: str, new_bits: int | None) -> None:
        self._settings = settings
        self._name = name
        self.new_bits = new_bits

    @property
    def _in_token(self) -> bool:
        return self._settings.key_uri() is not None

    def exists(self) -> bool:
        """Tell whether there is a key."""
        return private_key_exists(self._settings, self._name)

    def load(self) -> Keys:
        """Load and validate the key; takes 0.4 s for a file.

        Raises:
            KeyUnavailable: it is not there.
        """
        if not self.exists():
            raise KeyUnavailable(
                "this store belongs to a private key that is not at"
                f" {self._settings.key_path(self._name)}: point OTPSEAL_KEY_FILE at"
                " it, or restore it from a backup; a new key does not open this store"
            )
        keys = load_private_key(self._settings, self._name)
        if not self._in_token:
            path = self._settings.key_path(self._name)
            restore_public_half(keys.public_key, path)
        return keys

    def unwrap(
        self, tx: Transaction, record: bytes, keys: Keys
    ) -> tuple[Keys, StorageKey]:
        """Open the store's record; by the key that took the place of `keys`, perhaps.

        It did where a rotation was interrupted, or is at this point, or where the
        settings have not followed yet.

        Args:
            tx: reads the store.
            record: of its storage key.
            keys: the key that the settings name.

        Raises:
            StoreMismatch: they do not belong together.
        """
        kid = StorageKey.record_kid(record)
        if keys.kid == kid:
            return keys, StorageKey.unwrap(record, keys)
        found = key_places(self._settings, self._name).load_current(kid) or keys
        storage_key = StorageKey.unwrap(record, found)
        # Keys that were retired are still in the token: who writes the database must
        # not bring one back by its old record. Only a successor opens in this way, and
        # its store knows the key that it took over from.
        if not KeyTable(tx, storage_key).lives.succeeded(keys.kid):
            raise StoreMismatch(
                f"the store belongs to the private key {kid}, which never took the"
                f" place of {keys.kid}, the one that OTPSEAL_KEY names: name the right"
                " one; if it is right, somebody put an older state of the store back"
            )
        return found, storage_key

    def outdated(self, kid: str) -> str | None:
        """Return what to change in the settings now that `kid` is the active key's."""
        setting = key_places(self._settings, self._name).setting_for(kid)
        return None if setting is None else outdated(kid, setting)

    def make(self) -> Keys:
        """Make a key and write it; takes seconds."""
        assert self.new_bits is not None
        path = self._settings.key_path(self._name)
        refuse_existing(path)  # before the long search, not after it
        _log.info("making an RSA-%d key for the new store", self.new_bits)
        key = generate_private_key(self.new_bits)
        write_key_pair(key, path, self._settings.key_passphrase())
        return RsaKeys(key)


@contextmanager
def open_store(
    settings: Settings, place: KeyPlace, clock: Clock, *, one_shot: bool = False
) -> Iterator[Opened]:
    """Open the store with its keys; close it at the end of the block.

    Args:
        settings: where it is.
        place: where the private key is.
        clock: gives the Unix time.
        one_shot: see `otpseal.wiring.open_service`.

    Raises:
        ConfigurationError, KeyUnavailable, KeyRefused, StoreUnavailable: says what
            to do.
    """
    if place.new_bits is None:
        expect_store(settings)
    _make_data_dir(settings.data_dir)
    # Loaded before the store's lock is taken.
    keys = place.load() if place.exists() else None
    store = SqlStore(
        open_engine(
            settings.resolved_database_url, password=settings.database_password()
        )
    )
    try:
        with store.transaction(patience_s=OPENING_PATIENCE_S) as tx:
            loaded, storage_key = _unlock(tx, keys, place, clock)
            generation = generation_of(tx)

        advice = None
        if keys is not None and keys.kid != loaded.kid:
            advice = place.outdated(loaded.kid)
        if advice is not None:
            _log.warning("%s", advice)

        def unwrap(tx: Transaction, record: bytes) -> StorageKey:
            return place.unwrap(tx, record, loaded)[1]

        store.watch(
            KeyWatch(storage_key, generation, unwrap=unwrap, goes_on=not one_shot)
        )
        audit = AuditLog(store, storage_key, clock)
        yield Opened(
            store, store.directory, loaded, storage_key, audit, outdated=advice
        )
    finally:
        store.close()


def _unlock(
    tx: Transaction, keys: Keys | None, place: KeyPlace, clock: Clock
) -> tuple[Keys, StorageKey]:
    """Return the private key and the storage key that the store was made with."""
    record = tx.storage_key_record()
    if record is not None:
        # Another process may have made it while this one waited for the lock.
        return place.unwrap(tx, record, keys or place.load())
    if place.new_bits is None:
        raise StoreMismatch(
            "the store is empty: start `otpseal serve` once, or name another directory"
        )
    if tx.account_ids() or tx.issued_count() or tx.issued_envelopes():
        raise StoreMismatch(
            "the store holds seeds but no key record: restore the database from a"
            " backup"
        )
    # Its maker may have failed since it was loaded, and removed it: a store must not
    # be made for a key that is nowhere.
    if keys is None or not place.exists():
        keys = place.make()
    storage_key = StorageKey.generate()
    tx.set_storage_key_record(storage_key.wrap(keys))
    event = Event(Kind.STORE_CREATED, clock(), detail={"kid": keys.kid})
    Ledger(tx, storage_key).record(event)
    return keys, storage_key


def expect_store(settings: Settings) -> None:
    """Refuse a directory without a store, most likely a mistyped one.

    Raises:
        ConfigurationError: there is none, or it belongs to another user.
    """
    try:
        is_there = bool(settings.database_url) or settings.sqlite_path.exists()
    except OSError as error:
        raise ConfigurationError(
            f"{settings.data_dir} cannot be looked into: {error.strerror}. Run this as"
            " the user whom it belongs to"
        ) from None
    if not is_there:
        raise ConfigurationError(
            f"there is no store in {settings.data_dir}: name its directory by"
            " --data-dir or OTPSEAL_DATA_DIR; `otpseal serve` makes a service's,"
            " `otpseal authority serve` an authority's"
        )


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"OTPSEAL_DATA_DIR: {path} cannot be made: {error.strerror}"
        ) from None
