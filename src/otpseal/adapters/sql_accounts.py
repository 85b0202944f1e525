"""The tables of accounts: what they are, recovery codes, spent steps of the removed."""

import math
from collections.abc import Collection, Iterable, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy import update as sql_update

from otpseal import throttle
from otpseal.account_state import State, Status
from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_bulk import found_among, insert_all
from otpseal.adapters.sql_prepared import Prepared, in_sizes, places, prepare
from otpseal.adapters.sql_tables import REFUSING, Tables, damaged
from otpseal.ports import AccountRow
from otpseal.totp import OtpType, Parameters

_STATE = (
    "status",
    "last_step",
    "drift",
    "failures_in_all",
    "failures",
    "wait_until",
    "refused",
)
_ACCOUNT = tuple(schema.accounts.columns.keys())


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


class AccountTables(Tables):
    """`otpseal.ports.Transaction`, as far as it is about accounts."""

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
        query = select(schema.accounts).where(REFUSING).with_for_update()
        rows = _accounts(self._connection.execute(query))
        return sorted(rows, key=lambda row: row.id)

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

    def buried(self, fingerprint: bytes) -> int | None:
        """See `otpseal.ports.Transaction`."""
        c = schema.tombstones.c
        query = select(c.last_step).where(c.fingerprint == fingerprint)
        return self._connection.execute(query).scalar_one_or_none()

    def all_buried(self) -> dict[bytes, int]:
        """See `otpseal.ports.Transaction`."""
        c = schema.tombstones.c
        rows = self._connection.execute(select(c.fingerprint, c.last_step))
        return {row.fingerprint: row.last_step for row in rows}

    def forget_buried(self, now: float) -> None:
        """See `otpseal.ports.Transaction`."""
        table = schema.tombstones
        self._connection.execute(delete(table).where(table.c.until <= now))


def _newest_step(now: float) -> ColumnElement[int]:
    """Return the newest step that an account's window holds."""
    c = schema.accounts.c
    seconds = bindparam("now", math.floor(now), type_=BigInteger)
    return seconds // c.period + c.drift + c.window_steps


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
        raise damaged("accounts") from None


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
