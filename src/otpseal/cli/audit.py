"""`otpseal audit`: list and prune the audit log of the service or the authority."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from otpseal.cli.authority import authority_settings
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.ledger import AuditRecord
from otpseal.unlocking import Opened
from otpseal.wiring import open_authority, open_service

_WIDE = 1000

app = typer.Typer(no_args_is_help=True, help="List and prune the audit log.")

OfAuthority = Annotated[
    bool, typer.Option("--authority", help="The authority's log, not the service's.")
]


def _open(
    data_dir: Path | None, key_file: Path | None, *, authority: bool
) -> AbstractContextManager[Opened]:
    if authority:
        return open_authority(authority_settings(data_dir=data_dir, key_file=key_file))
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    return open_service(settings, create=False)


@app.command("list")
def list_(
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="The newest that many.")
    ] = 50,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind, e.g. attempt.wrong.")
    ] = None,
    authority: OfAuthority = False,
    as_json: AsJson = False,
) -> None:
    """List the newest audit events, oldest first.

    An event that does not read as it was written is marked as altered. `--json`
    prints one object a line.
    """
    with _open(data_dir, key_file, authority=authority) as opened:
        records = opened.audit.newest(limit, kind=kind)
    if as_json:
        for record in records:
            print_json(record.described())
    else:
        _print_table(records)


@app.command()
def prune(
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=1, max=36_500, help="Keep that many. [OTPSEAL_AUDIT_RETENTION_DAYS]"
        ),
    ] = None,
    authority: OfAuthority = False,
) -> None:
    """Delete audit events older than the retention time; records that it did."""
    settings = load_settings(audit_retention_days=days)
    with _open(data_dir, key_file, authority=authority) as opened:
        count = opened.audit.prune(settings.audit_retention_days)
    kept = settings.audit_retention_days
    typer.echo(f"{count} events older than {kept} days deleted")


def _printable(text: str) -> str:
    # An altered row may hold what a terminal obeys.
    return "".join(char if char.isprintable() else "?" for char in text)


def _print_table(records: list[AuditRecord]) -> None:
    from rich.console import Console
    from rich.table import Table

    # Into a pipe or a file nothing is cut off; on a terminal the detail is folded.
    console = Console(
        width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False
    )
    table = Table("id", "time", "event", "account", box=None)
    table.add_column("detail", overflow="fold")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for record in records:
        row = record.row
        detail = row.detail if record.genuine else f"ALTERED {row.detail}"
        cells = (str(row.id), record.at, row.kind, row.account, detail)
        table.add_row(*map(_printable, cells))
    console.print(table)
