"""Settings -> what administrators use beside a running service: backups, and moving.

As `otpseal.wiring`, whose parts these are made of.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from otpseal.adapters import sql_backup
from otpseal.adapters.key_siblings import Searching, unannounced
from otpseal.adapters.sql_engine import open_engine
from otpseal.adapters.sql_store import SqlStore
from otpseal.backup import Archivist, Layout
from otpseal.config import Settings
from otpseal.errors import ConfigurationError
from otpseal.export import Exporter
from otpseal.key_lifecycle import KeyLifecycle
from otpseal.key_places import key_places
from otpseal.key_source import load_private_key
from otpseal.moving import Mover
from otpseal.ports import Clock
from otpseal.ports_key_files import Seam, unseen
from otpseal.restore import Restorer
from otpseal.storage_rotation import StorageRotation
from otpseal.trust_book import TrustBook
from otpseal.unlocking import SERVICE_KEY_NAME, Opened

#: How long PostgreSQL lets one statement of a restore take, or waits for the next.
RESTORE_TIMEOUT_S = 3600.0

LAYOUT = Layout(sql_backup.SCHEMA, sql_backup.COLUMNS)


def make_archivist(opened: Opened, *, clock: Clock = time.time) -> Archivist:
    """Return what writes backups of an open store."""
    assert isinstance(opened.store, SqlStore)
    return Archivist(
        sql_backup.SqlArchive(opened.store),
        opened.store,
        keys=opened.keys,
        storage_key=opened.storage_key,
        layout=LAYOUT,
        clock=clock,
    )


def make_mover(opened: Opened, *, clock: Clock = time.time) -> Mover:
    """Return what makes accounts of what files bring."""
    return Mover(opened.store, opened.storage_key, clock)


def make_exporter(opened: Opened, *, clock: Clock = time.time) -> Exporter:
    """Return what writes accounts out."""
    return Exporter(opened.store, opened.storage_key, clock)


def make_trust_book(opened: Opened, *, clock: Clock = time.time) -> TrustBook:
    """Return what pins authorities."""
    return TrustBook(opened.store, opened.storage_key, clock)


def make_lifecycle(
    opened: Opened,
    settings: Settings,
    *,
    clock: Clock = time.time,
    searching: Searching = unannounced,
    reached: Seam = unseen,
) -> KeyLifecycle:
    """Return what replaces the import keys of an open store."""
    files = key_places(settings, SERVICE_KEY_NAME, searching=searching)
    return KeyLifecycle(opened.store, opened.storage_key, files, clock, reached=reached)


def make_storage_rotation(
    opened: Opened, *, clock: Clock = time.time
) -> StorageRotation:
    """Return what replaces the storage key of an open store."""
    return StorageRotation(opened.store, opened.storage_key, opened.keys, clock)


def make_restorer(settings: Settings, *, clock: Clock = time.time) -> Restorer:
    """Return what restores backups into the store that the settings name.

    The store is opened, and made, only when a backup has been verified.

    Raises:
        KeyUnavailable, KeyRefused: the private key is not there.
    """
    keys = load_private_key(settings, SERVICE_KEY_NAME)

    @contextmanager
    def opened() -> Iterator[sql_backup.SqlArchive]:
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"OTPSEAL_DATA_DIR: {settings.data_dir} cannot be made:"
                f" {error.strerror}"
            ) from None
        store = SqlStore(
            open_engine(
                settings.resolved_database_url, password=settings.database_password()
            ),
            statement_timeout_s=RESTORE_TIMEOUT_S,
        )
        try:
            yield sql_backup.SqlArchive(store)
        finally:
            store.close()

    return Restorer(opened, keys=keys, layout=LAYOUT, clock=clock)
