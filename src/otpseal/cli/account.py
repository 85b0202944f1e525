"""`otpseal account`: look at the account, enable and disable it."""

import typer

from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import SeedMissing
from otpseal.ledger import rfc3339
from otpseal.service import DEFAULT_ACCOUNT
from otpseal.verification import NEVER
from otpseal.wiring import open_service

app = typer.Typer(
    no_args_is_help=True, help="Look at the account, enable and disable it."
)


@app.command()
def show(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Show the account's state, never its seed."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        row = opened.service.account()
    if row is None:
        raise SeedMissing(
            "there is no seed yet: import one with `otpseal seed import FILE`"
        )
    shown = {
        "account": row.id,
        "imported_at": rfc3339(row.imported_at),
        "disabled": row.state.disabled,
        "consecutive_failures": row.state.budget.failures,
        "last_step": None if row.state.last_step == NEVER else row.state.last_step,
        "last_step_began": None
        if row.state.last_step == NEVER
        else rfc3339(row.state.last_step * row.parameters.period),
    }
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name.replace('_', ' ')}: {_in_words(value)}")


def _in_words(value: object) -> object:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


@app.command()
def enable(data_dir: DataDir = None, key_file: KeyFile = None) -> None:
    """Enable the account and reset its throttle; spent codes stay spent."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        opened.service.accounts.enable()
    typer.echo(f"account {DEFAULT_ACCOUNT} is enabled")


@app.command()
def disable(data_dir: DataDir = None, key_file: KeyFile = None) -> None:
    """Refuse every code until the account is enabled again."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        opened.service.accounts.disable()
    typer.echo(f"account {DEFAULT_ACCOUNT} is disabled")
