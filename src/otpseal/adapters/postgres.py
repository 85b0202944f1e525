"""PostgreSQL: many replicas on one database, several connections a process.

Exclusive transactions hold an advisory lock alone, shared ones together: among these
the rows' locks decide who is first. The server ends what takes too long, so that a
stopped or lost process does not hold everybody else up.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from otpseal.adapters.sql_engine import (
    OPENING_PATIENCE_S,
    PATIENCE_S,
    STATEMENT_TIMEOUT_S,
    opened_before_fork,
    translated,
    upgrade_schema,
)
from otpseal.errors import ConfigurationError, StoreUnavailable
from otpseal.secret import Secret

#: The advisory lock of a store: "otpseal" in ASCII.
LOCK_KEY: Final = int.from_bytes(b"otpseal", "big")

CONNECT_TIMEOUT_S: Final = 3

_KEPT: Final = 4
_MORE: Final = 4
_DRIVERS: Final = ("postgresql", "postgresql+psycopg")
#: What a URL may say after its `?`; none of it is a secret, or weakens a commit.
_OPTIONS: Final = frozenset(
    {"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"}
)
_SESSION: Final = (
    # Whatever the role, the database or PGOPTIONS says: told is what is on the disk.
    "-c synchronous_commit=on"
    f" -c statement_timeout={STATEMENT_TIMEOUT_S:.0f}s"
    f" -c idle_in_transaction_session_timeout={STATEMENT_TIMEOUT_S:.0f}s"
)
_LIBPQ: Final = {
    "application_name": "otpseal",
    "client_encoding": "utf8",
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "options": _SESSION,
    "target_session_attrs": "read-write",  # of several hosts, the primary
    "tcp_user_timeout": 5000,  # ms
}


def _statement(function: str) -> str:
    # Each level is a subquery that the planner must not flatten (OFFSET 0, and
    # volatile functions): its row is there before the level above is computed. So the
    # patience is set before the wait for the lock, and the clock read after it.
    return f"""
        SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)
        FROM (
            SELECT {function}({LOCK_KEY})
            FROM (
                SELECT set_config('lock_timeout', :patience, true) OFFSET 0
            ) AS patient OFFSET 0
        ) AS held
    """  # noqa: S608 - no input in it


_ENTER_ALONE = text(_statement("pg_advisory_xact_lock"))
_ENTER_SHARED = text(_statement("pg_advisory_xact_lock_shared"))
_TAKE_TIME = text(
    "SELECT set_config('statement_timeout', :limit, true),"
    " set_config('idle_in_transaction_session_timeout', :limit, true)"
)


def open_postgres(url: URL, password: Secret | None = None) -> Engine:
    """Return an engine for a PostgreSQL database; connects only when it is used.

    Raises:
        ConfigurationError: another driver, an option that is not known, no database.
    """
    if (
        url.drivername not in _DRIVERS
        or not url.database
        or not {*url.query} <= _OPTIONS
    ):
        raise ConfigurationError(
            "OTPSEAL_DATABASE_URL for PostgreSQL must be"
            " postgresql+psycopg://USER@HOST/DATABASE; after a ? it may have"
            f" {', '.join(sorted(_OPTIONS))}"
        )
    arguments: dict[str, Any] = dict(_LIBPQ)
    if url.password is not None:
        arguments["password"] = str(url.password)
    elif password is not None:
        arguments["password"] = _as_text(password)
    engine = create_engine(
        _without_password(url),
        poolclass=QueuePool,
        pool_size=_KEPT,
        max_overflow=_MORE,
        pool_timeout=PATIENCE_S,
        isolation_level="READ COMMITTED",
        use_native_hstore=False,
        connect_args=arguments,
        hide_parameters=True,  # seeds and codes must not stand in an error's text
    )
    event.listen(engine, "connect", _hear_warnings)
    return engine


def _without_password(url: URL) -> URL:
    # So that nobody prints it; `URL.set` would leave it there.
    return URL.create(
        "postgresql+psycopg",
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query=url.query,
    )


def _as_text(password: Secret) -> str:
    try:
        return password.reveal().decode()
    except UnicodeDecodeError:
        raise ConfigurationError(
            "OTPSEAL_DATABASE_PASSWORD_FILE: the password is not UTF-8"
        ) from None


def _hear_warnings(connection: Any, record: Any) -> None:  # noqa: ANN401 - DBAPI
    warnings: list[str] = []
    record.info["warnings"] = warnings

    def hear(diagnosis: Any) -> None:  # noqa: ANN401 - psycopg's Diagnostic
        if diagnosis.severity_nonlocalized == "WARNING":
            warnings.append(diagnosis.sqlstate)

    connection.add_notice_handler(hear)


class PostgresGate:
    """`otpseal.adapters.sql_engine.Gate` to a PostgreSQL database.

    Args:
        engine: from `open_postgres`.
        reads_clock: whether transactions get the database's time.
        statement_timeout_s: how long a statement may take, and the next one be
            waited for, unless a transaction has more patience.
    """

    def __init__(
        self, engine: Engine, *, reads_clock: bool, statement_timeout_s: float
    ) -> None:
        self._engine = engine
        self._reads_clock = reads_clock
        self._pid = os.getpid()
        # Not the pool's own waiting: that has one patience for everybody.
        self._room = threading.BoundedSemaphore(_KEPT + _MORE)
        self.statement_timeout_s = statement_timeout_s

    @property
    def directory(self) -> None:
        """None: the database writes elsewhere."""
        return

    def migrate(self) -> str | None:
        """See `Gate`."""
        with (
            translated(),
            self.opened(patience_s=OPENING_PATIENCE_S, shared=False) as (opened, _),
        ):
            return upgrade_schema(opened)

    @contextmanager
    def opened(
        self, *, patience_s: float, shared: bool
    ) -> Iterator[tuple[Connection, float | None]]:
        """See `Gate`."""
        if os.getpid() != self._pid:
            raise opened_before_fork()
        due = time.monotonic() + patience_s
        if not self._room.acquire(timeout=patience_s):
            raise StoreUnavailable(
                f"all {_KEPT + _MORE} connections to the database have been busy for"
                f" {patience_s:g} s"
            )
        try:
            connection, read_at = self._enter(due, patience_s, shared=shared)
            with connection:
                try:
                    yield connection, read_at if self._reads_clock else None
                    _commit(connection)
                except SQLAlchemyError:
                    # Whatever state it is in, the next transaction starts afresh.
                    connection.invalidate()
                    raise
        finally:
            self._room.release()

    def _enter(
        self, due: float, patience_s: float, *, shared: bool
    ) -> tuple[Connection, float]:
        # A kept connection may have died since. Nothing was done on it yet: another
        # one is tried, and the pool drops all that are as old.
        for is_last in (False, True):
            connection = self._engine.connect()
            try:
                return connection, self._lock(
                    connection, due, patience_s, shared=shared
                )
            except DBAPIError as error:
                connection.invalidate()
                connection.close()
                if is_last or not error.connection_invalidated:
                    raise
            except BaseException:
                connection.close()
                raise
        raise AssertionError

    def _lock(
        self, connection: Connection, due: float, patience_s: float, *, shared: bool
    ) -> float:
        limit_s = max(self.statement_timeout_s, patience_s + 1)
        if limit_s != STATEMENT_TIMEOUT_S:
            connection.execute(_TAKE_TIME, {"limit": _milliseconds(limit_s)})
        patience = _milliseconds(due - time.monotonic())
        statement = _ENTER_SHARED if shared else _ENTER_ALONE
        found = connection.execute(statement, {"patience": patience})
        return float(found.scalar_one())

    def close(self) -> None:
        """See `Gate`."""
        # Closing connections that came over a fork would end the parent's sessions.
        self._engine.dispose(close=os.getpid() == self._pid)


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))  # 0 would be without end


def _commit(connection: Connection) -> None:
    """Commit, or raise: nothing between the two is taken for a success."""
    driver: Any = connection.connection.driver_connection
    if driver.info.transaction_status != TransactionStatus.INTRANS:
        # PostgreSQL answers a COMMIT after a failed statement with a silent ROLLBACK.
        connection.invalidate()
        raise StoreUnavailable(
            "the store is unavailable: a statement of this transaction failed"
        )
    warnings = connection.info["warnings"]
    warnings.clear()
    connection.commit()
    if warnings:
        # It gave up waiting for its synchronous standby: here, but perhaps not there.
        raise StoreUnavailable(
            "the store is unavailable: the database does not vouch for the commit"
            f" ({warnings[0]})"
        )
