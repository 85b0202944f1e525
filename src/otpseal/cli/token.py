"""`otpseal token`: who may call the v1 API."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from otpseal.access import Caller, Scope
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import CallerRefused
from otpseal.ledger import rfc3339
from otpseal.wiring import open_service

app = typer.Typer(no_args_is_help=True, help="Say who may call the v1 API.")

_SCOPES = ", ".join(scope.value for scope in Scope)
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_LASTS = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="For people: which application it is.")],
    scope: Annotated[
        list[str], typer.Option("--scope", help=f"May be repeated: {_SCOPES}.")
    ],
    prefix: Annotated[
        str, typer.Option(help="Only accounts that begin so, such as shop/.")
    ] = "",
    expires: Annotated[
        str | None,
        typer.Option(help="When it ends: 90d, 12h or 30m from now. [default: never]"),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(
            help="Admit a client certificate by this name instead of making a token:"
            " DNS:shop.example, URI:... or email:..."
        ),
    ] = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token; it is printed this once, and rests as a hash."""
    lasts = None if expires is None else _seconds(expires)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        made = opened.service.callers.create(
            name, _scopes(scope), prefix=prefix, lasts_s=lasts, certificate=certificate
        )
    token = None if made.token is None else made.token.reveal().decode("ascii")
    if as_json:
        print_json({**_described(made.caller), "token": token})
    elif token is None:
        typer.echo(f"{made.caller.id}: admitted by its certificate")
    else:
        typer.echo(f"caller {made.caller.id}", err=True)
        typer.echo(token)


@app.command("list")
def list_(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List all callers, never their tokens; `--json` prints one object a line."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        callers = opened.service.callers.all()
    now = datetime.now(UTC).timestamp()
    for caller in callers:
        if as_json:
            print_json({**_described(caller), "state": _state(caller, now)})
            continue
        fence = f"  {caller.prefix}*" if caller.prefix else ""
        scopes = ",".join(sorted(caller.scopes))
        told = f"{caller.id}  {_state(caller, now)}  {scopes}{fence}  {caller.name}"
        typer.echo(told)


@app.command()
def revoke(
    caller: Annotated[
        str, typer.Argument(metavar="CALLER", help="As `token list` names it.")
    ],
    data_dir: DataDir = None,
    key_file: KeyFile = None,
) -> None:
    """Revoke a token; its next request is refused, in every process."""
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        opened.service.callers.revoke(caller)
    typer.echo(f"caller {caller} is revoked")


def _scopes(names: list[str]) -> frozenset[Scope]:
    try:
        return frozenset(Scope(name) for name in names)
    except ValueError:
        raise CallerRefused(f"the scopes are {_SCOPES}") from None


def _seconds(text: str) -> float:
    found = _LASTS.fullmatch(text)
    if found is None:
        raise CallerRefused("--expires is a number and a unit: 90d, 12h or 30m")
    return int(found[1]) * _UNITS[found[2]]


def _described(caller: Caller) -> dict[str, object]:
    ends, gone = caller.expires_at, caller.revoked_at
    return {
        "caller": caller.id,
        "name": caller.name,
        "scopes": sorted(scope.value for scope in caller.scopes),
        "prefix": caller.prefix,
        "created_at": rfc3339(caller.created_at),
        "expires_at": None if ends is None else rfc3339(ends),
        "revoked_at": None if gone is None else rfc3339(gone),
    }


def _state(caller: Caller, now: float) -> str:
    if caller.revoked_at is not None:
        return "revoked"
    if caller.expires_at is not None and caller.expires_at <= now:
        return "expired"
    return "valid"
