"""The tables of keys, and the record of the one storage key."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy import update as sql_update

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_tables import Tables, damaged, upsert
from otpseal.key_records import ImportKeyRow, KeyState
from otpseal.ports_keys import ServiceKeyRow


class KeyTables(Tables):
    """`otpseal.ports.Transaction`, as far as it is about keys."""

    def replace_storage_key_record(self, record: bytes) -> None:
        """See `otpseal.ports_keys.KeyTransaction`."""
        statement = sql_update(schema.storage_keys).values(record=record)
        self._connection.execute(statement)

    def import_keys(self) -> list[ImportKeyRow]:
        """See `otpseal.ports_keys.KeyTransaction`."""
        table = schema.import_keys
        query = select(table).order_by(table.c.made_at, table.c.kid)
        return [_import_key(row) for row in self._connection.execute(query)]

    def put_import_key(self, row: ImportKeyRow) -> None:
        """See `otpseal.ports_keys.KeyTransaction`."""
        values = {
            "kid": row.kid,
            "state": row.state.value,
            "public": row.public,
            "made_at": row.made_at,
            "until": row.until,
            "mac": row.mac,
        }
        self._connection.execute(
            upsert(self._connection, "import_keys", ("kid",)), values
        )

    def service_keys(self, use: str | None = None) -> list[ServiceKeyRow]:
        """See `otpseal.ports_keys.KeyTransaction`."""
        table = schema.service_keys
        ordered = select(table).order_by(table.c.made_at, table.c.kid)
        if use is not None:
            ordered = ordered.where(table.c.use == use)
        return [ServiceKeyRow(*row) for row in self._connection.execute(ordered)]

    def add_service_key(self, row: ServiceKeyRow) -> None:
        """See `otpseal.ports_keys.KeyTransaction`."""
        self._connection.execute(insert(schema.service_keys), asdict(row))

    def replace_service_key(self, row: ServiceKeyRow) -> None:
        """See `otpseal.ports_keys.KeyTransaction`."""
        statement = upsert(self._connection, "service_keys", ("kid",))
        self._connection.execute(statement, asdict(row))


def _import_key(row: Any) -> ImportKeyRow:  # noqa: ANN401 - a row of no static type
    kid, state, public, made_at, until, mac = row
    try:
        return ImportKeyRow(
            kid=str(kid),
            state=KeyState(state),
            public=str(public),
            made_at=float(made_at),
            until=None if until is None else float(until),
            mac=bytes(mac),
        )
    except (TypeError, ValueError):
        raise damaged("import_keys") from None
