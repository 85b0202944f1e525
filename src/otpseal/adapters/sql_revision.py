"""Which schema a database has, asked without bringing it up to date."""

from sqlalchemy import Engine, text

from otpseal.adapters.sql_engine import (
    PATIENCE_S,
    SCHEMA_REVISION,
    translated,
    write_lock,
)
from otpseal.errors import StoreMismatch, StoreUnavailable


def expect_our_schema(engine: Engine) -> None:
    """Check that a database has the schema that this program reads and writes.

    Raises:
        StoreMismatch: it has none at all.
        StoreUnavailable: it has another, or cannot be read.
    """
    lock = write_lock(engine)
    try:
        # Under the lock, as every reader: SQLite's own waiting starves beside a busy
        # service.
        with translated(), lock.held(PATIENCE_S), engine.connect() as connection:
            if not connection.dialect.has_table(connection, "alembic_version"):
                raise StoreMismatch(
                    "the store is empty: start `otpseal serve` once, or restore a"
                    " backup"
                )
            query = text("SELECT version_num FROM alembic_version")
            found = connection.execute(query).scalar_one_or_none()
    finally:
        lock.close()
    if found != SCHEMA_REVISION:
        raise StoreUnavailable(
            f"the database has schema {found}, this program knows {SCHEMA_REVISION}: an"
            " older one is brought up to date when the service starts; a newer one"
            " needs a newer program, or a backup"
        )
