"""`otpseal db`: the schema of the store's database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from otpseal.adapters import sql_engine
from otpseal.cli.options import AsJson, DataDir, print_json
from otpseal.config import load_settings
from otpseal.unlocking import expect_store

app = typer.Typer(no_args_is_help=True, help="Show and upgrade the database's schema.")


@app.command()
def upgrade(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Bring the database up to this program's schema; safe to run at any time.

    Waits until it has the database to itself. `otpseal serve` does the same when it
    starts.
    """
    with _gate(data_dir) as gate:
        before = gate.migrate()
        after = sql_engine.current_revision(gate)
    if as_json:
        print_json({"before": before, "after": after})
    else:
        typer.echo(f"schema before: {before or 'none'}")
        typer.echo(f"schema now:    {after}")


@app.command()
def current(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Print the database's schema and the one that this program needs."""
    with _gate(data_dir) as gate:
        found = sql_engine.current_revision(gate)
    if as_json:
        print_json({"current": found, "needed": sql_engine.SCHEMA_REVISION})
    else:
        typer.echo(f"schema: {found or 'none'}")
        typer.echo(f"needed: {sql_engine.SCHEMA_REVISION}")


@contextmanager
def _gate(data_dir: Path | None) -> Iterator[sql_engine.Gate]:
    settings = load_settings(data_dir=data_dir)
    expect_store(settings)
    url, password = settings.resolved_database_url, settings.database_password()
    gate = sql_engine.open_gate(sql_engine.open_engine(url, password=password))
    try:
        yield gate
    finally:
        gate.close()
