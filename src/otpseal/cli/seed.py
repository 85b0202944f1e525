"""`otpseal seed`: ask for a sealed seed, import it, replace it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from otpseal.account_id import parse_account_id
from otpseal.cli import enrol
from otpseal.cli.options import AsJson, DataDir, KeyFile, OfAccount, print_json
from otpseal.cli.request import request
from otpseal.config import load_settings
from otpseal.envelope_opener import is_envelope
from otpseal.envelopes import Brought
from otpseal.errors import ConfigurationError, SeedConflict
from otpseal.key_source import private_key_exists
from otpseal.service import DEFAULT_ACCOUNT, Imported
from otpseal.signed_envelope import MAX_ENVELOPE_CHARS
from otpseal.unlocking import SERVICE_KEY_NAME
from otpseal.wiring import open_service

app = typer.Typer(
    no_args_is_help=True, help="Ask for a sealed seed, import it, replace it."
)
app.command("request")(request)
app.command("enrol")(enrol.enrol)
app.command("confirm")(enrol.confirm)

SealedFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="The sealed seed (encrypted_seed.txt), or - for stdin."
    ),
]

_TOLD = {
    Imported.NEW: "the seed is stored",
    Imported.REPEATED: "this seed was stored already; nothing changed",
    Imported.REPLACED: "the seed is replaced; codes of the old one no longer work",
}


@app.command("import")
def import_(
    file: SealedFile,
    account: OfAccount = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a sealed seed and keep it; a different stored seed is not overwritten.

    An envelope by a pinned authority is told from the classic form by itself. It names
    its account, and may replace a seed of the same authority.
    """
    try:
        _import(file, account, data_dir, key_file, as_json=as_json, replace=False)
    except SeedConflict:
        raise SeedConflict(
            "a different seed is already stored: if this one is to take its place,"
            " run `otpseal seed replace`"
        ) from None


@app.command()
def replace(
    file: SealedFile,
    account: OfAccount = DEFAULT_ACCOUNT,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a sealed seed and keep it in place of the stored one.

    The account's throttle and state stay as they are; spent steps stay spent.
    """
    _import(file, account, data_dir, key_file, as_json=as_json, replace=True)


def _import(
    file: str,
    account: str,
    data_dir: Path | None,
    key_file: Path | None,
    *,
    as_json: bool,
    replace: bool,
) -> None:
    parse_account_id(account)
    sealed = _read(file)
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    # A new key could open no seed that was sealed before it was made.
    has_key = private_key_exists(settings, SERVICE_KEY_NAME)
    with open_service(settings, create=has_key) as opened:
        if is_envelope(sealed):
            if replace or account != DEFAULT_ACCOUNT:
                raise ConfigurationError(
                    "an envelope names its account itself: run `otpseal seed import`"
                    " without --account"
                )
            _tell(opened.service.envelopes.bring(sealed.strip()), as_json=as_json)
            return
        done = opened.service.import_sealed(
            sealed, account=account, replace_existing=replace
        )
    if as_json:
        print_json({"status": "ok", "import": done.name.lower()})
    else:
        typer.echo(_TOLD[done])


def _tell(brought: Brought, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "status": "ok",
                "import": "new" if brought.is_new else "replaced",
                "account": brought.row.id,
                "authority": brought.authority,
                "suite": brought.suite,
                "receipt": brought.receipt,
            }
        )
        return
    done = "is stored" if brought.is_new else "is replaced"
    typer.echo(f"the seed of {brought.row.id} by {brought.authority} {done}; receipt:")
    typer.echo(brought.receipt)


def _read(file: str) -> str:
    # One character more than is ever accepted: enough to be refused as too long.
    limit = MAX_ENVELOPE_CHARS + 1
    if file == "-":
        raw = sys.stdin.buffer.read(limit)
    else:
        try:
            with Path(file).open("rb") as stream:
                raw = stream.read(limit)
        except OSError as error:
            raise ConfigurationError(
                f"{file} cannot be read: {error.strerror}"
            ) from None
    return raw.decode("ascii", errors="replace")
