"""The table of keys that rest in the store."""

from dataclasses import asdict

from sqlalchemy import insert, select

from otpseal.adapters import sql_schema as schema
from otpseal.adapters.sql_tables import Tables
from otpseal.ports_keys import ServiceKeyRow


class KeyTables(Tables):
    """`otpseal.ports.Transaction`, as far as it is about keys."""

    def service_keys(self, use: str) -> list[ServiceKeyRow]:
        """See `otpseal.ports_keys.KeyTransaction`."""
        table = schema.service_keys
        query = select(table).where(table.c.use == use)
        ordered = query.order_by(table.c.made_at, table.c.kid)
        return [ServiceKeyRow(*row) for row in self._connection.execute(ordered)]

    def add_service_key(self, row: ServiceKeyRow) -> None:
        """See `otpseal.ports_keys.KeyTransaction`."""
        self._connection.execute(insert(schema.service_keys), asdict(row))
