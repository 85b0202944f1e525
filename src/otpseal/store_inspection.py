"""The service's store as it is: opened to be looked at, and not changed.

Opening a service in earnest makes what is missing, brings the schema up to date and
imports a plaintext seed.txt. Whoever only wants to know what is wrong must do none of
that. A lock file may be made; everything else stays.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_revision import expect_our_schema
from otpseal.adapters.sql_store import SqlStore
from otpseal.config import Settings
from otpseal.errors import StoreMismatch, StoreUnavailable
from otpseal.key_source import load_private_key
from otpseal.ledger import AuditLog
from otpseal.ports import Clock
from otpseal.unlocking import SERVICE_KEY_NAME, KeyPlace, Opened


def database_path(settings: Settings) -> Path | None:
    """Return the database's file, or None if it is no file.

    Raises:
        ConfigurationError: the URL is none, or of no database that is supported.
    """
    engine = open_engine(settings.resolved_database_url)
    engine.dispose()
    if engine.url.get_backend_name() != "sqlite":
        return None
    return Path(str(engine.url.database))


@contextmanager
def inspect_store(settings: Settings, *, clock: Clock) -> Iterator[Opened]:
    """Open the store and the key that belongs to it; close them in the end.

    Raises:
        ConfigurationError, KeyUnavailable, KeyRefused: of settings and key.
        StoreMismatch: key and store do not belong together, or it is empty.
        StoreUnavailable: it is missing, unreadable, or of another schema than ours.
    """
    place = KeyPlace(settings, SERVICE_KEY_NAME, None)
    keys = load_private_key(settings, SERVICE_KEY_NAME)
    path = database_path(settings)
    if path is not None and not path.exists():
        raise StoreUnavailable(f"there is no database at {path}")
    engine = open_engine(
        settings.resolved_database_url, password=settings.database_password()
    )
    try:
        expect_our_schema(engine)
        store = SqlStore(engine)
    except BaseException:
        engine.dispose()
        raise
    try:
        with store.transaction() as tx:
            record = tx.storage_key_record()
            if record is None:
                raise StoreMismatch(
                    "the store is empty: start `otpseal serve` once, or restore a"
                    " backup"
                )
            found, storage_key = place.unwrap(tx, record, keys)
        advice = None if found.kid == keys.kid else place.outdated(found.kid)
        audit = AuditLog(store, storage_key, clock)
        yield Opened(store, store.directory, found, storage_key, audit, outdated=advice)
    finally:
        store.close()
