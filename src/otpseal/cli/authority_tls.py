"""`otpseal authority tls`: a certificate for an address that no CA vouches for."""

import time
from pathlib import Path
from typing import Annotated

import typer

from otpseal.cli.options import AsJson, print_json


def tls(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY", help="Where the private files are; only its owner's."
        ),
    ],
    *,
    host: Annotated[
        list[str],
        typer.Option(
            metavar="HOST",
            help="A name or address that services call; may be given again.",
        ),
    ],
    ca_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the CA's certificate goes, for the services. Default: ca.pem"
            " in DIRECTORY.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a TLS certificate for the authority's address, and a CA that vouches for it.

    For a network without a CA of its own. What is there and good for two months more
    is kept, so that the command can be run before each start. The authority takes
    OTPSEAL_TLS_CERT_FILE and OTPSEAL_TLS_KEY_FILE, both DIRECTORY/server.pem; services
    check it by `--ca-file`.
    """
    from otpseal import tls_certificates
    from otpseal.adapters import tls_files

    hosts = tls_certificates.parse_hosts(host)
    ca_file = directory / tls_files.CA_NAME if ca_out is None else ca_out
    kept = tls_files.keep(directory, ca_file, hosts, now=time.time())
    server_file = directory / tls_files.SERVER_NAME
    until = tls_certificates.ends_at(kept.server).date().isoformat()
    ca_until = tls_certificates.ends_at(kept.ca).date().isoformat()
    if as_json:
        print_json(
            {
                "certificate": str(server_file),
                "until": until,
                "new": kept.new_server,
                "ca": str(ca_file),
                "ca_until": ca_until,
                "ca_new": kept.new_ca,
            }
        )
        return
    typer.echo(f"{_said(kept.new_server)}: certificate and key until {until},")
    typer.echo(f"  {server_file}")
    typer.echo(f"{_said(kept.new_ca)}: CA certificate until {ca_until}, for services,")
    typer.echo(f"  {ca_file}")
    if kept.new_ca:
        typer.echo("each service needs this CA certificate now")


def _said(new: bool) -> str:
    return "new" if new else "kept"
