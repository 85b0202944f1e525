"""`otpseal.backup.Archive` on SQL: what rests at one instant, and all of it anew.

On SQLite a reader holds up every commit, so the database is copied first, and only
the copy (seconds for millions of accounts) needs the store's lock. On PostgreSQL a
read-only transaction of isolation level REPEATABLE READ sees one instant by itself.
"""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, delete, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import StaticPool

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_engine import (
    OPENING_PATIENCE_S,
    SCHEMA_REVISION,
    translated,
)
from otpseal.adapters.sql_store import SqlStore, SqlTransaction
from otpseal.errors import StoreUnavailable
from otpseal.ports import Clock

Row = Mapping[str, Any]

SCHEMA: Final = SCHEMA_REVISION

#: Tables whose rows a backup lists, in this order; the storage key's record stands in
#: its header.
TABLES: Final = {
    table.name: table
    for table in schema.metadata.sorted_tables
    if table is not schema.storage_keys
}

#: The columns of each.
COLUMNS: Final = {
    name: frozenset(table.columns.keys()) for name, table in TABLES.items()
}

#: A copy that would leave less than this share of the disk free is not made: the
#: service itself needs room to go on.
_MIN_FREE: Final = 0.05

_AT_ONCE: Final = 500


@dataclass(frozen=True)
class SqlSnapshot:
    """`otpseal.backup.Snapshot` on one connection."""

    connection: Connection
    taken_at: float

    @property
    def record(self) -> bytes | None:
        """See `otpseal.backup.Snapshot`."""
        query = select(schema.storage_keys.c.record)
        return self.connection.execute(query).scalar_one_or_none()

    def rows(self) -> Iterator[tuple[str, Row]]:
        """See `otpseal.backup.Snapshot`."""
        for name in TABLES:
            for row in _rows(self.connection, name):
                yield name, row


class SqlPlace:
    """`otpseal.backup.Place` on one connection."""

    def __init__(self, tx: SqlTransaction, connection: Connection) -> None:
        self.tx = tx
        self._connection = connection

    def rows(self, table: str) -> Iterator[Row]:
        """See `otpseal.backup.Place`."""
        return _rows(self._connection, table)

    def clear(self, table: str) -> None:
        """See `otpseal.backup.Place`."""
        self._connection.execute(delete(TABLES[table]))

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        """See `otpseal.backup.Place`."""
        values = [dict(row) for row in rows]
        if not values:
            return
        self._connection.execute(
            _insert_new(self._connection.dialect.name, table), values
        )
        if table == "audit_events" and self._connection.dialect.name == "postgresql":
            # What was inserted with its number took none from the sequence.
            newest = select(func.max(schema.audit_events.c.id)).scalar_subquery()
            sequence = func.pg_get_serial_sequence("audit_events", "id")
            self._connection.execute(
                select(
                    func.setval(sequence, func.greatest(func.nextval(sequence), newest))
                )
            )


class SqlArchive:
    """`otpseal.backup.Archive` on a store.

    Args:
        store: open; a restore may find it empty.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    @contextmanager
    def snapshot(self, clock: Clock) -> Iterator[SqlSnapshot]:
        """See `otpseal.backup.Archive`."""
        with self._store.transaction() as tx:
            engine = tx.connection.engine
            if engine.dialect.name == "sqlite":
                taken_at = clock()
                copy = _copy(Path(str(engine.url.database)))
        if engine.dialect.name == "sqlite":
            opened = _opened_copy(copy)
        else:
            # Read first: what is acknowledged until then is in the snapshot.
            taken_at = clock()
            opened = _opened_reader(engine)
        with translated(), opened as connection:
            yield SqlSnapshot(connection, taken_at)

    @contextmanager
    def replacing(self) -> Iterator[SqlPlace]:
        """See `otpseal.backup.Archive`."""
        with self._store.transaction(patience_s=OPENING_PATIENCE_S) as tx:
            yield SqlPlace(tx, tx.connection)


@contextmanager
def _opened_copy(copy: sqlite3.Connection) -> Iterator[Connection]:
    engine = create_engine(
        "sqlite://", creator=lambda: copy, poolclass=StaticPool, hide_parameters=True
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
        copy.close()


@contextmanager
def _opened_reader(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    ) as connection:
        # The server ends what takes long; this may, and holds nobody up.
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        yield connection


def _copy(path: Path) -> sqlite3.Connection:
    """Copy a database, while nobody writes to it, to a file without a name.

    The copy goes away with its connection, even if this process is killed.

    Raises:
        StoreUnavailable: there is no room, or the database cannot be read.
    """
    try:
        _expect_room(path)
        place = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(place, flags, 0o600))
        try:
            copy = sqlite3.connect(place, check_same_thread=False)
        finally:
            place.unlink()
    except (OSError, sqlite3.Error) as error:
        raise _no_copy(error) from None
    try:
        # Without a journal SQLite has no need of the name; nor of a sync, since the
        # copy is for this process alone.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        source = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(source, uri=True)) as opened:
            opened.backup(copy)
    except sqlite3.Error as error:
        copy.close()
        raise _no_copy(error) from None
    return copy


def _expect_room(path: Path) -> None:
    disk = shutil.disk_usage(path.parent)
    if disk.free - path.stat().st_size < disk.total * _MIN_FREE:
        raise StoreUnavailable(
            f"there is no room in {path.parent} for a copy of the database: free"
            f" {path.stat().st_size + round(disk.total * _MIN_FREE)} bytes"
        )


def _no_copy(error: OSError | sqlite3.Error) -> StoreUnavailable:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return StoreUnavailable(f"the database cannot be copied for the backup: {reason}")


def _rows(connection: Connection, name: str) -> Iterator[Row]:
    table = TABLES[name]
    query = select(table).order_by(*table.primary_key.columns)
    streamed = query.execution_options(stream_results=True, yield_per=_AT_ONCE)
    for row in connection.execute(streamed).mappings():
        yield dict(row)


def _insert_new(dialect: str, table: str) -> Any:  # noqa: ANN401 - of either dialect
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect]
    return insert(TABLES[table]).on_conflict_do_nothing()
