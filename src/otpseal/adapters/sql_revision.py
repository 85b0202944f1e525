"""Which schema a database has, asked without bringing it up to date."""

from sqlalchemy import Engine

from otpseal.adapters.sql_engine import SCHEMA_REVISION, current_revision, open_gate
from otpseal.errors import StoreMismatch, StoreUnavailable


def expect_our_schema(engine: Engine) -> None:
    """Check that a database has the schema that this program reads and writes.

    Raises:
        StoreMismatch: it has none at all.
        StoreUnavailable: it has another, or cannot be read.
    """
    gate = open_gate(engine)
    try:
        found = current_revision(gate)
    finally:
        gate.close()
    if found is None:
        raise StoreMismatch(
            "the store is empty: start `otpseal serve` once, or restore a backup"
        )
    if found != SCHEMA_REVISION:
        raise StoreUnavailable(
            f"the database has schema {found}, this program knows {SCHEMA_REVISION}: an"
            " older one is brought up to date when the service starts; a newer one"
            " needs a newer program, or a backup"
        )
