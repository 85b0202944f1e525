"""Alembic's entry: runs the migrations on the connection that it is handed."""

from alembic import context

from otpseal.adapters.sql_schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The caller's transaction holds the store's lock and commits all or nothing.
    transactional_ddl=False,
)
context.run_migrations()
