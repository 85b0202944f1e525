"""`otpseal clock`: the latest time that the store has seen, and setting it right."""

import time

import typer

from otpseal import clock_admin
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.ledger import rfc3339
from otpseal.wiring import open_service

app = typer.Typer(
    no_args_is_help=True, help="The store's time mark: look at it, set it right."
)


@app.command()
def show(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Show this machine's time, and the latest that the store has seen."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        times = clock_admin.show(opened.store, opened.service.timekeeper, time.time)
    shown = {
        "now": rfc3339(times.now),
        "mark": _time(times.mark),
        "database": _time(times.database),
        "verifies": times.may_verify,
    }
    if as_json:
        print_json(shown)
        return
    typer.echo(f"this machine: {shown['now']}")
    typer.echo(f"the store has seen: {shown['mark'] or 'no time yet'}")
    if shown["database"]:
        typer.echo(f"the database: {shown['database']}")
    typer.echo(f"codes are verified: {'yes' if times.may_verify else 'no'}")


@app.command()
def accept(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Take this machine's time for right, whatever the store has seen.

    For a store that saw a clock which ran ahead. Every step up to now is spent.
    """
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        done = clock_admin.accept(
            opened.store, opened.storage_key, opened.service.timekeeper, time.time
        )
    if as_json:
        print_json(
            {
                "from": _time(done.before),
                "to": rfc3339(done.now),
                "raised": done.raised,
                "ahead": done.ahead,
            }
        )
        return
    typer.echo(f"the store's time was {_time(done.before) or 'not set'}")
    typer.echo(f"the store's time is {rfc3339(done.now)}")
    typer.echo(f"last steps raised to now: {done.raised} accounts")
    if done.ahead:
        typer.echo(
            f"{done.ahead} accounts spent steps of a time to come, and refuse every"
            " code until then: give them new seeds"
        )


def _time(at: float | None) -> str | None:
    return None if at is None else clock_admin.in_words(at)
