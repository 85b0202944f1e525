"""Settings -> Service or Authority; the only module that names adapters.

Here the store, the private key and the storage key are brought together: a store
and a key that do not belong together are refused, and keys are made only for an
empty store, under the store's lock, so that several processes starting at once end
up with one.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from otpseal import envelope, throttle
from otpseal.adapters.file_code_log import FileCodeLog
from otpseal.adapters.file_keys import (
    RsaKeys,
    generate_private_key,
    refuse_existing,
    restore_public_half,
    write_key_pair,
)
from otpseal.adapters.key_siblings import Searching, SiblingKeys, unannounced
from otpseal.adapters.seed_file import open_seed_file
from otpseal.adapters.sql_engine import OPENING_PATIENCE_S, open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.audit import Event, Kind
from otpseal.authority import Authority
from otpseal.config import Settings
from otpseal.errors import (
    ConfigurationError,
    KeyUnavailable,
    SeedConflict,
    StoreMismatch,
    UnsealFailed,
)
from otpseal.key_ring import KeyRing
from otpseal.key_source import load_private_key, private_key_exists
from otpseal.key_watch import KeyWatch, generation_of
from otpseal.ledger import AuditLog, Ledger
from otpseal.minute import MinuteJob
from otpseal.ports import Clock, CodeLog, Keys, Store
from otpseal.service import DEFAULT_ACCOUNT, Service
from otpseal.storage_key import StorageKey

SERVICE_KEY_NAME = "student_private.pem"
AUTHORITY_KEY_NAME = "instructor_private.pem"
SERVICE_KEY_BITS = 4096
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
    """

    store: Store
    directory: Path | None
    keys: Keys
    storage_key: StorageKey
    audit: AuditLog


@dataclass(frozen=True, slots=True)
class OpenedService(Opened):
    """A service ready for use.

    Attributes:
        service: the use cases.
        code_log: the one-line-a-minute file, if one is configured.
        minute_job: what cron runs, if a code log is configured.
        key_ring: the import keys of every age; `keys` is the same.
    """

    service: Service
    code_log: CodeLog | None
    minute_job: MinuteJob | None
    key_ring: KeyRing | None = None


@dataclass(frozen=True, slots=True)
class OpenedAuthority(Opened):
    """An authority ready for use."""

    authority: Authority


@contextmanager
def open_service(
    settings: Settings,
    *,
    clock: Clock = time.time,
    monotonic: Clock = time.monotonic,
    policy: throttle.Policy = throttle.DEFAULT_POLICY,
    create: bool = True,
    one_shot: bool = False,
) -> Iterator[OpenedService]:
    """Open the service's store and keys; close them at the end of the block.

    Args:
        settings: where they are.
        clock: gives the Unix time.
        monotonic: seconds that only ever rise, to tell a leap of `clock` by.
        policy: the price of wrong codes.
        create: whether a store and a key are made where there are none; else that
            is an error, most likely a mistyped directory.
        one_shot: whether the caller holds what it sealed before a transaction: it ends
            if the storage key is replaced meanwhile, others take the new one.

    Raises:
        ConfigurationError, KeyUnavailable, KeyRefused, StoreUnavailable: says what
            to do.
    """
    with _open(
        settings,
        SERVICE_KEY_NAME,
        clock,
        SERVICE_KEY_BITS if create else None,
        one_shot=one_shot,
    ) as opened:
        ring = KeyRing(
            opened.keys,
            store=opened.store,
            storage_key=opened.storage_key,
            load=partial(_load_any, settings),
            clock=clock,
            monotonic=monotonic,
        )
        service = Service(
            opened.store,
            keys=ring,
            unwrap=ring.unwrap,
            storage_key=opened.storage_key,
            clock=clock,
            monotonic=monotonic,
            window=settings.window_steps,
            policy=policy,
            alarm_failures=settings.alarm_failures,
            suites=settings.accept_suites,
        )
        _adopt_seed_file(settings.data_dir / "seed.txt", service)
        code_log = job = None
        if settings.code_log is not None:
            code_log = FileCodeLog(
                settings.code_log, max_bytes=settings.code_log_max_bytes
            )
            job = MinuteJob(
                opened.store,
                storage_key=opened.storage_key,
                code_log=code_log,
                clock=clock,
                account=DEFAULT_ACCOUNT,
            )
        yield OpenedService(
            store=opened.store,
            directory=opened.directory,
            keys=ring,
            storage_key=opened.storage_key,
            audit=opened.audit,
            service=service,
            code_log=code_log,
            minute_job=job,
            key_ring=ring,
        )


def key_files(settings: Settings, *, searching: Searching = unannounced) -> SiblingKeys:
    """Return the service's import keys, as files beside one another.

    `searching` is entered while a key of that many bits is made.

    Raises:
        ConfigurationError: the key is in a token.
    """
    return SiblingKeys(
        settings.key_path(SERVICE_KEY_NAME),
        settings.key_passphrase(),
        bits=SERVICE_KEY_BITS,
        searching=searching,
    )


def _load_current(settings: Settings, key_name: str, kid: str) -> Keys | None:
    """Return the key that the record names, where a rotation has left it."""
    if settings.key_uri() is not None:
        return None
    path = settings.key_path(key_name)
    return SiblingKeys(path, settings.key_passphrase()).load_current(kid)


def _load_any(settings: Settings, kid: str) -> Keys | None:
    return None if settings.key_uri() is not None else key_files(settings).load(kid)


@contextmanager
def open_authority(
    settings: Settings,
    *,
    clock: Clock = time.time,
    new_key_bits: int | None = None,
) -> Iterator[OpenedAuthority]:
    """Open the authority's store and keys; raises as `open_service` does.

    `new_key_bits` is the size of the key that is made for an empty store; by default
    a missing store is an error.
    """
    with _open(settings, AUTHORITY_KEY_NAME, clock, new_key_bits) as opened:
        authority = Authority(
            opened.store,
            keys=opened.keys,
            storage_key=opened.storage_key,
            clock=clock,
            max_seeds=settings.authority_max_seeds,
        )
        yield OpenedAuthority(
            store=opened.store,
            directory=opened.directory,
            keys=opened.keys,
            storage_key=opened.storage_key,
            audit=opened.audit,
            authority=authority,
        )


@contextmanager
def _open(
    settings: Settings,
    key_name: str,
    clock: Clock,
    new_key_bits: int | None,
    *,
    one_shot: bool = False,
) -> Iterator[Opened]:
    if new_key_bits is None:
        expect_store(settings)
    _make_data_dir(settings.data_dir)
    in_token = settings.key_uri() is not None
    # Loaded before the store's lock is taken: validating the key takes 0.4 s.
    is_there = private_key_exists(settings, key_name)
    keys = load_private_key(settings, key_name) if is_there else None
    if keys is not None and not in_token:
        restore_public_half(keys.public_key, settings.key_path(key_name))

    def load_existing() -> Keys:
        if not private_key_exists(settings, key_name):
            raise KeyUnavailable(
                "this store belongs to a private key that is not at"
                f" {settings.key_path(key_name)}: point OTPSEAL_KEY_FILE at it, or"
                " restore it from a backup; a new key does not open this store"
            )
        return load_private_key(settings, key_name)

    def make_keys() -> Keys:
        assert new_key_bits is not None
        key_path = settings.key_path(key_name)
        refuse_existing(key_path)  # before the long search, not after it
        _log.info("making an RSA-%d key for the new store", new_key_bits)
        key = generate_private_key(new_key_bits)
        write_key_pair(key, key_path, settings.key_passphrase())
        return RsaKeys(key)

    store = SqlStore(
        open_engine(
            settings.resolved_database_url, password=settings.database_password()
        )
    )
    try:
        loaded, storage_key, generation = _unlock(
            store,
            keys,
            load=load_existing,
            load_current=partial(_load_current, settings, key_name),
            make=make_keys,
            is_kept=lambda: private_key_exists(settings, key_name),
            may_create=new_key_bits is not None,
            clock=clock,
        )

        def key_of(record: bytes) -> Keys:
            kid = StorageKey.record_kid(record)
            if loaded.kid == kid:
                return loaded
            return _load_current(settings, key_name, kid) or loaded

        store.watch(
            KeyWatch(storage_key, generation, key_of=key_of, goes_on=not one_shot)
        )
        audit = AuditLog(store, storage_key, clock)
        yield Opened(store, store.directory, loaded, storage_key, audit)
    finally:
        store.close()


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
            " --data-dir or OTPSEAL_DATA_DIR; `serve` makes one"
        )


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"OTPSEAL_DATA_DIR: {path} cannot be made: {error.strerror}"
        ) from None


def _unlock(
    store: Store,
    keys: Keys | None,
    *,
    load: Callable[[], Keys],
    load_current: Callable[[str], Keys | None],
    make: Callable[[], Keys],
    is_kept: Callable[[], bool],
    may_create: bool,
    clock: Clock,
) -> tuple[Keys, StorageKey, int]:
    """Return the private key and the storage key of `store`, and which one it is."""
    with store.transaction(patience_s=OPENING_PATIENCE_S) as tx:
        record = tx.storage_key_record()
        if record is None:
            if not may_create:
                raise StoreMismatch(
                    "the store is empty: start `otpseal serve` once, or name another"
                    " directory"
                )
            if tx.account_ids() or tx.issued_count() or tx.issued_envelopes():
                raise StoreMismatch(
                    "the store holds seeds but no key record: restore the database"
                    " from a backup"
                )
            # Its maker may have failed since it was loaded, and removed it: a store
            # must not be made for a key that is nowhere.
            if keys is None or not is_kept():
                keys = make()
            storage_key = StorageKey.generate()
            tx.set_storage_key_record(storage_key.wrap(keys))
            event = Event(Kind.STORE_CREATED, clock(), detail={"kid": keys.kid})
            Ledger(tx, storage_key).record(event)
            return keys, storage_key, 0
        # Another process may have made it while this one waited for the lock.
        keys = keys or load()
        kid = StorageKey.record_kid(record)
        if keys.kid != kid:
            # A rotation was interrupted, or is at this point just now.
            keys = load_current(kid) or keys
        return keys, StorageKey.unwrap(record, keys), generation_of(tx)


def _adopt_seed_file(path: Path, service: Service) -> None:
    """Import the plaintext seed of an existing deployment once, then destroy it."""
    try:
        file = open_seed_file(path)
    except OSError as error:
        _log.warning("%s was left as it is: %s", path, error.strerror)
        return
    if file is None:
        return
    try:
        if not file.is_destroyed():
            seed = envelope.parse_seed_text(file.read())
            service.import_seed(seed, source="plaintext-file")
        file.destroy()
    except UnsealFailed:
        _log.warning(
            "%s does not hold a seed of 64 hex characters: it was left as it is;"
            " remove it, it does not belong here",
            path,
        )
    except SeedConflict:
        _log.warning(
            "%s holds another seed than the store: it was left as it is. Remove it; or"
            " if it is the right one, seal it to the public key and run `otpseal seed"
            " replace`",
            path,
        )
    except OSError as error:
        _log.warning(
            "%s was imported into the store but cannot be overwritten and removed:"
            " %s. Remove it: it holds the seed in clear",
            path,
            error.strerror,
        )
    else:
        service.upkeep.record_seed_file_removed()
        _log.warning("%s was imported into the store, overwritten and removed", path)
    finally:
        file.close()
