"""The store on SQL: `otpseal.ports.Store` over SQLAlchemy Core."""

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Insert,
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
from otpseal.adapters.sql_bulk import found_among, insert_all
from otpseal.adapters.sql_engine import (
    PATIENCE_S,
    STATEMENT_TIMEOUT_S,
    open_gate,
    translated,
)
from otpseal.adapters.sql_prepared import Prepared, in_sizes, places, prepare
from otpseal.audit import Kind, Tally
from otpseal.errors import StoreUnavailable
from otpseal.ports import AccountRow, BudgetRow, EventRow, IssuedSeed
from otpseal.totp import OtpType, Parameters
from otpseal.verification import State, Status

_STATE = (
    "status",
    "last_step",
    "drift",
    "failures_in_all",
    "failures",
    "wait_until",
    "refused",
)
_BUDGET = ("failures", "wait_until", "refused", "touched_at")
_ACCOUNT = tuple(schema.accounts.columns.keys())
_EVENT = ("at_ms", "kind", "account", "detail", "mac")
_MANY = 1000  # more than any batch of attempts
# There may be no row to lock yet: a lock by name takes its place. In the order of the
# names, so that two replicas never lock in opposite orders.
_LOCK_NAMES = text(
    "SELECT pg_advisory_xact_lock(name) FROM"
    " (SELECT unnest(CAST(:names AS bigint[])) AS name ORDER BY 1) AS names"
)
_READ_TALLY = select(schema.tallies.c.pending, schema.tallies.c.since).where(
    schema.tallies.c.kind == bindparam("kind"),
    schema.tallies.c.account == bindparam("account"),
)
_APPEND_SIZES = (64, 32, 16, 8, 4, 2, 1)
_ONLY = 1  # the primary key of the one storage key


# What every batch of attempts needs is prepared: see `sql_prepared`.


@cache
def _read_accounts(dialect: str, size: int) -> Prepared:
    table = schema.accounts
    query = select(table).where(table.c.id.in_(places("id", size)))
    # In id order, so that two replicas never lock in opposite orders.
    return prepare(dialect, query.order_by(table.c.id).with_for_update())


@cache
def _save_state(dialect: str) -> Prepared:
    table = schema.accounts
    statement = (
        sql_update(table)
        .where(table.c.id == bindparam("account_id"))
        .values({name: bindparam(name) for name in _STATE})
    )
    return prepare(dialect, statement, expected=(*_STATE, "account_id"))


@cache
def _read_callers(dialect: str, size: int) -> Prepared:
    table = schema.callers
    query = select(table).where(table.c.digest.in_(places("digest", size)))
    return prepare(dialect, query)


@cache
def _read_budgets(dialect: str, callers: int, keys: int) -> Prepared:
    table = schema.budgets
    # Two lists and not a list of pairs: that runs over no index on SQLite. What this
    # reads too much is one caller's budget where another's was asked for.
    query = select(table).where(
        table.c.caller.in_(places("caller", callers)),
        table.c.key.in_(places("key", keys)),
    )
    return prepare(dialect, query)


@cache
def _save_budget(dialect: str) -> Prepared:
    table = schema.budgets
    keys = table.c.caller == bindparam("of"), table.c.key == bindparam("for_key")
    statement = (
        sql_update(table)
        .where(*keys)
        .values({name: bindparam(name) for name in _BUDGET})
    )
    return prepare(dialect, statement, expected=(*_BUDGET, "of", "for_key"))


@cache
def _put_budget(dialect: str) -> Prepared:
    statement = _upsert_statement(dialect, "budgets", ("caller", "key"))
    expected = ("caller", "key", "account", *_BUDGET)
    return prepare(dialect, statement, expected=expected)


@cache
def _append(dialect: str, size: int) -> Prepared:
    """Return an INSERT of `size` events in one statement.

    The driver gives up the GIL for every statement; with one a row, the writer thread
    has to win it back from the event loop for every row.
    """
    row = "({})".format(", ".join(f":{name}{{0}}" for name in _EVENT))
    rows = ", ".join(row.format(i) for i in range(size))
    names = ", ".join(_EVENT)
    return prepare(dialect, text(f"INSERT INTO audit_events ({names}) VALUES {rows}"))  # noqa: S608 - no input in it


@cache
def _read_mark(dialect: str) -> Prepared:
    table = schema.marks
    query = select(table.c.value).where(table.c.name == bindparam("name"))
    return prepare(dialect, query)


class SqlTransaction:
    """`otpseal.ports.Transaction` on one connection."""

    def __init__(
        self, connection: Connection, database_time: float | None = None
    ) -> None:
        self._connection = connection
        self._database_time = database_time
        self._dialect = connection.dialect.name
        # Whose budgets were read, so that what did not change is not written.
        self._holders: dict[tuple[str, bytes], str] = {}

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

    def accounts(self, ids: Collection[str]) -> dict[str, AccountRow]:
        """See `otpseal.ports.Transaction`."""
        found: dict[str, AccountRow] = {}
        for some in in_sizes(sorted(ids)):
            statement = _read_accounts(self._dialect, len(some))
            rows = _accounts(statement.rows(self._connection, some))
            found |= {row.id: row for row in rows}
        return found

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
        pick, values = itemgetter(*_ACCOUNT), map(_account_values, rows)
        table = schema.accounts
        insert_all(self._connection, table, _ACCOUNT, map(pick, values))

    def existing(
        self, ids: Collection[str], fingerprints: Collection[bytes]
    ) -> tuple[set[str], set[bytes]]:
        """See `otpseal.ports.Transaction`."""
        c = schema.accounts.c
        return (
            found_among(self._connection, c.id, ids),
            found_among(self._connection, c.fingerprint, fingerprints),
        )

    def delete_account(self, account: str) -> None:
        """See `otpseal.ports.Transaction`."""
        for column in (
            schema.accounts.c.id,
            schema.budgets.c.account,
            schema.recovery_codes.c.account,
        ):
            statement = delete(column.table).where(column == account)
            self._connection.execute(statement)
        self._holders.clear()

    def raise_last_steps(self, now: float) -> int:
        """See `otpseal.ports.Transaction`."""
        c, newest = schema.accounts.c, _newest_step(now)
        statement = (
            sql_update(schema.accounts)
            .where(c.type == OtpType.TOTP.value, c.last_step < newest)
            .values(last_step=newest)
        )
        return self._connection.execute(statement).rowcount

    def count_ahead(self, now: float) -> int:
        """See `otpseal.ports.Transaction`."""
        c, newest = schema.accounts.c, _newest_step(now)
        query = select(func.count()).where(
            c.type == OtpType.TOTP.value, c.last_step > newest
        )
        return self._connection.execute(query).scalar_one()

    def save_states(self, states: Iterable[tuple[str, State]]) -> None:
        """See `otpseal.ports.Transaction`."""
        rows = [(*_state_row(state), account_id) for account_id, state in states]
        if rows:
            _save_state(self._dialect).run_each(self._connection, rows)

    def callers(self, digests: Collection[bytes]) -> dict[bytes, Caller]:
        """See `otpseal.ports.Transaction`."""
        found: dict[bytes, Caller] = {}
        for some in in_sizes(list(digests)):
            statement = _read_callers(self._dialect, len(some))
            for row in statement.rows(self._connection, some):
                caller = _caller(row)
                found[caller.digest] = caller
        return found

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
        if self._dialect == "postgresql":
            names = [_lock_name(caller, key) for caller, key in keys]
            self._connection.execute(_LOCK_NAMES, {"names": names})
        found: dict[tuple[str, bytes], BudgetRow] = {}
        for callers in in_sizes(list({caller for caller, _ in keys})):
            for some in in_sizes(list({key for _, key in keys})):
                statement = _read_budgets(self._dialect, len(callers), len(some))
                for row in statement.rows(self._connection, (*callers, *some)):
                    budget = _budget(row)
                    pair = budget.caller, budget.key
                    if pair in keys:
                        found[pair] = budget
                        self._holders[pair] = budget.account
        return found

    def put_budgets(self, rows: Sequence[BudgetRow]) -> None:
        """See `otpseal.ports.Transaction`."""
        known, others = [], []
        for row in rows:
            budget = row.budget
            values = (
                budget.failures,
                budget.wait_until,
                budget.refused,
                row.touched_at,
            )
            # The account has an index, which an UPDATE that names it writes anew.
            if self._holders.get((row.caller, row.key)) == row.account:
                known.append((*values, row.caller, row.key))
            else:
                others.append((row.caller, row.key, row.account, *values))
        if known:
            _save_budget(self._dialect).run_each(self._connection, known)
        if others:
            _put_budget(self._dialect).run_each(self._connection, others)

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
        self._holders.clear()

    def prune_budgets(self, before: float) -> int:
        """See `otpseal.ports.Transaction`."""
        table = schema.budgets
        gone = self._connection.execute(
            delete(table).where(table.c.touched_at < before)
        ).rowcount
        self._holders.clear()
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
        if len(rows) > _MANY:
            values_of = attrgetter(*_EVENT)
            table = schema.audit_events
            insert_all(self._connection, table, _EVENT, map(values_of, rows))
            return
        start = 0
        while start < len(rows):
            size = next(n for n in _APPEND_SIZES if n <= len(rows) - start)
            values: list[object] = []
            for row in rows[start : start + size]:
                values += (row.at_ms, row.kind, row.account, row.detail, row.mac)
            statement = _append(self._dialect, size)
            statement.run(self._connection, tuple(values))
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
        found = _read_mark(self._dialect).rows(self._connection, (name,))
        return found[0][0] if found else None

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

    def all_buried(self, now: float) -> dict[bytes, int]:
        """See `otpseal.ports.Transaction`."""
        c = schema.tombstones.c
        query = select(c.fingerprint, c.last_step).where(c.until > now)
        rows = self._connection.execute(query)
        return {row.fingerprint: row.last_step for row in rows}

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


def _newest_step(now: float) -> ColumnElement[int]:
    """Return the newest step that an account's window holds."""
    c = schema.accounts.c
    seconds = bindparam("now", math.floor(now), type_=BigInteger)
    return seconds // c.period + c.drift + c.window_steps


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


def _lock_name(caller: str, key: bytes) -> int:
    name = hashlib.sha256(caller.encode("ascii") + key).digest()[:8]
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
    return dict(zip(_STATE, _state_row(state), strict=True))


def _state_row(state: State) -> tuple[Any, ...]:
    """Return the columns of `_STATE`."""
    budget = state.budget
    return (
        state.status.value,
        state.last_step,
        state.drift,
        state.failures,
        budget.failures,
        budget.wait_until,
        budget.refused,
    )


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


@lru_cache(maxsize=256, typed=True)
def _parameters(
    kind: str, algorithm: str, digits: int, period: int, window: int
) -> Parameters:
    # Accounts have few among them. Typed: 6.0 and True are no digits of ours.
    return Parameters(algorithm, digits, period, OtpType(kind), window)


def _account(row: Any) -> AccountRow:  # noqa: ANN401 - a row of no static type
    name, sealed_seed, fingerprint, *parameters, issuer, label, at = row[:11]
    status, last_step, drift, in_all, failures, wait_until, refused = row[11:]
    return AccountRow(
        name,
        sealed_seed,
        fingerprint,
        _parameters(*parameters),
        float(at),
        State(
            Status(status),
            int(last_step),
            int(drift),
            int(in_all),
            throttle.State(int(failures), float(wait_until), int(refused)),
        ),
        issuer,
        label,
    )


def _caller(row: Any) -> Caller:  # noqa: ANN401 - a row of no static type
    name, shown, digest, scopes, prefix, made_at, expires_at, revoked_at, strangers = (
        row
    )
    try:
        return Caller(
            id=name,
            name=shown,
            digest=digest,
            scopes=frozenset(map(Scope, scopes.split())),
            prefix=prefix,
            created_at=float(made_at),
            expires_at=None if expires_at is None else float(expires_at),
            revoked_at=None if revoked_at is None else float(revoked_at),
            strangers=int(strangers),
        )
    except (AttributeError, TypeError, ValueError):
        raise _damaged("callers") from None


def _budget(row: Any) -> BudgetRow:  # noqa: ANN401 - a row of no static type
    caller, key, account, failures, wait_until, refused, touched_at = row
    try:
        budget = throttle.State(int(failures), float(wait_until), int(refused))
        return BudgetRow(caller, key, account, budget, float(touched_at))
    except (TypeError, ValueError):
        raise _damaged("budgets") from None


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
