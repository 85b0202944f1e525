"""The tables of audit events, of what is only counted, and of named numbers."""

from collections.abc import Collection, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, cast

from sqlalchemy import (
    Insert,
    bindparam,
    delete,
    func,
    select,
    text,
)

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_bulk import insert_all
from otpseal.adapters.sql_prepared import Prepared, prepare
from otpseal.adapters.sql_tables import Tables, insert_into, upsert
from otpseal.audit import NO_ACCOUNT, Kind, Tally
from otpseal.errors import StoreUnavailable
from otpseal.ports import EventRow

_EVENT = ("at_ms", "kind", "account", "detail", "mac")
_MANY = 1000  # more than any batch of attempts
_READ_TALLY = select(schema.tallies.c.pending, schema.tallies.c.since).where(
    schema.tallies.c.kind == bindparam("kind"),
    schema.tallies.c.account == bindparam("account"),
)
_APPEND_SIZES = (64, 32, 16, 8, 4, 2, 1)


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


class EventTables(Tables):
    """`otpseal.ports.Transaction`, as far as it is about events, counts and marks."""

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
        rows = [read_event(row) for row in self._connection.execute(query)]
        return rows[::-1]

    def events_before(self, before: int | None, limit: int) -> list[EventRow]:
        """See `otpseal.ports.Transaction`."""
        table = schema.audit_events
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.id < before)
        return [read_event(row) for row in self._connection.execute(query)]

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
        if account == NO_ACCOUNT:
            # Any other count is read under its account's lock.
            self._lock([(kind.value, b"")])
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
        statement = upsert(self._connection, "tallies", ("kind", "account"))
        self._connection.execute(statement, values)

    def forget_tallies(self, since: float) -> None:
        """See `otpseal.ports.Transaction`."""
        c = schema.tallies.c
        statement = delete(schema.tallies).where(c.pending == 0, c.since <= since)
        self._connection.execute(statement)

    def mark(self, name: str) -> int | None:
        """See `otpseal.ports.Transaction`."""
        found = _read_mark(self._dialect).rows(self._connection, (name,))
        return found[0][0] if found else None

    def set_mark(self, name: str, value: int) -> None:
        """See `otpseal.ports.Transaction`."""
        statement = upsert(self._connection, "marks", ("name",))
        self._connection.execute(statement, {"name": name, "value": value})

    def raise_mark(self, name: str, value: int) -> None:
        """See `otpseal.ports.Transaction`."""
        statement = _raise_mark(self._connection.dialect.name)
        self._connection.execute(statement, {"name": name, "value": value})


@cache
def _raise_mark(dialect: str) -> Insert:
    statement = insert_into(dialect, "marks")
    done = statement.on_conflict_do_update(
        index_elements=("name",),
        set_={"value": statement.excluded.value},
        where=schema.marks.c.value < statement.excluded.value,
    )
    return cast("Insert", done)


def _tally(kind: str, account: str, pending: Any, since: Any) -> Tally:  # noqa: ANN401 - columns of no static type
    try:
        return Tally(Kind(kind), account, int(pending), float(since))
    except (TypeError, ValueError):
        raise StoreUnavailable(
            "a row of the tallies table is damaged, or was written by a newer otpseal:"
            " restore the database from a backup, or upgrade the program"
        ) from None


def read_event(row: Any) -> EventRow:  # noqa: ANN401 - a row of no static type
    """Return an event as it rests, whoever wrote it."""
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
