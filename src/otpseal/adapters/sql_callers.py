"""The tables of callers, and of what each has left for each account."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy import update as sql_update

from otpseal import throttle
from otpseal.access import Caller, Scope
from otpseal.account_id import is_prefix
from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_prepared import Prepared, in_sizes, places, prepare
from otpseal.adapters.sql_tables import REFUSING, Tables, damaged, upsert_statement
from otpseal.ports import BudgetRow

_BUDGET = ("failures", "wait_until", "refused", "touched_at")


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
    statement = upsert_statement(dialect, "budgets", ("caller", "key"))
    expected = ("caller", "key", "account", *_BUDGET)
    return prepare(dialect, statement, expected=expected)


class CallerTables(Tables):
    """`otpseal.ports.Transaction`, as far as it is about callers."""

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
        self._lock(keys)
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
        query = select(table).where(REFUSING, table.c.account != "")
        rows = map(_budget, self._connection.execute(query.with_for_update()))
        return sorted(rows, key=lambda row: (row.caller, row.key))

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


def _caller(row: Any) -> Caller:  # noqa: ANN401 - a row of no static type
    name, shown, digest, scopes, prefix, made_at, expires_at, revoked_at, strangers = (
        row
    )
    # A prefix without its slash would open its neighbour's accounts as well.
    if prefix and not is_prefix(prefix):
        raise damaged("callers")
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
        raise damaged("callers") from None


def _budget(row: Any) -> BudgetRow:  # noqa: ANN401 - a row of no static type
    caller, key, account, failures, wait_until, refused, touched_at = row
    try:
        budget = throttle.State(int(failures), float(wait_until), int(refused))
        return BudgetRow(caller, key, account, budget, float(touched_at))
    except (TypeError, ValueError):
        raise damaged("budgets") from None
