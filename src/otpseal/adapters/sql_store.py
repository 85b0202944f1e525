"""The store on SQL: `otpseal.ports.Store` over SQLAlchemy Core."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy import update as sql_update

from otpseal import throttle
from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_engine import (
    PATIENCE_S,
    STATEMENT_TIMEOUT_S,
    open_gate,
    translated,
)
from otpseal.audit import Kind, Tally
from otpseal.errors import StoreUnavailable
from otpseal.ports import AccountRow, EventRow, IssuedSeed
from otpseal.totp import Parameters
from otpseal.verification import State

_SAVE_STATE = (
    sql_update(schema.accounts)
    .where(schema.accounts.c.id == bindparam("account_id"))
    .values(
        {
            name: bindparam(name)
            for name in ("disabled", "last_step", "failures", "wait_until", "refused")
        }
    )
)
# Built once: building and caching a statement costs as much as running it.
_READ_ACCOUNTS = (
    select(schema.accounts)
    .where(schema.accounts.c.id.in_(bindparam("ids", expanding=True)))
    # In id order, so that two replicas never lock in opposite orders.
    .order_by(schema.accounts.c.id)
    .with_for_update()
)
_READ_TALLY = select(schema.tallies.c.pending, schema.tallies.c.since).where(
    schema.tallies.c.kind == bindparam("kind"),
    schema.tallies.c.account == bindparam("account"),
)
_APPEND_SIZES = (64, 32, 16, 8, 4, 2, 1)
_ONLY = 1  # the primary key of the one storage key


@cache
def _append_statement(size: int) -> TextClause:
    """Return an INSERT of `size` events in one statement.

    The driver gives up the GIL for every statement; with one a row, the writer thread
    has to win it back from the event loop for every row.
    """
    rows = ", ".join(f"(:a{i}, :k{i}, :c{i}, :d{i}, :m{i})" for i in range(size))
    return text(
        f"INSERT INTO audit_events (at_ms, kind, account, detail, mac) VALUES {rows}"  # noqa: S608 - no input in it
    )


class SqlTransaction:
    """`otpseal.ports.Transaction` on one connection."""

    def __init__(
        self, connection: Connection, database_time: float | None = None
    ) -> None:
        self._connection = connection
        self._database_time = database_time

    @property
    def database_time(self) -> float | None:
        """The database's Unix time when the lock was got; None if it has no clock."""
        return self._database_time

    def storage_key_record(self) -> bytes | None:
        """See `otpseal.ports.Transaction`."""
        query = select(schema.storage_keys.c.record)
        return self._connection.execute(query).scalar_one_or_none()

    def set_storage_key_record(self, record: bytes) -> None:
        """See `otpseal.ports.Transaction`."""
        statement = insert(schema.storage_keys)
        self._connection.execute(statement, {"id": _ONLY, "record": record})

    def accounts(self, ids: Collection[str]) -> dict[str, AccountRow]:
        """See `otpseal.ports.Transaction`."""
        rows = self._connection.execute(_READ_ACCOUNTS, {"ids": list(ids)})
        return {row.id: row for row in _accounts(rows)}

    def account_ids(self) -> list[str]:
        """See `otpseal.ports.Transaction`."""
        query = select(schema.accounts.c.id).order_by(schema.accounts.c.id)
        return list(self._connection.execute(query).scalars())

    def holder(self, fingerprint: bytes) -> str | None:
        """See `otpseal.ports.Transaction`."""
        table = schema.accounts
        query = select(table.c.id).where(table.c.fingerprint == fingerprint)
        return self._connection.execute(query).scalar_one_or_none()

    def refusing_accounts(self) -> list[AccountRow]:
        """See `otpseal.ports.Transaction`."""
        table = schema.accounts
        query = select(table).where(table.c.refused > 0).order_by(table.c.id)
        return _accounts(self._connection.execute(query.with_for_update()))

    def put_account(self, row: AccountRow) -> None:
        """See `otpseal.ports.Transaction`."""
        values = {
            "id": row.id,
            "sealed_seed": row.sealed_seed,
            "fingerprint": row.fingerprint,
            "algorithm": row.parameters.algorithm,
            "digits": row.parameters.digits,
            "period": row.parameters.period,
            "imported_at": row.imported_at,
            **_state_values(row.state),
        }
        table = schema.accounts
        self._connection.execute(delete(table).where(table.c.id == row.id))
        self._connection.execute(insert(table), values)

    def save_states(self, states: Iterable[tuple[str, State]]) -> None:
        """See `otpseal.ports.Transaction`."""
        rows = [
            {"account_id": account_id, **_state_values(state)}
            for account_id, state in states
        ]
        if rows:
            self._connection.execute(_SAVE_STATE, rows)

    def append_events(self, rows: Sequence[EventRow]) -> None:
        """See `otpseal.ports.Transaction`."""
        start = 0
        while start < len(rows):
            size = next(n for n in _APPEND_SIZES if n <= len(rows) - start)
            values: dict[str, object] = {}
            for i, row in enumerate(rows[start : start + size]):
                values[f"a{i}"] = row.at_ms
                values[f"k{i}"] = row.kind
                values[f"c{i}"] = row.account
                values[f"d{i}"] = row.detail
                values[f"m{i}"] = row.mac
            self._connection.execute(_append_statement(size), values)
            start += size

    def newest_events(
        self, limit: int, *, account: str | None = None, kind: str | None = None
    ) -> list[EventRow]:
        """See `otpseal.ports.Transaction`."""
        table = schema.audit_events
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if account is not None:
            query = query.where(table.c.account == account)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        rows = [_event(row) for row in self._connection.execute(query)]
        return rows[::-1]

    def prune_events(self, before_ms: int) -> int:
        """See `otpseal.ports.Transaction`."""
        table = schema.audit_events
        # By time and not up to an id: one event from a clock that once ran ahead
        # would keep all that follow it.
        newest = select(func.max(table.c.id)).scalar_subquery()
        found = self._connection.execute(
            delete(table).where(table.c.at_ms < before_ms, table.c.id < newest)
        )
        return found.rowcount

    def tallies(self) -> list[Tally]:
        """See `otpseal.ports.Transaction`."""
        found = self._connection.execute(select(schema.tallies))
        return [_tally(*row) for row in found]

    def tally(self, kind: Kind, account: str) -> Tally:
        """See `otpseal.ports.Transaction`."""
        values = {"kind": kind.value, "account": account}
        row = self._connection.execute(_READ_TALLY, values).one_or_none()
        return Tally(kind, account) if row is None else _tally(kind, account, *row)

    def put_tally(self, tally: Tally) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.tallies
        key = (table.c.kind == tally.kind.value, table.c.account == tally.account)
        self._connection.execute(delete(table).where(*key))
        self._connection.execute(
            insert(table),
            {
                "kind": tally.kind.value,
                "account": tally.account,
                "pending": tally.pending,
                "since": tally.since,
            },
        )

    def mark(self, name: str) -> int | None:
        """See `otpseal.ports.Transaction`."""
        query = select(schema.marks.c.value).where(schema.marks.c.name == name)
        return self._connection.execute(query).scalar_one_or_none()

    def set_mark(self, name: str, value: int) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.marks
        self._connection.execute(delete(table).where(table.c.name == name))
        self._connection.execute(insert(table), {"name": name, "value": value})

    def bury(self, fingerprint: bytes, last_step: int, until: float) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.tombstones
        self._connection.execute(
            delete(table).where(table.c.fingerprint == fingerprint)
        )
        self._connection.execute(
            insert(table),
            {"fingerprint": fingerprint, "last_step": last_step, "until": until},
        )

    def buried(self, fingerprint: bytes, now: float) -> int | None:
        """See `otpseal.ports.Transaction`."""
        table = schema.tombstones
        self._connection.execute(delete(table).where(table.c.until <= now))
        query = select(table.c.last_step).where(table.c.fingerprint == fingerprint)
        return self._connection.execute(query).scalar_one_or_none()

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


def _state_values(state: State) -> dict[str, Any]:
    return {
        "disabled": state.disabled,
        "last_step": state.last_step,
        "failures": state.budget.failures,
        "wait_until": state.budget.wait_until,
        "refused": state.budget.refused,
    }


def _accounts(rows: Iterable[Any]) -> list[AccountRow]:
    try:
        return [_account(row) for row in rows]
    except (TypeError, ValueError):
        # SQLite keeps text in a column of numbers if a bit flips, or if it is told to.
        raise StoreUnavailable(
            "a row of the accounts table is damaged: restore the database from a backup"
        ) from None


def _tally(kind: str, account: str, pending: Any, since: Any) -> Tally:  # noqa: ANN401 - columns of no static type
    try:
        return Tally(Kind(kind), account, int(pending), float(since))
    except (TypeError, ValueError):
        raise StoreUnavailable(
            "a row of the tallies table is damaged, or was written by a newer otpseal:"
            " restore the database from a backup, or upgrade the program"
        ) from None


def _event(row: Any) -> EventRow:  # noqa: ANN401 - a row of no static type
    # SQLite takes any type in any column. What is of the wrong one was not written by
    # us; read as something else it fails its check, and hides no other event.
    return EventRow(
        id=row.id,
        at_ms=row.at_ms if isinstance(row.at_ms, int) else 0,
        kind=str(row.kind),
        account=str(row.account),
        detail=str(row.detail),
        mac=row.mac if isinstance(row.mac, bytes) else b"",
    )


def _account(row: Any) -> AccountRow:  # noqa: ANN401 - a row of no static type
    return AccountRow(
        id=row.id,
        sealed_seed=row.sealed_seed,
        fingerprint=row.fingerprint,
        parameters=Parameters(row.algorithm, row.digits, row.period),
        imported_at=float(row.imported_at),
        state=State(
            disabled=row.disabled,
            last_step=int(row.last_step),
            budget=throttle.State(
                int(row.failures), float(row.wait_until), int(row.refused)
            ),
        ),
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
