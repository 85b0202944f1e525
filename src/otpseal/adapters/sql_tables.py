"""What every group of tables shares: the connection, upserts, locks by name."""

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    Connection,
    Insert,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from otpseal.adapters import sql_schema as schema
from otpseal.errors import StoreUnavailable

# There may be no row to lock yet: a lock by name takes its place. In the order of the
# names, so that two replicas never lock in opposite orders.
_LOCK_NAMES = text(
    "SELECT pg_advisory_xact_lock(name) FROM"
    " (SELECT unnest(CAST(:names AS bigint[])) AS name ORDER BY 1) AS names"
)

#: As the partial indexes have it: a parameter, or an order by another index, and the
#: whole table would be read every minute.
REFUSING = text("refused > 0")


class Tables:
    """A group of tables within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        # Whose budgets were read, so that what did not change is not written.
        self._holders: dict[tuple[str, bytes], str] = {}

    def _lock(self, names: Iterable[tuple[str, bytes]]) -> None:
        """Hold locks by name to the end of the transaction, where rows may not exist.

        SQLite has none and needs none: there every transaction is alone.
        """
        if self._dialect == "postgresql":
            numbers = [_lock_name(text, key) for text, key in names]
            self._connection.execute(_LOCK_NAMES, {"names": numbers})


@cache
def insert_into(dialect: str, table: str) -> Any:  # noqa: ANN401 - of either dialect
    """Return an INSERT that can say what is done where the row is there."""
    statement = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect]
    return statement(schema.metadata.tables[table])


@cache
def upsert_statement(dialect: str, table: str, keys: tuple[str, ...]) -> Insert:
    """Return an INSERT that replaces the row of those keys."""
    statement = insert_into(dialect, table)
    changed = {
        column.name: statement.excluded[column.name]
        for column in schema.metadata.tables[table].columns
        if column.name not in keys
    }
    done = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    return cast("Insert", done)


def upsert(connection: Connection, table: str, keys: tuple[str, ...]) -> Insert:
    """Return an INSERT that replaces the row of those keys."""
    return upsert_statement(connection.dialect.name, table, keys)


def _lock_name(text: str, key: bytes) -> int:
    name = hashlib.sha256(text.encode("ascii") + key).digest()[:8]
    return int.from_bytes(name, "big", signed=True)


def damaged(table: str) -> StoreUnavailable:
    """Return the error of a row that this program did not write."""
    return StoreUnavailable(
        f"a row of the {table} table is damaged: restore the database from a backup"
    )
