"""Statements of the hot path, as the driver takes them.

SQLAlchemy compiles each once; what it does for each execution besides (naming
parameters, looking caches up, processing types that the drivers process themselves)
costs several times what SQLite needs for the statement itself. Errors are still
SQLAlchemy's; on PostgreSQL it also has to know of every lost connection, so there
execution goes through it.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import BindParameter, ClauseElement, Connection, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

#: Lists of parameters come in these lengths, so that there are few statements: each
#: is compiled once here, and prepared once by each connection.
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_DIALECTS: Final[dict[str, Callable[[], Any]]] = {
    "sqlite": sqlite.dialect,
    "postgresql": postgresql.psycopg.dialect,
}
_NAMED: Final = re.compile(r"%\((\w+)\)s")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement with its parameters by place.

    Attributes:
        sql: in the driver's own style.
        order: the parameters' names, in the order in which their values go.
    """

    sql: str
    order: tuple[str, ...]

    def run(self, connection: Connection, values: tuple[Any, ...]) -> None:
        """Execute it; `values` are in `order`."""
        if connection.dialect.name == "sqlite":
            _on_sqlite(connection, self.sql, values)
        else:
            connection.exec_driver_sql(self.sql, values)

    def run_each(
        self, connection: Connection, values: Sequence[tuple[Any, ...]]
    ) -> None:
        """Execute it for each of `values`, at least one."""
        if connection.dialect.name == "sqlite":
            _on_sqlite(connection, self.sql, values, each=True)
        else:
            connection.exec_driver_sql(self.sql, list(values))

    def rows(self, connection: Connection, values: tuple[Any, ...]) -> Sequence[Any]:
        """Execute it; returns all rows, whose columns are the driver's values."""
        if connection.dialect.name == "sqlite":
            return _on_sqlite(connection, self.sql, values)
        return connection.exec_driver_sql(self.sql, values).all()


def _on_sqlite(
    connection: Connection, sql: str, values: Sequence[Any], *, each: bool = False
) -> list[Any]:
    """Execute on the driver itself; returns the rows.

    Raises:
        DBAPIError: as SQLAlchemy would make it of the driver's error.
    """
    driver: Any = connection.connection.driver_connection
    try:
        done = driver.executemany(sql, values) if each else driver.execute(sql, values)
        return list(done)
    except sqlite3.Error as error:
        # Without statement and values: these are secrets, that may be one.
        raise DBAPIError.instance(
            None,
            None,
            error,
            sqlite3.Error,
            hide_parameters=True,
            dialect=connection.dialect,
        ) from None


def prepare(
    dialect: str, statement: ClauseElement, *, expected: tuple[str, ...] | None = None
) -> Prepared:
    """Compile a statement whose parameters are all named, none of them a list.

    Args:
        dialect: `sqlite` or `postgresql`.
        statement: of SQLAlchemy Core.
        expected: the order that whoever gives the values relies on.
    """
    compiled = statement.compile(dialect=_DIALECTS[dialect]())
    sql = str(compiled)
    order = tuple(compiled.positiontup or ())  # type: ignore[attr-defined]
    if not order:
        order, sql = tuple(_NAMED.findall(sql)), _NAMED.sub("%s", sql)
    assert expected is None or order == expected, order
    return Prepared(sql, order)


def places(name: str, size: int) -> list[BindParameter[Any]]:
    """Return the parameters of a list in a statement, for IN."""
    return [bindparam(f"{name}{i}") for i in range(size)]


def in_sizes(values: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Give all `values` in tuples of few different lengths.

    The last value is repeated where some are missing: in a list of IN that changes
    nothing.
    """
    for start in range(0, len(values), SIZES[-1]):
        some = tuple(values[start : start + SIZES[-1]])
        size = next(size for size in SIZES if len(some) <= size)
        yield some + some[-1:] * (size - len(some))
