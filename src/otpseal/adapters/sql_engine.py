"""What every database shares: the choice by URL, the schema, the gate, the errors.

`otpseal.adapters.sqlite` and `otpseal.adapters.postgres` are the databases.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from otpseal.errors import ConfigurationError, StoreUnavailable
from otpseal.secret import Secret

#: The Alembic revision that this version of the program reads and writes.
SCHEMA_REVISION: Final = "0004"

#: How long the store's lock is waited for, in seconds. Shorter than callers wait for
#: an answer: who is told that the store is unavailable must not be accepted later.
PATIENCE_S: Final = 4.0

#: As long as that at the start, when another process may be making the first key.
OPENING_PATIENCE_S: Final = 300.0

#: How long the database lets one statement take, or waits for the next one of an open
#: transaction, in seconds; a transaction with more patience has that.
STATEMENT_TIMEOUT_S: Final = 10.0

#: SQLSTATE classes of which the primary message names tables, constraints, users and
#: states, but no value. Class 22, for one, repeats the value that it does not like.
_SPEAKING_CLASSES: Final = frozenset(
    {"08", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX"}
)


class Gate(Protocol):
    """Lets transactions into one database."""

    @property
    def directory(self) -> Path | None:
        """Where the database writes, if that is on this machine."""

    def migrate(self) -> str | None:
        """Bring the database up to `SCHEMA_REVISION`; nothing to do is cheap.

        Returns:
            the revision that was found, None in an empty database.

        Raises:
            StoreUnavailable: it cannot be read or written, or was made by a newer
                version of the program.
        """

    def opened(
        self, *, patience_s: float, shared: bool
    ) -> AbstractContextManager[tuple[Connection, float | None]]:
        """Open a transaction, as `otpseal.ports.Store.transaction` says.

        Gives the connection, and the database's time in Unix seconds, read when the
        lock was held, or None if it has no clock of its own.

        Raises:
            StoreUnavailable: it was not let in, or this process was forked.
            SQLAlchemyError: the database's; for `translated`.
        """

    def close(self) -> None:
        """Release connections and files."""


def open_engine(url: str, *, password: Secret | None = None) -> Engine:
    """Return an engine for `url`.

    Args:
        url: of an SQLite file, or of a PostgreSQL database.
        password: for a PostgreSQL URL that has none.

    Raises:
        ConfigurationError: not a URL, or not a database that is supported.
    """
    # Each loaded by whom it serves: psycopg costs 0.1 s. They import this module, too.
    from otpseal.adapters.postgres import open_postgres  # noqa: PLC0415
    from otpseal.adapters.sqlite import open_sqlite  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "OTPSEAL_DATABASE_URL is not a database URL such as"
            " sqlite:////var/lib/otpseal/otpseal.db or"
            " postgresql+psycopg://otpseal@localhost/otpseal"
        ) from None
    scheme = parsed.drivername.partition("+")[0]
    if scheme == "postgresql":
        return open_postgres(parsed, password)
    if scheme == "sqlite":
        return open_sqlite(parsed)
    raise ConfigurationError(
        "OTPSEAL_DATABASE_URL must begin with sqlite:/// (a file) or"
        " postgresql+psycopg:// (a PostgreSQL database)"
    )


def open_gate(
    engine: Engine,
    *,
    reads_clock: bool = True,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
) -> Gate:
    """Return the gate to an engine's database; see `SqlStore` for the arguments."""
    from otpseal.adapters.postgres import PostgresGate  # noqa: PLC0415 - as above
    from otpseal.adapters.sqlite import SqliteGate  # noqa: PLC0415

    if engine.dialect.name == "sqlite":
        return SqliteGate(engine)
    return PostgresGate(
        engine, reads_clock=reads_clock, statement_timeout_s=statement_timeout_s
    )


def opened_before_fork() -> StoreUnavailable:
    """Return the error of a store that came over a fork."""
    return StoreUnavailable(
        "this store was opened before a fork: open it in each process"
    )


def current_revision(gate: Gate) -> str | None:
    """Return the schema's revision in the database, None if it is empty.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    with translated(), gate.opened(patience_s=PATIENCE_S, shared=True) as (opened, _):
        return _revision(opened)


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    return found.scalar_one_or_none()


def upgrade_schema(connection: Connection) -> str | None:
    """Bring the schema up to `SCHEMA_REVISION`; returns the revision before.

    Raises:
        StoreUnavailable: made by a newer version of the program.
    """
    current = _revision(connection)
    if current == SCHEMA_REVISION:
        return current
    if current is not None and current > SCHEMA_REVISION:
        raise StoreUnavailable(
            f"the database has schema {current}, this program knows"
            f" {SCHEMA_REVISION}: it was written by a newer otpseal; upgrade the"
            " program, or restore a backup"
        )
    # Alembic costs 10 MB and 0.2 s: loaded only when there is something to do.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).with_name("migrations"))
    )
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA_REVISION)
    return current


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into `StoreUnavailable`, without their parameters.

    Raises:
        StoreUnavailable: instead of any error of SQLAlchemy or the driver.
    """
    try:
        yield
    except SQLAlchemyError as error:
        reason = _reason(error)
        translation = StoreUnavailable(f"the store is unavailable: {reason}")
        try:
            raise translation from None
        finally:
            # Not only hidden: the driver's error may quote the values of a row.
            translation.__context__ = None


def _reason(error: SQLAlchemyError) -> str:
    """Return what the driver says, as far as it holds no value."""
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    orig: Any = error.orig
    diagnosis = getattr(orig, "diag", None)
    if diagnosis is None:
        # SQLite's text names no values, but for the content of a damaged column.
        return str(orig).partition(" with text ")[0]
    # psycopg's own text goes on with DETAIL, which holds keys and whole rows.
    if (diagnosis.sqlstate or "")[:2] in _SPEAKING_CLASSES:
        return str(diagnosis.message_primary)
    if diagnosis.sqlstate is None and isinstance(error, OperationalError):
        # Of the connection: host, port, user, and what the server answered.
        return str(orig).partition("\n")[0]
    return type(orig).__name__
