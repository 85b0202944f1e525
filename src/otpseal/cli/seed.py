"""`otpseal seed`: ask for a sealed seed, import it, replace it."""

from pathlib import Path
from typing import Annotated

import typer

from otpseal.account_id import parse_account_id
from otpseal.cli import enrol
from otpseal.cli.files import read_sealed
from otpseal.cli.options import AsJson, DataDir, KeyFile, OfAccount, print_json
from otpseal.cli.receipt import receipt
from otpseal.cli.request import request
from otpseal.config import load_settings
from otpseal.envelope_acceptance import Brought
from otpseal.envelope_opener import is_envelope
from otpseal.errors import ConfigurationError, EnvelopeReplayed, SeedConflict
from otpseal.key_source import private_key_exists
from otpseal.service import DEFAULT_ACCOUNT, Imported
from otpseal.unlocking import SERVICE_KEY_NAME
from otpseal.wiring import open_service

app = typer.Typer(
    no_args_is_help=True, help="Ask for a sealed seed, import it, replace it."
)
app.command("request")(request)
app.command("enrol")(enrol.enrol)
app.command("confirm")(enrol.confirm)
app.command("receipt")(receipt)

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
    except EnvelopeReplayed:
        raise EnvelopeReplayed(
            "this envelope was accepted before; nothing changed. If its receipt was"
            " lost, run `otpseal seed receipt FILE`"
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
    sealed = read_sealed(file)
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
