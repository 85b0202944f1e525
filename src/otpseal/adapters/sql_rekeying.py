"""What a new storage key changes, in bulk."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import bindparam, delete, select
from sqlalchemy import update as sql_update

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_events import read_event
from otpseal.adapters.sql_prepared import Prepared, prepare
from otpseal.adapters.sql_tables import Tables
from otpseal.ports import EventRow


@cache
def _reseal(dialect: str) -> Prepared:
    table = schema.accounts
    statement = (
        sql_update(table)
        .where(table.c.id == bindparam("of"))
        .values(sealed_seed=bindparam("sealed"))
    )
    return prepare(dialect, statement, expected=("sealed", "of"))


@cache
def _replace_mac(dialect: str) -> Prepared:
    table = schema.audit_events
    statement = (
        sql_update(table)
        .where(table.c.id == bindparam("of"))
        .values(mac=bindparam("by"))
    )
    return prepare(dialect, statement, expected=("by", "of"))


class RekeyTables(Tables):
    """`otpseal.ports.Transaction`, as far as a storage key is replaced by it."""

    def reseal_accounts(self, seeds: Sequence[tuple[str, bytes]]) -> None:
        """See `otpseal.ports_rekeying.RekeyTransaction`."""
        rows = [(sealed, account) for account, sealed in seeds]
        _reseal(self._dialect).run_each(self._connection, rows)

    def events_after(self, after: int, limit: int) -> list[EventRow]:
        """See `otpseal.ports_rekeying.RekeyTransaction`."""
        table = schema.audit_events
        query = select(table).where(table.c.id > after).order_by(table.c.id)
        return [read_event(row) for row in self._connection.execute(query.limit(limit))]

    def replace_event_macs(self, macs: Sequence[tuple[int, bytes]]) -> None:
        """See `otpseal.ports_rekeying.RekeyTransaction`."""
        rows = [(mac, event) for event, mac in macs]
        _replace_mac(self._dialect).run_each(self._connection, rows)

    def void_recovery_codes(self) -> int:
        """See `otpseal.ports_rekeying.RekeyTransaction`."""
        return self._connection.execute(delete(schema.recovery_codes)).rowcount
