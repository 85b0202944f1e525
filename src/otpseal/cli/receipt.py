"""`otpseal seed receipt`: the receipt of a seed that is stored, once more."""

from pathlib import Path
from typing import Annotated

import typer

from otpseal.account_id import parse_account_id
from otpseal.cli.files import read_sealed, replace_file
from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.envelopes import Recalled, envelope_digest
from otpseal.errors import ConfigurationError
from otpseal.service import Service
from otpseal.wiring import open_service


def receipt(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="The envelope, or - for stdin."),
    ] = None,
    *,
    account: Annotated[
        str | None,
        typer.Option(help="In its place: the account's newest envelope."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the receipt goes. Default: stdout."),
    ] = None,
    data_dir: DataDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the receipt of an envelope that was accepted; it may have been lost.

    It is kept until a day after the envelope's end. `otpseal seed confirm` brings it to
    the authority.
    """
    if (file is None) == (account is None):
        raise ConfigurationError("give either the envelope's FILE or --account")
    settings = load_settings(data_dir=data_dir, key_file=key_file)
    with open_service(settings, create=False) as opened:
        found = _find(opened.service, file, account)
    if not found.has_seed:
        typer.echo(
            f"warning: {found.account} has another seed by now, or none: this receipt"
            " confirms one that is gone",
            err=True,
        )
    if out is not None:
        content = found.receipt.encode("ascii") + b"\n"
        replace_file(out, content, advice="name another place by --out")
    if as_json:
        told = {"account": found.account, "authority": found.authority}
        print_json(
            {
                "status": "ok",
                **told,
                "receipt": found.receipt,
                "has_seed": found.has_seed,
            }
        )
    elif out is None:
        typer.echo(found.receipt)
    else:
        typer.echo(f"the receipt of {found.account} for {found.authority} is in {out}")


def _find(service: Service, file: str | None, account: str | None) -> Recalled:
    if account is not None:
        return service.envelopes.recall_newest(parse_account_id(account))
    assert file is not None
    text = read_sealed(file).strip()
    return service.envelopes.recall(envelope_digest(text))
