"""The store on SQL: `otpseal.ports.Store` over SQLAlchemy Core.

Its transaction is made of groups of tables: `sql_accounts`, `sql_callers`,
`sql_events`, `sql_trust` and `sql_enrolment`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    Connection,
    Engine,
    delete,
    func,
    insert,
    select,
)

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_accounts import AccountTables
from otpseal.adapters.sql_callers import CallerTables
from otpseal.adapters.sql_engine import (
    PATIENCE_S,
    STATEMENT_TIMEOUT_S,
    open_gate,
    translated,
)
from otpseal.adapters.sql_enrolment import EnrolmentTables
from otpseal.adapters.sql_events import EventTables
from otpseal.adapters.sql_keys import KeyTables
from otpseal.adapters.sql_trust import TrustTables
from otpseal.ports import IssuedSeed

_ONLY = 1  # the primary key of the one storage key


class SqlTransaction(
    AccountTables, CallerTables, EventTables, TrustTables, KeyTables, EnrolmentTables
):
    """`otpseal.ports.Transaction` on one connection."""

    def __init__(
        self, connection: Connection, database_time: float | None = None
    ) -> None:
        super().__init__(connection)
        self._database_time = database_time

    @property
    def database_time(self) -> float | None:
        """The database's Unix time when the lock was got; None if it has no clock."""
        return self._database_time

    @property
    def connection(self) -> Connection:
        """What this transaction is on, for backups."""
        return self._connection

    def storage_key_record(self) -> bytes | None:
        """See `otpseal.ports.Transaction`."""
        query = select(schema.storage_keys.c.record)
        return self._connection.execute(query).scalar_one_or_none()

    def set_storage_key_record(self, record: bytes) -> None:
        """See `otpseal.ports.Transaction`."""
        statement = insert(schema.storage_keys)
        self._connection.execute(statement, {"id": _ONLY, "record": record})

    def issued(self, pair: bytes) -> IssuedSeed | None:
        """See `otpseal.ports.Transaction`."""
        table = schema.issued_seeds
        query = select(table).where(table.c.pair == pair).with_for_update()
        row = self._connection.execute(query).one_or_none()
        return None if row is None else IssuedSeed(*row)

    def issued_count(self) -> int:
        """See `otpseal.ports.Transaction`."""
        query = select(func.count()).select_from(schema.issued_seeds)
        return self._connection.execute(query).scalar_one()

    def put_issued(self, issued: IssuedSeed) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.issued_seeds
        self._connection.execute(delete(table).where(table.c.pair == issued.pair))
        self._connection.execute(
            insert(table),
            {
                "pair": issued.pair,
                "student_id": issued.student_id,
                "github_repo_url": issued.github_repo_url,
                "kid": issued.kid,
                "sealed_seed": issued.sealed_seed,
                "issued_at": issued.issued_at,
            },
        )


class SqlStore:
    """`otpseal.ports.Store` on a database.

    Args:
        engine: from `otpseal.adapters.sql_engine.open_engine`.
        reads_clock: whether each transaction reads the database's clock, if it has
            one; costs no round trip.
        statement_timeout_s: how long PostgreSQL lets one statement take; more for
            whom a whole table is read.

    Raises:
        StoreUnavailable: it cannot be brought up to this program's schema.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        reads_clock: bool = True,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        self._gate = open_gate(
            engine, reads_clock=reads_clock, statement_timeout_s=statement_timeout_s
        )
        try:
            self._gate.migrate()
        except BaseException:
            self._gate.close()
            raise

    @property
    def directory(self) -> Path | None:
        """Where the database writes; None if that is not on this machine."""
        return self._gate.directory

    @contextmanager
    def transaction(
        self, *, patience_s: float = PATIENCE_S, shared: bool = False
    ) -> Iterator[SqlTransaction]:
        """See `otpseal.ports.Store`."""
        with (
            translated(),
            self._gate.opened(patience_s=patience_s, shared=shared) as (opened, at),
        ):
            yield SqlTransaction(opened, at)

    def close(self) -> None:
        """See `otpseal.ports.Store`."""
        self._gate.close()
