"""The store on SQL: `otpseal.ports.Store` over SQLAlchemy Core."""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Insert,
    TextClause,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import postgresql, sqlite

from otpseal import throttle
from otpseal.access import Caller, Scope
from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_engine import (
    PATIENCE_S,
    STATEMENT_TIMEOUT_S,
    open_gate,
    translated,
)
from otpseal.audit import NO_ACCOUNT, Kind, Tally
from otpseal.errors import StoreUnavailable
from otpseal.ports import AccountRow, BudgetRow, EventRow, IssuedSeed
from otpseal.totp import OtpType, Parameters
from otpseal.verification import State, Status

T = TypeVar("T")

_MAX_PARAMETERS: Final = 10_000

_STATE = (
    "status",
    "last_step",
    "drift",
    "failures_in_all",
    "failures",
    "wait_until",
    "refused",
)
_SAVE_STATE = (
    sql_update(schema.accounts)
    .where(schema.accounts.c.id == bindparam("account_id"))
    .values({name: bindparam(name) for name in _STATE})
)
# Built once: building and caching a statement costs as much as running it.
_READ_ACCOUNTS = (
    select(schema.accounts)
    .where(schema.accounts.c.id.in_(bindparam("ids", expanding=True)))
    # In id order, so that two replicas never lock in opposite orders.
    .order_by(schema.accounts.c.id)
    .with_for_update()
)
_READ_CALLERS = select(schema.callers).where(
    schema.callers.c.digest.in_(bindparam("digests", expanding=True))
)
_READ_BUDGETS = (
    select(schema.budgets)
    # Two lists and not a list of pairs: that runs over no index on SQLite. What this
    # reads too much is one caller's budget where another's was asked for.
    .where(
        schema.budgets.c.caller.in_(bindparam("callers", expanding=True)),
        schema.budgets.c.key.in_(bindparam("keys", expanding=True)),
    )
)
# There may be no row to lock yet: a lock by name takes its place. In the order of the
# names, so that two replicas never lock in opposite orders.
_LOCK_NAMES = text(
    "SELECT pg_advisory_xact_lock(name) FROM"
    " (SELECT unnest(CAST(:names AS bigint[])) AS name ORDER BY 1) AS names"
)
_READ_MARK = select(schema.marks.c.value).where(
    schema.marks.c.name == bindparam("name")
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

    def accounts_after(
        self, after: str, limit: int, *, prefix: str = ""
    ) -> list[AccountRow]:
        """See `otpseal.ports.Transaction`."""
        table = schema.accounts
        query = select(table).where(table.c.id > after).order_by(table.c.id)
        if prefix:
            # A range, which the index serves; LIKE would not be by bytes on SQLite.
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            query = query.where(table.c.id >= prefix, table.c.id < end)
        return _accounts(self._connection.execute(query.limit(limit)))

    def put_account(self, row: AccountRow) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.accounts
        self._connection.execute(delete(table).where(table.c.id == row.id))
        self._connection.execute(insert(table), _account_values(row))

    def add_accounts(self, rows: Sequence[AccountRow]) -> None:
        """See `otpseal.ports.Transaction`."""
        if rows:
            values = [_account_values(row) for row in rows]
            self._connection.execute(insert(schema.accounts), values)

    def existing(
        self, ids: Collection[str], fingerprints: Collection[bytes]
    ) -> tuple[set[str], set[bytes]]:
        """See `otpseal.ports.Transaction`."""
        table = schema.accounts
        return (
            self._found(table.c.id, ids),
            self._found(table.c.fingerprint, fingerprints),
        )

    def _found(self, column: Column[T], wanted: Collection[T]) -> set[T]:
        found: set[T] = set()
        for some in _portions(list(wanted)):
            query = select(column).where(column.in_(some))
            found |= set(self._connection.execute(query).scalars())
        return found

    def delete_account(self, account: str) -> None:
        """See `otpseal.ports.Transaction`."""
        for column in (
            schema.accounts.c.id,
            schema.budgets.c.account,
            schema.recovery_codes.c.account,
        ):
            statement = delete(column.table).where(column == account)
            self._connection.execute(statement)

    def raise_last_steps(self, now: float) -> int:
        """See `otpseal.ports.Transaction`."""
        c = schema.accounts.c
        seconds = bindparam("now", math.floor(now), type_=BigInteger)
        current = seconds // c.period + c.drift + c.window_steps
        statement = (
            sql_update(schema.accounts)
            .where(c.type == OtpType.TOTP.value, c.last_step < current)
            .values(last_step=current)
        )
        return self._connection.execute(statement).rowcount

    def save_states(self, states: Iterable[tuple[str, State]]) -> None:
        """See `otpseal.ports.Transaction`."""
        rows = [
            {"account_id": account_id, **_state_values(state)}
            for account_id, state in states
        ]
        if rows:
            self._connection.execute(_SAVE_STATE, rows)

    def callers(self, digests: Collection[bytes]) -> dict[bytes, Caller]:
        """See `otpseal.ports.Transaction`."""
        rows = self._connection.execute(_READ_CALLERS, {"digests": list(digests)})
        return {row.digest: _caller(row) for row in rows}

    def all_callers(self) -> list[Caller]:
        """See `otpseal.ports.Transaction`."""
        query = select(schema.callers).order_by(schema.callers.c.id)
        return [_caller(row) for row in self._connection.execute(query)]

    def add_caller(self, caller: Caller) -> None:
        """See `otpseal.ports.Transaction`."""
        values = {
            "id": caller.id,
            "name": caller.name,
            "digest": caller.digest,
            "scopes": " ".join(sorted(caller.scopes)),
            "prefix": caller.prefix,
            "created_at": caller.created_at,
            "expires_at": caller.expires_at,
            "revoked_at": caller.revoked_at,
            "strangers": caller.strangers,
        }
        self._connection.execute(insert(schema.callers), values)

    def revoke_caller(self, caller: str, now: float) -> bool:
        """See `otpseal.ports.Transaction`."""
        c = schema.callers.c
        statement = (
            sql_update(schema.callers)
            .where(c.id == caller, c.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        return self._connection.execute(statement).rowcount == 1

    def budgets(
        self, keys: Collection[tuple[str, bytes]]
    ) -> dict[tuple[str, bytes], BudgetRow]:
        """See `otpseal.ports.Transaction`."""
        if not keys:
            return {}
        if self._connection.dialect.name == "postgresql":
            names = [_lock_name(caller, key) for caller, key in keys]
            self._connection.execute(_LOCK_NAMES, {"names": names})
        wanted = {
            "callers": list({caller for caller, _ in keys}),
            "keys": list({key for _, key in keys}),
        }
        rows = map(_budget, self._connection.execute(_READ_BUDGETS, wanted))
        found = {(row.caller, row.key): row for row in rows}
        return {key: row for key, row in found.items() if key in keys}

    def put_budgets(self, rows: Sequence[BudgetRow]) -> None:
        """See `otpseal.ports.Transaction`."""
        if not rows:
            return
        values = [
            {
                "caller": row.caller,
                "key": row.key,
                "account": row.account,
                "failures": row.budget.failures,
                "wait_until": row.budget.wait_until,
                "refused": row.budget.refused,
                "touched_at": row.touched_at,
            }
            for row in rows
        ]
        statement = _upsert(self._connection, "budgets", ("caller", "key"))
        self._connection.execute(statement, values)

    def refusing_budgets(self) -> list[BudgetRow]:
        """See `otpseal.ports.Transaction`."""
        table = schema.budgets
        query = select(table).where(table.c.refused > 0, table.c.account != "")
        query = query.order_by(table.c.caller, table.c.key).with_for_update()
        return [_budget(row) for row in self._connection.execute(query)]

    def forget_budgets(self, account: str) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.budgets
        self._connection.execute(delete(table).where(table.c.account == account))

    def prune_budgets(self, before: float) -> int:
        """See `otpseal.ports.Transaction`."""
        table = schema.budgets
        gone = self._connection.execute(
            delete(table).where(table.c.touched_at < before)
        ).rowcount
        counted = (
            select(func.count())
            .select_from(table)
            .where(table.c.caller == schema.callers.c.id, table.c.account == "")
            .scalar_subquery()
        )
        self._connection.execute(
            sql_update(schema.callers)
            .where(schema.callers.c.strangers > 0)
            .values(strangers=counted)
        )
        return gone

    def count_strangers(self, new: Mapping[str, int]) -> None:
        """See `otpseal.ports.Transaction`."""
        c = schema.callers.c
        for caller, count in sorted(new.items()):
            self._connection.execute(
                sql_update(schema.callers)
                .where(c.id == caller)
                .values(strangers=c.strangers + count)
            )

    def recovery_digests(self, accounts: Collection[str]) -> set[tuple[str, bytes]]:
        """See `otpseal.ports.Transaction`."""
        table = schema.recovery_codes
        query = select(table).where(table.c.account.in_(list(accounts)))
        rows = self._connection.execute(query)
        return {(row.account, row.digest) for row in rows}

    def set_recovery_digests(self, account: str, digests: Collection[bytes]) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.recovery_codes
        self._connection.execute(delete(table).where(table.c.account == account))
        rows = [{"account": account, "digest": digest} for digest in digests]
        if rows:
            self._connection.execute(insert(table), rows)

    def spend_recovery_digest(self, account: str, digest: bytes) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.recovery_codes
        self._connection.execute(
            delete(table).where(table.c.account == account, table.c.digest == digest)
        )

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

    def events_before(self, before: int | None, limit: int) -> list[EventRow]:
        """See `otpseal.ports.Transaction`."""
        table = schema.audit_events
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.id < before)
        return [_event(row) for row in self._connection.execute(query)]

    def count_events_after(
        self, after: int, kinds: Collection[str]
    ) -> tuple[int, dict[str, int]]:
        """See `otpseal.ports.Transaction`."""
        c = schema.audit_events.c
        newest = self._connection.execute(select(func.max(c.id))).scalar_one()
        counted = self._connection.execute(
            select(c.kind, func.count())
            .where(c.id > after, c.kind.in_(list(kinds)))
            .group_by(c.kind)
        )
        return newest or 0, {row[0]: row[1] for row in counted}

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
        if account == NO_ACCOUNT and self._connection.dialect.name == "postgresql":
            # Any other count is read under its account's lock.
            names = [_lock_name(kind.value, b"")]
            self._connection.execute(_LOCK_NAMES, {"names": names})
        values = {"kind": kind.value, "account": account}
        row = self._connection.execute(_READ_TALLY, values).one_or_none()
        return Tally(kind, account) if row is None else _tally(kind, account, *row)

    def put_tally(self, tally: Tally) -> None:
        """See `otpseal.ports.Transaction`."""
        values = {
            "kind": tally.kind.value,
            "account": tally.account,
            "pending": tally.pending,
            "since": tally.since,
        }
        statement = _upsert(self._connection, "tallies", ("kind", "account"))
        self._connection.execute(statement, values)

    def mark(self, name: str) -> int | None:
        """See `otpseal.ports.Transaction`."""
        found = self._connection.execute(_READ_MARK, {"name": name})
        return found.scalar_one_or_none()

    def set_mark(self, name: str, value: int) -> None:
        """See `otpseal.ports.Transaction`."""
        statement = _upsert(self._connection, "marks", ("name",))
        self._connection.execute(statement, {"name": name, "value": value})

    def raise_mark(self, name: str, value: int) -> None:
        """See `otpseal.ports.Transaction`."""
        statement = _raise_mark(self._connection.dialect.name)
        self._connection.execute(statement, {"name": name, "value": value})

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


@cache
def _insert(dialect: str, table: str) -> Any:  # noqa: ANN401 - of either dialect
    statement = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect]
    return statement(schema.metadata.tables[table])


@cache
def _upsert_statement(dialect: str, table: str, keys: tuple[str, ...]) -> Insert:
    statement = _insert(dialect, table)
    changed = {
        column.name: statement.excluded[column.name]
        for column in schema.metadata.tables[table].columns
        if column.name not in keys
    }
    done = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    return cast("Insert", done)


def _upsert(connection: Connection, table: str, keys: tuple[str, ...]) -> Insert:
    """Return an INSERT that replaces the row of those keys."""
    return _upsert_statement(connection.dialect.name, table, keys)


@cache
def _raise_mark(dialect: str) -> Insert:
    statement = _insert(dialect, "marks")
    done = statement.on_conflict_do_update(
        index_elements=("name",),
        set_={"value": statement.excluded.value},
        where=schema.marks.c.value < statement.excluded.value,
    )
    return cast("Insert", done)


def _portions(items: list[T]) -> Iterator[list[T]]:
    # Both databases bound the number of parameters of one statement.
    for start in range(0, len(items), _MAX_PARAMETERS):
        yield items[start : start + _MAX_PARAMETERS]


def _lock_name(text: str, key: bytes) -> int:
    name = hashlib.sha256(text.encode("ascii") + key).digest()[:8]
    return int.from_bytes(name, "big", signed=True)


def _account_values(row: AccountRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "sealed_seed": row.sealed_seed,
        "fingerprint": row.fingerprint,
        "type": row.parameters.type.value,
        "algorithm": row.parameters.algorithm,
        "digits": row.parameters.digits,
        "period": row.parameters.period,
        "window_steps": row.parameters.window,
        "issuer": row.issuer,
        "label": row.label,
        "imported_at": row.imported_at,
        **_state_values(row.state),
    }


def _state_values(state: State) -> dict[str, Any]:
    return {
        "status": state.status.value,
        "last_step": state.last_step,
        "drift": state.drift,
        "failures_in_all": state.failures,
        "failures": state.budget.failures,
        "wait_until": state.budget.wait_until,
        "refused": state.budget.refused,
    }


def _accounts(rows: Iterable[Any]) -> list[AccountRow]:
    try:
        return [_account(row) for row in rows]
    except (TypeError, ValueError):
        # SQLite keeps text in a column of numbers if a bit flips, or if it is told to.
        raise _damaged("accounts") from None


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
        parameters=Parameters(
            row.algorithm, row.digits, row.period, OtpType(row.type), row.window_steps
        ),
        imported_at=float(row.imported_at),
        state=State(
            status=Status(row.status),
            last_step=int(row.last_step),
            drift=int(row.drift),
            failures=int(row.failures_in_all),
            budget=throttle.State(
                int(row.failures), float(row.wait_until), int(row.refused)
            ),
        ),
        issuer=row.issuer,
        label=row.label,
    )


def _caller(row: Any) -> Caller:  # noqa: ANN401 - a row of no static type
    try:
        return Caller(
            id=row.id,
            name=row.name,
            digest=row.digest,
            scopes=frozenset(map(Scope, row.scopes.split())),
            prefix=row.prefix,
            created_at=float(row.created_at),
            expires_at=None if row.expires_at is None else float(row.expires_at),
            revoked_at=None if row.revoked_at is None else float(row.revoked_at),
            strangers=int(row.strangers),
        )
    except (AttributeError, TypeError, ValueError):
        raise _damaged("callers") from None


def _budget(row: Any) -> BudgetRow:  # noqa: ANN401 - a row of no static type
    try:
        budget = throttle.State(
            int(row.failures), float(row.wait_until), int(row.refused)
        )
        touched_at = float(row.touched_at)
    except (TypeError, ValueError):
        raise _damaged("budgets") from None
    return BudgetRow(row.caller, row.key, row.account, budget, touched_at)


def _damaged(table: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"a row of the {table} table is damaged: restore the database from a backup"
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
