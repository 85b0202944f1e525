"""`otpseal authority renew`: a new signing certificate, and a new key if wanted."""

from pathlib import Path
from typing import Annotated

import typer

from otpseal.cli.authority import AuthorityDir, authority_settings
from otpseal.cli.options import AsJson, KeyFile, print_json
from otpseal.ledger import rfc3339
from otpseal.validity import NEXT_CA
from otpseal.wiring import open_authority


def renew(
    *,
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="Make a new signing key, too. Services that pinned the key before"
            " must pin the new one.",
        ),
    ] = False,
    ca_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The CA's private key, PEM, if it is kept elsewhere. It is protected"
            " by the same passphrase as the others, or by none.",
        ),
    ] = None,
    data_dir: AuthorityDir = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Have the CA issue a new certificate for the signing key, for a year.

    Do it before the one before ends; a running authority takes it with its next
    answer. It lasts no longer than the CA. Interrupted, it is run again.
    """
    from otpseal import wiring_renewal

    settings = authority_settings(data_dir=data_dir, key_file=key_file)
    with open_authority(settings) as opened:
        done = wiring_renewal.renew(
            opened, settings, new_key=new_key, ca_key_file=ca_key
        )
    until, ca_until = rfc3339(done.valid.until), rfc3339(done.ca.until)
    if done.ca.until <= done.valid.until:
        typer.echo(
            f"warning: it ends with its CA, on {ca_until}, and no renewal goes beyond:"
            f" before then, {NEXT_CA}",
            err=True,
        )
    if as_json:
        told = {"kid": done.kid, "new_key": new_key, "jwks": str(done.jwks)}
        print_json({**told, "valid_until": until, "ca_valid_until": ca_until})
        return
    typer.echo(f"the certificate of signing key {done.kid} is valid until {until}")
    typer.echo(f"its CA is valid until {ca_until}")
    if new_key:
        typer.echo("the signing key is new:")
        typer.echo("  services that pinned the CA go on as they are")
        typer.echo(f"  services that pinned the key must pin {done.jwks}, by")
        typer.echo("  `otpseal authority trust add --replace`: until then they refuse")
        typer.echo("  its envelopes, and after that those by the key before")
